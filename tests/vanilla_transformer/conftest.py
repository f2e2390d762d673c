"""A small model with its export to ONNX, which takes long enough to be made once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import save_small_model
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.conversion.to_onnx import export_onnx


@pytest.fixture(scope="session")
def exported(made_once: Callable[..., Path], tokenizer: VanillaTransformerTokenizer) -> Path:
    """Return a folder with `model` and what `--to onnx` makes of it, `onnx`; nobody may write into them."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason='needs pip install "vanilla-transformer[onnx]"')

    def export(folder: Path) -> None:
        save_small_model(folder / "model", tokenizer)
        export_onnx(folder / "model", folder / "onnx")

    return made_once("exported", export)

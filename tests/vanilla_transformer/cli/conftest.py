"""A model whose translations are short, since one without training does not end them by itself."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def model_folder(model_folder: Path) -> Path:
    path = model_folder / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "source_length_offset": 8}), encoding="utf-8")
    return model_folder

"""Small models and batches that many tests share."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is loaded: several processes run tests, of one thread each, and none of them asks the Hub.
for setting, value in {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}.items():
    os.environ.setdefault(setting, value)

import pytest
import torch
from filelock import FileLock

from tests.warm import WarmPrograms
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
    configuration_vanilla_transformer,
)

REPOSITORY = Path(__file__).resolve().parent.parent
# The imports of a program that loads a model of transformers.
TRANSFORMERS = (
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto",
    "transformers.pipelines",
    "transformers.generation.utils",
)


DATA = REPOSITORY / "tests" / "data"


def corpus(*parts: str) -> Path:
    """Return a file or folder of the large corpora, or skip a test where they are not: see tests/data/README.md."""
    folder = os.environ.get("VANILLA_TRANSFORMER_DATA")
    if not folder or not (path := Path(folder, *parts)).exists():
        pytest.skip(f"VANILLA_TRANSFORMER_DATA is {folder or 'not set'}: no {'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """
    Return the folder of a name, made by the first of the processes of pytest-xdist that asks for it.

    Nobody may write into it: take a copy.
    """
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = shared / f"made-once-{name}"
        with FileLock(f"{folder}.lock"):
            if not (folder / "is-whole").exists():
                folder.mkdir()
                fill(folder)
                (folder / "is-whole").touch()
        return folder

    return make


# Encoder and decoder differ in depth, so that nothing passes that mixes them up.
SMALL_SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}


@pytest.fixture
def small_config() -> Callable[..., VanillaTransformerConfig]:
    """Build a small configuration."""

    def build(**changes: object) -> VanillaTransformerConfig:
        return VanillaTransformerConfig(**{**SMALL_SIZES, **changes})

    return build


@pytest.fixture
def config(small_config: Callable[..., VanillaTransformerConfig]) -> VanillaTransformerConfig:
    return small_config()


@pytest.fixture
def model(config: VanillaTransformerConfig) -> VanillaTransformerForConditionalGeneration:
    torch.manual_seed(0)
    return VanillaTransformerForConditionalGeneration(config).eval()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """A ragged batch: sources of 9, 5 and 2 tokens, targets of 7, 4 and 1, padded on the right."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, 60, (3, 9), generator=generator)
    labels = torch.randint(4, 60, (3, 7), generator=generator)
    mask = torch.ones_like(source)
    for row, (source_length, target_length) in enumerate(((9, 7), (5, 4), (2, 1))):
        source[row, source_length - 1] = 2
        labels[row, target_length - 1] = 2
        source[row, source_length:] = 1
        mask[row, source_length:] = 0
        labels[row, target_length:] = -100
    return {"input_ids": source, "attention_mask": mask, "labels": labels}


@pytest.fixture(scope="session")
def tokenizer() -> VanillaTransformerTokenizer:
    lines = ["the house is red", "the red car is new", "¿Cómo estás?", "la casa es roja", "el coche rojo es nuevo"]
    return VanillaTransformerTokenizer.train(lines * 4, vocab_size=320)


def save_small_model(folder: Path, tokenizer: VanillaTransformerTokenizer) -> None:
    """Save a small model with its tokenizer."""
    config = VanillaTransformerConfig(**{**SMALL_SIZES, "vocab_size": len(tokenizer)})
    torch.manual_seed(0)
    VanillaTransformerForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def model_folder(tmp_path: Path, tokenizer: VanillaTransformerTokenizer) -> Path:
    """A saved model with its tokenizer."""
    save_small_model(tmp_path / "model", tokenizer)
    return tmp_path / "model"


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """The messages that the package logs, each once, whatever verbosity a test before has left."""
    logger = configuration_vanilla_transformer.logger
    logger.warning_once.__func__.cache_clear()
    configuration_vanilla_transformer.warned_of.clear()
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    yield said
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def full_disk() -> Callable[..., contextlib.AbstractContextManager[None]]:
    """A context in which no file can grow past 20 kB, as on a disk with no more space; on Unix only."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limited(size: int = 20_000) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    return limited


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., WarmPrograms]]:
    """Return what starts programs that have modules imported; one process forks for all with the same modules."""
    made: dict[tuple[str, ...], WarmPrograms] = {}

    def get(*modules: str) -> WarmPrograms:
        if modules not in made:
            home = str(tmp_path_factory.mktemp("warm") / "hf_home")
            made[modules] = WarmPrograms(modules, {**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1"})
        return made[modules]

    yield get
    for programs in made.values():
        programs.end()


@pytest.fixture
def fresh_python(tmp_path: Path, warm: Callable[..., WarmPrograms]) -> Callable[..., str]:
    """
    Run code in a process that has not imported the package yet, and return what it prints.

    With `installed=False` the package cannot be imported there, as on a machine that has only transformers. With
    `blocked` modules it is a new interpreter, since transformers looks for what is installed when it is imported.
    """

    def run(code: str, installed: bool = True, blocked: tuple[str, ...] = ()) -> str:
        hidden = (*blocked, *(() if installed else ("vanilla_transformer",)))
        code = "".join(f"import sys; sys.modules[{name!r}] = None\n" for name in hidden) + code
        if blocked:
            environment = {**os.environ, "HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_OFFLINE": "1"}
            words = [sys.executable, "-c", code]
            result = subprocess.run(
                words, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, env=environment, timeout=600
            )
        else:
            result = warm(*TRANSFORMERS).start(["-c", code], tmp_path, cwd=tmp_path).complete()
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run

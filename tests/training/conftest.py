"""A recipe on a corpus of a few sentences, and the program in processes of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from training.phrasebook import phrasebook

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path):
    corpus = phrasebook()
    for split, count in (("train", 200), ("validation", 20)):
        for side, language in enumerate(("en", "es")):
            lines = [pair[side] for pair in corpus[split][:count]]
            (tmp_path / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "source": str(tmp_path / "train.en"),
        "target": str(tmp_path / "train.es"),
        "validation_source": str(tmp_path / "validation.en"),
        "validation_target": str(tmp_path / "validation.es"),
        "source_lang": "en",
        "target_lang": "es",
        "output_dir": str(tmp_path / "run"),
        "preset": "tiny",
        "config_overrides": {"encoder_layers": 1, "decoder_layers": 1, "hidden_size": 32, "intermediate_size": 32},
        "vocab_size": 300,
        "tokens_per_step": 400,
        "warmup_steps": 20,
        "max_steps": 12,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "logging_steps": 2,
        "average_checkpoints": 3,
        "run_on": "cpu",
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture
def launch() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a module in processes of its own, under torchrun with one thread each if there are several."""

    def run(*arguments: str, processes: int = 1, module: str = "training.train") -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
        return subprocess.run(
            [sys.executable, *launcher, "-m", module, *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=280,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return run

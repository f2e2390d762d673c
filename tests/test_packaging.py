"""The wheel: what is in it, and that it needs only torch and transformers."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
EXTRAS = (
    "accelerate",
    "datasets",
    "evaluate",
    "matplotlib",
    "nltk",
    "pycountry",
    "rouge_score",
    "sacrebleu",
    "sacremoses",
    "tabulate",
    "tensorboard",
    "hypothesis",
    "training",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return next(folder.glob("*.whl"))


def test_it_holds_the_model_and_nothing_of_the_training_program(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "vanilla_transformer/model_card.md",
        "vanilla_transformer/py.typed",
        "vanilla_transformer/cli/__init__.py",
    } <= names
    assert "vanilla_transformer_launcher.py" in names
    assert not [name for name in names if name.startswith(("training", "tests", "benchmarks"))]


@pytest.mark.slow
def test_it_loads_translates_saves_and_renders_a_card_without_any_extra(wheel, model_folder, tmp_path, fresh_python):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "site")!r})
import vanilla_transformer
assert vanilla_transformer.__file__.startswith({str(tmp_path / "site")!r})
from vanilla_transformer.cli import main
assert main(["translate", "--model", {str(model_folder)!r}, "the house is red"]) == 0
from vanilla_transformer.loading import load_model
model, tokenizer = load_model({str(model_folder)!r})
model.save_pretrained({str(tmp_path / "saved")!r})
tokenizer.save_pretrained({str(tmp_path / "saved")!r})
from vanilla_transformer.model_card import ModelPlace, folder_card
folder_card({str(tmp_path / "saved")!r}, ModelPlace("someone/model")).save({str(tmp_path / "saved" / "README.md")!r})
assert main(["export", {str(tmp_path / "saved")!r}, {str(tmp_path / "native")!r}, "--to", "marian"]) == 0
"""
    fresh_python(code, blocked=EXTRAS)
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    assert (tmp_path / "saved" / "modeling_vanilla_transformer.py").is_file()
    assert "someone/model" in (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "native" / "README.md").is_file()

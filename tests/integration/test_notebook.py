"""The notebook is its text twin, and runs from top to bottom within its limit."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tests.conftest import TRANSFORMERS

DOCS = Path(__file__).resolve().parents[2] / "docs"
TWIN = DOCS / "how_transformers_work.py"
LIMIT = 600  # seconds


def test_the_notebook_is_its_text_twin():
    spec = importlib.util.spec_from_file_location("notebook", DOCS / "notebook.py")
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)
    written = TWIN.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert written == notebook.build_notebook(TWIN.read_text(encoding="utf-8")), "run: python docs/notebook.py"
    cells = json.loads(written)["cells"]
    assert {cell["cell_type"] for cell in cells} == {"markdown", "code"}
    assert cells[0]["source"][0] == "# How Transformers work\n"


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
def test_it_runs_and_finds_what_it_says(warm, tmp_path):
    """All of it, but that the exercises about which it claims nothing train for two steps."""
    loop = "for name, make in exercises.items():\n"
    text = TWIN.read_text(encoding="utf-8")
    assert text.count(loop) == 1
    short = 'for name in ("GELU", "one layer", "one head"):\n    train_model(exercises.pop(name)(), steps=2)\n'
    result = warm(*TRANSFORMERS).start(["-c", text.replace(loop, short + loop)], tmp_path).complete()
    assert result.returncode == 0, result.stderr
    scores = {name.strip(): int(value) for name, value in re.findall(r"^ *([\w ]+): (\d+)%$", result.stdout, re.M)}
    assert scores["as in the paper"] > 90
    assert scores["no positions"] < 60

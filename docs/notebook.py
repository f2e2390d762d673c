"""
Write docs/how_transformers_work.ipynb from its text twin, docs/how_transformers_work.py.

    python docs/notebook.py
"""

import json
import re
from pathlib import Path

TWIN = Path(__file__).parent / "how_transformers_work.py"


def build_notebook(text: str) -> str:
    """Return the notebook of a text in which `# %%` begins a cell and `# %% [markdown]` one of words."""
    cells = []
    parts = re.split(r"^# %%( \[markdown\])?\n", text, flags=re.MULTILINE)[1:]
    for number, (kind, body) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        lines = body.strip("\n").splitlines(keepends=True)
        cell = {"cell_type": "markdown" if kind else "code", "id": f"cell-{number}", "metadata": {}}
        if kind:
            cell["source"] = [re.sub(r"^# ?", "", line) for line in lines]
        else:
            cell |= {"source": lines, "execution_count": None, "outputs": []}
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TWIN.with_suffix(".ipynb").write_text(build_notebook(TWIN.read_text(encoding="utf-8")), encoding="utf-8")

"""What the README prints works as printed."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MODELING = "vanilla_transformer/modeling_vanilla_transformer.py"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]


@pytest.mark.parametrize("code", PYTHON, ids=["use", "pipeline", "fine-tune"])
def test_python_runs(code, model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    model_folder.rename(tmp_path / "checkpoints" / "tiny-en-es")  # a smaller one in its place
    # A folder in the place of a repository.
    code = code.replace('"USER/NAME", revision="v1"', '"checkpoints/tiny-en-es"')
    exec(compile(code, "README.md", "exec"), {})
    if "print(" in code:
        assert capsys.readouterr().out.strip()


def test_commands_name_what_exists():
    root = Path(__file__).resolve().parent.parent
    commands = "\n".join(code for language, code in BLOCKS if language in ("bash", "powershell"))
    for target in re.findall(r"make (\w+)", commands):
        assert f"\n{target}:" in (root / "Makefile").read_text()
    for module in re.findall(r"-m (training\.\w+)", README):
        assert (root / (module.replace(".", "/") + ".py")).is_file()
    for recipe in re.findall(r"training/recipes/\w+\.yaml", README):
        assert (root / recipe).is_file()


def test_training_fields_exist():
    from training.recipe.names import check_names

    commands = re.findall(r"-m training\.train((?:\\\n|[^\n`])*)", README)
    fields = {field for command in commands for field in re.findall(r"--(\w+)", command)}
    assert {"source", "init_from", "test_sets"} <= fields
    check_names(fields)


def test_translate_options_exist():
    from vanilla_transformer.cli import build_parser

    commands = re.findall(r"vanilla-transformer (translate .*)", README)
    assert len(commands) == 2
    for command in [*commands, *re.findall(r"vanilla-transformer (export .*)", README)]:
        build_parser().parse_args(re.findall(r'"[^"]*"|\S+', command))


def test_score_options_exist():
    from training.score import build_parser

    commands = re.findall(r"-m training\.score (.*)", README)
    assert len(commands) == 2
    for command in commands:
        build_parser().parse_args(command.split())


def test_push_options_exist():
    from training.push import build_parser

    commands = re.findall(r"-m training\.push (.*)", README)
    assert len(commands) == 2
    for command in commands:
        build_parser().parse_args(command.split())


def test_the_tutorial_s_steps_are_in_the_lines_that_are_named():
    """From top to bottom of the model's file."""
    code = (REPOSITORY / MODELING).read_text(encoding="utf-8")
    places = {}
    for node in ast.parse(code).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            places[node.name] = node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef):
                    places[f"{node.name}.{part.name}"] = part
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| (.*?) \| (?:§|Figure)", README, flags=re.MULTILINE)
    assert len(rows) == 13
    for name, lines in rows:
        first, last = places[name].lineno, places[name].end_lineno
        assert lines == f"[{first}-{last}]({MODELING}#L{first}-L{last})", name
    assert sorted(rows, key=lambda row: places[row[0]].lineno) == rows

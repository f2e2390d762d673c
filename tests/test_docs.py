"""README and docs: Python runs, commands, links and words hold, and each figure equals the one at its home."""

import ast
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.words import find_words, list_files

REPOSITORY = Path(__file__).resolve().parent.parent
MODELING = "vanilla_transformer/modeling_vanilla_transformer.py"
NAMES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md", "examples/README.md"]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in [*(REPOSITORY / name for name in NAMES), *sorted((REPOSITORY / "docs").glob("*.md"))]
}
README = PAGES["README.md"]
TEXT = "\n".join(PAGES.values())
BLOCKS = [
    (name, language, code)
    for name, page in PAGES.items()
    for language, code in re.findall(r"```(\w+)\n(.*?)```", page, flags=re.DOTALL)
]
# Code that several pages show is run once; examples have a test of their own.
PYTHON = {code: name for name, language, code in reversed(BLOCKS) if language == "python"}
COMMANDS = "\n".join(code for _, language, code in BLOCKS if language in ("bash", "powershell")).replace("\\\n", " ")
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
LINKS = [(name, text, link) for name, page in PAGES.items() for text, link in LINK.findall(page)]
# Options of programs that are not ours.
LAUNCHERS = {
    *("config_file", "num_processes", "num_machines", "machine_rank", "main_process_ip"),
    *("nproc_per_node", "nnodes", "node_rank", "master_addr", "master_port"),
}


@pytest.mark.parametrize("code", PYTHON, ids=PYTHON.values())
def test_python_runs_and_answers_as_printed(code, model_folder, tmp_path, monkeypatch, capsys):
    answers = re.findall(r"^print\(.*\)  # (.+)$", code, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    if answers:
        shutil.copytree(REPOSITORY / "checkpoints", tmp_path / "checkpoints")
    else:  # a smaller model in the place of the bundled one
        (tmp_path / "checkpoints").mkdir()
        model_folder.rename(tmp_path / "checkpoints" / "tiny-en-es")
    # A folder in the place of a repository.
    code = code.replace('"USER/NAME", revision="v1"', '"checkpoints/tiny-en-es"')
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.strip() or "print(" not in code
    assert set(answers) <= set(printed.splitlines())


def test_the_readme_is_short_and_shows_the_model_at_work():
    assert len(README.split()) <= 900
    assert re.search(r"!\[[^\]]+\]\(docs/assets/\w+\.png\)", README)
    first = next(code for name, language, code in BLOCKS if name == "README.md" and language == "python")
    assert len(ast.parse(first).body) == 3


def test_commands_name_what_exists():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make ([a-z-]+)", COMMANDS, flags=re.MULTILINE)) | set(
        re.findall(r"`make ([a-z-]+)", TEXT)
    )
    assert {"demo", "test", "docs"} <= targets
    for target in targets:
        assert f"\n{target}:" in makefile, target
    for module in re.findall(r"-m ((?:training|benchmarks)\.[\w.]*\w)", TEXT):
        assert (REPOSITORY / (module.replace(".", "/") + ".py")).is_file(), module
    for path in re.findall(r"(?:training/(?:recipes|accelerate)|docs|examples)/\w+\.(?:yaml|sh|py)", TEXT):
        assert (REPOSITORY / path).is_file(), path


@pytest.mark.parametrize(
    "module, program", [("training.score", "-m training.score"), ("training.push", "-m training.push")]
)
def test_commands_of_programs_are_understood(module, program):
    import importlib

    commands = re.findall(rf"{re.escape(program)} (.*)", COMMANDS)
    assert len(commands) >= 2
    for command in commands:
        importlib.import_module(module).build_parser().parse_args(command.split())


def test_commands_of_the_console_program_are_understood():
    from vanilla_transformer.cli import build_parser

    commands = re.findall(r"vanilla-transformer ((?:translate|export|import|explain|demo) .*)", COMMANDS)
    assert len(commands) >= 3
    for command in commands:
        build_parser().parse_args([word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)])


def test_options_are_those_of_some_program():
    import training.augment
    import training.push
    import training.score
    import vanilla_transformer.cli
    from training.recipe.names import find_faults_of_names

    modules = (training.augment, training.push, training.score, vanilla_transformer.cli)
    known = " ".join(parser_help(module.build_parser()) for module in modules)
    options = set(
        re.findall(r"--([a-z_]\w+)", re.sub(r"(?:torchrun|accelerate|pip|pre-commit)\b[^\n`]*?(?=-m )", "", TEXT))
    )
    options -= LAUNCHERS | {"profile", "help_all"}
    fields = {name for name in options if f"--{name}" not in known and f"--{name.removeprefix('no-')}" not in known}
    assert {"init_from", "test_sets", "patience"} <= fields
    assert find_faults_of_names(fields) == []


def parser_help(parser):
    """The help of a parser and of its verbs."""
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return parser.format_help() + " ".join(verb.format_help() for verbs in choices for verb in verbs.values())


def test_links_lead_to_files_and_every_page_leads_on():
    for name, _, link in LINKS:
        assert (REPOSITORY / name).parent.joinpath(link).resolve().is_file(), (name, link)
    for name, page in PAGES.items():
        if name.startswith("docs/"):
            assert LINK.search(page.partition("\n## Next\n")[2]), f"{name} has no next step"


def test_pages_read_the_same_in_the_repository_and_on_the_site():
    assert not re.search(r"--8<--|^:::", TEXT, flags=re.MULTILINE)


def test_the_reference_names_what_is_in_the_file_that_it_links_to():
    rows = re.findall(r"^\* \[`(\w+)`\]\(\.\./(\S+)\)$", PAGES["docs/reference.md"], flags=re.MULTILINE)
    assert len(rows) > 20
    files = {path: (REPOSITORY / path).read_text(encoding="utf-8") for _, path in rows}
    for name, path in rows:
        is_defined = re.search(rf"^(?:class|def) {name}\b", files[path], flags=re.MULTILINE)
        assert is_defined or name == Path(path).stem, (name, path)


def test_every_page_is_in_the_navigation():
    sections = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = set(re.findall(r"\w+\.md", str(sections)))
    assert {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")} <= pages


def test_figures_equal_those_at_their_home():
    """The text of a link to a table has figures of that table only."""
    compared = 0
    for name, text, link in LINKS:
        if "benchmarks/results/" in link and re.search(r"\d", text):
            home = (REPOSITORY / name).parent.joinpath(link).resolve().read_text(encoding="utf-8")
            for figure in re.findall(r"\d[\d,.]*\d|\d", text):
                assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", home), (name, figure, link)
                compared += 1
    assert compared > 40


@pytest.mark.parametrize("recipe", sorted((REPOSITORY / "training" / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_measured_figures_of_recipes_equal_those_at_their_home(recipe):
    text = recipe.read_text(encoding="utf-8").replace("\n# ", " ")
    for measured, home in re.findall(r"(Measured [^\n]*?)\(?(?:See )?(benchmarks/results/\w+\.md)", text):
        report = (REPOSITORY / home).read_text(encoding="utf-8")
        for figure in re.findall(r"(?<![\w.])\d+\.\d+", re.sub(r"`[^`]*`", "", measured)):
            assert figure in report, (figure, home)


def test_reports_have_the_same_head():
    for report in sorted((REPOSITORY / "benchmarks" / "results").glob("*.md")):
        text = report.read_text(encoding="utf-8")
        head = re.match(r"# .+\n\n- Date: \d{4}-\d\d-\d\d\n- Commit: .+\n- Machine: .+\n- Command: .+\n", text)
        assert head, f"{report.name} lacks date, commit, machine and command"
        tables = len(re.findall(r"^\| ---", text, flags=re.MULTILINE))
        assert tables == 1 or report.name == DIARY, f"{report.name} has {tables} tables"


DIARY = "multi30k.md"  # one training recipe, tuned in many runs: a table for each question
# Pages whose figures were measured, and a figure with its unit.
MEASURED = ("README.md", "docs/architectures.md", "docs/engines.md", "docs/performance.md", "docs/quality.md")
FIGURE = re.compile(
    r"(?<![\w.,])\d[\d.,]*(?: ± [\d.]+)?(?: (?:ms|s|minutes|hours|MB|GB|GFLOP/s|BLEU|times|of \d+)\b|%)"
    r"|(?<=\| )\d+(?:\.\d+)?(?= \|)"
)


@pytest.mark.parametrize("name", MEASURED)
def test_every_measured_figure_is_a_link_to_its_home(name):
    page = re.sub(r"```.*?```|`[^`]*`", "", LINK.sub("", PAGES[name]), flags=re.DOTALL)
    found = set(FIGURE.findall(page))
    assert found <= ({"20%"} if name == "docs/performance.md" else set()), found  # how much a machine varies


def test_pages_and_code_use_the_words_of_the_style():
    names = ["docs/use.md", "model_card.md", MODELING, "training/recipes/demo.yaml", ".github/workflows/test.yml"]
    assert {REPOSITORY / name for name in names} <= set(list_files())
    assert [line for path in list_files() for line in find_words(path)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is no folder.", True),
        ("They are no words", True),
        ("test_a_row_is_no_word", True),
        ("the words alone", True),
        ("It stands here", True),
        ("which it has not", True),
        ("What it does.", True),
        ("test_what_it_does", True),
        ("What does it do?", False),
        ("where there is no word", False),
        ("It is no longer.", False),
        ("It has not ended yet", False),
        ("a stand-in", False),
    ],
)
def test_words_that_the_style_replaces_are_found(tmp_path, monkeypatch, text, found):
    monkeypatch.setattr("tests.words.REPOSITORY", tmp_path)
    codes = {
        "comment.py": f"x = 1  # {text}\n",
        "docstring.py": f'"""{text}"""\n',
        "long.py": f'def f():\n    """\n    {text}\n    """\n',
        "message.py": f'raise ValueError(f"{{1}}" "{text}")\n',
        "recipe.yaml": f"# {text}\n",
    }
    if "_" in text:
        codes = {"function.py": f"def {text}(): ...\n", "class.py": f"class {text}: ...\n"}
    names = []
    for name, code in codes.items():
        (tmp_path / name).write_text(code)
        names += [line.partition(":")[0] for line in find_words(tmp_path / name)]
    assert names == (list(codes) if found else [])


def test_samples_of_text_and_titles_may_have_any_words(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.words.REPOSITORY", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_sample.py").write_text('x = "It is no folder."\nis_no_folder = 1\n')
    (tmp_path / "title.py").write_text('TITLE = "What each word attends to"\n')
    assert [line for path in tmp_path.rglob("*.py") for line in find_words(path)] == []


def test_the_version_has_one_home():
    version = (REPOSITORY / "vanilla_transformer" / "_version.py").read_text(encoding="utf-8")
    number = re.search(r'__version__ = "([\d.]+\w*)"', version)[1]
    for name in ("pyproject.toml", "CITATION.cff", "vanilla_transformer/__init__.py"):
        assert number not in (REPOSITORY / name).read_text(encoding="utf-8"), name


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
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| (.*?) \| (?:§|Figure)", PAGES["docs/learn.md"], flags=re.MULTILINE)
    assert len(rows) == 13
    for name, lines in rows:
        first, last = places[name].lineno, places[name].end_lineno
        assert lines == f"[{first}-{last}](../{MODELING}#L{first}-L{last})", name
    assert sorted(rows, key=lambda row: places[row[0]].lineno) == rows

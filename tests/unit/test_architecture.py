"""How the house is built, read from its source without importing it: directions, circles, libraries, sizes."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("training", "vanilla_transformer")
# Each imports only rooms before it; the names are those of rooms and of modules beside them.
TRAINING = ("log", "recipe", "metrics", "data", "engine", "tasks", "publish")
GROUND = ("errors", "scores", "text")
# Libraries, and where they are imported.
LIBRARIES = {
    "matplotlib": {"training.publish", "vanilla_transformer.plots"},
    "evaluate": {"training.metrics"},
    "lxml": {"training.data"},
    "sacrebleu": {"training.metrics"},
    "nltk": {"training.metrics"},
    "sacremoses": {"training.metrics"},
    "rouge_score": {"training.metrics"},
    "sklearn": {"training.metrics"},
    "pycountry": {"training.metrics", "training.data", "vanilla_transformer.model_card"},
    "yaml": {"training.recipe"},
    "ctranslate2": {"vanilla_transformer.conversion.to_ctranslate2", "vanilla_transformer.engines.ctranslate2_engine"},
    "onnx": {"vanilla_transformer.conversion.to_onnx"},
    "onnxscript": {"vanilla_transformer.conversion.to_onnx"},
    "onnxruntime": {"vanilla_transformer.conversion.to_onnx", "vanilla_transformer.engines.onnxruntime_engine"},
}
MOST_LINES = {"file": 500, "class": 250, "function": 60}
MODEL = ("vanilla_transformer/modeling_vanilla_transformer.py", 1_300)  # one page, from top to bottom as the paper
MOST_PARAMETERS = 7
# Whose last ones say each by itself what to draw.
MORE_PARAMETERS = {("vanilla_transformer.plots", "plot_attention"): 8}
SPINE = 120


def name_module(path: Path) -> str:
    """Return the name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_remote(module: str) -> bool:
    """Return whether a module goes to the Hub with the weights."""
    return module.endswith("_vanilla_transformer")


def is_package(module: str) -> bool:
    """Return whether a module is a folder."""
    return (ROOT / module.replace(".", "/") / "__init__.py").exists()


@cache
def read_modules() -> dict[str, ast.Module]:
    """Return the source of every module of this house."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {name_module(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


@cache
def find_imports(module: str) -> frozenset[str]:
    """Return what a module imports anywhere in it, under `TYPE_CHECKING` too."""
    found = set()
    for node in ast.walk(read_modules()[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = str(node.module)
            if node.level:  # of a package, its own name is the first level
                parts = module.split(".")
                base = parts[: len(parts) - node.level + is_package(module)]
                source = ".".join([*base, *([node.module] if node.module else [])])
            whole = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in read_modules() else source for name in whole}
    return frozenset(found)


def find_own_imports(module: str) -> list[str]:
    return sorted(name for name in find_imports(module) if name in read_modules())


@cache
def find_room(module: str) -> str:
    """Return the room of a module of `training`, or the module beside the rooms."""
    return module.split(".")[1] if "." in module else ""


OURS = [module for module in read_modules() if not is_remote(module)]
TRAINED = [module for module in OURS if module.startswith("training.")]


def test_no_imports_run_in_a_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done and not is_remote(module) and module != "vanilla_transformer":
            for imported in find_own_imports(module):
                visit(imported, (*path, module))
            done.add(module)

    for module in OURS:
        visit(module, ())


@pytest.mark.parametrize("module", TRAINED)
def test_a_room_imports_only_rooms_before_it(module):
    room = find_room(module)
    if room in TRAINING:
        later = TRAINING[TRAINING.index(room) + 1 :]
        for imported in find_own_imports(module):
            assert find_room(imported) not in later or imported.startswith("vanilla_transformer"), imported
        doors = [name for name in find_own_imports(module) if name.startswith("training.") and "." not in name[9:]]
        assert all(find_room(name) in TRAINING for name in doors), doors


def test_the_package_does_not_know_the_training_program():
    for module in read_modules():
        if module.startswith("vanilla_transformer"):
            assert not any(name.startswith("training") for name in find_imports(module)), module


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_imports_nothing_of_ours(name):
    assert set(find_own_imports(f"vanilla_transformer.{name}")) <= {"vanilla_transformer.errors"}


def test_files_that_go_to_the_hub_import_only_each_other():
    for module in filter(is_remote, read_modules()):
        assert all(map(is_remote, find_own_imports(module))), module


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_where_it_belongs(library):
    for module in OURS:
        if any(name.partition(".")[0] == library for name in find_imports(module)):
            assert any(f"{module}.".startswith(f"{place}.") for place in LIBRARIES[library]), module


def test_only_one_module_defines_exceptions():
    for module in OURS:
        for node in ast.walk(read_modules()[module]):
            if isinstance(node, ast.ClassDef):
                bases = {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
                raised = {base for base in bases if base.endswith(("Error", "Exception", "Interrupt"))}
                assert not raised or module == "vanilla_transformer.errors", f"{module}.{node.name}"


def test_only_one_place_makes_transformers_arguments():
    for module in TRAINED:
        names = {node.id for node in ast.walk(read_modules()[module]) if isinstance(node, ast.Name)}
        if "Seq2SeqTrainingArguments" in names:
            assert module in ("training.engine.arguments", "training.recipe.names"), module


def test_recipes_are_frozen():
    for module in TRAINED:
        if find_room(module) == "recipe":
            for node in ast.walk(read_modules()[module]):
                if isinstance(node, ast.ClassDef) and node.decorator_list:
                    assert "dataclass(frozen=True)" in map(ast.unparse, node.decorator_list), node.name


def test_the_model_is_one_page():
    file, most = MODEL
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("module", OURS)
def test_files_classes_and_functions_fit_a_reader(module):
    tree = read_modules()[module]
    path = ROOT / module.replace(".", "/")
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES["file"]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            lines = (node.end_lineno or 0) - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            assert lines <= MOST_LINES[kind], f"{node.name} has {lines} lines"
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            count = len([each for each in (*node.args.args, *node.args.kwonlyargs) if each.arg not in ("self", "cls")])
            most = MORE_PARAMETERS.get((module, node.name), MOST_PARAMETERS)
            assert count <= most, f"{node.name} has {count} parameters"


def test_functions_that_go_to_the_hub_fit_a_reader():
    for module in filter(is_remote, read_modules()):
        for node in ast.walk(read_modules()[module]):
            if isinstance(node, ast.FunctionDef):  # the body: signatures of `forward` name what transformers passes
                body = node.body[ast.get_docstring(node) is not None :] or node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1
                assert lines <= MOST_LINES["function"], f"{module}.{node.name} has {lines} lines"


def test_the_spine_is_short():
    assert len((ROOT / "training" / "train.py").read_text(encoding="utf-8").splitlines()) <= SPINE


def test_no_file_reads_a_path_above_the_repository():
    for path in (*ROOT.rglob("tests/**/*.py"), *ROOT.rglob("benchmarks/**/*.py"), *ROOT.glob("*/*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0].startswith("."):
            continue
        code = path.read_text(encoding="utf-8")
        for number, more in re.findall(r"__file__\)(?:\.resolve\(\))?\.parents\[(\d+)\]((?:\.parent\b)*)", code):
            assert int(number) + 1 + more.count(".parent") <= len(place.parts), place
        assert not re.search(r"\b(ROOT|REPOSITORY)\.parents?\b", code.replace("\\b(ROOT|REPOSITORY)", "")), place

"""
Find the words that docs/style.md replaces: in pages, YAML and TOML, and in docstrings, comments, names and messages of
Python. In all but pages, find relative clauses without a noun too.

    python tests/words.py
    python tests/words.py README.md vanilla_transformer/loading.py

It prints each line that has one, and ends with 1 if there is any. pre-commit, `make lint` and a test run it.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("vanilla_transformer", "training", "tests", "benchmarks", "examples", "docs", ".github")
PATTERNS = ("*.py", "*.md", "*.yaml", "*.yml", "*.toml", "*.sh", "Makefile")
STYLE = REPOSITORY / "docs" / "style.md"  # which shows them
RECORDS = REPOSITORY / "benchmarks" / "results"  # of their day
# Python files whose strings are samples of text, and not messages.
SAMPLES = ("tests", "training/data/languages.py", "training/data/phrasebook.py")
WORDS = re.compile(
    r"(?<!there )\b(?:is|are) no (?!longer\b)[a-z]|\balone\b|\bstands?\b(?!-in)|\bin words for\b"
    # The perfect tense, as in "has not ended yet", is not meant.
    r"|\b(?:has|have) not\b(?! (?:\w+ly |yet )?(?:\w+(?:ed|en)|begun|come|done|gone|learnt|made|met|read|said|set)\b)",
    flags=re.IGNORECASE,
)
# A relative clause without a noun before it: "What it does." But "What does it do?" is a question.
HEADLESS = re.compile(r"\s*(?:#\s*)?What (?!.*\?|happens)|test what ")


def find_words(path: Path) -> Iterator[str]:
    """Yield `path:line: text` for each line that has such words."""
    content = path.read_text(encoding="utf-8")
    if not WORDS.search(content.replace("_", " ")) and not re.search(r"\bWhat |test_what_", content):
        return
    name = path.relative_to(REPOSITORY).as_posix()
    lines: Iterator[tuple[int, str]] = enumerate(content.split("\n"), 1)
    if path.suffix == ".py":
        lines = list_prose(content)
        if not name.startswith(SAMPLES):
            lines = chain(lines, list_messages(content))
    for number, text in lines:
        if WORDS.search(text) or (path.suffix != ".md" and HEADLESS.match(text)):
            yield f"{name}:{number}: {text.strip()}"


def list_prose(code: str) -> Iterator[tuple[int, str]]:
    """Yield what Python code has for readers, with the number of its line: comments, docstrings and names."""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not isinstance(node, ast.Module):
            yield node.lineno, node.name.replace("_", " ")
        if (docstring := ast.get_docstring(node, clean=False)) is not None:
            yield from enumerate(docstring.split("\n"), node.body[0].lineno)


def list_messages(code: str) -> Iterator[tuple[int, str]]:
    """Yield the strings that Python code has for its users, with the number of their lines; all but docstrings."""
    tree = ast.parse(code)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            # The title "What each word attends to" is not a sentence.
            yield node.lineno, node.value if node.value.endswith(".") else node.value.removeprefix("What ")


def list_files() -> list[Path]:
    """Return every page and every file of Python, YAML, TOML and the shell in the repository."""
    places = [REPOSITORY.glob, *((REPOSITORY / folder).rglob for folder in FOLDERS)]
    found = {path for place in places for pattern in PATTERNS for path in place(pattern)}
    return sorted(path for path in found - {STYLE, Path(__file__).resolve()} if RECORDS not in path.parents)


def main(names: list[str]) -> int:
    paths = [Path(name).resolve() for name in names]
    files = list_files()
    lines = [line for path in files if not paths or path in paths for line in find_words(path)]
    print(*lines, sep="\n", end="\n" * bool(lines))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""
Run the tests that transformers has for all of its models over the models of this project.

    make conformance

The source distribution of the installed transformers comes from the package index and is unpacked to `.conformance/`;
nothing of it is copied into the project. The results are written to benchmarks/results/conformance.md and
conformance_skipped.md.
"""

import datetime
import functools
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
WORK = REPOSITORY / ".conformance"
RESULTS = REPOSITORY / "benchmarks" / "results"

# Modules that the common tests import and the source distribution leaves out. No test of ours is taken out by them:
# the mixins behind these names are not published.
STUBS = {
    "__init__.py": "",
    "generation/__init__.py": "",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "exporters/__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "utils/__init__.py": "",
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = {'return_dict': False, 'output_hidden_states': True, 'output_attentions': True,\n"
        "    'dtype': 'float16', 'id2label': {0: 'label'}, 'label2id': {'label': '0'}, 'problem_type': 'regression'}\n"
    ),
    "fixtures/sample_text.txt": "This is a text.\n\nEsto es un texto, con más de una línea.\n",
}


def unpack() -> Path:
    """The common tests with their stubs and our suites, as a package named `tests`."""
    version = transformers.__version__
    archive = WORK / f"transformers-{version}.tar.gz"
    if not archive.is_file():
        WORK.mkdir(exist_ok=True)
        download = ["download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", "transformers"]
        words = [sys.executable, "-m", "pip", *download, "--dest", str(WORK), f"transformers=={version}"]
        subprocess.run(words, check=True)
    tests = WORK / "tests"
    shutil.rmtree(tests, ignore_errors=True)
    tests.mkdir()
    with tarfile.open(archive) as source:
        for member in source:
            match = re.fullmatch(r"[^/]+/tests/(test_\w+_(?:common|mixin)\.py)", member.name)
            if match:
                (tests / match[1]).write_bytes(source.extractfile(member).read())
    for name, content in STUBS.items():
        path = tests / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for suite in HERE.glob("suite_*.py"):
        shutil.copy(suite, tests / suite.name)
    return tests


def main() -> int:
    tests = unpack()
    report = WORK / "report.xml"
    suites = sorted(str(path) for path in tests.glob("suite_*.py"))
    options = ["--quiet", "--rootdir", str(WORK), "-c", os.devnull, "-p", "no:cacheprovider", "--disable-warnings"]
    status = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--junitxml", str(report), *suites, *sys.argv[1:]],
        env={**os.environ, "PYTHONPATH": f"{WORK}{os.pathsep}{REPOSITORY}", "HF_HUB_OFFLINE": "1"},
        cwd=WORK,
    ).returncode
    if not sys.argv[1:]:
        write_results(report)
    return status


@functools.cache
def describe_commit() -> str:
    """Return the commit as it is before the first result is written, with "-dirty" where it is changed."""
    git = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def format_head(title: str) -> str:
    """Return the head that every file in benchmarks/results/ has."""
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return (
        f"# {title}\n\n- Date: {datetime.date.today()}\n- Commit: {describe_commit()}\n"
        f"- Machine: {platform.system()} {platform.machine()}, {versions}\n- Command: `make conformance`\n\n"
    )


def write_results(report: Path) -> None:
    """Write a table of classes, and one of the reasons for which tests were skipped."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2]
        skipped = case.find("skipped")
        failed = case.find("failure") is not None or case.find("error") is not None
        counts[name]["failed" if failed else "skipped" if skipped is not None else "passed"] += 1
        if skipped is not None:
            reason = re.sub(r"<class '[\w.]+'>|\bVanillaTransformer\w+", "the class", skipped.get("message", ""))
            reasons[" ".join(reason.split())][case.get("name", "")] += 1
    lines = [
        "The tests are those of the source distribution of transformers (`ModelTesterMixin`, `ConfigTester`,",
        "`TokenizerTesterMixin`, `TrainingTesterMixin`); it does not publish those of generation and export.",
        "",
        "| class | passed | skipped | failed |",
        "| --- | --- | --- | --- |",
    ]
    for name, count in sorted(counts.items()):
        lines.append(f"| {name} | {count['passed']} | {count['skipped']} | {count['failed']} |")
    total = sum(counts.values(), Counter())
    lines.append(f"| all | {total['passed']} | {total['skipped']} | {total['failed']} |")
    text = format_head("The common tests of transformers") + "\n".join(lines) + "\n"
    (RESULTS / "conformance.md").write_text(text, encoding="utf-8")
    lines = ["| reason | tests |", "| --- | --- |"]
    for reason, names in sorted(reasons.items(), key=lambda item: -sum(item[1].values())):
        example = names.most_common(1)[0][0]
        lines.append(f"| {reason.replace('|', '/')} | {sum(names.values())}, such as `{example}` |")
    text = (
        format_head("Why common tests of transformers were skipped, by the tests themselves") + "\n".join(lines) + "\n"
    )
    (RESULTS / "conformance_skipped.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""The comparison of remedies against forgetting, with a training program that only takes notes."""

import json
from pathlib import Path

import pytest

from benchmarks.quality import forgetting


@pytest.fixture
def asked(monkeypatch):
    """The settings of every run; the old text scores higher with each remedy."""
    runs = []

    def run(words):
        names = [word for word in words if word.startswith("--")]
        given = {name: words[words.index(name) + 1] for name in names}
        runs.append(given)
        remedies = ("--replay" in given) + (given["--interpolate"] != "null")
        scores = {"test_bleu_before": 50.0, "old_bleu_before": 45.0, "test_bleu": 99.0, "train_seconds": 60.0}
        folder = Path(given["--output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "all_results.json").write_text(json.dumps({**scores, "old_bleu": 15.0 + 10 * remedies}))
        return 0

    monkeypatch.setattr(forgetting, "run_recipe", run)
    return runs


def compare(folder):
    text = ["--old", "a.en", "a.es", "--old_test", "b.en", "b.es"]
    report = folder / "report.md"
    words = ["--init_from", "model", *text, "--seeds", "1", "2", "--output_dir", str(folder / "runs")]
    assert forgetting.main([*words, "--output", str(report), "--", "--corpus", "phrasebook"]) == 0
    return report.read_text(encoding="utf-8")


def test_each_remedy_is_trained_once_a_seed_and_its_mean_is_made_of_that(asked, tmp_path):
    report = compare(tmp_path)
    assert "| before | 50.00 | 45.00 |  |" in report and "| none | 99.00 99.00 | 15.00 15.00 | 1.0 |" in report
    for remedy in ("old pairs", "own translations"):
        assert f"| {remedy} | 99.00 99.00 | 25.00 25.00 | 1.0 |" in report
        for enough in (1.0, 0.97):
            assert f"| {remedy}, `interpolate: {enough}` | 99.00 99.00 | 35.00 35.00 | 1.0 |" in report
    assert len(asked) == 2 + 6 + 6 and all(given["--resume_from_checkpoint"] == "auto" for given in asked)
    folders = [given["--output_dir"] for given in asked if given["--interpolate"] != "null"]
    assert set(folders) < {given["--output_dir"] for given in asked if given["--interpolate"] == "null"}
    replays = {given["--replay"] for given in asked if "--replay" in given}
    assert {"target" in json.loads(replay) for replay in replays} == {True, False}


def test_a_measurement_is_not_made_again(asked, tmp_path):
    first = compare(tmp_path)
    asked.clear()
    assert compare(tmp_path) == first and not asked

"""Paired tests of two systems, against sacreBLEU's own command."""

import json
import subprocess
import sys

import pytest

from training.metrics.significance import compare_systems

WORDS = ["the", "red", "cat", "sat", "on", "a", "mat", "house"]
REFERENCES = [" ".join(WORDS[(i * j) % 8] for j in range(1, 8)) for i in range(1, 41)]
SYSTEMS = {
    "first": [line.replace("cat", "dog") if i % 3 else line for i, line in enumerate(REFERENCES)],
    "second": [line.replace("mat", "hat") if i % 5 else line for i, line in enumerate(REFERENCES)],
    "third": [line.replace("red house", "a") for line in REFERENCES],
}


@pytest.mark.parametrize(("option", "name"), [("--paired-bs", "bootstrap"), ("--paired-ar", "randomization")])
def test_differences_are_those_of_the_command_of_sacrebleu(option, name, tmp_path):
    for system, lines in {"reference": REFERENCES, **SYSTEMS}.items():
        (tmp_path / system).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    words = [str(tmp_path / "reference"), "-i", *(str(tmp_path / system) for system in SYSTEMS), "-m", "bleu"]
    words += [option, f"{option}-n", "200", "--tokenize", "none", "--force", "--format", "json"]
    command = [sys.executable, "-m", "sacrebleu", *words]
    first, *others = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    found = compare_systems(SYSTEMS, REFERENCES, "none", samples=200, trials=200)
    assert list(found) == ["second", "third"]
    for difference, expected in zip(found.values(), others, strict=True):
        value = expected["BLEU"]
        assert getattr(difference, name) == pytest.approx(value["p_value"], abs=1e-4)
        assert difference.bleu == pytest.approx(value["score"] - first["BLEU"]["score"], abs=0.01)
    p_values = [getattr(difference, name) for difference in found.values()]
    assert p_values[1] < 0.05 < p_values[0] or p_values[0] != p_values[1]


def test_a_system_does_not_differ_from_itself():
    found = compare_systems({"a": SYSTEMS["first"], "b": SYSTEMS["first"]}, REFERENCES, "13a", 50, 50)["b"]
    assert (found.bleu, found.bootstrap, found.randomization) == (0, 1, 1)
    assert "bs:50|seed:12345" in found.signatures[0] and "ar:50|seed:12345" in found.signatures[1]

"""The table of means of checkpoints, on a run of a few steps."""

import json

import pytest

from benchmarks.quality.averaging import main
from tests.training.small import write_recipe
from training.engine.checkpoints import EXTRA
from training.train import main as train
from vanilla_transformer import VanillaTransformerForConditionalGeneration


@pytest.mark.slow
def test_means_and_length_penalties_make_a_table(tmp_path, capsys, monkeypatch):
    assert train([str(write_recipe(tmp_path)), "--max_steps", "6", "--average_checkpoints", "2"]) == 0
    (tmp_path / "run" / "checkpoint-7").mkdir()  # of an interruption; it takes no part
    (tmp_path / "run" / "checkpoint-7" / EXTRA).touch()
    generate, penalties = VanillaTransformerForConditionalGeneration.generate, set()

    def watch(model, *arguments, **settings):
        penalties.add(model.generation_config.length_penalty)
        return generate(model, *arguments, **settings)

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", watch)
    run, files = str(tmp_path / "run"), [f"--source={tmp_path}/validation.en", f"--reference={tmp_path}/validation.es"]
    settings = ["--run_on", "cpu", "--num_beams", "1"]
    capsys.readouterr()
    assert main([run, *files, *settings, "--windows", "1", "2", "--length_penalties", "0", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["checkpoints", "NLL", "BLEU, α 0", "BLEU, α 1"]
    assert [cell.strip() for cell in lines[-4].strip("|").split("|")] == names
    one, two = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[-2:])
    assert one[0] == "checkpoint-6" and two[0] == "last 2" and one[1] != two[1]
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert two[1] == f"{results['validation_loss']:.4f}"  # of the mean that training made
    assert penalties == {0, 1}
    assert main([run, f"--source={tmp_path}/absent", files[1], "--windows", "1"]) == 2
    assert "absent cannot be read" in capsys.readouterr().err
    for arguments, message in (
        ([run, *files, "--windows", "0"], "--windows has 0"),
        ([run, *files, "--windows", "99"], "--windows has 99"),
        ([str(tmp_path), *files], "holds 0 checkpoints"),
        ([run, *files, "--length_penalties", "0.6", "nan"], "A length penalty must be finite, but is nan"),
        ([run, *files, "--num_beams", "0"], "`--num_beams` must be at least 1, but is 0"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err

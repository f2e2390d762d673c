"""The table of means of checkpoints, on a run of a few steps."""

from benchmarks.averaging import main
from tests.training.small import write_recipe
from training.train import main as train


def test_means_and_length_penalties_make_a_table(tmp_path, capsys):
    assert train([str(write_recipe(tmp_path)), "--max_steps", "6"]) == 0
    run, files = str(tmp_path / "run"), [f"--source={tmp_path}/validation.en", f"--reference={tmp_path}/validation.es"]
    settings = ["--run_on", "cpu", "--num_beams", "1"]
    capsys.readouterr()
    assert main([run, *files, *settings, "--windows", "1", "2", "--length_penalties", "0", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["checkpoints", "NLL", "BLEU, α 0", "BLEU, α 1"]
    assert [cell.strip() for cell in lines[-4].strip("|").split("|")] == names
    assert "checkpoint-6" in lines[-2] and "last 2" in lines[-1]
    assert main([run, f"--source={tmp_path}/absent", files[1], "--windows", "1"]) == 2
    assert "absent cannot be read" in capsys.readouterr().err
    for arguments, message in (
        ([run, *files, "--windows", "0"], "--windows has 0"),
        ([run, *files, "--windows", "99"], "--windows has 99"),
        ([str(tmp_path), *files], "holds 0 checkpoints"),
        ([run, *files, "--length_penalties", "0.6", "nan"], "A length penalty is nan"),
        ([run, *files, "--num_beams", "0"], "--num_beams is 0"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err

import sys

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from training import averaging
from training.engine.averaging import average_weights, write_mean
from training.engine.checkpoints import EXTRA, find_checkpoints, regular_checkpoints
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.errors import RecipeError


@pytest.fixture
def checkpoints(tmp_path, config):
    folders = []
    for step in (90, 100, 1000):
        torch.manual_seed(step)
        folder = tmp_path / f"checkpoint-{step}"
        VanillaTransformerForConditionalGeneration(config).save_pretrained(folder)
        (folder / "trainer_state.json").write_text("{}")
        folders.append(folder)
    return folders


def test_the_mean_of_each_tensor_with_ties_kept(checkpoints, tmp_path, monkeypatch):
    output = tmp_path / "mean"
    monkeypatch.setattr(sys, "argv", ["averaging", "--output", str(output), *map(str, checkpoints)])
    averaging.main()
    model = AutoModelForSeq2SeqLM.from_pretrained(output)
    parts = [AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict() for folder in checkpoints]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, sum(part[name] for part in parts) / 3, rtol=0, atol=1e-6)
    assert model.lm_head.weight.data_ptr() == model.model.decoder.embed_tokens.weight.data_ptr()
    assert not (output / "trainer_state.json").exists()
    assert (output / "model.safetensors").stat().st_mode == (output / "config.json").stat().st_mode


@pytest.mark.parametrize(
    ("output", "missing", "message"),
    [
        ("checkpoint-100", None, "`--output` must not be one of the checkpoints, but is"),
        ("file", None, "`--output` must be a folder, but is"),
        ("mean", "config.json", "checkpoint-1000 has no config.json"),
        ("mean", "model.safetensors", "model.safetensors cannot be read"),
    ],
)
def test_nothing_is_written_where_a_mean_cannot_be(checkpoints, tmp_path, capsys, output, missing, message):
    (tmp_path / "file").write_text("mine")
    if missing is not None:
        (checkpoints[-1] / missing).unlink()
    assert averaging.main(["--output", str(tmp_path / output), *map(str, checkpoints)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "mean").exists()


def test_a_model_is_not_written_over(checkpoints, tmp_path):
    write_mean(checkpoints, tmp_path / "mean")
    before = (tmp_path / "mean" / "model.safetensors").read_bytes()
    with pytest.raises(RecipeError, match=r"must not hold a model, but .*mean does"):
        write_mean(checkpoints[:1], tmp_path / "mean")
    assert (tmp_path / "mean" / "model.safetensors").read_bytes() == before


def test_a_full_disk_leaves_no_weights(checkpoints, tmp_path, full_disk):
    for code in checkpoints[-1].glob("*.py"):  # some of which is as large as the weights
        code.unlink()
    with full_disk(), pytest.raises(RecipeError, match=r"mean cannot be written"):
        write_mean(checkpoints, tmp_path / "mean")
    assert not list((tmp_path / "mean").glob("model.safetensors*"))


def test_checkpoints_come_in_the_order_of_their_steps(checkpoints, tmp_path):
    (tmp_path / "checkpoint-best").mkdir()
    assert find_checkpoints(tmp_path) == checkpoints
    (checkpoints[1] / EXTRA).touch()
    assert regular_checkpoints(tmp_path) == [checkpoints[0], checkpoints[2]]
    assert regular_checkpoints(tmp_path, up_to_step=999) == [checkpoints[0]]


def test_checkpoints_of_another_model_and_broken_ones_are_refused(checkpoints, tmp_path, config):
    config.intermediate_size = 50
    other = tmp_path / "checkpoint-3000"
    VanillaTransformerForConditionalGeneration(config).save_pretrained(other)
    with pytest.raises(RecipeError, match="checkpoint-3000 holds another model than"):
        average_weights([checkpoints[0], other])
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RecipeError, match="cannot be read"):
        average_weights([other])
    with pytest.raises(RecipeError, match="No checkpoints"):
        average_weights([])

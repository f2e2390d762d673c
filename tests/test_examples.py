"""The examples run, and their changes of the model train, save, load and decode on the fast steps."""

import re
import runpy

import pytest
import torch
from torch import nn

from examples.rms_norm import RMSNormTransformer
from examples.rotary_positions import RotaryTransformer
from tests.conftest import REPOSITORY
from tests.plain import plain
from vanilla_transformer import generation_vanilla_transformer

README = (REPOSITORY / "examples" / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
SLOW = {"finetune_with_trainer"}
# A line that each prints.
PRINTED = {
    "attention_picture": r"^picture: runs/attention\.png$",
    "embeddings": r"^1\.00 -?\d\.\d\d -?\d\.\d\d Where is the house\?$",
    "finetune_with_trainer": r"^The boat is red\. ->",
    "forced_scores": r"^log P -\d+\.\d\d, perplexity \d+\.\d: ¿Cómo estás\?$",
    "lora": r"^step 15: loss \d+\.\d+$",
    "rms_norm": r"^\[\[0, ",
    "rotary_positions": r"^\[\[0, ",
    "translate": r"^How are you\? -> ",
}


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem) for path in EXAMPLES]
)
def test_they_are_short_and_run(path, model_folder, tmp_path, monkeypatch, capfd):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    model_folder.rename(tmp_path / "checkpoints" / "tiny-en-es")  # a smaller one in its place
    runpy.run_path(str(path), run_name="__main__")
    assert re.search(PRINTED[path.stem], capfd.readouterr().out, flags=re.MULTILINE)


def test_each_has_its_row_in_the_table():
    rows = re.findall(r"^\| .+\? \| \[(\w+)\.py\]\(\1\.py\) \|$", README, flags=re.MULTILINE)
    assert sorted(rows) == [path.stem for path in EXAMPLES]


@pytest.mark.parametrize("model_class", [RotaryTransformer, RMSNormTransformer])
@pytest.mark.parametrize("beams", [4, 1])
def test_they_decode_on_the_fast_steps_as_the_called_model_does(config, batch, monkeypatch, model_class, beams):
    steps = []
    step = generation_vanilla_transformer.FastSteps.step
    monkeypatch.setattr(
        generation_vanilla_transformer.FastSteps, "step", lambda self, ids: steps.append(1) or step(self, ids)
    )
    torch.manual_seed(0)
    model = model_class(config).eval()
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    own = model.generate(**source, num_beams=beams, max_new_tokens=40)
    taken = len(steps)
    assert taken > 0 and torch.equal(own, plain(model, **source, num_beams=beams, max_new_tokens=40))
    assert len(steps) == taken
    model.model.decoder.forward = model.model.decoder.forward  # of somebody else: the whole model is called
    assert torch.equal(model.generate(**source, num_beams=beams, max_new_tokens=40), own) and len(steps) == taken


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [RotaryTransformer, RMSNormTransformer])
def test_they_train_save_and_load(config, batch, tmp_path, model_class):
    config.dropout = 0.0
    torch.manual_seed(0)
    model = model_class(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    model.eval().save_pretrained(tmp_path)
    again = model_class.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**batch).logits, model(**batch).logits)


def test_rotary_positions_are_relative_and_rms_norms_are_everywhere(config, batch):
    torch.manual_seed(0)
    model = RotaryTransformer(config).eval()
    columns = torch.arange(batch["input_ids"].shape[1]).unsqueeze(0)
    encoded = [model.get_encoder()(batch["input_ids"], position_ids=columns + shift)[0] for shift in (0, 100)]
    torch.testing.assert_close(*encoded, rtol=0, atol=1e-4)
    swapped = model.get_encoder()(batch["input_ids"], position_ids=columns.flip(1))[0]
    assert (swapped - encoded[0]).abs().max() > 1e-2
    assert not any(isinstance(each, nn.LayerNorm) for each in RMSNormTransformer(config).modules())

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training import regularization
from training.regularization import BpeDropout, r_drop_loss
from training.tasks import translation
from training.train import main
from vanilla_transformer import VanillaTransformerTokenizer


def closed_form(hidden, weight, labels, smoothing, alpha):
    """½ [CE₁ + CE₂ + α / 2 (KL + KL)] from full logits, with torch's own losses."""
    logits = hidden @ weight.T
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum", label_smoothing=smoothing)
    first, second = (logits[half][labels[half] != -100].log_softmax(-1) for half in (slice(2), slice(2, 4)))
    divergence = F.kl_div(second, first, log_target=True, reduction="sum")
    divergence = divergence + F.kl_div(first, second, log_target=True, reduction="sum")
    return (cross_entropy + alpha / 2 * divergence) / 2


@pytest.mark.parametrize("rows", [7, 256])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_r_drop_and_its_gradients_equal_the_closed_form(alpha, rows, monkeypatch):
    monkeypatch.setattr(regularization, "rows_at_once", lambda device: rows)
    torch.manual_seed(0)
    hidden, head = torch.randn(4, 9, 16, dtype=torch.float32), nn.Linear(16, 50, bias=False)
    labels = torch.randint(0, 50, (2, 9)).repeat(2, 1)
    labels[:, 5:] = torch.where(torch.tensor([[True], [False]] * 2), -100, labels[:, 5:])
    hidden.requires_grad_()
    loss = r_drop_loss(hidden, head, labels, 0.1, alpha)
    (3 * loss).backward()
    hidden_64, weight_64 = hidden.detach().double().requires_grad_(), head.weight.detach().double().requires_grad_()
    expected = closed_form(hidden_64, weight_64, labels, 0.1, alpha)
    (3 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(hidden.grad.double(), hidden_64.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.weight.grad.double(), weight_64.grad, rtol=1e-4, atol=1e-5)


def test_passes_that_agree_have_the_loss_of_one():
    torch.manual_seed(0)
    hidden, head, labels = torch.randn(2, 9, 16), nn.Linear(16, 50, bias=False), torch.randint(0, 50, (2, 9))
    one = r_drop_loss(torch.cat([hidden, hidden]), head, torch.cat([labels, labels]), 0.1, 5.0)
    expected = F.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(one, expected)


def test_bpe_dropout_segments_the_same_text_in_other_ways(tokenizer):
    texts = ["the red car is new", "el coche rojo es nuevo"] * 20
    usual = tokenizer(texts).input_ids
    segment = BpeDropout(tokenizer, 0.5, longest=1000)
    drawn = segment(texts, usual)
    assert len({tuple(ids) for ids in drawn[::2]}) > 5
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn] == texts
    assert all(
        ids[-1] == tokenizer.eos_token_id and len(ids) >= len(known) for ids, known in zip(drawn, usual, strict=True)
    )
    assert tokenizer(texts).input_ids == usual
    short = BpeDropout(tokenizer, 0.9, longest=len(usual[1]))
    assert short(texts, usual)[1::2] == usual[1::2]  # what is drawn is longer than that


def test_a_run_with_both_saves_a_tokenizer_without_dropout(recipe, tmp_path, monkeypatch):
    segmented, halves = [], []

    class Watched(BpeDropout):
        def __call__(self, texts, usual):
            drawn = super().__call__(texts, usual)
            segmented.append((sum(map(len, drawn)), sum(map(len, usual))))
            return drawn

    def watched(hidden_states, lm_head, labels, label_smoothing, alpha):
        halves.append((hidden_states.detach().chunk(2), labels.chunk(2)))
        return r_drop_loss(hidden_states, lm_head, labels, label_smoothing, alpha)

    monkeypatch.setattr(translation, "BpeDropout", Watched)
    monkeypatch.setattr(translation, "r_drop_loss", watched)
    run = tmp_path / "run"
    plain = main([str(recipe)])
    settings = json.loads((run / "tokenizer.json").read_text(encoding="utf-8"))
    assert (
        main([str(recipe), "--output_dir", str(tmp_path / "both"), "--bpe_dropout", "0.3", "--r_drop_alpha", "5"]) == 0
    )
    assert plain == 0 and json.loads((tmp_path / "both" / "tokenizer.json").read_text(encoding="utf-8")) == settings
    assert settings["model"]["dropout"] is None
    texts = ["The house is red."] * 10
    for folder in (tmp_path / "both", tmp_path / "both" / "checkpoint-12"):
        saved = VanillaTransformerTokenizer.from_pretrained(folder)
        assert len({tuple(ids) for ids in saved(texts).input_ids}) == 1
    card = (tmp_path / "both" / "README.md").read_text(encoding="utf-8")
    assert "BPE-dropout 0.3, R-Drop α 5" in card
    assert len(segmented) >= 24 and all(drawn > usual for drawn, usual in segmented)
    assert len(halves) == 12
    for (first, second), (labels, same_labels) in halves:
        assert torch.equal(labels, same_labels) and not torch.equal(first, second)  # other dropout

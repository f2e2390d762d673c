"""Imported models against transformers' FSMT, which has fairseq's computation and names."""

import argparse

import pytest
import torch
import transformers
from packaging.version import Version

from tests.fairseq import CASES, random_fsmt
from vanilla_transformer.conversion.from_fairseq import model_from_fairseq, model_from_fsmt


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def both(request, tmp_path_factory):
    theirs = random_fsmt(**CASES[request.param])
    folder = tmp_path_factory.mktemp("fsmt")
    theirs.save_pretrained(folder)
    return theirs, model_from_fsmt(folder, theirs.config.to_dict(), theirs.generation_config.to_dict())


def make_source():
    ids = torch.randint(4, 80, (4, 11), generator=torch.Generator().manual_seed(1))
    for row in range(4):
        ids[row, 11 - 2 * row :] = 1
    return ids, (ids != 1).long()


def make_target():
    ids = torch.randint(4, 80, (4, 7), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = 2
    return ids


@torch.no_grad()
def test_logits_equal_fsmts(both):
    theirs, ours = both
    (ids, mask), target = make_source(), make_target()
    # With a cache FSMT forgets its causal mask.
    expected = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=target, use_cache=False).logits
    logits = ours(input_ids=ids, attention_mask=mask, decoder_input_ids=target).logits
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.skipif(Version(transformers.__version__) < Version("5.24"), reason="FSMT generates other tokens in 5.17")
def test_translations_equal_fsmts_token_for_token(both):
    theirs, ours = both
    ids, mask = make_source()
    settings = {"attention_mask": mask, "max_length": 20}
    assert torch.equal(ours.generate(ids, **settings), theirs.generate(ids, **settings))


@torch.no_grad()
@pytest.mark.parametrize("as_namespace", [True, False])
def test_a_checkpoint_of_fairseq_is_the_same_model(tmp_path, as_namespace):
    """Its file has FSMT's tensors under the same names, without "model." before them."""
    theirs = random_fsmt(tgt_vocab_size=90)
    arguments = {
        "encoder_embed_dim": 64,
        "decoder_embed_dim": 64,
        "encoder_ffn_embed_dim": 128,
        "decoder_ffn_embed_dim": 128,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    tensors = {name.removeprefix("model."): tensor for name, tensor in theirs.state_dict().items()}
    for stack in ("encoder", "decoder"):
        tensors.pop(f"{stack}.embed_positions.weight", None)
        tensors[f"{stack}.embed_positions._float_tensor"] = torch.zeros(1)
    tensors["encoder.version"] = torch.tensor([3.0])
    content = {"args": argparse.Namespace(**arguments)} if as_namespace else {"cfg": {"model": arguments}}
    torch.save({**content, "model": tensors}, tmp_path / "model.pt")
    ours = model_from_fairseq(tmp_path / "model.pt")
    (ids, mask), target = make_source(), make_target()
    expected = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=target, use_cache=False).logits
    logits = ours(input_ids=ids, attention_mask=mask, decoder_input_ids=target).logits
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))

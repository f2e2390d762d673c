"""Imported models against the `MarianMTModel` that they are made from: logits, beams, and the way back."""

import pytest
import torch
import transformers
from packaging.version import Version

from tests.marian import CASES, random_marian
from vanilla_transformer.conversion.from_marian import model_from_marian
from vanilla_transformer.conversion.marian import to_marian

OLDER = Version(transformers.__version__) < Version("5.24")


def import_marian(marian, folder):
    """The model as it comes out of a folder."""
    marian.save_pretrained(folder)
    entries, settings = marian.config.to_dict(), marian.generation_config.to_dict()
    return model_from_marian(folder, entries, settings)


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def both(request, tmp_path_factory):
    marian = random_marian(**CASES[request.param])
    return marian, import_marian(marian, tmp_path_factory.mktemp("marian"))


@pytest.fixture(scope="module")
def source():
    """Eight sources of 12 to 5 tokens; their padding is set by each model."""
    ids = torch.randint(1, 190, (8, 12), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    for row in range(8):
        mask[row, 12 - row :] = 0
    return ids, mask


@torch.no_grad()
def test_logits_equal_marians(both, source):
    marian, ours = both
    ids, mask = source
    ids = ids.masked_fill(mask == 0, marian.config.pad_token_id)
    target = torch.randint(1, 190, (8, 9), generator=torch.Generator().manual_seed(4))
    target[:, 0] = marian.config.decoder_start_token_id
    theirs = marian(input_ids=ids, attention_mask=mask, decoder_input_ids=target).logits
    logits = ours(input_ids=ids, attention_mask=mask, decoder_input_ids=target).logits
    assert theirs.std() > 0.5  # else anything is close
    torch.testing.assert_close(logits, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 4])
def test_translations_equal_marians_token_for_token(both, source, beams):
    marian, ours = both
    if beams > 1 and marian.config.decoder_vocab_size != marian.config.vocab_size and OLDER:
        pytest.skip("beam search of transformers 5.17 takes the number of the source's tokens")
    ids, mask = source
    ids = ids.masked_fill(mask == 0, marian.config.pad_token_id)
    # A forced end is the end at the limit here: the last token before the limit is another.
    settings = {"attention_mask": mask, "num_beams": beams, "max_length": 30}
    theirs = marian.generate(ids, **settings, forced_eos_token_id=None)
    assert torch.equal(ours.generate(ids, **settings), theirs)
    assert not (theirs[:, 1:5] == marian.config.pad_token_id).any()


def test_the_way_back_gives_equal_tensors(both):
    marian, ours = both
    back = to_marian(ours)
    unused = {"model.shared.weight"} if not marian.config.tie_word_embeddings else set()
    for name, tensor in marian.state_dict().items():
        assert name in unused or torch.equal(back.state_dict()[name], tensor), name


def test_the_way_back_gives_the_same_configuration_and_settings(both):
    marian, ours = both
    back = to_marian(ours)
    written = {"architectures", "dtype", "transformers_version", "_name_or_path"}
    # Of the same function: three matrices are not shared, and the end is forced by the generation settings.
    written |= {"share_encoder_decoder_embeddings", "forced_eos_token_id"}
    theirs = {name: value for name, value in marian.config.to_dict().items() if name not in written}
    given = back.config.to_dict()
    assert {name: given[name] for name in theirs} == theirs
    kept = {name: value for name, value in marian.generation_config.to_dict().items() if value is not None}
    kept.pop("transformers_version")
    kept["bos_token_id"] = marian.config.bos_token_id
    given = back.generation_config.to_dict()
    assert {name: given[name] for name in kept} == kept

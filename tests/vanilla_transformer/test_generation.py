import math

import pytest
import torch
from transformers import GenerationConfig
from transformers.modeling_outputs import Seq2SeqLMOutput

from vanilla_transformer import VanillaTransformerForConditionalGeneration, generation_vanilla_transformer


def gnmt(log_probability: float, length: int, alpha: float = 0.6) -> float:
    """Wu et al. 2016, equation 14."""
    return log_probability / ((5 + length) / 6) ** alpha


@pytest.fixture
def inputs(batch):
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


@torch.no_grad()
def reference_beam_search(model, source, num_beams=4, alpha=0.6, offset=50):
    """
    The paper's search for one sentence, as plainly as it can be written: no cache, no batch, no early stopping.

    Returns the finished hypotheses, best first, as (score, tokens).
    """
    limit = source.shape[1] + offset
    alive, finished = [(0.0, [])], []
    for length in range(1, limit + 1):
        candidates = []
        for log_probability, tokens in alive:
            decoder_input_ids = torch.tensor([[model.config.decoder_start_token_id, *tokens]])
            logits = model(input_ids=source, decoder_input_ids=decoder_input_ids).logits[0, -1]
            for token, value in enumerate(logits.log_softmax(-1).tolist()):
                candidates.append((log_probability + value, [*tokens, token]))
        candidates.sort(key=lambda candidate: -candidate[0])
        for log_probability, tokens in candidates[:num_beams]:
            if tokens[-1] == model.config.eos_token_id or length == limit:
                finished.append((gnmt(log_probability, length, alpha), tokens))
        alive = [c for c in candidates if c[1][-1] != model.config.eos_token_id][:num_beams]
    return sorted(finished, key=lambda hypothesis: -hypothesis[0])[:num_beams]


def tokens_of(row: torch.Tensor, pad: int = 1) -> list[int]:
    return [token for token in row[1:].tolist() if token != pad]


@pytest.fixture
def talkative(small_config):
    """A small model whose hypotheses end at many lengths: the end of sentence is a little likelier than the rest."""

    def build(seed: int) -> VanillaTransformerForConditionalGeneration:
        torch.manual_seed(seed)
        config = small_config(vocab_size=12, hidden_size=16, num_attention_heads=2, intermediate_size=16)
        return VanillaTransformerForConditionalGeneration(config).eval()

    return build


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_plain_search_without_early_stopping_in_any_batch(talkative, seed):
    model = talkative(seed)
    source = torch.randint(4, 12, (3, 6))
    source[1, 4:], source[2, 2:] = 1, 1
    mask = (source != 1).long()
    outputs = model.generate(
        source,
        attention_mask=mask,
        source_length_offset=6,
        num_return_sequences=4,
        return_dict_in_generate=True,
        output_scores=True,
    )
    for row, length in enumerate((6, 4, 2)):
        expected = reference_beam_search(model, source[row : row + 1, :length], offset=6)
        for n, (score, tokens) in enumerate(expected):
            assert outputs.sequences_scores[4 * row + n].item() == pytest.approx(score, abs=1e-5)
            assert tokens_of(outputs.sequences[4 * row + n]) == [token for token in tokens if token != 1]
        alone = model.generate(source[row : row + 1, :length], source_length_offset=6)
        assert tokens_of(alone[0]) == tokens_of(outputs.sequences[4 * row])


def test_returned_scores_are_gnmt_of_the_token_log_probabilities(model, inputs):
    outputs = model.generate(
        **inputs, num_return_sequences=4, return_dict_in_generate=True, output_scores=True, source_length_offset=5
    )
    for row, sequence in enumerate(outputs.sequences):
        tokens = tokens_of(sequence)
        source = {name: tensor[row // 4 : row // 4 + 1] for name, tensor in inputs.items()}
        with torch.no_grad():
            logits = model(**source, decoder_input_ids=torch.tensor([[0, *tokens[:-1]]])).logits[0]
        log_probability = logits.log_softmax(-1)[range(len(tokens)), tokens].sum().item()
        assert outputs.sequences_scores[row].item() == pytest.approx(gnmt(log_probability, len(tokens)), abs=1e-5)


class HandMade(VanillaTransformerForConditionalGeneration):
    """
    A language of two sentences: "</s>" with log P = -1, and "5 6 </s>" with log P = -1.4.

    -1 / 1^0.6 = -1 < -1.4 / 3^0.6 = -0.72, but -1 / 1^0.6 = -1 > -1.4 / (8/6)^0.6 = -1.18.
    """

    def forward(self, decoder_input_ids=None, encoder_outputs=None, **kwargs):
        step = math.exp(-0.4)
        table = {  # last token -> probabilities of the next
            0: {2: math.exp(-1.0), 5: 1 - math.exp(-1.0) - 1e-9},
            5: {6: step},
            6: {2: math.exp(-1.4) / (1 - math.exp(-1.0) - 1e-9) / step},
        }
        logits = torch.full((*decoder_input_ids.shape, self.config.vocab_size), -40.0)
        for row, last in enumerate(decoder_input_ids[:, -1].tolist()):
            known = table.get(last, {2: 1.0})
            for token, probability in known.items():
                logits[row, -1, token] = math.log(probability)
            rest = 1 - sum(known.values())
            if rest > 1e-6:
                logits[row, -1, 7] = math.log(rest)
        return Seq2SeqLMOutput(logits=logits)


@pytest.mark.parametrize(
    ("penalty", "expected", "score"),
    [("gnmt", [2], -1.0), ("power", [5, 6, 2], -1.4 / 3**0.6)],
)
def test_a_case_that_the_two_penalties_rank_differently(config, penalty, expected, score):
    model = HandMade(config).eval()
    outputs = model.generate(
        torch.tensor([[4, 2]]),
        length_penalty_type=penalty,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert tokens_of(outputs.sequences[0]) == expected
    assert outputs.sequences_scores[0].item() == pytest.approx(score, abs=1e-4)


# ----- length -----


def lengths(sequences: torch.Tensor) -> list[int]:
    return [len(tokens_of(row)) for row in sequences]


def without_padding(model):
    model.generation_config.suppress_tokens = [1, 2]
    return model


@pytest.mark.parametrize("beams", [1, 4])
def test_each_sentence_has_a_limit_of_its_own_length_plus_fifty(model, inputs, beams):
    sequences = without_padding(model).generate(**inputs, num_beams=beams)
    assert lengths(sequences) == [59, 55, 52]


def test_the_limit_holds_for_samples(model, inputs):
    torch.manual_seed(0)
    sequences = without_padding(model).generate(**inputs, num_beams=1, do_sample=True, num_return_sequences=2)
    assert lengths(sequences) == [59, 59, 55, 55, 52, 52]


def test_a_length_passed_to_the_call_switches_the_limit_off(model, inputs):
    without_padding(model)
    assert lengths(model.generate(**inputs, max_new_tokens=70)) == [70] * 3
    assert lengths(model.generate(**inputs, max_length=4)) == [3] * 3
    assert lengths(model.generate(**inputs, generation_config=GenerationConfig(max_new_tokens=3))) == [3] * 3


def test_a_length_in_the_models_own_configuration_does_not(model, inputs):
    without_padding(model).generation_config.max_length = 20
    assert lengths(model.generate(**inputs)) == [59, 55, 52]
    settings = GenerationConfig(num_beams=2)
    assert lengths(model.generate(**inputs, generation_config=settings)) == [59, 55, 52]
    assert settings.max_new_tokens is None, "the caller's configuration was changed"


def test_the_offset_is_overridden_per_call(model, inputs):
    without_padding(model)
    assert lengths(model.generate(**inputs, source_length_offset=3)) == [12, 8, 5]
    assert lengths(model.generate(**inputs, generation_config=GenerationConfig(source_length_offset=1))) == [10, 6, 3]


def test_a_source_past_all_training_does_not_raise_the_limit_without_end(small_config, monkeypatch):
    model = without_padding(VanillaTransformerForConditionalGeneration(small_config(decoder_layers=1)).eval())
    source = torch.full((2, 600), 7)
    mask = torch.ones_like(source)
    mask[1, 500:] = 0
    settings = {"attention_mask": mask, "num_beams": 1}
    assert lengths(model.generate(source, **settings)) == [512 + 50, 500 + 50]
    monkeypatch.setattr(generation_vanilla_transformer, "COUNTED_SOURCE_LENGTH", 20)
    for longest, counted in ((None, 20), (9, 20), (30, 30)):
        model.generation_config.longest_source = longest
        assert lengths(model.generate(source, **settings, source_length_offset=3)) == [counted + 3] * 2
        assert lengths(model.generate(source[:, :10], num_beams=2, source_length_offset=3)) == [13] * 2


def test_without_a_mask_padding_does_not_count_either(model, inputs):
    sequences = without_padding(model).generate(inputs["input_ids"])
    assert lengths(sequences) == [59, 55, 52]
    assert torch.equal(sequences, model.generate(**inputs))


def test_learned_positions_end_a_sentence_in_time(config, inputs):
    config.position_embedding_type, config.max_position_embeddings = "learned", 20
    model = without_padding(VanillaTransformerForConditionalGeneration(config).eval())
    assert lengths(model.generate(**inputs)) == [19, 19, 19]
    with pytest.raises(ValueError, match="`max_position_embeddings` is 20"):
        model.generate(**inputs, max_new_tokens=40)


def test_a_forced_prefix_does_not_count(model, inputs):
    without_padding(model)
    prefix = torch.tensor([[0, 7, 8]] * 3)
    sequences = model.generate(**inputs, decoder_input_ids=prefix)
    assert sequences[:, 1:3].tolist() == [[7, 8]] * 3
    assert lengths(sequences) == [61, 57, 54]


def test_a_start_token_of_the_call_is_told_from_a_prefix(model, inputs):
    without_padding(model)
    prefix = torch.tensor([[7, 8]] * 3)
    for settings in ({"decoder_start_token_id": 7}, {"decoder_start_token_id": 0}):
        sequences = model.generate(**inputs, decoder_input_ids=prefix, source_length_offset=3, **settings)
        prompt = 2 if settings["decoder_start_token_id"] == 7 else 3
        assert [length + 1 - prompt for length in lengths(sequences)] == [12, 8, 5]


def test_generating_from_nothing_is_refused(model):
    with pytest.raises(ValueError, match="got no source"):
        model.generate()


# ----- other modes -----


def test_greedy_takes_the_best_token_each_time(model, inputs):
    sequences = model.generate(**inputs, num_beams=1, source_length_offset=0)
    with torch.no_grad():
        logits = model(
            input_ids=inputs["input_ids"][:1],
            attention_mask=inputs["attention_mask"][:1],
            decoder_input_ids=sequences[:1, :-1],
        ).logits[0]
    tokens = tokens_of(sequences[0])
    assert logits.argmax(-1)[: len(tokens)].tolist() == tokens


def test_sampling_differs_with_the_seed(model, inputs):
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(model.generate(**inputs, num_beams=1, do_sample=True, max_new_tokens=12))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("beams", [1, 4])
def test_cache_kinds_give_the_same_tokens(model, inputs, beams):
    expected = model.generate(**inputs, num_beams=beams, source_length_offset=5)
    for settings in ({"use_cache": False}, {"cache_implementation": "static"}):
        assert torch.equal(model.generate(**inputs, num_beams=beams, source_length_offset=5, **settings), expected)


@pytest.mark.parametrize("cache", [None, "static"])
def test_a_left_padded_prefix_equals_the_prefix_by_itself(model, inputs, cache):
    source = {name: tensor[:1] for name, tensor in inputs.items()}
    settings = {"max_new_tokens": 6, "cache_implementation": cache}
    alone = model.generate(**source, decoder_input_ids=torch.tensor([[0, 7]]), **settings)
    padded = model.generate(
        **source,
        decoder_input_ids=torch.tensor([[1, 1, 0, 7]]),
        decoder_attention_mask=torch.tensor([[0, 0, 1, 1]]),
        **settings,
    )
    # transformers puts the start token before a prompt that does not begin with it; it is masked out like padding here
    assert padded[0].tolist()[-6:] == alone[0].tolist()[-6:]


def test_an_unknown_penalty_is_refused(model, inputs):
    for beams in (4, 1):
        with pytest.raises(ValueError, match="`length_penalty_type` is 'wu'"):
            model.generate(**inputs, length_penalty_type="wu", num_beams=beams)


def test_generation_settings_survive_saving(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path)
    settings = loaded.generation_config
    assert (settings.num_beams, settings.length_penalty, settings.early_stopping) == (4, 0.6, "never")
    assert (settings.length_penalty_type, settings.source_length_offset) == ("gnmt", 50)
    assert torch.equal(loaded.generate(**inputs), model.generate(**inputs))


@pytest.mark.filterwarnings("ignore:.*generation flags are not valid")
def test_a_model_set_to_greedy_can_be_saved_and_keeps_its_length_penalty(model, inputs, tmp_path):
    model.generation_config.num_beams, model.generation_config.length_penalty = 1, 0.9
    model.save_pretrained(tmp_path)
    loaded = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded.generate(**inputs), model.generate(**inputs))
    settings = loaded.generation_config
    assert (settings.num_beams, settings.length_penalty, settings.early_stopping) == (1, 0.9, "never")
    assert torch.equal(loaded.generate(**inputs, num_beams=4), model.generate(**inputs, num_beams=4))


def test_ids_by_keyword_are_a_source_where_padding_cannot_be_told(config):
    config.pad_token_id = config.eos_token_id
    model = VanillaTransformerForConditionalGeneration(config).eval()
    ids = torch.tensor([[5, 6, 7, 2]])
    assert torch.equal(model.generate(input_ids=ids), model.generate(ids))


def test_start_tokens_of_each_sentence_are_told_from_a_prefix(model, inputs):
    first, second = model.config.decoder_start_token_id, 3
    source = {name: tensor[:2] for name, tensor in inputs.items()}
    prefix = torch.tensor([[first, 11], [second, 12]])
    outputs = model.generate(**source, decoder_start_token_id=[first, second], decoder_input_ids=prefix)
    assert torch.equal(outputs[:, :2], prefix)


def test_without_a_start_token_the_beginning_of_text_is_one(config):
    ids, prefix = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[11]])
    lengths = set()
    for start in (0, None):
        config.decoder_start_token_id = start
        model = VanillaTransformerForConditionalGeneration(config).eval()
        settings = {"source_length_offset": 1, "eos_token_id": 59, "num_beams": 1, "min_new_tokens": 5}
        lengths.add(model.generate(ids, decoder_input_ids=prefix, **settings).shape)
    assert lengths == {(1, 1 + 1 + 5)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source_length_offset": -1}, "`source_length_offset` is -1"),
        ({"inputs": torch.tensor([5, 2])}, r"has the shape \(2,\)"),
    ],
)
def test_settings_and_sources_that_cannot_be_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        model.generate(**{"inputs": torch.tensor([[5, 2]]), **settings})


@pytest.mark.parametrize(("name", "value"), [("max_new_tokens", 5), ("max_length", 6)])
def test_a_limit_in_the_model_s_own_settings_is_named_once(model, batch, messages, name, value):
    inputs = {each: batch[each] for each in ("input_ids", "attention_mask")}
    model.lm_head.weight.data[2] = -1.0  # no `</s>`
    expected = model.generate(**inputs)
    setattr(model.generation_config, name, value)
    for _ in range(2):
        assert torch.equal(model.generate(**inputs), expected)
    (message,) = messages
    assert f"`{name}` is {value} in `model.generation_config`" in message
    model.generation_config.source_length_offset = None
    assert model.generate(**inputs).shape[1] <= 6
    assert len(messages) == 1


def test_nothing_is_said_of_the_limit_that_trainer_writes(model, batch, messages):
    model.generation_config.max_length = 20
    model.generate(batch["input_ids"], attention_mask=batch["attention_mask"])
    model.generation_config.max_new_tokens = 5
    model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=3)
    assert messages == []

"""The work of the engine for onnxruntime around its graphs, over the same graphs in torch: no export is needed."""

from types import SimpleNamespace

import pytest
import torch

from tests.vanilla_transformer.conversion.configurations import build_model
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.conversion.onnx_graphs import PARTS, DecoderGraph, EncoderGraph
from vanilla_transformer.engines.onnxruntime_engine import OnnxModel
from vanilla_transformer.errors import SettingsError


class EncoderSession:
    """The encoder's graph behind the interface of onnxruntime."""

    def __init__(self, model):
        self.graph = EncoderGraph(model)

    @torch.no_grad()
    def run(self, names, feeds):
        return [self.graph(*(torch.from_numpy(feeds[name]) for name in ("input_ids", "attention_mask"))).numpy()]


class DecoderSession:
    """The decoder's graph behind the same interface."""

    def __init__(self, model):
        self.graph, config = DecoderGraph(model), model.config
        self.parts = [f"{layer}.{part}" for layer in range(config.decoder_layers) for part in PARTS]
        sizes = {"key": config.query_key_size, "value": config.value_size}
        self.inputs = [
            SimpleNamespace(
                name=f"past_key_values.{part}",
                shape=["batch_size", config.num_attention_heads, "length", sizes[part.rpartition(".")[2]]],
            )
            for part in self.parts
        ]

    def get_inputs(self):
        return self.inputs

    @torch.no_grad()
    def run(self, names, feeds):
        given = {name: torch.from_numpy(value) for name, value in feeds.items()}
        first = [given.pop(name) for name in ("encoder_attention_mask", "input_ids", "encoder_hidden_states")]
        results = self.graph(*first, [given[each.name] for each in self.inputs])
        outputs = ["logits", *(f"present.{part}" for part in self.parts)]
        return [dict(zip(outputs, results, strict=False))[name].numpy() for name in names]


def as_onnx(model):
    return OnnxModel(EncoderSession(model), DecoderSession(model), model.config, model.generation_config)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 1},
        {"num_return_sequences": 3},
        {"do_sample": True, "num_beams": 1},
        {"num_beams": 2, "return_dict_in_generate": True},
    ],
    ids=str,
)
def test_the_search_over_graphs_gives_the_tokens_of_the_model(small_config, batch, settings):
    torch.manual_seed(0)
    model = VanillaTransformerForConditionalGeneration(small_config(qk_head_dim=4)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(3)  # hypotheses that differ
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    results = []
    for each in (model, as_onnx(model)):
        torch.manual_seed(1)
        found = each.generate(**inputs, max_new_tokens=8, **settings)
        results.append(found if isinstance(found, torch.Tensor) else found.sequences)
    assert torch.equal(*results) and len({tuple(row) for row in results[0].tolist()}) >= 3


@pytest.mark.parametrize("beams", [1, 4])
def test_learned_positions_end_as_they_do_in_torch(small_config, batch, beams):
    ours = build_model(small_config, position_embedding_type="learned", max_position_embeddings=12)
    theirs, source = as_onnx(ours), {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(theirs.generate(**source, num_beams=beams), ours.generate(**source, num_beams=beams))
    for model in (ours, theirs):
        with pytest.raises(ValueError, match="A sequence has 13 positions and `max_position_embeddings` is 12"):
            model.generate(**source, num_beams=beams, max_new_tokens=30)
        with pytest.raises(ValueError, match="A sequence has 18 positions"):
            model.generate(source["input_ids"].repeat(1, 2), num_beams=beams)


def test_a_call_without_what_the_graphs_need_is_refused_by_name(model, batch):
    onnx, source = as_onnx(model), {"input_ids": batch["input_ids"]}
    for given, said in (
        (batch, "`labels` must be left out"),
        (source, "`decoder_input_ids` must be given"),
        ({"decoder_input_ids": batch["input_ids"]}, "`input_ids` must be given"),
    ):
        with pytest.raises(SettingsError, match=said):
            onnx(**given)
    with torch.no_grad():
        expected = model(**source, decoder_input_ids=batch["input_ids"]).logits
    found = onnx(**source, decoder_input_ids=batch["input_ids"]).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_call_gives_a_tuple_where_it_is_asked_for_and_takes_no_positions_but_those_it_counts(model, batch):
    onnx, ids = as_onnx(model), batch["input_ids"]
    expected = onnx(ids, decoder_input_ids=ids)
    found = onnx(ids, decoder_input_ids=ids, return_dict=False)
    assert isinstance(found, tuple) and torch.equal(found[0], expected.logits)
    counted = torch.arange(ids.shape[1]).expand_as(ids)
    same = onnx(ids, decoder_input_ids=ids, decoder_position_ids=counted)
    assert torch.equal(same.logits, expected.logits)
    with pytest.raises(SettingsError, match="`decoder_position_ids` must count from 0"):
        onnx(ids, decoder_input_ids=ids, decoder_position_ids=counted + 1)

"""The folder of `export --to onnx`: the graphs beside the model, and refusals."""

import json
import sys

import pytest
import torch

from tests.vanilla_transformer.conversion.configurations import CONFIGURATIONS, build_model
from vanilla_transformer.cli import main
from vanilla_transformer.conversion import to_onnx
from vanilla_transformer.conversion.onnx_graphs import PARTS, DecoderGraph, EncoderGraph, Rotations
from vanilla_transformer.conversion.to_onnx import export_onnx, write_graphs
from vanilla_transformer.errors import ConversionError
from vanilla_transformer.modeling_vanilla_transformer import VanillaTransformerSinusoidalPositions

ONNX_CONFIGURATIONS = {**CONFIGURATIONS, "mish": {"hidden_act": "mish"}}  # an activation that CTranslate2 lacks
# An export takes seconds a layer: the same values of fields, several at a time.
EXPORTED = {
    "pre-norm": {
        **{"norm_first": True, "attention_bias": True, "v_head_dim": 16, "hidden_act": "gelu_new"},
        **{"output_bias": True, "layer_norm_eps": 1e-3},
    },
    "learned": {**CONFIGURATIONS["untied, learned, gelu"], **CONFIGURATIONS["small keys"]},
    "large keys": {
        **CONFIGURATIONS["large keys"],
        **{"hidden_act": "silu", "scale_embedding": False, "decoder_vocab_size": 64},
    },
    "small heads": {
        **CONFIGURATIONS["small heads"],
        **CONFIGURATIONS["sinusoids of tensor2tensor"],
        "hidden_act": "mish",
    },
    "one head": {**CONFIGURATIONS["other ids"], "num_attention_heads": 1, "hidden_act": "quick_gelu"},
}


def decode_step_by_step(decode, config, encoded, mask, targets):
    """Logits (B, T, V) of targets (B, T), one token at a time; `decode` takes what a graph takes."""
    rows, heads = len(targets), config.num_attention_heads
    sizes = (config.query_key_size, config.value_size)
    past = [torch.zeros(rows, heads, 0, size) for size in sizes * 2] * config.decoder_layers
    logits = []
    for tokens in targets.split(1, dim=1):
        step, *others = decode(mask, tokens, encoded, past)
        past = list(others[: len(past)])
        logits.append(step)
    return torch.cat(logits, dim=1), others[len(past) :]


@pytest.mark.parametrize("name", ONNX_CONFIGURATIONS)
@torch.no_grad()
def test_graphs_compute_what_the_model_does_step_by_step(name, small_config, batch):
    model = build_model(small_config, **ONNX_CONFIGURATIONS[name])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    targets = torch.cat([torch.zeros(3, 1, dtype=torch.long), batch["labels"].clamp(min=1)[:, :-1]], dim=1)
    expected = model(input_ids=ids, attention_mask=mask, decoder_input_ids=targets)
    encoded = EncoderGraph(model)(ids, mask)
    real = mask.bool()
    torch.testing.assert_close(encoded[real], expected.encoder_last_hidden_state[real], rtol=1e-5, atol=1e-5)
    logits, weights = decode_step_by_step(DecoderGraph(model), model.config, encoded, mask, targets)
    torch.testing.assert_close(logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert weights[0].shape == (3, model.config.num_attention_heads, 1, 9)  # what a map of attention draws


def test_rotations_are_the_papers_positions_without_float64():
    positions = torch.tensor([0, 1, 63, 64, 65, 4095, 4096, 100_003, 262_143])
    rotations = Rotations(32)
    assert all(table.dtype == torch.float32 for table in rotations.buffers())
    expected = VanillaTransformerSinusoidalPositions(32)(positions, torch.float64)
    torch.testing.assert_close(rotations(positions).double(), expected, rtol=0, atol=3e-7)


def test_all_padding_gives_numbers(model):
    states = EncoderGraph(model)(torch.ones(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))
    assert bool(states.isfinite().all())


def test_an_export_that_cannot_be_is_refused(model_folder, tmp_path, capsys):
    with pytest.raises(ConversionError, match="`precision` must be one of float32, int8 for ONNX, but is 'int4'"):
        export_onnx(model_folder, tmp_path / "out", "int4")
    (tmp_path / "taken").mkdir()
    with pytest.raises(SystemExit):
        main(["export", str(model_folder), str(tmp_path / "out"), "--to", "onnx", "--max_positions", "9"])
    assert "--max_positions is for --to ctranslate2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_says_which_part_it_writes_and_what_differs(model_folder, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime", reason='needs pip install "vanilla-transformer[onnx]"')
    pytest.importorskip("onnxscript", reason='needs pip install "vanilla-transformer[onnx]"')
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **settings: None)  # which takes up to a minute
    monkeypatch.setattr(to_onnx, "quantize", lambda folder: None)
    assert main(["export", str(model_folder), str(tmp_path / "a"), "--to", "onnx", "--precision", "int8"]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "ONNX: 0 of 3 parts done; writing the encoder's graph ...",
        "ONNX: 1 of 3 parts done; writing the decoder's graph ...",
        "ONNX: 2 of 3 parts done; writing weights in int8 ...",
    ]
    assert "Differences from the original:\n  transformers.js has greedy search" in shown.out
    assert main(["export", str(model_folder), str(tmp_path / "b"), "--to", "onnx"]) == 0
    assert "ONNX: 1 of 2 parts done; writing the decoder's graph ..." in capsys.readouterr().err


def test_settings_that_the_folder_cannot_have_are_left_out(small_config, tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason='needs pip install "vanilla-transformer[onnx]"')
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **settings: None)  # which takes up to a minute
    positions = {"position_embedding_type": "learned", "max_position_embeddings": 24}
    model = build_model(small_config, vocab_size=len(tokenizer), **positions)
    model.generation_config.weight_precision = "int8"
    model.save_pretrained(tmp_path / "original")
    tokenizer.save_pretrained(tmp_path / "original")
    said = " ".join(export_onnx(tmp_path / "original", tmp_path / "onnx"))
    assert "It has no `weight_precision`, which is 'int8'" in said and "after 24 tokens" in said
    facts = json.loads((tmp_path / "onnx" / "vanilla_transformer.json").read_text())
    assert "weight_precision" not in facts["generation_config"]
    assert json.loads((tmp_path / "onnx" / "generation_config.json").read_text())["max_length"] == 24


def test_without_the_libraries_the_command_says_what_to_install(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", str(model_folder), str(tmp_path / "out"), "--to", "onnx"]) == 2
    assert (
        'onnxscript is not installed. Install it: pip install "vanilla-transformer[onnx]"' in capsys.readouterr().err
    )
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_the_folder_is_one_that_transformers_js_loads(exported):
    import onnx

    output = exported / "onnx"
    config = json.loads((output / "config.json").read_text())
    assert (config["model_type"], config["d_model"], config["decoder_attention_heads"]) == ("marian", 32, 4)
    assert json.loads((output / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    decoder = onnx.load(str(output / "onnx" / "decoder_model_merged.onnx"))
    inputs = {each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
              for each in decoder.graph.input}  # fmt: skip
    assert inputs["past_key_values.2.encoder.value"][:2] == ["batch_size", 4]
    assert inputs["past_key_values.2.encoder.value"][3] == 8  # numbers, and names for what is empty at first
    outputs = [each.name for each in decoder.graph.output]
    assert outputs == [
        *("logits", *(f"present.{layer}.{part}" for layer in range(3) for part in PARTS)),
        *(f"cross_attentions.{layer}" for layer in range(3)),
    ]
    assert not any(node.op_type == "If" for node in decoder.graph.node)
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "--engine onnxruntime" in card and 'dtype: "fp32"' in card and "library_name: transformers.js" in card


def test_each_value_of_a_field_is_exported():
    values = [{(name, value) for name, value in each.items()} for each in EXPORTED.values()]
    for changes in ONNX_CONFIGURATIONS.values():
        for change in changes.items():
            assert any(change in each for each in values), change


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
@torch.no_grad()
def test_onnxruntime_computes_what_the_model_does_step_by_step(name, small_config, batch, tmp_path):
    """Those of the paper's configuration with all its layers: test_onnxruntime_engine.py."""
    onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "vanilla-transformer[onnx]"')
    pytest.importorskip("onnxscript", reason='needs pip install "vanilla-transformer[onnx]"')
    model = build_model(small_config, encoder_layers=1, decoder_layers=1, **EXPORTED[name])
    write_graphs(model, tmp_path)
    encoder, decoder = (
        onnxruntime.InferenceSession(str(tmp_path / f"{each}.onnx"), providers=["CPUExecutionProvider"])
        for each in ("encoder_model", "decoder_model_merged")
    )
    ids, mask = batch["input_ids"], batch["attention_mask"]
    targets = torch.cat([torch.zeros(3, 1, dtype=torch.long), batch["labels"].clamp(min=1)[:, :-1]], dim=1)
    expected = model(input_ids=ids, attention_mask=mask, decoder_input_ids=targets).logits
    encoded = torch.from_numpy(encoder.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0])
    inputs = [each.name for each in decoder.get_inputs()]

    def decode(mask, tokens, encoded, past):
        given = dict(zip(inputs, [mask, tokens, encoded, *past], strict=True))
        outputs = decoder.run(None, {each: value.contiguous().numpy() for each, value in given.items()})
        return [torch.from_numpy(output) for output in outputs]

    logits, _ = decode_step_by_step(decode, model.config, encoded, mask, targets)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)

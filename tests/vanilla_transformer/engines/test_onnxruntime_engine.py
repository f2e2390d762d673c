"""onnxruntime as a translator: our own search over it gives the same lines, whatever the settings."""

import shutil

import pytest
import torch

from vanilla_transformer import VanillaTransformerTranslationPipeline, load_translator
from vanilla_transformer.cli import main
from vanilla_transformer.conversion import to_onnx
from vanilla_transformer.conversion.to_onnx import export_onnx
from vanilla_transformer.errors import ModelFolderError
from vanilla_transformer.loading import load_model

TEXTS = ["the house is red", "", "the", "the red car is new", "  ", "the house </s> is <pad> red", "¿Cómo estás?"]
SETTINGS = [
    {},
    {"num_beams": 1},
    {"num_beams": 2, "length_penalty": 1.5},
    {"length_penalty_type": "power", "length_penalty": 0.4, "early_stopping": True},
    {"max_new_tokens": 5},
    {"num_return_sequences": 3},
    {"no_repeat_ngram_size": 2},
    {"num_beams": 1, "repetition_penalty": 1.3},
    {"do_sample": True, "num_beams": 1},
    {"do_sample": True, "top_k": 10},
]


@pytest.mark.slow
def test_every_setting_gives_the_lines_of_the_model(exported, tmp_path, capsys):
    model_folder = exported / "model"
    shutil.copytree(exported / "onnx", tmp_path / "onnx")
    model, tokenizer = load_model(model_folder)
    ours = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    theirs = load_translator(tmp_path / "onnx", engine="onnxruntime")
    for settings in SETTINGS:
        results = []
        for translator in (ours, theirs):
            torch.manual_seed(0)
            results.append(translator.translate(TEXTS, dict(settings), return_scores=True))
        texts, scores = (
            [[[each[key] for each in row] for row in rows] for rows in results]
            for key in ("translation_text", "score")
        )
        assert texts[0] == texts[1], settings
        torch.testing.assert_close(torch.tensor(scores[1]), torch.tensor(scores[0]), rtol=1e-5, atol=1e-5)
    aligned = [each.translate(TEXTS, {"max_new_tokens": 5}, return_alignments=True) for each in (ours, theirs)]
    assert aligned[0] == aligned[1] and aligned[0][0][0]["alignment"]
    ids = torch.randint(4, 300, (2, 600), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 500:] = 0
    sequences = torch.tensor([[0, 5, 6, 2]] * 2)
    inputs = {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad():
        expected, found = (each._score_tokens(inputs, sequences) for each in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    assert main(["translate", "--model", str(model_folder), *TEXTS]) == 0
    lines = capsys.readouterr().out
    assert main(["translate", "--model", str(tmp_path / "onnx"), "--engine", "onnxruntime", *TEXTS]) == 0
    assert capsys.readouterr().out == lines
    assert main(["translate", "--model", str(tmp_path / "onnx"), "the"]) == 2
    assert f"translate --model {tmp_path / 'onnx'} --engine onnxruntime" in capsys.readouterr().err

    graph = tmp_path / "onnx" / "onnx" / "decoder_model_merged.onnx"
    whole = graph.read_bytes()
    graph.write_bytes((graph.parent / "encoder_model.onnx").read_bytes())
    with pytest.raises(ModelFolderError, match=r"merged\.onnx is damaged: its graph has no input encoder_att"):
        load_translator(tmp_path / "onnx", engine="onnxruntime")
    graph.write_bytes(whole[:1000])
    with pytest.raises(ModelFolderError, match=r"decoder_model_merged\.onnx is damaged"):
        load_translator(tmp_path / "onnx", engine="onnxruntime")
    shutil.rmtree(graph.parent)
    with pytest.raises(ModelFolderError, match=r"onnx has no onnx/encoder_model\.onnx"):
        load_translator(tmp_path / "onnx", engine="onnxruntime")


@pytest.mark.slow
def test_int8_quantises_the_output_matrix_too(exported, tmp_path, monkeypatch):
    def copy_graphs(model, folder, begin):  # those that an export of the same model in float32 has written
        shutil.copytree(exported / "onnx" / "onnx", folder, dirs_exist_ok=True)

    monkeypatch.setattr(to_onnx, "write_graphs", copy_graphs)
    export_onnx(exported / "model", tmp_path / "int8", "int8")
    graphs = sorted(path.name for path in (tmp_path / "int8" / "onnx").iterdir())
    assert graphs == ["decoder_model_merged_quantized.onnx", "encoder_model_quantized.onnx"]
    import onnx

    decoder = onnx.load(str(tmp_path / "int8" / "onnx" / graphs[0]))
    large = [each.name for each in decoder.graph.initializer if each.data_type == onnx.TensorProto.FLOAT
             and len(each.dims) == 2 and min(each.dims) > 3 and max(each.dims) > 64]  # fmt: skip
    assert not large, large  # tables of angles have 64 rows
    lines = load_translator(tmp_path / "int8", engine="onnxruntime")(["the house is red"])
    assert isinstance(lines[0]["translation_text"], str)

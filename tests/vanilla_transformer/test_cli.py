import io
import os
import sys

import pytest
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, AutoTokenizer

from vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer
from vanilla_transformer.cli import main
from vanilla_transformer.loading import ModelFolderError, load_model

TEXTS = ["the house is red", "", "the", "the red car is new", "  ", "the house </s> is red"]


@pytest.fixture
def expected(model_folder):
    """Each sentence alone through the Auto classes."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    results = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", split_special_tokens=True)
        output = tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True) if text.strip() else ""
        results.append(output.replace("\n", " "))
    return results


def lines_of(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def test_sentences_from_arguments_in_the_order_given(model_folder, expected, capsys):
    assert main(["translate", "--model", str(model_folder), *TEXTS]) == 0
    assert lines_of(capsys.readouterr().out) == expected


def test_settings_reach_the_search(model_folder, monkeypatch):
    seen = []
    generate = VanillaTransformerForConditionalGeneration.generate

    def watched(model, *arguments, **settings):
        seen.append({name: settings.get(name) for name in ("num_beams", "weight_precision")})
        return generate(model, *arguments, **settings)

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", watched)
    arguments = ["translate", "--model", str(model_folder), "the house"]
    assert main([*arguments, "--num_beams", "2", "--weight_precision", "int8"]) == 0
    assert main(arguments) == 0
    assert seen == [{"num_beams": 2, "weight_precision": "int8"}, {"num_beams": None, "weight_precision": None}]


def test_sentences_from_a_file_to_a_file(model_folder, expected, tmp_path):
    source, output = tmp_path / "source.txt", tmp_path / "output.txt"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    arguments = ["--input", str(source), "--output", str(output), "--tokens_per_batch", "9"]
    assert main(["translate", "--model", str(model_folder), *arguments]) == 0
    assert lines_of(output.read_text(encoding="utf-8")) == expected


def test_another_format_is_not_translated(tmp_path, monkeypatch, capsys):
    content = '{"text": "the house"}\n{"text": "the car"}\n'
    (tmp_path / "source").write_text(content)
    assert main(["translate", "--model", "absent", "--input", str(tmp_path / "source")]) == 2
    assert "source is JSON Lines, not plain text" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert main(["translate", "--model", "absent"]) == 2
    assert "standard input is JSON Lines, not plain text" in capsys.readouterr().err


def test_lines_of_several_sentences(model_folder, capsys):
    assert main(["translate", "--model", str(model_folder), "--split_sentences", "The house. The car.", "x"]) == 0
    model, tokenizer = load_model(model_folder)
    parts = [
        tokenizer.decode(model.generate(**tokenizer(text, return_tensors="pt"))[0], skip_special_tokens=True)
        for text in ("The house.", "The car.")
    ]
    assert lines_of(capsys.readouterr().out)[0] == " ".join(parts).replace("\n", " ")


def test_sentences_from_standard_input(model_folder, expected, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    assert main(["translate", "--model", str(model_folder)]) == 0
    assert lines_of(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("missing", "named"),
    [("model.safetensors", "model.safetensors"), ("config.json", "config.json"), ("tokenizer.json", "tokenizer.json")],
)
def test_a_folder_that_lacks_a_file_is_refused(model_folder, capsys, missing, named):
    (model_folder / missing).unlink()
    assert main(["translate", "--model", str(model_folder), "the house"]) == 2
    assert f"error: {model_folder} has no {named}" in capsys.readouterr().err


def test_weights_cut_in_half_are_refused(model_folder):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ModelFolderError, match="damaged"):
        load_model(model_folder)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config.json", "{", "The model in"),
        (
            "config.json",
            '{"model_type": "vanilla_transformer", "num_attention_heads": 5}',
            "`num_attention_heads` is 5",
        ),
        ("tokenizer.json", "{}", "The tokenizer in"),
        ("generation_config.json", '{"num_beams": 5,', "generation_config.json"),
        ("generation_config.json", "[]", "generation_config.json"),
        ("tokenizer.json", "{", "The tokenizer in"),
    ],
)
def test_damaged_files_are_named(model_folder, file, content, named, capsys):
    (model_folder / file).write_text(content)
    assert main(["translate", "--model", str(model_folder), "the house"]) == 2
    error = capsys.readouterr().err
    assert named in error and "is damaged" in error and str(model_folder) in error


def test_a_tokenizer_larger_than_the_model_is_refused(model_folder, tokenizer):
    larger = VanillaTransformerTokenizer.train([" ".join(f"{i * 7919:x}" for i in range(300))] * 4, 340)
    assert len(larger) > len(tokenizer)
    larger.save_pretrained(model_folder)
    with pytest.raises(ModelFolderError, match="do not belong together"):
        load_model(model_folder)


def test_weights_that_lack_a_tensor_are_refused(model_folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(model_folder / "model.safetensors")
    del weights["model.encoder.layers.0.fc1.weight"]
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFolderError, match=r"lack 1 tensors, such as model.encoder.layers.0.fc1.weight"):
        load_model(model_folder)
    with pytest.raises(ModelFolderError, match=r"holds a VanillaTransformerForC.*needs besides, such as "):
        load_model(model_folder, auto_class=AutoModelForQuestionAnswering)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--num_beams", "0", "x"], "--num_beams is 0"),
        (["--tokens_per_batch", "-1", "x"], "--tokens_per_batch is -1"),
        (["--input", "file", "x"], "not both"),
        (["--input", "file", "--output", "./file"], "--output is the file that --input reads"),
    ],
)
def test_bad_options_are_refused(arguments, named, capsys):
    with pytest.raises(SystemExit):
        main(["translate", "--model", "somewhere", *arguments])
    assert named in capsys.readouterr().err


def test_an_output_file_is_replaced_when_it_is_whole(model_folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "output.txt"
    output.write_text("older work\n")

    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", interrupted)
    assert main(["translate", "--model", str(model_folder), "--output", str(output), "x"]) == 130
    assert output.read_text() == "older work\n"
    assert [path.name for path in tmp_path.iterdir() if "output" in path.name] == ["output.txt"]
    for wrong in (tmp_path, tmp_path / "absent" / "output.txt"):
        assert main(["translate", "--model", str(model_folder), "--output", str(wrong), "x"]) == 2
        assert f"--output {wrong} cannot be written" in capsys.readouterr().err


def test_links_are_followed_and_pipes_written_to_as_they_are(model_folder, tmp_path):
    kept, link, pipe = tmp_path / "kept.txt", tmp_path / "link.txt", tmp_path / "pipe"
    beside = tmp_path / "kept.txt.unfinished"
    beside.write_text("of another program")
    kept.write_text("older work\n")
    link.symlink_to(kept)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for output in (link, pipe):
        assert main(["translate", "--model", str(model_folder), "--output", str(output), "the house"]) == 0
    assert link.is_symlink() and pipe.is_fifo() and beside.read_text() == "of another program"
    assert os.read(reader, 10_000) == kept.read_bytes() != b"older work\n"
    os.close(reader)


def test_a_missing_file_and_a_missing_model_are_refused(tmp_path, capsys, monkeypatch):
    assert main(["translate", "--model", str(tmp_path), "--input", str(tmp_path / "absent")]) == 2
    assert "absent cannot be read" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["translate", "--model", str(tmp_path / "nowhere"), "x"]) == 2
    assert "no folder here" in capsys.readouterr().err

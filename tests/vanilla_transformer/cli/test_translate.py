import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, AutoTokenizer, set_seed

from vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
    VanillaTransformerTranslationPipeline,
)
from vanilla_transformer.cli import main
from vanilla_transformer.errors import ModelFolderError
from vanilla_transformer.loading import load_model

TEXTS = ["the house is red", "", "the", "the red car is new", "  ", "the house </s> is red"]


MANY = [f"the house is {word}" for word in ("red", "new", "the", "red house", "car")] * 20


def interrupt_after(monkeypatch, calls, error=KeyboardInterrupt):
    """Let `generate` raise after a number of calls; what undoes it is returned."""
    generate, counted = VanillaTransformerForConditionalGeneration.generate, itertools.count()

    def interrupted(*arguments, **settings):
        if next(counted) >= calls:
            raise error
        return generate(*arguments, **settings)

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", interrupted)
    return lambda: monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", generate)


class Terminal(io.TextIOWrapper):
    """Lines that somebody types."""

    def isatty(self):
        return True


@pytest.fixture
def expected(model_folder):
    """Each sentence by itself through the Auto classes."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    results = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", split_special_tokens=True)
        output = tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True) if text.strip() else text
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


def test_many_translations_with_scores(model_folder, capsys):
    model, tokenizer = load_model(model_folder)
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    settings = {"num_return_sequences": 3, "num_beams": 5, "length_penalty": 1.3, "max_length": 6}
    options = [argument for name, value in settings.items() for argument in (f"--{name}", str(value))]
    arguments = ["translate", "--model", str(model_folder), *options]
    expected = translator(TEXTS, return_scores=True, **settings)
    assert main([*arguments, *TEXTS]) == 0
    texts = [result["translation_text"].replace("\n", " ") for results in expected for result in results]
    assert lines_of(capsys.readouterr().out) == texts
    assert main([*arguments, "--return_scores", *TEXTS]) == 0
    scores, shown = zip(*(line.split("\t", 1) for line in lines_of(capsys.readouterr().out)), strict=True)
    assert list(shown) == texts
    assert [float(score) for score in scores] == pytest.approx(
        [result["score"] for results in expected for result in results], abs=1e-4
    )
    assert main([*arguments, "--return_scores", "--output_format", "jsonl", *TEXTS]) == 0
    objects = [json.loads(line) for line in lines_of(capsys.readouterr().out)]
    assert [each["source"] for each in objects] == TEXTS
    for each, results in zip(objects, expected, strict=True):
        assert [result["translation_text"] for result in each["translations"]] == [
            result["translation_text"] for result in results
        ]
        assert [result["score"] for result in each["translations"]] == pytest.approx(
            [result["score"] for result in results], abs=1e-6
        )


def test_an_object_a_line_for_one_translation_too(model_folder, expected, capsys):
    assert main(["translate", "--model", str(model_folder), "--output_format", "jsonl", *TEXTS]) == 0
    objects = [json.loads(line) for line in lines_of(capsys.readouterr().out)]
    shown = [[each["translation_text"].replace("\n", " ") for each in line["translations"]] for line in objects]
    assert shown == [[line] for line in expected]


def test_sampling_is_repeated_by_its_seed(model_folder, capsys):
    sampling = ["--do_sample", "--num_beams", "1", "--temperature", "1.5", "--top_k", "40", "--top_p", "0.9"]
    arguments = ["translate", "--model", str(model_folder), *sampling, "--num_return_sequences", "3", *TEXTS]
    shown = []
    for seed in ("1", "1", "2"):
        assert main([*arguments, "--seed", seed]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] != shown[2]
    model, tokenizer = load_model(model_folder)
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    set_seed(2)
    settings = {"do_sample": True, "num_beams": 1, "temperature": 1.5, "top_k": 40, "top_p": 0.9}
    results = translator(TEXTS, num_return_sequences=3, **settings)
    assert lines_of(shown[2]) == [each["translation_text"].replace("\n", " ") for some in results for each in some]


def test_sentences_from_a_file_to_a_file(model_folder, expected, tmp_path):
    source, output = tmp_path / "source.txt", tmp_path / "output.txt"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    arguments = ["--input", str(source), "--output", str(output), "--tokens_per_batch", "9"]
    assert main(["translate", "--model", str(model_folder), *arguments]) == 0
    assert lines_of(output.read_text(encoding="utf-8")) == expected


def test_another_format_is_not_translated(model_folder, tmp_path, monkeypatch, capsys):
    content = '{"text": "the house"}\n{"text": "the car"}\n'
    (tmp_path / "source").write_text(content)
    assert main(["translate", "--model", "absent", "--input", str(tmp_path / "source")]) == 2
    assert "source is JSON Lines, not plain text" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert main(["translate", "--model", str(model_folder)]) == 2
    assert "standard input is JSON Lines, not plain text" in capsys.readouterr().err


def test_lines_of_several_sentences(model_folder, capsys):
    assert main(["translate", "--model", str(model_folder), "--split_sentences", "The house. The car.", "x"]) == 0
    model, tokenizer = load_model(model_folder)
    parts = [
        tokenizer.decode(model.generate(**tokenizer(text, return_tensors="pt"))[0], skip_special_tokens=True)
        for text in ("The house.", "The car.")
    ]
    assert lines_of(capsys.readouterr().out)[0] == " ".join(parts).replace("\n", " ")


@pytest.mark.parametrize("blank", ["\n", "\n \n\n", " \t"])
def test_blank_lines_stay_blank(model_folder, tmp_path, capsys, monkeypatch, blank):
    source = tmp_path / "source.txt"
    source.write_text(blank)
    expected = [""] * len(lines_of(blank))
    for arguments in (["--input", str(source)], [], ["--split_sentences"], ["--num_return_sequences", "1"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(blank.encode())))
        assert main(["translate", "--model", str(model_folder), *arguments]) == 0
        assert [line.strip() for line in lines_of(capsys.readouterr().out)] == expected


def test_an_empty_input_is_refused(model_folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "source.txt").touch()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    for arguments in (["--input", str(tmp_path / "source.txt")], []):
        assert main(["translate", "--model", str(model_folder), *arguments]) == 2
        assert "is empty" in capsys.readouterr().err


def test_the_terminal_is_answered_line_by_line(model_folder, expected, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO("\n".join(TEXTS).encode())))
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    assert main(["translate", "--model", str(model_folder)]) == 0
    shown = capsys.readouterr().out.partition("\n")[2]
    assert shown == "".join(f"> {line}\n" for line in expected) + "> \n"


def test_a_program_that_writes_a_line_gets_an_answer_before_it_goes_on(model_folder, expected, capsys, monkeypatch):
    answers = []

    class Pipe(io.RawIOBase):
        lines = iter(TEXTS)

        def readable(self):
            return True

        def readinto(self, buffer):
            answers.append(capsys.readouterr().out)
            content = next(self.lines, "").encode() + b"\n" * (len(answers) <= len(TEXTS))
            buffer[: len(content)] = content
            return len(content)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe())))
    assert main(["translate", "--model", str(model_folder)]) == 0
    assert answers[: len(TEXTS) + 1] == ["", *(f"{line}\n" for line in expected)]


def test_lines_are_joined_again_where_reads_part_them(model_folder, capsys, monkeypatch):
    """A letter of several bytes at the end of a read, and a place that is not UTF-8 far into the text."""
    lines = ["ä" * 1000 for _ in range(9)]
    settings = ["--num_beams", "1", "--max_new_tokens", "1"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert main(["translate", "--model", str(model_folder), *settings]) == 0
    assert len(lines_of(capsys.readouterr().out)) == 9
    broken = ("\n".join(lines) + "\n").encode() + b"x\n\xff\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(broken)))
    assert main(["translate", "--model", str(model_folder), *settings]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("\n") >= 7
    assert re.search(r"standard input after line (\d), line (\d+) is not UTF-8", captured.err)
    assert sum(int(number) for number in re.findall(r"line (\d+)", captured.err)[:2]) == 11


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
    with pytest.raises(ModelFolderError, match=r"holds a VanillaTransformerForC.*needs, such as "):
        load_model(model_folder, auto_class=AutoModelForQuestionAnswering)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--num_beams", "0", "x"], "--num_beams is 0"),
        (["--tokens_per_batch", "-1", "x"], "--tokens_per_batch is -1"),
        (["--num_return_sequences", "0", "x"], "--num_return_sequences is 0"),
        (["--top_p", "1.5", "--do_sample", "x"], "--top_p is 1.5: give at most 1"),
        (["--temperature", "nan", "--do_sample", "x"], "--temperature is nan"),
        (["--seed", "3", "x"], "--seed is for sampling only: give --do_sample"),
        (["--top_k", "3", "x"], "--top_k is for sampling only: give --do_sample"),
        (["--max_length", "9", "--max_new_tokens", "9", "x"], "give one of them"),
        (["--split_sentences", "--return_scores", "x"], "leave out --return_scores"),
        (["--resume", "x"], "give --output too"),
        (["--num_threads", "0", "x"], "--num_threads is 0"),
        (["--input", "file", "x"], "not both"),
        (["--input", "file", "--output", "./file"], "--output is the file that --input reads"),
    ],
)
def test_bad_options_are_refused(arguments, named, capsys):
    with pytest.raises(SystemExit):
        main(["translate", "--model", "somewhere", *arguments])
    assert named in capsys.readouterr().err


def test_the_number_of_threads_is_that_of_the_option(model_folder, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    for words in ([], ["--num_threads", "3"]):
        assert main(["translate", "--model", str(model_folder), *words, "the house"]) == 0
    assert asked == [3]


@pytest.fixture
def translating(model_folder, tmp_path):
    """The arguments that translate many lines from a file to a file, and that file."""
    source, output = tmp_path / "source.txt", tmp_path / "output.txt"
    source.write_text("\n".join(MANY) + "\n")
    arguments = ["translate", "--model", str(model_folder), "--input", str(source), "--output", str(output)]
    return [*arguments, "--max_new_tokens", "4"], output


def test_an_output_file_is_replaced_when_it_is_whole(model_folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "output.txt"
    output.write_text("older work\n")
    interrupt_after(monkeypatch, 0)
    assert main(["translate", "--model", str(model_folder), "--output", str(output), "x"]) == 130
    assert output.read_text() == "older work\n"
    assert [path.name for path in tmp_path.iterdir() if "output" in path.name] == ["output.txt"]
    for wrong in (tmp_path, tmp_path / "absent" / "output.txt"):
        assert main(["translate", "--model", str(model_folder), "--output", str(wrong), "x"]) == 2
        assert f"--output {wrong} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (OSError(28, "No space left"), 2)])
@pytest.mark.parametrize("settings", [[], ["--num_return_sequences", "2"], ["--output_format", "jsonl"]])
def test_an_interrupted_translation_goes_on(translating, capsys, monkeypatch, settings, error, status):
    arguments, output = translating
    arguments = [*arguments, *settings]
    assert main(arguments) == 0
    whole = output.read_text()
    output.write_text("older work\n")
    undo = interrupt_after(monkeypatch, 2, error)
    assert main(arguments) == status
    undo()
    shown = capsys.readouterr().err
    unfinished = output.with_name("output.txt.unfinished")
    begun = unfinished.read_text()
    assert whole.startswith(begun) and len(whole) / 4 < len(begun) < len(whole) and begun.endswith("\n")
    assert output.read_text() == "older work\n" and f"vanilla-transformer {shlex.join(arguments)} --resume" in shown
    assert main(arguments) == 2
    assert "--resume" in capsys.readouterr().err and unfinished.read_text() == begun
    lines = begun.splitlines(keepends=True)
    unfinished.write_text("".join(lines[:21]) + lines[21][:1])  # killed in the middle of a line
    assert main([*arguments, "--resume"]) == 0
    assert output.read_text() == whole and not unfinished.exists()


def test_a_translation_of_standard_input_goes_on(model_folder, tmp_path, monkeypatch):
    output = tmp_path / "output.txt"
    arguments = ["translate", "--model", str(model_folder), "--output", str(output), "--num_beams", "1"]
    results = []
    for done in (None, 1, 99):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(("\n".join(MANY) + "\n").encode())))
        if done is not None:
            output.with_name("output.txt.unfinished").write_text("".join(results[0].splitlines(True)[:done]))
        assert main(arguments if done is None else [*arguments, "--resume"]) == 0
        results.append(output.read_text())
    assert results[0].count("\n") == 100 and results[1:] == results[:1] * 2


def test_resuming_refuses_what_it_does_not_fit(translating, capsys):
    arguments, output = translating
    unfinished = output.with_name("output.txt.unfinished")
    assert main([*arguments, "--resume"]) == 2
    assert f"--resume needs {unfinished}" in capsys.readouterr().err
    unfinished.write_text("x\n" * 101)
    assert main([*arguments, "--resume"]) == 2
    assert "--resume finds 1 more finished texts than the input has" in capsys.readouterr().err
    assert unfinished.read_text() == "x\n" * 101 and not output.exists()


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_the_work(model_folder, tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("\n".join(MANY * 30) + "\n")
    command = [sys.executable, "-m", "vanilla_transformer.cli", "translate", "--model", str(model_folder)]
    with subprocess.Popen(
        [*command, "--num_beams", "1", "--max_new_tokens", "2", "--input", str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        shown = process.stderr.read().decode()
        assert process.wait() == 0
    assert "3000/3000" not in shown and "Error" not in shown


def test_links_are_followed_and_pipes_written_to_as_they_are(model_folder, tmp_path):
    kept, link, pipe = tmp_path / "kept.txt", tmp_path / "link.txt", tmp_path / "pipe"
    kept.write_text("older work\n")
    link.symlink_to(kept)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for output in (link, pipe):
        assert main(["translate", "--model", str(model_folder), "--output", str(output), "the house"]) == 0
    assert link.is_symlink() and pipe.is_fifo()
    assert os.read(reader, 10_000) == kept.read_bytes() != b"older work\n"
    os.close(reader)


def test_a_missing_file_and_a_missing_model_are_refused(tmp_path, capsys, monkeypatch):
    assert main(["translate", "--model", str(tmp_path), "--input", str(tmp_path / "absent")]) == 2
    assert "absent cannot be read" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["translate", "--model", str(tmp_path / "nowhere"), "x"]) == 2
    assert "neither a folder here nor a model on the Hub" in capsys.readouterr().err

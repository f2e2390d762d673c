import json
import re

import pytest
import torch
from PIL import Image

from tests.fsmt import write_fsmt
from tests.marian import write_marian
from training.metrics.translation import bleu
from training.publish.length_plot import by_length, plot_by_length
from training.score import main
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.conversion.importing import import_folder
from vanilla_transformer.loading import load_model
from vanilla_transformer.model_card import ModelCardFacts
from vanilla_transformer.pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline

SOURCES = ["the house is red", "", "the red car is new", "the car"]
REFERENCES = ["la casa es roja", "¡Hola!", "el coche rojo es nuevo", "el coche"]


@pytest.fixture
def texts(tmp_path):
    """Two texts of four lines each."""
    for name, lines in {"a.en": SOURCES, "a.es": REFERENCES, "b.en": SOURCES[::-1], "b.es": REFERENCES[::-1]}.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_a_model_is_scored_on_several_texts(texts, model_folder, capsys):
    ModelCardFacts(target_lang="es").save(model_folder)
    output = texts / "scores"
    files = ["--source", str(texts / "a.en"), str(texts / "b.en")]
    files += ["--reference", str(texts / "a.es"), str(texts / "b.es")]
    settings = ["--samples", "40", "--num_beams", "1", "--run_on", "cpu", "--output", str(output)]
    assert main(["--model", str(model_folder), *files, *settings]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].split() == [
        "text",
        "sentences",
        "BLEU",
        "chrF2",
        "TER",
        "METEOR",
        "(exact+stem)",
        "NLL",
        "perplexity",
    ]
    assert [lines[2].split()[:2], lines[3].split()[:2]] == [["a", "4"], ["b", "4"]]
    assert "±" in lines[2] and "stem:snowball-es" in shown
    written = json.loads((output / "scores.json").read_text())
    assert written["settings"] == {
        "model": str(model_folder),
        "precision": "float32",
        "num_beams": 1,
        "length_penalty": 0.6,
        "length_penalty_type": "gnmt",
        "early_stopping": "never",
    }
    assert f"{model_folder}: beam 1, α 0.6 (gnmt), early stopping never, float32" in shown
    scores = written["texts"]
    lengths = [(row["words"], row["sentences"]) for row in scores["a"]["bleu_by_length"]]
    assert lengths[0] == ("1-5", 3) and lengths[-1] == ("61+", 0)
    assert scores["a"]["loss"] == pytest.approx(scores["b"]["loss"], abs=1e-5)  # the same pairs
    hypotheses = (output / "a.hypothesis.txt").read_text(encoding="utf-8").split("\n")[:-1]
    model, tokenizer = load_model(model_folder)
    translate = VanillaTransformerTranslationPipeline(model, tokenizer)
    expected = [each["translation_text"] for each in translate(SOURCES, num_beams=1)]
    assert expected[1] == ""  # an empty line stays empty
    assert hypotheses == [line.replace("\n", " ") for line in expected]
    with Image.open(output / "bleu_by_length.png") as picture:
        assert min(picture.size) > 300

    # The file of translations scores the same.
    again = [
        "--hypothesis",
        str(output / "a.hypothesis.txt"),
        "--reference",
        str(texts / "a.es"),
        "--target_lang",
        "es",
    ]
    assert main([*again, "--samples", "0", "--output", str(texts / "again")]) == 0
    repeated = json.loads((texts / "again" / "scores.json").read_text())["texts"]["a"]
    assert "loss" not in repeated
    for key in ("bleu", "chrf", "ter", "meteor"):
        assert repeated["scores"][key]["value"] == pytest.approx(scores["a"]["scores"][key]["value"])
    assert not (texts / "again" / "bleu_by_length.png").exists()  # there is no source


def test_a_language_without_spaces_is_scored_by_its_tokenizer(tmp_path, capsys):
    for name, lines in {
        "a.src": "我们 好",
        "a.ref": "今天天气很好，我们去散步。",
        "a.hyp": "今天天气很好，我们去走走。",
    }.items():
        (tmp_path / name).write_text(lines + "\n", encoding="utf-8")
    files = ["--hypothesis", str(tmp_path / "a.hyp"), "--reference", str(tmp_path / "a.ref"), "--samples", "0"]
    files += ["--source", str(tmp_path / "a.src"), "--output", str(tmp_path / "scores")]
    values = []
    for language in ("zh", "zh-CN", "cmn_Hans"):
        assert main([*files, "--target_lang", language]) == 0
        output, errors = capsys.readouterr()
        assert "|tok:zh|" in output and "METEOR (exact, characters)" in output and "TER" not in output
        assert errors.startswith(f"warning: TER is left out: it counts words between spaces, but {language} ")
        measured = json.loads((tmp_path / "scores" / "scores.json").read_text())["texts"]["a"]
        values.append(measured["scores"]["bleu"]["value"])
        by_length = measured["bleu_by_length"][0]  # 3 characters of the source
        assert (by_length["words"], by_length["sentences"], by_length["bleu"]) == ("1-5", 1, values[-1])
    assert values[0] > 50 and values == values[:1] * 3
    assert main(files) == 0
    output, errors = capsys.readouterr()
    assert "|tok:13a|" in output and "TER" in output
    assert errors.count("warning: The references have no spaces between words") == 1 and "`target_lang`" in errors


@pytest.mark.parametrize("content", [b"\n\n\n\n", b" \n\t\n\n \n", b"\r\n" * 4, b"\xef\xbb\xbf\n\n\n\n"])
def test_blank_translations_score_nothing(texts, content, capsys):
    (texts / "blank").write_bytes(content)
    files = ["--hypothesis", str(texts / "blank"), "--reference", str(texts / "a.es"), "--output", str(texts / "out")]
    assert main([*files, "--source", str(texts / "a.en"), "--target_lang", "es", "--samples", "40"]) == 0
    scores = json.loads((texts / "out" / "scores.json").read_text())["texts"]["a"]["scores"]
    assert {key: score["value"] for key, score in scores.items()} == {"bleu": 0, "chrf": 0, "ter": 100, "meteor": 0}
    (texts / "blank").write_bytes(content + b"\n")
    assert main(files) == 2
    assert "blank has 5 lines and" in capsys.readouterr().err


def test_settings_of_the_search_reach_it(texts, model_folder, monkeypatch):
    seen = []

    def generate(model, input_ids, **settings):
        configured = model.generation_config
        seen.append((configured.length_penalty, configured.length_penalty_type, configured.num_beams))
        return input_ids

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", generate)
    files = ["--source", str(texts / "a.en"), "--reference", str(texts / "a.es"), "--samples", "0", "--run_on", "cpu"]
    assert main(["--model", str(model_folder), *files, "--length_penalty", "0", "--num_beams", "7"]) == 0
    assert main(["--model", str(model_folder), *files, "--length_penalty_type", "power"]) == 0
    assert main(["--model", str(model_folder), *files]) == 0
    assert set(seen) == {(0, "gnmt", 7), (0.6, "power", 4), (0.6, "gnmt", 4)}


def test_bleu_by_length_counts_words_of_the_source():
    first, *others = by_length(SOURCES, REFERENCES, REFERENCES, "13a")
    assert first == ("1-5", 3, pytest.approx(bleu(REFERENCES[::2], REFERENCES[::2]).value))
    assert [(label, count, score) for label, count, score in others[:2]] == [("6-10", 0, None), ("11-15", 0, None)]


def test_texts_share_the_axes_of_the_picture(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: drawn.append(figure))
    few = [("1-5", 2, 10.0), ("6-10", 0, None), ("11+", 0, None)]
    many = [("1-5", 50, 80.0), ("6-10", 40, 60.0), ("11+", 0, None)]
    plot_by_length({"$a_b^$": few, "talks": many}, tmp_path / "picture.png")
    first, second = drawn[0].axes
    assert first.get_ylim() == second.get_ylim() == (0, pytest.approx(92))
    assert [bar.get_height() for bar in first.patches] == [10, 0]
    assert [bar.get_alpha() for bar in (*first.patches, *second.patches)] == [0.3, 0.3, 1, 1]


def test_a_model_of_other_settings_and_precision_is_scored_in_float32(texts, model_folder, capsys):
    """Weights in bfloat16 are computed with in float32, and what a folder does not say is transformers' default."""
    model, _ = load_model(model_folder)
    model.bfloat16().save_pretrained(model_folder)
    settings = json.loads((model_folder / "generation_config.json").read_text())
    for name in ("num_beams", "length_penalty", "length_penalty_type", "early_stopping"):
        del settings[name]
    (model_folder / "generation_config.json").write_text(json.dumps(settings))
    files = ["--source", str(texts / "a.en"), "--reference", str(texts / "a.es"), "--samples", "0", "--run_on", "cpu"]
    output = texts / "scores"
    assert main(["--model", str(model_folder), *files, "--output", str(output)]) == 0
    assert "beam 1, α 1 (power), early stopping false, float32" in capsys.readouterr().out
    measured = json.loads((output / "scores.json").read_text())["texts"]["a"]["loss"]
    model.float().save_pretrained(model_folder)
    assert main(["--model", str(model_folder), *files, "--output", str(output)]) == 0
    assert json.loads((output / "scores.json").read_text())["texts"]["a"]["loss"] == measured
    # Of translations that are there only the NLL is the model's.
    assert main(["--model", str(model_folder), *files, "--hypothesis", str(texts / "a.es")]) == 0
    assert f"{model_folder}: float32" in capsys.readouterr().out


def test_bfloat16_is_used_and_told_where_it_is_asked_for(texts, model_folder, capsys):
    files = ["--source", str(texts / "a.en"), "--reference", str(texts / "a.es"), "--samples", "0", "--run_on", "cpu"]
    losses = []
    for precision in ([], ["--bf16"]):
        output = texts / f"scores{len(precision)}"
        assert main(["--model", str(model_folder), *files, *precision, "--output", str(output)]) == 0
        losses.append(json.loads((output / "scores.json").read_text())["texts"]["a"]["loss"])
    assert "bfloat16 mixed" in capsys.readouterr().out
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_sentence_past_the_last_position_is_named_before_the_work(texts, config, tokenizer, capsys):
    folder = texts / "learned"
    config.vocab_size = len(tokenizer)
    config.position_embedding_type, config.max_position_embeddings = "learned", 8
    VanillaTransformerForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (texts / "a.es").write_text("el\nel\n" + "el coche " * 30 + "\nel\n", encoding="utf-8")
    (texts / "a.en").write_text("the\n" * 4)
    files = ["--source", str(texts / "a.en"), "--reference", str(texts / "a.es"), "--run_on", "cpu"]
    assert main(["--model", str(folder), *files]) == 2
    assert re.search(r"Line 3 of a has \d+ tokens on a side, and the model has 8 positions", capsys.readouterr().err)


@pytest.fixture
def systems(tmp_path):
    """A reference and two systems of 20 lines."""
    words = ["the", "red", "cat", "sat", "on", "a", "mat", "house"]
    lines = [" ".join(words[(i * j) % 8] for j in range(1, 8)) for i in range(1, 21)]
    first = [line.replace("cat", "dog") if i % 3 else line for i, line in enumerate(lines)]
    second = [line.replace("mat", "hat") if i % 2 else f"{line} a" for i, line in enumerate(lines)]
    for name, text in (("reference", lines), ("first", first), ("second", second)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    return tmp_path


def test_systems_are_compared_with_the_first(systems, capsys):
    files = ["--hypothesis", *(str(systems / f"{name}.txt") for name in ("first", "second"))]
    files += ["--reference", str(systems / "reference.txt"), "--samples", "50", "--tokenize", "none"]
    assert main([*files, "--output", str(systems / "scores")]) == 0
    shown = capsys.readouterr().out
    head, _, first, second = shown.splitlines()[:4]
    assert head.split()[:3] == ["system", "sentences", "BLEU"] and "p (bootstrap)" in head
    assert (first.split()[0], second.split()[0]) == ("first", "second") and "ratio 1.071" in second
    assert "ΔBLEU and p against first: BLEU|nrefs:1|bs:50|seed:12345|" in shown
    rows = json.loads((systems / "scores" / "scores.json").read_text())["systems"]
    assert "difference" not in rows["first"]
    scores = {name: row["scores"]["bleu"]["value"] for name, row in rows.items()}
    found = rows["second"]["difference"]
    assert found["bleu"] == pytest.approx(scores["second"] - scores["first"])
    assert 0 < found["bootstrap"] <= 1 and 0 < found["randomization"] <= 1
    assert (systems / "scores" / "second.hypothesis.txt").is_file()
    assert main([*files, "--name", "A", "B", "--samples", "0"]) == 0
    shown = capsys.readouterr().out
    assert "p (bootstrap)" not in shown and shown.splitlines()[3].startswith("B ")


def test_models_are_compared_on_one_text(texts, model_folder, capsys):
    model, tokenizer = load_model(model_folder)
    model.generation_config.num_beams = 1
    model.save_pretrained(texts / "greedy")
    tokenizer.save_pretrained(texts / "greedy")
    files = ["--source", str(texts / "a.en"), "--reference", str(texts / "a.es"), "--run_on", "cpu"]
    search = ["--early_stopping", "true", "--length_penalty_type", "power", "--length_penalty", "1"]
    models = ["--model", str(model_folder), str(texts / "greedy")]
    assert main([*models, *files, *search, "--samples", "40", "--output", str(texts / "scores")]) == 0
    shown = capsys.readouterr().out
    assert f"{model_folder}: beam 4, α 1 (power), early stopping true, float32" in shown
    rows = json.loads((texts / "scores" / "scores.json").read_text())["systems"]
    assert list(rows) == [model_folder.name, "greedy"]
    assert [row["settings"]["num_beams"] for row in rows.values()] == [4, 1]
    assert rows["greedy"]["loss"] == pytest.approx(rows[model_folder.name]["loss"])
    assert "difference" in rows["greedy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "a.es"], "Give --model and --source"),
        (["--reference", "a.es", "--bf16"], "Give --model and --source"),
        (["--model", "m", "--reference", "a.es"], "Give --model and --source"),
        (["--model", "m", "--hypothesis", "a.es", "--reference", "a.es"], "--model needs --source"),
        (["--hypothesis", "a.es", "--reference", "a.es", "b.es"], "--hypothesis names 1, but --reference names 2"),
        (["--hypothesis", *["a.es", "b.es", "a.es"], "--reference", *["a.es", "b.es"]], "--hypothesis names 3, but"),
        (["--hypothesis", "a.es", "a.es", "--reference", "a.es"], "Two systems are named 'a'"),
        (["--hypothesis", "a.es", "b.es", "--reference", "a.es", "--name", "A"], "--name names 1, but there are 2"),
        (["--model", "m", "n", "--source", "a.en", "--reference", "a.es", "--hypothesis", "a.es"], "names 2 models"),
        (["--model", "m", "n", "--source", "a.en", "b.en", "--reference", "a.es", "b.es"], "2 models beside 2 texts"),
        (
            ["--model", "m", "--source", "a.en", "--hypothesis", "a", "b", "--reference", "a.es"],
            "--model cannot be given",
        ),
        (["--hypothesis", "a.es", "a.es", "--reference", "a.es", "a.es"], "Two texts are named 'a'"),
        (["--hypothesis", "short.es", "--reference", "a.es"], "short.es has 1 lines and .*a.es has 4"),
        (["--hypothesis", "missing.es", "--reference", "a.es"], "missing.es cannot be read"),
        (
            ["--hypothesis", "a.es", "--reference", "a.es", "--compounds"],
            "`target_lang` must be .*, but is None. Choose one of: as,",
        ),
        (
            ["--hypothesis", "a.es", "--reference", "a.es", "--samples", "7"],
            "--samples must be at least 40 .*, but is 7",
        ),
        (
            ["--hypothesis", "a.es", "--reference", "a.es", "--name", "../a"],
            "--name must be the name of a file without a folder, but is '../a'",
        ),
        (["--hypothesis", "a.es", "--reference", "a.es", "--num_beams", "2"], "--num_beams has no effect"),
        (["--hypothesis", "a.es", "--reference", "a.es", "--length_penalty", "0"], "--length_penalty has no effect"),
        (["--hypothesis", "a.es", "--reference", "a.es", "--early_stopping", "false"], "--early_stopping has no effe"),
        (["--hypothesis", "a.es", "--reference", "a.es", "--bf16"], "--bf16 has no effect"),
        (["--hypothesis", "a.es", "--reference", "a.es", "--num_threads", "1"], "--num_threads has no effect"),
        (
            ["--model", "m", "--source", "a.en", "--reference", "a.es", "--num_threads", "0"],
            "`--num_threads` must be at least 1, but is 0",
        ),
        (
            ["--model", "m", "--source", "a.en", "--reference", "a.es", "--length_penalty", "nan"],
            "penalty must be finite, but is nan",
        ),
        (
            ["--model", "m", "--source", "a.en", "--reference", "a.es", "--num_beams", "0"],
            "`--num_beams` must be at least 1, but is 0",
        ),
        (
            ["--hypothesis", "a.es", "--reference", "a.es", "--output", "a.es"],
            "`--output` must be a folder, but is a.es, a file",
        ),
        (["--hypothesis", "a.es", "--reference", "a.es", "--target_lang", "spanish"], "spanish"),
    ],
)
def test_files_that_cannot_be_scored_are_named(texts, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(texts)
    (texts / "short.es").write_text("una\n")
    assert main(arguments) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_the_source_as_people_type_it_is_scored_on_request(model_folder, tmp_path, capsys):
    for name, lines in (("a.en", ["the house is red", "the car"]), ("a.es", ["la casa es roja", "el coche"])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    files = ["--source", str(tmp_path / "a.en"), "--reference", str(tmp_path / "a.es"), "--samples", "0"]
    model = ["--model", str(model_folder), "--num_beams", "1", "--target_lang", "es", "--run_on", "cpu"]
    assert main([*files, *model, "--robustness", "--output", str(tmp_path / "scores")]) == 0
    shown = capsys.readouterr().out
    assert "BLEU without case and marks" in shown and "copied once, %" in shown
    written = json.loads((tmp_path / "scores" / "scores.json").read_text(encoding="utf-8"))
    rows = {row["copy"]: row for row in written["texts"]["a"]["robustness"]}
    assert rows["upper"]["sentences"] == 2 and {"plain", "spaces", "email address"} <= set(rows)
    assert main(["--hypothesis", str(tmp_path / "a.es"), *files, "--robustness"]) == 2
    assert "--robustness has no effect" in capsys.readouterr().err


def test_token_scores_of_given_translations(texts, model_folder, capsys):
    files = ["--source", str(texts / "a.en"), "--reference", str(texts / "a.es"), "--hypothesis", str(texts / "b.es")]
    settings = ["--model", str(model_folder), "--samples", "0", "--run_on", "cpu", "--target_lang", "es"]
    assert main([*files, *settings, "--token_scores", "--output", str(texts / "out")]) == 0
    rows = [json.loads(line) for line in (texts / "out" / "a.token_scores.jsonl").read_text("utf-8").splitlines()]
    assert ["".join(rows[at]["tokens"]).replace("␣", " ") for at in (0, 3)] == ["el coche</s>", "la casa es roja</s>"]
    assert all(sum(row["log_probabilities"]) == pytest.approx(row["log_probability"]) for row in rows)
    capsys.readouterr()
    assert main([*files, *settings, "--token_scores"]) == 2
    assert "--token_scores writes a file for each text into --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("write", "start"), [(write_marian, "pad_token_id"), (write_fsmt, "eos_token_id")], ids=["Marian", "FSMT"]
)
def test_an_imported_model_has_the_nll_of_its_source(texts, write, start):
    theirs = write(texts / "source")
    import_folder(texts / "source", texts / "model")
    words = ["--model", str(texts / "model"), "--source", str(texts / "a.en"), "--reference", str(texts / "a.es")]
    assert main([*words, "--samples", "0", "--num_beams", "1", "--output", str(texts / "scores")]) == 0
    _, tokenizer = load_model(texts / "model")
    log_loss, count = 0.0, 0
    for source, target in zip(SOURCES, REFERENCES, strict=True):
        labels = tokenizer(text_target=target, return_tensors="pt").input_ids
        decoder_ids = torch.cat([torch.tensor([[getattr(theirs.config, start)]]), labels[:, :-1]], dim=1)
        with torch.no_grad():
            # With a cache FSMT forgets its causal mask.
            logits = theirs(
                **tokenizer(source, return_tensors="pt"), decoder_input_ids=decoder_ids, use_cache=False
            ).logits
        log_loss -= logits.log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).sum().item()
        count += labels.numel()
    scores = json.loads((texts / "scores" / "scores.json").read_text())["texts"]["a"]
    assert scores["loss"] == pytest.approx(log_loss / count, rel=1e-5)

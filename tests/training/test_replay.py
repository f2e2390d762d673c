"""Old text in a fine-tuning, the mean of old and new weights, and corrections."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, FSMTTokenizer, MarianMTModel, MarianTokenizer

from tests.fsmt import write_fsmt
from tests.marian import write_marian
from training.data.parallel import ParallelText
from training.data.phrasebook import phrasebook
from training.data.replay import draw
from training.data.texts import load_split
from training.engine.fit import interpolate_weights
from training.recipe.fields import DataFields, Replay, TrainingFields
from training.recipe.parse import parse_recipe
from training.recipe.replay import read_replay
from training.tasks import TASKS
from training.train import main
from vanilla_transformer.conversion.marian import export_marian
from vanilla_transformer.errors import RecipeError


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("{sources: a}", "has `sources`"),
        ("{target: a}", "names target"),
        ("{source: a, file: b}", "names file, source"),
        ("{share: 0.5}", "names none"),
        ("{source: a, share: 1}", "`share` in `replay` must be above 0 and below 1, but is 1"),
        ("{source: a, share: true}", "`share` in `replay` must be .*, but is True"),
        ("{source: a, hold_out: 0}", "`hold_out` in `replay` must be at least 1, but is 0"),
        ("a", "`replay` must be names and values, but is 'a'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(value, named):
    with pytest.raises(RecipeError, match=named):
        read_replay(value)


def test_a_share_is_of_the_training_pairs_that_are_old():
    assert [Replay(source="a", share=share).count(60) for share in (0.25, 0.5, 0.8)] == [20, 60, 240]
    mixed, held = draw(available=100, wanted=60, hold_out=10, seed=1)
    assert len(mixed) == 60 and len(held) == 10 and not set(mixed) & set(held)
    assert draw(100, 60, 10, seed=1) == (mixed, held) != draw(100, 60, 10, seed=2)
    assert [len(part) for part in draw(available=20, wanted=60, hold_out=500, seed=1)] == [16, 4]
    with pytest.raises(RecipeError, match=r"`replay` must have at least 5 pairs, .* but has 4"):
        draw(4, 60, 10, seed=1)


def mix(tmp_path, **replay):
    (tmp_path / "old.en").write_text("".join(f"old {number}\n" for number in [*range(50), 1]))
    (tmp_path / "old.es").write_text("".join(f"viejo {number}\n" for number in [*range(50), 1]))
    files = {name: str(tmp_path / file) for name, file in replay.items() if name in ("source", "target")}
    data = DataFields(replay=read_replay({**replay, **files}))
    texts = {"train": ParallelText.from_pairs([(f"new {number}", f"nuevo {number}") for number in range(10)])}
    asked = []

    def translate(lines):
        asked.extend(lines)
        return [f"own {line}" for line in lines]

    return TASKS["translation"](data, TrainingFields()).add_old_text(texts, translate), asked


def test_old_pairs_are_mixed_in_and_others_held_out(tmp_path):
    texts, asked = mix(tmp_path, source="old.en", target="old.es", share=0.6, hold_out=7)
    train, held = texts["train"], texts["replay"]
    assert len(train) == 10 + 15 and len(held) == 7 and not asked
    assert train.sources[:10] == [f"new {number}" for number in range(10)]
    assert all(
        target == source.replace("old", "viejo") for source, target in zip(held.sources, held.targets, strict=True)
    )
    assert not set(held.sources) & set(train.sources) and len(set(train.rows)) == 25


def test_without_translations_the_model_makes_them(tmp_path):
    texts, asked = mix(tmp_path, source="old.en", share=0.5, hold_out=5)
    train, held = texts["train"], texts["replay"]
    assert sorted(asked) == sorted([*train.sources[10:], *held.sources]) and len(asked) == 15
    assert train.targets[10:] == [f"own {line}" for line in train.sources[10:]]
    assert held.targets == [f"own {line}" for line in held.sources]


class OfTwoTexts:
    """Validation of a model of one number, which one text wants to be `old` and another to be `new`."""

    def __init__(self, number):
        self.model = nn.Linear(1, 1, bias=False)
        self.model.weight.data.fill_(number)
        self.accelerator = SimpleNamespace(unwrap_model=lambda model: model)
        self.evaluator = SimpleNamespace(validate=self.validate)

    def get_eval_dataloader(self):
        return None

    def validate(self, loader):
        weight = self.model.weight.item()
        return SimpleNamespace(metrics={"loss": (weight**2 + 4 * (weight - 10) ** 2) / 2})


def test_the_mean_of_old_and_new_weights_wins_enough_on_both_texts_and_is_near_the_old():
    """The loss is 200 with the old weights, 40 at the best share, 0.8, 42.5 at 0.7 and 50 at 0.6."""
    for enough, share in ((1.0, 0.8), (0.97, 0.7), (0.9, 0.6)):
        trainer = OfTwoTexts(10.0)
        assert interpolate_weights(trainer, {"weight": torch.zeros(1, 1)}, enough) == share
        assert trainer.model.weight.item() == pytest.approx(10 * share)
        trainer = OfTwoTexts(10.0)
        assert interpolate_weights(trainer, {"weight": torch.full((1, 1), 8.0)}, enough) == 0.0  # nothing is won


@pytest.mark.parametrize("header", ["", "source\ttarget\n"])
def test_corrections_need_no_header(tmp_path, header):
    file = tmp_path / "corrections.tsv"
    file.write_text(f"{header}Hi!\t¡Hola!\nHow are you?\t¿Qué tal?\n")
    text = load_split(DataFields(corrections=str(file)), "train")
    assert (text.sources, text.targets) == (["Hi!", "How are you?"], ["¡Hola!", "¿Qué tal?"])
    (tmp_path / "a").write_text("one\n")
    both = load_split(
        DataFields(corrections=str(file), source=str(tmp_path / "a"), target=str(tmp_path / "a")), "train"
    )
    assert both.sources == ["one", "Hi!", "How are you?"] and len(set(both.rows)) == 3


def test_old_text_needs_a_model_that_was_trained(recipe):
    for name, value in (("replay", "{source: a}"), ("corrections", "a.tsv"), ("interpolate", "1")):
        with pytest.raises(RecipeError, match=f"`{name}` must have a model that was trained before"):
            parse_recipe([str(recipe), f"--{name}", value])


@pytest.mark.parametrize(
    ("value", "replay", "told"),
    [
        ("0", True, "`interpolate` must be more than 0 and at most 1, but is 0"),
        ("1.5", True, "`interpolate` must be more than 0 and at most 1, but is 1.5"),
        ("true", True, "`interpolate` must be a number, but is"),
        ("1", False, "`interpolate` must have old text to choose by, but has none"),
    ],
)
def test_a_mean_of_weights_needs_a_part_of_the_gain_and_old_text(recipe, value, replay, told):
    words = ["--init_from", "model", "--interpolate", value] + ["--replay", "{source: a}"] * replay
    with pytest.raises(RecipeError, match=re.escape(told)):
        parse_recipe([str(recipe), *words])


@pytest.mark.slow
def test_a_fine_tuning_looks_at_old_text_too(recipe, tmp_path, capsys):
    assert main([str(recipe), "--max_steps", "6"]) == 0
    started = yaml.safe_load(recipe.read_text())
    for name in ("preset", "vocab_size", "config_overrides"):
        del started[name]
    recipe.write_text(yaml.safe_dump({**started, "init_from": str(tmp_path / "run")}))
    (tmp_path / "general.en").write_text("\n".join(pair[0] for pair in phrasebook()["train"][200:260]))
    replay = f"{{source: {tmp_path}/general.en, share: 0.2, hold_out: 9}}"
    settings = [
        "--output_dir",
        str(tmp_path / "tuned"),
        "--max_steps",
        "12",
        "--replay",
        replay,
        "--interpolate",
        "1",
    ]
    settings += ["--eval_steps", "4", "--save_steps", "4", "--load_best_model_at_end", "true"]
    assert main([str(recipe), *settings]) == 0
    shown = capsys.readouterr()
    said = shown.out + shown.err
    assert re.search(r"replay: \d+ old pairs, translated by the model itself, \d+% of the training text", said)
    share = re.search(r"; (\d+%) is kept", said)
    assert "no old text is mixed in" not in said
    card = (tmp_path / "tuned" / "README.md").read_text(encoding="utf-8")
    assert f"| share of the new weights | {share[1]}; the rest is of `run` |" in card
    assert "replay (old text, the model's own translations, share 0.2)" in card
    results = json.loads((tmp_path / "tuned" / "all_results.json").read_text())
    assert {"replay_loss", "replay_loss_before", "validation_loss"} <= set(results)
    state = json.loads((tmp_path / "tuned" / "checkpoint-12" / "trainer_state.json").read_text())
    logged = [entry for entry in state["log_history"] if "eval_loss" in entry]
    for entry in logged:
        assert entry["eval_loss"] == pytest.approx((entry["eval_new_loss"] + entry["eval_old_loss"]) / 2)
    # A run that goes on finds the translations of the first model.
    assert main([str(recipe), *settings, "--resume_from_checkpoint", "true"]) == 0
    again = json.loads((tmp_path / "tuned" / "all_results.json").read_text())
    assert again["replay_loss"] == pytest.approx(results["replay_loss"], rel=1e-6)
    capsys.readouterr()
    assert main([str(recipe), "--output_dir", str(tmp_path / "alone"), "--max_steps", "1"]) == 0
    shown = capsys.readouterr()
    assert "no old text is mixed in, and the model may forget what it knows: see `replay`" in shown.out + shown.err


@pytest.mark.slow
def test_a_marian_model_is_fine_tuned_and_given_back(recipe, tmp_path, capsys):
    write_marian(tmp_path / "opus", encoder_layers=1, decoder_layers=1)
    started = yaml.safe_load(recipe.read_text())
    for name in ("preset", "vocab_size", "config_overrides", "source_lang", "target_lang"):
        del started[name]
    recipe.write_text(yaml.safe_dump({**started, "init_from": str(tmp_path / "opus"), "augmentation": True}))
    assert main([str(recipe), "--max_steps", "30", "--bootstrap_samples", "0"]) == 0
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["validation_loss"] < results["validation_loss_before"]
    model, tokenizer = (each.from_pretrained(tmp_path / "run") for each in (AutoModelForSeq2SeqLM, AutoTokenizer))
    assert type(tokenizer) is MarianTokenizer and model.generation_config.length_penalty_type == "power"
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "fine-tuned from `opus`" in card and "license: cc-by-4.0" in card and "- en\n- es\n" in card
    export_marian(tmp_path / "run", tmp_path / "back")
    back = MarianMTModel.from_pretrained(tmp_path / "back")
    inputs = tokenizer(["The house is red."], return_tensors="pt")
    labels = tokenizer(text_target=["La casa es roja."], return_tensors="pt").input_ids
    with torch.no_grad():
        decoder = model.prepare_decoder_input_ids_from_labels(labels)
        ours = model(**inputs, decoder_input_ids=decoder).logits
        theirs = back(**inputs, decoder_input_ids=decoder).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert main([str(recipe), "--bpe_dropout", "0.1", "--output_dir", str(tmp_path / "refused")]) == 2
    assert "`bpe_dropout` must be 0" in capsys.readouterr().err


@pytest.mark.slow
def test_an_fsmt_model_is_fine_tuned_and_goes_on(recipe, tmp_path):
    write_fsmt(tmp_path / "wmt19")
    started = yaml.safe_load(recipe.read_text())
    for name in ("preset", "vocab_size", "config_overrides", "source_lang", "target_lang"):
        del started[name]
    recipe.write_text(yaml.safe_dump({**started, "init_from": str(tmp_path / "wmt19")}))
    assert main([str(recipe), "--bootstrap_samples", "0"]) == 0
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["validation_loss"] < results["validation_loss_before"]
    assert main([str(recipe), "--max_steps", "16", "--resume_from_checkpoint", "true"]) == 0
    model, tokenizer = (each.from_pretrained(tmp_path / "run") for each in (AutoModelForSeq2SeqLM, AutoTokenizer))
    assert model.config.decoder_vocab_size == 7 and type(tokenizer) is FSMTTokenizer
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "fine-tuned from `wmt19`" in card and "BPE of Moses tokens" in card

"""The whole program on a corpus of a few sentences."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5Config, T5ForConditionalGeneration
from transformers.utils import logging

from tests.conftest import corpus
from training.data.phrasebook import phrasebook
from training.score import main as score_files
from training.train import main
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.loading import ORIGIN
from vanilla_transformer.scores import Robustness

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_run_leaves_a_folder_that_is_ready_for_the_hub(finished):
    run = finished / "run"
    results = json.loads((run / "all_results.json").read_text())
    assert results["steps"] == 12
    assert 0 < results["validation_loss"] < 6
    for key in ("bleu", "chrf", "ter", "meteor"):
        assert results[f"validation_{key}"] >= 0 and "nrefs:1" in results[f"{key}_signature"]
    shown = (finished / "output.txt").read_text(encoding="utf-8")
    assert "train: 200 pairs" in shown
    assert "400 = 1 process x 400 x 1" in shown
    assert f"vanilla-transformer translate --model {run}" in shown
    assert list((run / "logs").glob("events.out.tfevents.*"))

    settings = json.loads((run / "generation_config.json").read_text())
    sources = AutoTokenizer.from_pretrained(run)([source for source, _ in phrasebook()["train"][:200]]).input_ids
    assert settings["longest_source"] == max(map(len, sources))

    with Image.open(run / "attention.png") as picture:
        assert min(picture.size) > 200
    names = {path.name for path in run.iterdir() if path.is_file()}
    assert {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "modeling_vanilla_transformer.py",
    } <= names
    assert "training_args.bin" not in names
    weights = load_file(run / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    settings = json.loads((run / "generation_config.json").read_text())
    assert (settings["num_beams"], settings["length_penalty"], settings["length_penalty_type"]) == (4, 0.6, "gnmt")
    assert "max_length" not in settings
    configuration = json.loads((run / "config.json").read_text())
    assert configuration["use_cache"] is True and configuration["dtype"] == "float32"
    for folder in (run, run / "checkpoint-12"):  # of a tokenizer that was read from the cache
        assert not {*ORIGIN} & {*json.loads((folder / "tokenizer_config.json").read_text())}
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "[More Information Needed]" not in card and "{{" not in card
    assert "| set | sentence pairs | NLL" in card and f"| validation | {results['validation_rows']} | " in card
    assert results["validation_rows"] == 20
    for key in ("bleu", "chrf", "ter", "meteor"):
        score, margin = results[f"validation_{key}"], results[f"validation_{key}_margin"]
        assert f" {score:.2f} ± {margin:.2f} |" in card and results[f"{key}_signature"] in card
    assert "bs:1000" in results["bleu_signature"]

    # The mean of the last three checkpoints.
    parts = [load_file(run / f"checkpoint-{step}" / "model.safetensors") for step in (8, 10, 12)]
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, sum(part[name] for part in parts) / 3, rtol=0, atol=1e-6)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(run), AutoTokenizer.from_pretrained(run)
    model.generate(**tokenizer(["How are you?"], return_tensors="pt"))


@pytest.mark.slow
def test_a_sentence_too_long_for_training_is_not_the_example_of_the_card(recipe, tmp_path, capsys):
    for side in ("en", "es"):
        path = tmp_path / f"train.{side}"
        path.write_text("word " * 500 + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    short = [str(recipe), "--max_steps", "2", "--num_beams", "1", "--overwrite_output_dir", "true"]
    assert main(short) == 0
    assert "1 pairs longer than 400 tokens left out" in capsys.readouterr().out
    assert main([*short, "--max_length", "100"]) == 0
    assert "1 pairs longer than 100 tokens left out" in capsys.readouterr().out
    card = json.loads((tmp_path / "run" / "model_card.json").read_text(encoding="utf-8"))
    assert card["example"] == phrasebook()["train"][0][0] and (tmp_path / "run" / "attention.png").is_file()
    assert main([*short, "--example", "A house."]) == 0
    assert "A house." in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(recipe, finished, tmp_path):
    """`auto` goes on where there is something to go on from."""
    expected = load_file(finished / "run" / "model.safetensors")
    again = ["--output_dir", str(tmp_path / "again"), "--resume_from_checkpoint", "auto"]
    # In the middle of an epoch; the schedule does not depend on `max_steps`.
    assert main([str(recipe), *again, "--max_steps", "8", "--average_checkpoints", "1"]) == 0
    cut = tmp_path / "again" / "checkpoint-100"
    cut.mkdir()  # what a kill in the middle of saving leaves behind
    assert main([str(recipe), *again]) == 0
    assert not cut.exists()
    resumed = load_file(tmp_path / "again" / "model.safetensors")
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name
    # The time of both sittings.
    first = json.loads((tmp_path / "again" / "checkpoint-8" / "trainer_state.json").read_text())
    seconds = first["stateful_callbacks"]["StopwatchCallback"]["attributes"]["seconds"]
    assert 0 < seconds < json.loads((tmp_path / "again" / "all_results.json").read_text())["train_seconds"]


def test_resuming_what_is_finished_trains_no_further(recipe, run_until, tmp_path, capsys):
    run_until(12)  # in the middle of an epoch
    expected = load_file(tmp_path / "run" / "model.safetensors")
    before = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert main([str(recipe), "--resume_from_checkpoint", "true"]) == 0
    assert "no training is left" in capsys.readouterr().out
    again = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(tensor, again[name]) for name, tensor in expected.items())
    after = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert 0 < after.pop("train_seconds") <= before.pop("train_seconds")  # up to the last checkpoint
    assert after == before


def test_going_on_with_other_settings_is_refused(recipe, run_until, capsys):
    run_until(4)
    for arguments, named in (
        (["--config_overrides", "{encoder_layers: 2, decoder_layers: 1, hidden_size: 32}"], "has `encoder_layers` 1"),
        (
            [
                "--config_overrides",
                "{encoder_layers: 1, decoder_layers: 1, hidden_size: 32, intermediate_size: 32, "
                "attention_init_gain: 2}",
            ],
            "has `attention_init_gain` 1",
        ),
        (["--tokens_per_step", "200"], "steps an epoch, but now there are"),
        (["--noam", "false", "--learning_rate", "0.001"], "was made with `noam` True, but the recipe sets False"),
        (["--adam_beta2", "0.9"], "was made with `adam_beta2` 0.98, but the recipe sets 0.9"),
        (["--weight_decay", "0.1"], "was made with `weight_decay` 0.0, but the recipe sets 0.1"),
    ):
        assert main([str(recipe), "--resume_from_checkpoint", "true", *arguments]) == 2
        assert named in capsys.readouterr().err


@pytest.mark.slow
def test_the_best_of_the_saved_checkpoints_is_found_where_evaluations_are_more(recipe, tmp_path):
    settings = ["--eval_steps", "2", "--save_steps", "4", "--max_steps", "12", "--load_best_model_at_end", "true"]
    settings += ["--predict_with_generate", "false", "--num_beams", "1"]
    assert main([str(recipe), *settings, "--noam_scale", "30", "--average_checkpoints", "1"]) == 0
    folder = tmp_path / "run"
    state = json.loads((folder / "checkpoint-12" / "trainer_state.json").read_text())
    losses = {entry["step"]: entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry}
    best = min((4, 8, 12), key=lambda step: losses[step])
    result, expected = (load_file(path / "model.safetensors") for path in (folder, folder / f"checkpoint-{best}"))
    assert all(torch.equal(tensor, result[name]) for name, tensor in expected.items())


@pytest.mark.slow
def test_the_scores_are_those_of_the_weights_as_they_are_saved(recipe, tmp_path):
    """A training in bfloat16 ends with scores in float32."""
    settings = ["--bf16", "true", "--run_on", "cpu", "--compound_bleu", "true", "--bootstrap_samples", "0"]
    settings += ["--length_penalty", "1", "--length_penalty_type", "power", "--early_stopping", "true"]
    settings += ["--num_beams", "5", "--split_at_spaces", "true"]
    assert main([str(recipe), "--max_steps", "8", *settings]) == 0
    run = tmp_path / "run"
    results = json.loads((run / "all_results.json").read_text())
    saved = json.loads((run / "generation_config.json").read_text())
    names = ("num_beams", "length_penalty", "length_penalty_type", "early_stopping")
    assert [saved[name] for name in names] == [5, 1, "power", True]
    assert set(AutoTokenizer.from_pretrained(run)("is.it").word_ids()) == {0, None}  # one word
    assert 0 < results["validation_bleu_brevity_penalty"] <= 1 and results["validation_bleu_length_ratio"] > 0
    assert "validation_compound_bleu" in results and "validation_bleu_margin" not in results
    files = ["--source", f"{tmp_path}/validation.en", "--reference", f"{tmp_path}/validation.es", "--samples", "0"]
    losses, scores = {}, {}
    for name, precision in (("float32", []), ("bfloat16", ["--bf16"])):
        output = tmp_path / name
        assert score_files(["--model", str(run), *files, *precision, "--run_on", "cpu", "--output", str(output)]) == 0
        scores[name] = json.loads((output / "scores.json").read_text())
        losses[name] = scores[name]["texts"]["validation"]["loss"]
    assert results["validation_loss"] == pytest.approx(losses["float32"], rel=1e-6)
    assert results["validation_loss"] != pytest.approx(losses["bfloat16"], rel=1e-5)
    # By the same search, which lies beside the model.
    assert [scores["float32"]["settings"][name] for name in names] == [5, 1, "power", True]
    assert scores["float32"]["texts"]["validation"]["scores"]["bleu"]["value"] == results["validation_bleu"]


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_and_patience_ends_the_training(recipe, tmp_path, capsys):
    settings = ["--save_steps", "2", "--eval_steps", "2", "--save_total_limit", "5"]
    settings += ["--predict_with_generate", "false", "--num_beams", "1"]
    settings += ["--load_best_model_at_end", "true", "--average_checkpoints", "3"]
    # A rate so high that validation NLL rises again.
    settings += ["--patience", "2", "--max_steps", "60", "--noam_scale", "30"]
    assert main([str(recipe), *settings]) == 0
    shown = capsys.readouterr()
    losses = [float(loss) for loss in re.findall(r"step \d+: validation NLL ([\d.]+)", shown.out + shown.err)]
    assert losses.index(min(losses)) == len(losses) - 3 and len(losses) < 30
    best = 2 * (losses.index(min(losses)) + 1)
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert (tmp_path / "run" / f"checkpoint-{best}").is_dir()
    assert results["validation_loss"] <= min(losses) + 1e-4
    # Stopped for good: going on has nothing to do.
    assert main([str(recipe), *settings, "--resume_from_checkpoint", "true"]) == 0
    assert "no training is left" in capsys.readouterr().out
    again = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert again["validation_loss"] == results["validation_loss"]


@pytest.mark.slow
def test_fine_tuning_starts_where_the_model_is(recipe, run_until, tmp_path, capsys):
    run_until(12)
    first = json.loads((tmp_path / "run" / "all_results.json").read_text())
    started = yaml.safe_load(recipe.read_text())
    for name in ("preset", "vocab_size", "config_overrides", "source_lang", "target_lang"):
        del started[name]
    recipe.write_text(yaml.safe_dump({**started, "init_from": str(tmp_path / "run"), "dropout": 0.05}))
    assert main([str(recipe), "--output_dir", str(tmp_path / "tuned"), "--max_steps", "30"]) == 0
    tuned = json.loads((tmp_path / "tuned" / "all_results.json").read_text())
    assert tuned["validation_loss_before"] == pytest.approx(first["validation_loss"], abs=1e-6)
    assert tuned["validation_loss"] < tuned["validation_loss_before"]
    assert f"(before: NLL {first['validation_loss']:.4f}" in capsys.readouterr().out
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["dropout"] == 0.05
    card = (tmp_path / "tuned" / "README.md").read_text(encoding="utf-8")
    assert (
        "fine-tuned from `run`" in card
        and str(tmp_path / "run") not in card
        and f"({tuned['validation_bleu_before']:.2f})" in card
    )
    # The languages are those of the card of the first model, for scores as for the card.
    assert "stem:snowball-es" in tuned["meteor_signature"] and tuned["meteor_signature"] == first["meteor_signature"]
    assert "language:\n- en\n- es\n" in card
    same = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("run", "tuned")]
    assert same[0] == same[1]

    kept = f"must be that of `init_from` {tmp_path / 'run'}"
    why = "since a trained model keeps what it was made with, but the recipe has"
    for arguments, named in (
        (["--preset", "base"], "but `preset` base has 6"),
        (["--vocab_size", "999"], f"`vocab_size` {kept}, 300, {why} 999"),
        (["--tokenizer", str(tmp_path / "run")], "beside `init_from`"),
        (["--config_overrides", "{norm_first: true}"], f"`norm_first` {kept}, False, {why} True"),
    ):
        assert main([str(recipe), "--output_dir", str(tmp_path / "refused"), *arguments]) == 2
        assert named in capsys.readouterr().err


@pytest.mark.slow
def test_scores_at_the_end_are_those_of_the_saved_model(recipe, tmp_path, monkeypatch):
    """`generation_num_beams` is for evaluations in training, and is not saved. Further texts are scored as well."""
    generate, seen = VanillaTransformerForConditionalGeneration.generate, []

    def watch(model, *arguments, **settings):
        seen.append(settings.get("num_beams", model.generation_config.num_beams))
        return generate(model, *arguments, **settings)

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", watch)
    sets = f"{{again: [{tmp_path}/validation.en, {tmp_path}/validation.es]}}"
    assert main([str(recipe), "--max_steps", "6", "--generation_num_beams", "2", "--test_sets", sets]) == 0
    assert seen == sorted(seen) and set(seen) == {2, 4}
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["again_loss"] == pytest.approx(results["validation_loss"])
    files = [f"--source={tmp_path}/validation.en", f"--reference={tmp_path}/validation.es", "--run_on=cpu"]
    assert score_files(["--model", str(tmp_path / "run"), *files, "--output", str(tmp_path / "scores")]) == 0
    scored = json.loads((tmp_path / "scores" / "scores.json").read_text())["texts"]["validation"]
    assert scored["loss"] == pytest.approx(results["validation_loss"], abs=1e-5)
    for key, score in scored["scores"].items():
        assert score["value"] == pytest.approx(results[f"validation_{key}"]), key
        assert score["signature"] == results[f"{key}_signature"]


def test_a_folder_of_another_kind_of_model_is_refused(recipe, tmp_path, capsys, tokenizer):
    other = tmp_path / "t5"
    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1, "vocab_size": len(tokenizer)}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(other)
    tokenizer.save_pretrained(other)
    for folder, named in ((other, f"but is {other} with a model of type 't5'"), (tmp_path, "has no config.json")):
        assert main([str(recipe), "--init_from", str(folder)]) == 2
        assert named in capsys.readouterr().err
        assert logging.get_verbosity() == logging.WARNING  # of transformers, as before the model was loaded


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("dropout", 2, "`dropout` must be at least 0 and less than 1, but is 2.0"),
        ("config_overrides", {"attention_dropout": "none"}, "attention_dropout"),
    ],
)
def test_a_value_that_no_model_can_have_is_the_recipe_s_fault(recipe, model_folder, capsys, setting, value, named):
    """And not one of the folder that training starts from."""
    settings = yaml.safe_load(recipe.read_text())
    for name in ("preset", "vocab_size", "config_overrides"):
        del settings[name]
    recipe.write_text(yaml.safe_dump({**settings, "init_from": str(model_folder), setting: value}))
    assert main([str(recipe)]) == 2
    said = capsys.readouterr().err
    assert named in said and "damaged" not in said


@pytest.mark.slow
def test_two_files_are_all_that_own_files_needs(tmp_path, capsys, monkeypatch):
    """Typed text is scored as well, which takes a model of a few steps a minute: here its scores are given."""
    typed = [Robustness("upper", 4, 12.25, 2.5)]
    monkeypatch.setattr("training.tasks.translation.measure", lambda *arguments: typed)
    own = str(REPOSITORY / "training" / "recipes" / "own_files.yaml")
    english, spanish = zip(*phrasebook()["train"][-200:], strict=True)
    for name, lines in (("en", english), ("es", spanish)):
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    files = ["--source", str(tmp_path / "en"), "--target", str(tmp_path / "es")]
    settings = ["--output_dir", str(tmp_path / "own"), "--num_train_epochs", "2"]
    assert main([own, *files, *settings]) == 0
    shown = capsys.readouterr().out
    assert "validation: 4 pairs" in shown and "what to expect:" in shown
    assert "the vocabulary shrinks from 1,000 to" in shown
    assert re.search(r"upper +4 +12\.2 +2\.5", shown)
    assert "12.2" in (tmp_path / "own" / "README.md").read_text(encoding="utf-8")
    with Image.open(tmp_path / "own" / "curves.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 500
    assert main([own, *files, *settings, "--report_only", "true"]) == 0
    assert "pairs look swapped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--target", "{tmp}/validation.es"], "train.en has 200 lines and {tmp}/validation.es has 20"),
        (["--config_overrides", '{"num_attention_heads": 5}'], "`num_attention_heads` is 5, which does not divide"),
        (["--tokenizer", "{tmp}"], "`tokenizer` must be a folder with tokenizer.json, but {tmp} lacks it"),
        (
            ["--tokens_per_step", "2"],
            "Every pair of the train text is longer than 2 tokens. Raise `tokens_per_step` or",
        ),
        (["--max_length", "2"], "Every pair of the train text is longer than 2 tokens. Raise `max_length`."),
        (["--bpe_dropout", "1.5"], "`bpe_dropout` must be at least 0 and less than 1, but is 1.5"),
        (["--max_length_ratio", "nan"], "`max_length_ratio` must be more than 1, but is nan"),
        (["--bleu_tokenize", "14a"], "`bleu_tokenize` must be one of 13a"),
        (["--length_penalty", "nan"], "`length_penalty` must be finite, but is nan. Give a number"),
        (["--length_penalty_type", "gmnt"], "`length_penalty_type` must be gnmt or power, but is 'gmnt'. Choose one"),
        (
            ["--bootstrap_samples", "5"],
            "`bootstrap_samples` must be at least 40 for an interval of 95%, or 0 for none, but is 5",
        ),
        (["--compound_bleu", "true", "--target_lang", "ja"], "`target_lang` must be"),
        (["--resume_from_checkpoint", "true"], "has no complete checkpoint"),
        (["--validation_source", "{tmp}/absent"], "absent cannot be read"),
        (["--nonsense", "1"], "no recipe field `nonsense`"),
        (["--vocab_size", "100"], "`vocab_size` must be at least 260"),
        (["--tokens_per_device", "50", "--tokens_per_step", "40000"], "are too few for 800 batches in each step"),
        (
            ["--noam", "false", "--learning_rate", "0.1", "--lr_scheduler_type", "cosine_with_min_lr"],
            "`lr_scheduler_kwargs` must fit `lr_scheduler_type` cosine_with_min_lr, but is {}",
        ),
        (["--output_dir", "/sys"], "`output_dir` must be a folder that can be written, but /sys is not"),
        (["--output_dir", "/proc/nothing"], "can be written, but /proc/nothing is not"),
    ],
)
def test_a_recipe_that_cannot_work_is_one_line_before_training(recipe, tmp_path, capsys, arguments, named):
    assert main([str(recipe), *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert named.replace("{tmp}", str(tmp_path)) in error


@pytest.mark.slow
def test_checkpoints_of_another_run_are_not_averaged_in(recipe, run_until, tmp_path, capsys):
    shutil.copytree(run_until(12), tmp_path / "other")
    resume = ["--resume_from_checkpoint", str(tmp_path / "other" / "checkpoint-2")]
    assert main([str(recipe), *resume]) == 2
    assert "run holds checkpoint-12 of an earlier run" in capsys.readouterr().err
    assert main([str(recipe), *resume, "--overwrite_output_dir", "true", "--max_steps", "6"]) == 0
    assert "averaged 2 checkpoints: checkpoint-4, checkpoint-6" in capsys.readouterr().out


def test_files_of_others_are_not_written_over(recipe, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "README.md").write_text("my notes")
    assert main([str(recipe)]) == 2
    assert "run has README.md and no model" in capsys.readouterr().err
    assert (tmp_path / "run" / "README.md").read_text() == "my notes"


@pytest.mark.slow
def test_a_model_is_not_overwritten_unasked(recipe, run_until, capsys):
    run = run_until(0)
    before = (run / "model.safetensors").read_bytes()
    for arguments, named in (
        ([], f"`output_dir` must not hold a model, which would be written over, but {run} does"),
        (["--init_from", str(run)], f"hold the model of `init_from`, which would be written over, but is {run}"),
        (["--init_from", str(run), "--overwrite_output_dir", "true"], "must not hold the model of `init_from`"),
    ):
        assert main([str(recipe), "--max_steps", "1", "--save_strategy", "no", *arguments]) == 2
        assert named in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == before
    # Asked for, it goes with the files that the new one lacks.
    left = [run / name for name in ("model-00001-of-00002.safetensors", "results_before.json")]
    for file in left:
        file.write_text("{}")
    (run / "notes.txt").write_text("mine")
    again = ["--max_steps", "1", "--save_strategy", "no", "--overwrite_output_dir", "true", "--seed", "7"]
    assert main([str(recipe), *again]) == 0
    assert (run / "model.safetensors").read_bytes() != before and not any(file.exists() for file in left)
    assert (run / "notes.txt").read_text() == "mine" and (run / "attention.png").exists()


@pytest.mark.slow
def test_a_fine_tuning_goes_on_with_what_it_began_with(recipe, run_until, tmp_path):
    """The model of `init_from` may be another by then, or gone."""
    run_until(12)
    tuning = [str(recipe), "--init_from", str(tmp_path / "run"), "--output_dir", str(tmp_path / "tuned")]
    assert main([*tuning, "--max_steps", "2"]) == 0
    (tmp_path / "run").rename(tmp_path / "moved")
    assert main([*tuning, "--max_steps", "4", "--resume_from_checkpoint", "true"]) == 0
    results = json.loads((tmp_path / "tuned" / "all_results.json").read_text())
    assert results["steps"] == 4 and "validation_loss_before" in results
    tokenizers = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("moved", "tuned")]
    assert tokenizers[0] == tokenizers[1]


def test_an_earlier_run_is_not_overwritten_unasked(recipe, tmp_path, capsys):
    (tmp_path / "run" / "checkpoint-4").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-4" / "trainer_state.json").write_text("{}")
    assert main([str(recipe)]) == 2
    assert "holds checkpoint-4 of an earlier run" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint-4").exists()


@pytest.mark.slow
def test_the_multi30k_recipe_starts_on_the_real_files(tmp_path):
    folder = corpus("multi30k_tok")
    arguments = [
        str(REPOSITORY / "training" / "recipes" / "multi30k_en_de.yaml"),
        "--output_dir",
        str(tmp_path / "run"),
    ]
    for split, name in (("", "train"), ("validation_", "val"), ("test_", "test_2016_flickr")):
        for side, language in (("source", "en"), ("target", "de")):
            path = folder / f"{name}.{language}"
            if split:  # a model of two steps writes as much as it may: a few sentences are enough
                lines = path.read_text(encoding="utf-8").split("\n")[:10]
                path = tmp_path / path.name
                path.write_text("\n".join(lines), encoding="utf-8")
            arguments += [f"--{split}{side}", str(path)]
    arguments += ["--max_steps", "2", "--save_steps", "1"]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["test_loss"] < 10

"""The whole program on a corpus of a few sentences."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from training.phrasebook import phrasebook
from training.train import main

REPOSITORY = Path(__file__).resolve().parents[2]
MULTI30K = REPOSITORY.parent / "shared" / "data" / "multi30k_tok"


@pytest.fixture
def recipe(tmp_path):
    corpus = phrasebook()
    for split, count in (("train", 200), ("validation", 20)):
        for side, language in enumerate(("en", "es")):
            lines = [pair[side] for pair in corpus[split][:count]]
            (tmp_path / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "source": str(tmp_path / "train.en"),
        "target": str(tmp_path / "train.es"),
        "validation_source": str(tmp_path / "validation.en"),
        "validation_target": str(tmp_path / "validation.es"),
        "source_lang": "en",
        "target_lang": "es",
        "output_dir": str(tmp_path / "run"),
        "preset": "tiny",
        "config_overrides": {"encoder_layers": 1, "decoder_layers": 1, "hidden_size": 32, "intermediate_size": 32},
        "vocab_size": 300,
        "tokens_per_step": 400,
        "warmup_steps": 20,
        "max_steps": 12,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "logging_steps": 2,
        "average_checkpoints": 3,
        "run_on": "cpu",
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_a_run_leaves_a_folder_that_is_ready_for_the_hub(recipe, tmp_path, capsys):
    assert main([str(recipe)]) == 0
    run = tmp_path / "run"
    results = json.loads((run / "all_results.json").read_text())
    assert results["steps"] == 12
    assert 0 < results["validation_loss"] < 6
    assert results["bleu_signature"].startswith("nrefs:1")
    shown = capsys.readouterr().out
    assert "train: 200 pairs" in shown
    assert "400 = 1 process x 400 x 1" in shown
    assert f"vanilla-transformer translate --model {run}" in shown
    assert list((run / "logs").glob("events.out.tfevents.*"))

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
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "[More Information Needed]" not in card and "{{" not in card
    assert f"{results['validation_bleu']:.2f}" in card

    # The mean of the last three checkpoints.
    parts = [load_file(run / f"checkpoint-{step}" / "model.safetensors") for step in (8, 10, 12)]
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, sum(part[name] for part in parts) / 3, rtol=0, atol=1e-6)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(run), AutoTokenizer.from_pretrained(run)
    model.generate(**tokenizer(["How are you?"], return_tensors="pt"))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(recipe, tmp_path):
    assert main([str(recipe)]) == 0
    expected = load_file(tmp_path / "run" / "model.safetensors")
    again = ["--output_dir", str(tmp_path / "again")]
    # In the middle of an epoch; the schedule does not depend on `max_steps`.
    assert main([str(recipe), *again, "--max_steps", "8", "--average_checkpoints", "1"]) == 0
    cut = tmp_path / "again" / "checkpoint-100"
    cut.mkdir()  # what a kill in the middle of saving leaves behind
    assert main([str(recipe), *again, "--resume_from_checkpoint", "true"]) == 0
    assert not cut.exists()
    resumed = load_file(tmp_path / "again" / "model.safetensors")
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_resuming_what_is_finished_trains_no_further(recipe, tmp_path, capsys):
    assert main([str(recipe), "--max_steps", "11"]) == 0  # in the middle of an epoch
    expected = load_file(tmp_path / "run" / "model.safetensors")
    before = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert main([str(recipe), "--max_steps", "11", "--resume_from_checkpoint", "true"]) == 0
    assert "no training is left" in capsys.readouterr().out
    again = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(tensor, again[name]) for name, tensor in expected.items())
    after = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert {name: after[name] for name in after} == {name: before[name] for name in after}


def test_a_killed_run_goes_on_from_its_last_checkpoint(recipe, tmp_path):
    command = [sys.executable, "-m", "training.train", str(recipe), "--max_steps", "100000", "--eval_strategy", "no"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoint-6" / "trainer_state.json").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    from training.averaging import find_checkpoints

    last = int(find_checkpoints(tmp_path / "run")[-1].name.rpartition("-")[2])
    arguments = ["--max_steps", str(last + 4), "--resume_from_checkpoint", "true", "--eval_strategy", "no"]
    assert main([str(recipe), *arguments]) == 0
    assert json.loads((tmp_path / "run" / "all_results.json").read_text())["steps"] == last + 4


def test_two_processes_train_and_evaluate_like_one(recipe, tmp_path):
    """The same steps in one process that accumulates two batches, and in two processes."""
    settings = ["--dropout", "0.0", "--tokens_per_device", "200"]
    assert main([str(recipe), *settings, "--output_dir", str(tmp_path / "one")]) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "training.train"]
    result = subprocess.run(
        [*command, str(recipe), *settings, "--output_dir", str(tmp_path / "two")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "400 = 2 processes x 200 x 1" in result.stdout
    one, two = (json.loads((tmp_path / name / "all_results.json").read_text()) for name in ("one", "two"))
    for name in ("validation_loss", "validation_bleu", "steps"):
        assert two[name] == pytest.approx(one[name], abs=1e-5)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--target", "{tmp}/validation.es"], "train.en has 200 lines and {tmp}/validation.es has 20"),
        (["--config_overrides", '{"num_attention_heads": 5}'], "`num_attention_heads` is 5, which does not divide"),
        (["--tokenizer", "{tmp}"], "which has no tokenizer.json"),
        (["--tokens_per_step", "3"], "Every pair is longer than 3 tokens. Raise `tokens_per_step`"),
        (["--resume_from_checkpoint", "true"], "has no complete checkpoint"),
        (["--validation_source", "{tmp}/absent"], "absent cannot be read"),
        (["--nonsense", "1"], "no recipe field `nonsense`"),
        (["--vocab_size", "100"], "`vocab_size` is 100"),
        (["--tokens_per_device", "50", "--tokens_per_step", "40000"], "do not make 800 batches for each step"),
        (["--output_dir", "/sys"], "`output_dir` /sys cannot be written"),
        (["--output_dir", "/proc/nothing"], "cannot be written"),
    ],
)
def test_what_cannot_work_is_one_line_before_training(recipe, tmp_path, capsys, arguments, named):
    assert main([str(recipe), *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert named.replace("{tmp}", str(tmp_path)) in error


def test_checkpoints_of_another_run_are_not_averaged_in(recipe, tmp_path, capsys):
    other = ["--output_dir", str(tmp_path / "other"), "--max_steps", "4"]
    assert main([str(recipe), *other]) == 0
    assert main([str(recipe)]) == 0
    resume = ["--resume_from_checkpoint", str(tmp_path / "other" / "checkpoint-2")]
    capsys.readouterr()
    assert main([str(recipe), *resume]) == 2
    assert "run holds checkpoint-12 of an earlier run" in capsys.readouterr().err
    assert main([str(recipe), *resume, "--overwrite_output_dir", "true", "--max_steps", "6"]) == 0
    assert "averaged 2 checkpoints: checkpoint-4, checkpoint-6" in capsys.readouterr().out


def test_an_earlier_run_is_not_overwritten_unasked(recipe, tmp_path, capsys):
    (tmp_path / "run" / "checkpoint-4").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-4" / "trainer_state.json").write_text("{}")
    assert main([str(recipe)]) == 2
    assert "holds checkpoint-4 of an earlier run" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint-4").exists()


@pytest.mark.skipif(not MULTI30K.is_dir(), reason=f"needs the Multi30k text, and {MULTI30K} is missing")
def test_the_multi30k_recipe_starts_on_the_real_files(tmp_path):
    arguments = [str(REPOSITORY / "training" / "recipes" / "multi30k_en_de.yaml"), "--output_dir", str(tmp_path)]
    for split, name in (("", "train"), ("validation_", "val"), ("test_", "test_2016_flickr")):
        arguments += [
            f"--{split}source",
            str(MULTI30K / f"{name}.en"),
            f"--{split}target",
            str(MULTI30K / f"{name}.de"),
        ]
    arguments += ["--max_steps", "2", "--save_steps", "1", "--predict_with_generate", "false"]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "all_results.json").read_text())
    assert results["test_loss"] < 10

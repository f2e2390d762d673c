"""The same recipe in one, two and four processes (gloo, one thread each)."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from tests.training.small import make_trainer, make_training_arguments
from training.data.batching import TokenBudgetBatchSampler
from training.data.encoding import encode, lengths
from training.data.parallel import ParallelText
from training.engine.checkpoints import find_checkpoints
from training.engine.processes import end_process_group, first_process
from training.engine.processes import launch as start_here
from training.train import main
from vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer
from vanilla_transformer.errors import RecipeError, TextError


def losses(run: Path) -> list[float]:
    history = json.loads((find_checkpoints(run)[-1] / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


SETTINGS = ["--dropout", "0.0", "--tokens_per_step", "404", "--logging_steps", "1", "--average_checkpoints", "1"]


def check_same(run: Path, alone: Path) -> None:
    """Check that two runs have the same curve, scores and weights."""
    assert losses(run) == pytest.approx(losses(alone), abs=1e-5)
    results, expected = (json.loads((folder / "all_results.json").read_text()) for folder in (run, alone))
    for name in ("validation_loss", "validation_bleu"):
        assert results[name] == pytest.approx(expected[name], abs=1e-5)
    weights = load_file(alone / "model.safetensors")
    for name, tensor in load_file(run / "model.safetensors").items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-5)


def test_two_processes_take_the_steps_of_one(recipe, launch, tmp_path):
    """Dropout is off, since each process draws its own."""
    steps = ["--max_steps", "6", "--save_steps", "6", "--eval_steps", "6"]
    assert main([str(recipe), *SETTINGS, *steps, "--output_dir", str(tmp_path / "1")]) == 0
    result = launch(
        str(recipe), *SETTINGS, *steps, "--tokens_per_device", "202", "--output_dir", str(tmp_path / "2"), processes=2
    )
    assert result.returncode == 0, result.stderr
    assert "404 = 2 processes x 202 x 1" in result.stdout
    assert len(losses(tmp_path / "1")) == 6
    check_same(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow
def test_processes_and_accumulation_share_a_step_in_any_way(recipe, launch, tmp_path):
    """1 x 4, 2 x 2 and 4 x 1, with augmentation."""
    settings = [*SETTINGS, "--tokens_per_device", "101", "--max_steps", "12", "--save_steps", "12"]
    settings += ["--eval_steps", "12", "--augmentation", "{upper: 0.1, lower: 0.2, no_stop: 0.3, copies: 0.3}"]
    for processes in (1, 2, 4):
        output = ["--output_dir", str(tmp_path / str(processes))]
        result = launch(str(recipe), *settings, *output, processes=processes, module="tests.training.train_untyped")
        assert result.returncode == 0, result.stderr
        world = f"{processes} process{'es' if processes > 1 else ''}"
        assert f"404 = {world} x 101 x {4 // processes}" in result.stdout
    assert len(losses(tmp_path / "1")) == 12
    for processes in ("2", "4"):
        check_same(tmp_path / processes, tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_in_another_number_of_processes(recipe, launch, tmp_path, before, after):
    settings = [str(recipe), *SETTINGS, "--tokens_per_device", "101", "--save_steps", "6", "--eval_steps", "12"]
    assert main([*settings, "--max_steps", "12", "--output_dir", str(tmp_path / "whole")]) == 0
    output = ["--output_dir", str(tmp_path / "parted")]
    for processes, more in ((before, ["--max_steps", "6"]), (after, ["--resume_from_checkpoint", "true"])):
        result = launch(*settings, "--max_steps", "12", *output, *more, processes=processes)
        assert result.returncode == 0, result.stderr
    assert f"number of processes: {before} until now, {after} from here" in result.stdout
    check_same(tmp_path / "parted", tmp_path / "whole")


def test_fsdp_is_refused_with_what_works(recipe, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert main([str(recipe)]) == 2
    assert "FSDP is not supported: it shards weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seen", "started", "said"),
    [
        ({"n_gpu": 2}, "1", r"would drive 2 GPUs .* `accelerate launch -m training\.train recipe\.yaml --seed 3`"),
        ({}, "2", r"2 processes were started, but each sees 1\. .* `torchrun --nproc_per_node 2 -m .* --seed 3`"),
    ],
)
def test_a_launch_that_would_not_do_as_it_seems_is_refused_with_the_line_that_works(monkeypatch, seen, started, said):
    arguments = SimpleNamespace(**{"world_size": 1, "fsdp": "", "n_gpu": 1, **seen})
    monkeypatch.setattr("training.engine.processes.make_arguments", lambda *fields: arguments)
    monkeypatch.setenv("WORLD_SIZE", started)
    with pytest.raises(RecipeError, match=said):
        start_here(SimpleNamespace(training=None, others=None), ["recipe.yaml", "--seed", "3"])


def train_plainly(folder: str) -> None:
    """A plain Seq2SeqTrainer, 8 sentences a step for processes and accumulation to share; prints size and losses."""
    tokenizer = VanillaTransformerTokenizer.from_pretrained(folder)
    model = VanillaTransformerForConditionalGeneration.from_pretrained(folder)
    pairs = [("the house is red" + " red" * (i % 5), "la casa" + " es roja" * (i % 7)) for i in range(24)]
    arguments = Seq2SeqTrainingArguments(
        output_dir=folder,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        max_steps=3,
        logging_steps=1,
        per_device_train_batch_size=4,
        train_sampling_strategy="sequential",
        max_grad_norm=0.0,
    )
    arguments.gradient_accumulation_steps = 2 // arguments.world_size
    trainer = Seq2SeqTrainer(
        model,
        arguments,
        train_dataset=[dict(tokenizer(source, text_target=target)) for source, target in pairs],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )
    trainer.train()
    if arguments.process_index == 0:
        curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        print("RESULT", json.dumps([arguments.world_size, curve]))
    del trainer
    end_process_group()


@pytest.mark.slow
def test_a_plain_trainer_has_one_loss_in_one_and_two_processes(launch, config, tokenizer, tmp_path, capsys):
    config.vocab_size, config.dropout = len(tokenizer), 0.0
    torch.manual_seed(0)
    VanillaTransformerForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    train_plainly(str(tmp_path))
    outputs = [capsys.readouterr().out]
    result = launch("train", str(tmp_path), processes=2, module="tests.training.test_processes")
    assert result.returncode == 0, result.stderr
    outputs.append(result.stdout)
    curves = []
    for processes, output in zip((1, 2), outputs, strict=True):
        line = next(line for line in output.splitlines() if line.startswith("RESULT"))
        world, curve = json.loads(line.removeprefix("RESULT"))
        assert world == processes
        curves.append(curve)
    assert curves[0] == pytest.approx(curves[1], abs=1e-6)
    assert curves[0][-1] < curves[0][0]


def train_remainders(folder: str) -> None:
    """Two texts of which full steps would leave one sentence; prints the number of processes and both curves."""
    tokenizer = VanillaTransformerTokenizer.from_pretrained(folder)
    equal = [("the house is red", "la casa es roja")] * 9
    unequal = [("the house is red" + " red" * (i % 5), "la casa" + " es roja" * (i % 7)) for i in range(20)]
    curves = []
    for pairs, sentences in ((equal, 4), (unequal, 5)):
        dataset = encode(ParallelText.from_pairs(pairs), tokenizer)
        source_lengths, target_lengths = lengths(dataset)
        budget = sentences * int(max(source_lengths.max(), target_lengths.max()))
        cut = TokenBudgetBatchSampler(source_lengths, target_lengths, budget, spread=False)
        assert cut.sizes[-1] == 1
        model = VanillaTransformerForConditionalGeneration.from_pretrained(folder)
        arguments = make_training_arguments(
            output_dir=folder,
            run_on="cpu",
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            tokens_per_step=budget,
            num_train_epochs=2,
            logging_steps=1,
            noam=False,
            learning_rate=1e-3,
        )
        trainer = make_trainer("translation", model, arguments, tokenizer, dataset)
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    if arguments.process_index == 0:
        print("RESULT", json.dumps([arguments.world_size, curves]))
    del trainer
    end_process_group()


@pytest.mark.slow
def test_a_remainder_of_one_sentence_is_learned_from_alike_in_any_number_of_processes(
    launch, config, tokenizer, tmp_path, capsys
):
    config.vocab_size, config.dropout = len(tokenizer), 0.0
    torch.manual_seed(0)
    VanillaTransformerForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    train_remainders(str(tmp_path))
    outputs = [capsys.readouterr().out]
    for processes in (2, 4):  # of three sentences four processes have one each, or none
        result = launch("remainders", str(tmp_path), processes=processes, module="tests.training.test_processes")
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    runs = []
    for processes, output in zip((1, 2, 4), outputs, strict=True):
        line = next(line for line in output.splitlines() if line.startswith("RESULT"))
        world, curves = json.loads(line.removeprefix("RESULT"))
        assert world == processes
        runs.append(curves)
    assert len(runs[0][0]) == 2 * 3  # steps of three sentences, not of four, four and one
    for curves in runs[1:]:
        for curve, alone in zip(curves, runs[0], strict=True):
            assert curve == pytest.approx(alone, abs=1e-5)


def fail_first(folder: str) -> None:
    """Two exceptions in the first process; every process prints what it gets."""
    arguments = make_training_arguments(output_dir=folder, run_on="cpu", report_to="none")

    for failure in (TextError("`source` is missing."), KeyError("row")):

        def work(failure=failure):
            raise failure

        try:
            first_process(arguments, work)
        except Exception as error:
            seen = json.dumps([arguments.process_index, type(error).__name__, str(error)])
            print(f"RESULT {seen}\n", end="", flush=True)
    end_process_group()


@pytest.mark.slow
def test_every_exception_of_the_first_process_reaches_the_others(launch, tmp_path):
    """A user's error as it is, a bug with the advice where to look."""
    result = launch("fail", str(tmp_path), processes=2, module="tests.training.test_processes")
    assert result.returncode == 0, result.stderr
    lines = [line.removeprefix("RESULT") for line in result.stdout.splitlines() if line.startswith("RESULT")]
    advice = "The first process failed with KeyError: 'row'. Its traceback says where."
    assert [json.loads(line) for line in lines] == [
        [0, "TextError", "`source` is missing."],
        [0, "KeyError", "'row'"],
        [1, "TextError", "`source` is missing."],
        [1, "FirstProcessError", advice],
    ]


def predict(folder: str) -> None:
    """Translate 7 sentences, an odd number of batches; every process prints what it has."""
    tokenizer = VanillaTransformerTokenizer.from_pretrained(folder)
    model = VanillaTransformerForConditionalGeneration.from_pretrained(folder)
    arguments = make_training_arguments(
        output_dir=folder, run_on="cpu", report_to="none", disable_tqdm=True, tokens_per_device=10
    )
    text = ParallelText.from_pairs([("the house is red" + " red" * i, "la casa es roja") for i in range(7)])
    trainer = make_trainer("translation", model, arguments, tokenizer)
    predictions = trainer.predict(encode(text, tokenizer)).predictions
    print(f"RESULT {json.dumps([arguments.world_size, list(predictions)])}\n", end="", flush=True)
    del trainer
    end_process_group()


@pytest.mark.slow
def test_predictions_are_the_same_in_every_process(launch, config, tokenizer, tmp_path, capsys):
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    VanillaTransformerForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    predict(str(tmp_path))
    outputs = [capsys.readouterr().out]
    result = launch("predict", str(tmp_path), processes=2, module="tests.training.test_processes")
    assert result.returncode == 0, result.stderr
    outputs.append(result.stdout)
    seen = []
    for processes, output in zip((1, 2), outputs, strict=True):
        lines = [line for line in output.splitlines() if line.startswith("RESULT")]
        assert len(lines) == processes
        for line in lines:
            world, predictions = json.loads(line.removeprefix("RESULT"))
            assert world == processes and len(predictions) == 7
            seen.append(predictions)
    assert seen[0] == seen[1] == seen[2] and len(set(seen[0])) > 1


if __name__ == "__main__":
    programs = {"train": train_plainly, "remainders": train_remainders, "predict": predict, "fail": fail_first}
    programs[sys.argv[1]](sys.argv[2])

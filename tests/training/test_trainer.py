import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from tests.training.small import make_trainer, make_training_arguments
from training.data.batching import StepPlan
from training.data.encoding import encode
from training.data.parallel import ParallelText
from training.engine.arguments import cpu_emulates_bf16
from training.engine.evaluate import full_precision
from vanilla_transformer import VanillaTransformerForConditionalGeneration

PAIRS = [
    ("the house is red", "la casa es roja"),
    ("the red car is new", "el coche rojo es nuevo"),
    ("the car", "el coche"),
    ("how are you", "¿Cómo estás?"),
    ("new", "nuevo"),
    ("the house is new and the car is red", "la casa es nueva y el coche es rojo"),
    ("red red red", "rojo rojo rojo"),
    ("is the house new", "¿es nueva la casa?"),
] * 4


@pytest.fixture
def dataset(tokenizer):
    return encode(ParallelText.from_pairs(PAIRS), tokenizer)


@pytest.fixture
def small_model(small_config, tokenizer):
    torch.manual_seed(0)
    return VanillaTransformerForConditionalGeneration(small_config(vocab_size=len(tokenizer), dropout=0.0))


def arguments(tmp_path, **settings):
    settings = {"max_steps": 4, "logging_steps": 1, "tokens_per_step": 200, "warmup_steps": 10, **settings}
    return make_training_arguments(
        output_dir=str(tmp_path), run_on="cpu", report_to="none", disable_tqdm=True, save_strategy="no", **settings
    )


def plain_arguments(tmp_path, **settings) -> Seq2SeqTrainingArguments:
    return Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        max_steps=3,
        logging_steps=1,
        learning_rate=1e-3,
        max_grad_norm=0.0,
        **settings,
    )


@pytest.mark.parametrize(
    ("decay_steps", "parts"), [(0, (1, 1, 1, 1)), (0.5, (1, 1, 2 / 3, 1 / 3)), (3, (1, 0.75, 0.5, 0.25))]
)
def test_every_step_has_the_papers_learning_rate(small_model, tokenizer, dataset, tmp_path, decay_steps, parts):
    """Or, where the recipe asks for an end, a part of it."""
    trainer = make_trainer(
        "translation", small_model, arguments(tmp_path, decay_steps=decay_steps), tokenizer, dataset
    )
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([32**-0.5 * step * 10**-1.5 * parts[step - 1] for step in (1, 2, 3, 4)])
    assert all(entry["tokens_per_second"] > 0 for entry in trainer.state.log_history if "loss" in entry)
    assert {type(trainer.optimizer.optimizer).__name__} <= {"AdamW", "Adam"}
    group = trainer.optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0.0)


def test_accumulation_changes_no_loss(small_model, tokenizer, dataset, tmp_path):
    """The whole corpus in each step, as one batch and as several that are accumulated."""
    longest = max(*dataset["source_length"], *dataset["target_length"])
    budget = len(dataset) * longest
    results = []
    for parts in (1, 4):
        args = arguments(tmp_path, max_steps=3, tokens_per_step=budget, tokens_per_device=budget // parts)
        plan = StepPlan.make(budget, budget // parts, args.world_size)
        assert str(plan) == f"{budget:,} = 1 process x {budget // parts:,} x {parts}"
        model = copy.deepcopy(small_model)
        trainer = make_trainer("translation", model, args, tokenizer, dataset, plan=plan)
        trainer.train()
        results.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        assert len(trainer.train_sampler) == parts
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    assert results[0][0] > results[0][-1]


def test_evaluation_is_per_token_whatever_the_batches(small_model, tokenizer, dataset, tmp_path, monkeypatch):
    small_model.double().eval()  # the rounding of float32 differs from CPU to CPU
    total, count = 0.0, 0
    for row in dataset:
        labels = torch.tensor([row["labels"]])
        with torch.no_grad():
            logits = small_model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).logits
        total += F.cross_entropy(logits[0].double(), labels[0], reduction="sum").item()
        count += labels.numel()
    trainer = make_trainer("translation", small_model, arguments(tmp_path), tokenizer, eval_dataset=dataset)
    for tokens in (60, 200, 5000):
        monkeypatch.setattr("training.engine.evaluate.EVALUATION_TOKENS", tokens)
        metrics = trainer.evaluate()
        assert metrics["eval_loss"] == pytest.approx(total / count, abs=1e-6)
        assert metrics["eval_perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)


def test_predictions_are_decoded_texts_in_order(small_model, tokenizer, dataset, tmp_path):
    trainer = make_trainer("translation", small_model, arguments(tmp_path), tokenizer)
    predictions = trainer.predict(dataset).predictions
    small_model.eval()
    for index in (0, 3, 5):
        inputs = tokenizer(PAIRS[index][0], return_tensors="pt")
        expected = tokenizer.decode(small_model.generate(**inputs)[0], skip_special_tokens=True)
        assert predictions[index] == expected


def test_saved_settings_are_the_models_own(small_model, tokenizer, dataset, tmp_path):
    trainer = make_trainer("translation", small_model, arguments(tmp_path), tokenizer, dataset, eval_dataset=dataset)
    trainer.train()
    trainer.evaluate()
    trainer.save_model(tmp_path / "saved")
    loaded = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert loaded.config.use_cache is True
    assert loaded.generation_config.max_length is None
    assert loaded.generation_config.num_beams == 4
    assert len({path.stat().st_mode for path in (tmp_path / "saved").iterdir()}) == 1


# ----- a plain Seq2SeqTrainer -----


@pytest.fixture
def plain_dataset(tokenizer):
    return [dict(tokenizer(source, text_target=target)) for source, target in PAIRS]


def test_plain_trainer_accumulation_changes_no_loss(small_model, tokenizer, plain_dataset, tmp_path):
    """8 x 1 against 4 x 2; a loss that ignored `num_items_in_batch` would be twice as large."""
    results = []
    for size, steps in ((8, 1), (4, 2)):
        torch.manual_seed(0)
        model = VanillaTransformerForConditionalGeneration(small_model.config)
        trainer = Seq2SeqTrainer(
            model,
            plain_arguments(
                tmp_path,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=steps,
                train_sampling_strategy="sequential",
            ),
            train_dataset=plain_dataset,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
            processing_class=tokenizer,
        )
        trainer.train()
        results.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    assert results[0][0] > results[0][-1]


def test_plain_trainer_decodes_long_targets_in_its_second_evaluation(small_config, tokenizer, tmp_path):
    """Seq2SeqTrainer writes `max_length` 20 into the model's configuration in its first."""
    target = [*(4 + (7 * i) % 200 for i in range(59)), 2]
    source = [*range(20, 32), 2]
    torch.manual_seed(0)
    model = VanillaTransformerForConditionalGeneration(
        small_config(vocab_size=len(tokenizer), hidden_size=64, encoder_layers=1, decoder_layers=1, dropout=0.0)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    for _ in range(150):
        optimizer.zero_grad()
        model(input_ids=torch.tensor([source]), labels=torch.tensor([target])).loss.backward()
        optimizer.step()
    trainer = Seq2SeqTrainer(
        model,
        plain_arguments(tmp_path, predict_with_generate=True),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )
    dataset = [{"input_ids": source, "labels": target}]
    for _ in range(2):
        predictions = trainer.predict(dataset).predictions
    assert model.generation_config.max_length == 20
    assert np.asarray(predictions)[0, 1:61].tolist() == target


def test_full_precision_leaves_the_model_as_training_made_it(small_model, tokenizer, dataset, tmp_path):
    args = arguments(tmp_path, bf16=True, predict_with_generate=False)
    trainer = make_trainer("translation", small_model, args, tokenizer, dataset)
    trainer.train()
    mixed = trainer.evaluate(dataset)["eval_loss"]
    exact = trainer.evaluator.evaluate(dataset, in_full_precision=True).metrics["loss"]
    with full_precision(small_model):
        row = trainer.objective.collate([dataset[0]])
        loss, logits, *_ = small_model.eval()(**row, return_dict=False)
        assert logits.dtype == torch.float32
    assert exact != mixed and exact == pytest.approx(mixed, rel=0.01)
    assert trainer.evaluate(dataset)["eval_loss"] == mixed
    plain = VanillaTransformerForConditionalGeneration(small_model.config).eval()
    plain.load_state_dict(small_model.state_dict())
    assert torch.equal(loss, plain(**row).loss)
    assert not torch.equal(loss, small_model(**row).loss)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("emulated", [False, True])
def test_a_cpu_that_emulates_bf16_is_reported(small_model, tokenizer, tmp_path, monkeypatch, capsys, bf16, emulated):
    monkeypatch.setattr("training.engine.trainer.cpu_emulates_bf16", lambda: emulated)
    make_trainer("translation", small_model, arguments(tmp_path, bf16=bf16), tokenizer)
    shown = capsys.readouterr().out
    assert ("`bf16` is true, but torch has no fast bfloat16 on this CPU" in shown) is (bf16 and emulated)


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("is_fast", [False, True])
def test_emulation_of_bf16_is_what_onednn_says(monkeypatch, is_there, is_fast):
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: is_there)
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: is_fast)
    assert cpu_emulates_bf16() is (is_there and not is_fast)

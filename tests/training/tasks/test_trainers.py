"""Each task learns a text that it can learn, and measures it right."""

import math

import numpy as np
import pytest
import torch

from tests.training.small import make_trainer, make_training_arguments
from training.data.batching import TokenBudgetBatchSampler
from training.data.encoding import encode
from training.data.parallel import ParallelText
from training.recipe.augmentation import DEFAULT_SHARES
from training.tasks import TASKS
from training.tasks.classification import LabelledText, encode_labelled
from training.tasks.language_modeling import encode_blocks
from training.tasks.question_answering import Question, encode_questions


@pytest.fixture
def build(tmp_path, small_config, tokenizer):
    def make(task, dataset, steps, batches_per_step=1, tokens_per_step=600, **changes):
        torch.manual_seed(0)
        changes = {"vocab_size": len(tokenizer), "dropout": 0.0, "encoder_layers": 1, "decoder_layers": 1, **changes}
        arguments = make_training_arguments(
            output_dir=str(tmp_path / "run"),
            run_on="cpu",
            tokens_per_step=tokens_per_step,
            noam=False,
            learning_rate=3e-3,
            warmup_steps=0,
            max_steps=steps,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            logging_steps=1,
            gradient_accumulation_steps=batches_per_step,
        )
        model = TASKS[task].model_class(small_config(**changes))
        return make_trainer(task, model, arguments, tokenizer, dataset, eval_dataset=dataset)

    return make


def test_classification(build, tokenizer):
    words = {"0": ["red", "roja"], "1": ["new", "nuevo"]}
    texts, labels = [], []
    for i in range(40):
        label = str(i % 2)
        texts.append((f"the {words[label][i // 2 % 2]} house",))
        labels.append(label)
    text = LabelledText(texts, labels, list(range(40)), "here", "line")
    dataset = encode_labelled(text, ["0", "1"], tokenizer, 50)
    trainer = build("text-classification", dataset, 40, num_labels=2)
    before = trainer.predict(dataset)
    expected = torch.nn.functional.cross_entropy(
        trainer.model.eval()(**trainer.objective.collate(list(dataset))).logits, torch.tensor(dataset["labels"])
    )
    assert before.metrics["test_loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert before.metrics["test_accuracy"] == pytest.approx(np.mean(before.predictions == dataset["labels"]))
    trainer.train()
    after = trainer.predict(dataset)
    assert after.metrics["test_accuracy"] == 1.0 and after.predictions.tolist() == dataset["labels"]
    assert after.metrics["test_loss"] < 0.1 and after.metrics["test_f1"] == 1.0


def test_rows_of_a_step_count_the_same_in_batches_of_any_size(build, tokenizer):
    words = ["red", "new", "old", "big", "small", "black"]
    texts = [(f"the {word} house",) for word in words]
    text = LabelledText(texts, ["0", "1"] * 3, list(range(6)), "here", "line")
    rows = list(encode_labelled(text, ["0", "1"], tokenizer, 50))
    trainer = build("text-classification", None, 1, num_labels=2)
    trainer.model.train()
    parts = rows[:1], rows[1:]
    count = trainer._get_num_items_in_batch([trainer.collate_share(part) for part in parts], trainer.args.device)
    shares = [
        trainer.compute_loss(trainer.model, trainer.objective.collate(part), num_items_in_batch=count)
        for part in parts
    ]
    torch.testing.assert_close(sum(shares), trainer.model(**trainer.objective.collate(rows)).loss)


def test_question_answering(build, tokenizer):
    """Which word comes after the one that is asked for; half of the answers are in a second window."""
    questions = []
    for i, word in enumerate(["red", "new", "roja", "nuevo"] * 6):
        filler = "the car " * (12 if i % 2 else 1)
        context = f"{filler}house {word} es {'car' if i % 4 else 'casa'}"
        questions.append(Question(str(i), "house?", context, [(word, context.index(word))]))
    dataset = encode_questions(questions, tokenizer, max_length=24, stride=8)
    assert len(dataset) > len(questions)
    trainer = build("question-answering", dataset, 150)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.predict(dataset)
    assert after.metrics["test_exact_match"] == 100 and after.metrics["test_loss"] < before["eval_loss"] / 3
    assert dict(after.predictions.tolist()) == {each.id: each.answers[0][0] for each in questions}


@pytest.mark.parametrize("task", ["text-generation", "fill-mask"])
def test_language_models(build, tokenizer, task):
    texts = ["the house is red", "the red car is new", "el coche rojo es nuevo", "la casa es roja"] * 30
    dataset = encode_blocks(texts, tokenizer, 32, drop_short=False)
    trainer = build(task, dataset, 150)
    before = trainer.evaluate()
    assert before["eval_loss"] == pytest.approx(math.log(len(tokenizer)), rel=0.3)
    assert trainer.evaluate()["eval_loss"] == before["eval_loss"]  # the same masks
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < before["eval_loss"] / 2
    assert after["eval_perplexity"] == pytest.approx(math.exp(after["eval_loss"]))


def test_masks_are_bert_s(build, tokenizer):
    texts = ["the house is red and the red car is new"] * 400
    dataset = encode_blocks(texts, tokenizer, 64)
    trainer = build("fill-mask", dataset, 1)
    rows = list(dataset)
    collate = trainer.objective.collate_training
    batch = collate(rows, 0)
    original = torch.tensor(dataset["input_ids"])
    chosen = batch["labels"] != -100
    assert torch.equal(batch["labels"][chosen], original[chosen])
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (batch["input_ids"][~chosen] == original[~chosen]).all()
    masked = (batch["input_ids"] == tokenizer.mask_token_id)[chosen].float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.03)
    kept = (batch["input_ids"] == original)[chosen].float().mean().item()
    assert kept == pytest.approx(0.1, abs=0.03) and 1 - masked - kept == pytest.approx(0.1, abs=0.03)
    # Drawn anew in each epoch, and the same whatever else is in the batch, and whatever was drawn before.
    assert torch.equal(collate(rows[5:9], 0)["labels"], batch["labels"][5:9])
    evaluated = trainer.objective.collate(rows)["labels"]
    assert not torch.equal(collate(rows, 1)["labels"], batch["labels"])
    assert torch.equal(trainer.objective.collate(rows[2:])["labels"], evaluated[2:])
    assert not torch.equal(evaluated, batch["labels"])
    special = original == 2
    assert not chosen[special].any()


def test_augmented_pairs_are_put_into_batches_by_the_length_that_an_epoch_gives_them(model, tokenizer, tmp_path):
    pairs = [("the house is red", "la casa es roja"), ("the red car is new", "el coche rojo es nuevo")] * 100
    dataset = encode(ParallelText.from_pairs(pairs), tokenizer)
    shares = {**DEFAULT_SHARES, "copies": 0.3}
    args = make_training_arguments(output_dir=str(tmp_path), run_on="cpu", tokens_per_step=400, augmentation=shares)
    trainer = make_trainer("translation", model, args, tokenizer, dataset)
    sampler, plain = trainer.train_sampler, max(dataset["source_length"])
    fixed = TokenBudgetBatchSampler(dataset["source_length"], dataset["target_length"], 400)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        lengths = trainer.objective.measure_epoch(dataset, epoch)
        assert lengths[0].max() > 2 * plain
        assert len(list(sampler)) == sampler.steps
        for batch in sampler:
            collated = trainer.collate_share([dataset[row] for row in batch])
            assert collated["attention_mask"].sum(dim=1).tolist() == lengths[0][batch].tolist()
            assert (collated["labels"] != -100).sum(dim=1).tolist() == lengths[1][batch].tolist()
            assert max(collated["labels"].numel(), collated["input_ids"].numel()) <= 1.1 * 400
        padded, padded_by_plain_lengths = (
            sum(len(batch) * lengths[0][batch].max() for batch in each) for each in (sampler, fixed)
        )
        assert padded < padded_by_plain_lengths / 2


SENTENCES = ["the house is red", "the red car is new", "red", "el coche rojo es nuevo", "la casa es roja"]


@pytest.mark.parametrize(
    ("task", "encode_sentences"),
    [
        (
            "translation",
            lambda tokenizer: encode(ParallelText.from_pairs(zip(SENTENCES, SENTENCES[::-1], strict=True)), tokenizer),
        ),
        (
            "text-generation",
            lambda tokenizer: encode_blocks(SENTENCES * 4, tokenizer, 16, drop_short=False),
        ),
        (
            "fill-mask",
            lambda tokenizer: encode_blocks(SENTENCES * 4, tokenizer, 32, drop_short=False),
        ),
        (
            "text-classification",
            lambda tokenizer: encode_labelled(
                LabelledText([(each,) for each in SENTENCES], [*"01010"], [*range(5)], "here", "line"),
                ["0", "1"],
                tokenizer,
                50,
            ),
        ),
        (
            "question-answering",
            lambda tokenizer: encode_questions(
                [Question(each, "which?", each, [(each[:3], 0)]) for each in SENTENCES], tokenizer, 24, 8
            ),
        ),
    ],
)
def test_a_batch_without_sentences_changes_no_loss(build, tokenizer, task, encode_sentences):
    """Steps of some of the sentences, as one batch each, and as a batch for each sentence that there is."""
    dataset = encode_sentences(tokenizer)
    runs = []
    for batches_per_step in (1, len(dataset)):
        tokens = 3 * max(*dataset["source_length"], *dataset["target_length"])
        trainer = build(task, dataset, 4, batches_per_step, tokens)
        trainer.train()
        assert ([] in list(trainer.train_sampler)) == (batches_per_step > 1)
        runs.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(runs[0]) == 4 and runs[0] == pytest.approx(runs[1], abs=1e-5)

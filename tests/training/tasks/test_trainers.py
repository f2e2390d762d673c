"""Each task learns a text that it can learn, and measures it right."""

import math

import numpy as np
import pytest
import torch

from training.arguments import TrainingArguments
from training.data import ParallelText
from training.encoding import encode
from training.tasks.classification import ClassificationTrainer, LabelledText, encode_labelled
from training.tasks.language_modeling import (
    CausalLanguageModelingTrainer,
    MaskedLanguageModelingTrainer,
    encode_blocks,
)
from training.tasks.question_answering import Question, QuestionAnsweringTrainer, encode_questions
from training.tasks.translation import TranslationTrainer
from vanilla_transformer import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForQuestionAnswering,
    VanillaTransformerForSequenceClassification,
)


@pytest.fixture
def build(tmp_path, small_config, tokenizer):
    def make(trainer_class, model_class, dataset, steps, batches_per_step=1, **changes):
        torch.manual_seed(0)
        changes = {"vocab_size": len(tokenizer), "dropout": 0.0, "encoder_layers": 1, "decoder_layers": 1, **changes}
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "run"),
            run_on="cpu",
            tokens_per_step=600,
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
        model = model_class(small_config(**changes))
        return trainer_class(model, arguments, processing_class=tokenizer, train_dataset=dataset, eval_dataset=dataset)

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
    trainer = build(ClassificationTrainer, VanillaTransformerForSequenceClassification, dataset, 40, num_labels=2)
    before = trainer.predict(dataset)
    expected = torch.nn.functional.cross_entropy(
        trainer.model.eval()(**trainer.collate(list(dataset))).logits, torch.tensor(dataset["labels"])
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
    trainer = build(ClassificationTrainer, VanillaTransformerForSequenceClassification, None, 1, num_labels=2)
    trainer.model.train()
    parts = rows[:1], rows[1:]
    count = trainer._get_num_items_in_batch([trainer.collate_training(part) for part in parts], trainer.args.device)
    shares = [trainer.compute_loss(trainer.model, trainer.collate(part), num_items_in_batch=count) for part in parts]
    torch.testing.assert_close(sum(shares), trainer.model(**trainer.collate(rows)).loss)


def test_question_answering(build, tokenizer):
    """Which word comes after the one that is asked for; half of the answers stand in a second window."""
    questions = []
    for i, word in enumerate(["red", "new", "roja", "nuevo"] * 6):
        filler = "the car " * (12 if i % 2 else 1)
        context = f"{filler}house {word} es {'car' if i % 4 else 'casa'}"
        questions.append(Question(str(i), "house?", context, [(word, context.index(word))]))
    dataset = encode_questions(questions, tokenizer, max_length=24, stride=8)
    assert len(dataset) > len(questions)
    trainer = build(QuestionAnsweringTrainer, VanillaTransformerForQuestionAnswering, dataset, 150)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.predict(dataset)
    assert after.metrics["test_exact_match"] == 100 and after.metrics["test_loss"] < before["eval_loss"] / 3
    assert dict(after.predictions.tolist()) == {each.id: each.answers[0][0] for each in questions}


@pytest.mark.parametrize(
    ("trainer_class", "model_class"),
    [
        (CausalLanguageModelingTrainer, VanillaTransformerForCausalLM),
        (MaskedLanguageModelingTrainer, VanillaTransformerForMaskedLM),
    ],
)
def test_language_models(build, tokenizer, trainer_class, model_class):
    texts = ["the house is red", "the red car is new", "el coche rojo es nuevo", "la casa es roja"] * 30
    dataset = encode_blocks(texts, tokenizer, 32, drop_short=False)
    trainer = build(trainer_class, model_class, dataset, 150)
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
    trainer = build(MaskedLanguageModelingTrainer, VanillaTransformerForMaskedLM, dataset, 1)
    rows = list(dataset)
    batch = trainer.collate_training(rows)
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
    assert torch.equal(trainer.collate_training(rows[5:9])["labels"], batch["labels"][5:9])
    evaluated = trainer.collate(rows)["labels"]
    trainer.train_sampler = trainer.make_train_sampler()
    trainer.train_sampler.set_epoch(1)
    assert not torch.equal(trainer.collate_training(rows)["labels"], batch["labels"])
    assert torch.equal(trainer.collate(rows[2:])["labels"], evaluated[2:])
    assert not torch.equal(evaluated, batch["labels"])
    special = original == 2
    assert not chosen[special].any()


SENTENCES = ["the house is red", "the red car is new", "red", "el coche rojo es nuevo", "la casa es roja"]


@pytest.mark.parametrize(
    ("trainer_class", "model_class", "encode_sentences"),
    [
        (
            TranslationTrainer,
            VanillaTransformerForConditionalGeneration,
            lambda tokenizer: encode(ParallelText.from_pairs(zip(SENTENCES, SENTENCES[::-1], strict=True)), tokenizer),
        ),
        (
            CausalLanguageModelingTrainer,
            VanillaTransformerForCausalLM,
            lambda tokenizer: encode_blocks(SENTENCES * 4, tokenizer, 16, drop_short=False),
        ),
        (
            MaskedLanguageModelingTrainer,
            VanillaTransformerForMaskedLM,
            lambda tokenizer: encode_blocks(SENTENCES * 4, tokenizer, 32, drop_short=False),
        ),
        (
            ClassificationTrainer,
            VanillaTransformerForSequenceClassification,
            lambda tokenizer: encode_labelled(
                LabelledText([(each,) for each in SENTENCES], [*"01010"], [*range(5)], "here", "line"),
                ["0", "1"],
                tokenizer,
                50,
            ),
        ),
        (
            QuestionAnsweringTrainer,
            VanillaTransformerForQuestionAnswering,
            lambda tokenizer: encode_questions(
                [Question(each, "which?", each, [(each[:3], 0)]) for each in SENTENCES], tokenizer, 24, 8
            ),
        ),
    ],
)
def test_a_batch_without_sentences_changes_no_loss(build, tokenizer, trainer_class, model_class, encode_sentences):
    """Steps of some of the sentences, as one batch each, and as a batch for each sentence that there is."""
    dataset = encode_sentences(tokenizer)
    runs = []
    for batches_per_step in (1, len(dataset)):
        trainer = build(trainer_class, model_class, dataset, 4, batches_per_step)
        trainer.args.tokens_per_step = 3 * max(*dataset["source_length"], *dataset["target_length"])
        trainer.train()
        assert ([] in list(trainer.train_sampler)) == (batches_per_step > 1)
        runs.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(runs[0]) == 4 and runs[0] == pytest.approx(runs[1], abs=1e-5)

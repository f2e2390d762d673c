"""Translation, of parallel text."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import torch
from transformers import DataCollatorForSeq2Seq

from training.alignment import check_alignment
from training.arguments import RecipeError, TrainingArguments
from training.batching import longest_sentence
from training.cleaning import LanguageEvidence, check_direction, clean, hold_out, report_lengths, report_swapped
from training.data import ParallelText, load_split, read_two_files
from training.encoding import encode, within
from training.everyday import Everyday
from training.languages import compare_languages
from training.metrics.language_modeling import perplexity
from training.metrics.translation import bleu, check_compounds, score_translations
from training.processes import first_process
from training.regularization import BpeDropout
from training.robustness import measure
from training.tasks.task import Task, choose_short
from training.trainer import VanillaTransformerTrainer
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.kernels_vanilla_transformer import IGNORED_LABEL
from vanilla_transformer.pipeline_vanilla_transformer import (
    VanillaTransformerTranslationPipeline,
    into_sentences,
)

TYPED = 500  # pairs, at most, that are scored as people type them
LOOKED_AT = 2_000  # sources, at most, in which sentences are counted
SINGLE = 0.95  # of them that are one sentence: the model then knows single sentences only


class TranslationTrainer(VanillaTransformerTrainer):
    """
    Train and evaluate a translation model on data sets that `training.encoding.encode` made.

    Args:
        As for `VanillaTransformerTrainer`.

    Attributes:
        decode, num_beams: first what `predict_with_generate` and `generation_num_beams` say; beams are the model's own
            if `None`.
        everyday: what shows training pairs as people type them, if the recipe asks for it.
        language: code of the target language, if it is known.
        bleu_signature: of the last evaluation.
    """

    language: str | None = None

    def __init__(self, model: Any, args: TrainingArguments, processing_class: Any = None, **kwargs: Any):
        self.collator = DataCollatorForSeq2Seq(processing_class, label_pad_token_id=IGNORED_LABEL)
        self.decode, self.num_beams = args.predict_with_generate, args.generation_num_beams
        self.bleu_signature: str | None = None
        super().__init__(model, args, processing_class=processing_class, **kwargs)
        # Before workers begin, which would each look for the words of the text.
        self.everyday: Everyday | None = None
        if args.augmentation_shares and self.train_dataset is not None:
            pairs = list(zip(self.train_dataset["source"], self.train_dataset["target"], strict=True))
            seed = args.data_seed if args.data_seed is not None else args.seed
            self.everyday = Everyday(pairs, args.augmentation_shares, seed)

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad pairs to tensors: input_ids and attention_mask (B, S), labels (B, T) with -100 for padding."""
        return self.collator([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])

    @functools.cached_property
    def segment(self) -> BpeDropout:
        """What segments training pairs anew."""
        return BpeDropout(self.processing_class, self.args.bpe_dropout, self.longest)

    def change(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of the training text as this epoch shows them, with the ids of that."""
        assert self.everyday is not None
        epoch = 0 if self.train_sampler is None else self.train_sampler.epoch
        pairs = [self.everyday(row["source"], row["target"], row["row"], epoch) for row in rows]
        changed = [i for i, row in enumerate(rows) if pairs[i] != (row["source"], row["target"])]
        if not changed:
            return rows
        ids = [
            self.processing_class([pairs[i][side] for i in changed], split_special_tokens=True).input_ids
            for side in (0, 1)
        ]
        rows = list(rows)
        for i, source, target in zip(changed, *ids, strict=True):
            if max(len(source), len(target)) <= self.longest:
                new = {"source": pairs[i].source, "target": pairs[i].target, "input_ids": source, "labels": target}
                rows[i] = {**rows[i], **new}
        return rows

    @property
    def longest(self) -> int:
        """Tokens that a side of a training pair may have."""
        return min(longest_sentence(self.args), self.model.config.position_limit or sys.maxsize)

    def collate_training(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if self.everyday is not None:
            rows = self.change(rows)
        if self.args.bpe_dropout:
            sources = self.segment([row["source"] for row in rows], [row["input_ids"] for row in rows])
            targets = self.segment([row["target"] for row in rows], [row["labels"] for row in rows])
            rows = [
                {**row, "input_ids": source, "labels": target}
                for row, source, target in zip(rows, sources, targets, strict=True)
            ]
        return super().collate_training(rows)

    def count_tokens(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return inputs["attention_mask"].sum() + (inputs["labels"] != IGNORED_LABEL).sum()

    def measure(self, model: Any, batch: dict[str, torch.Tensor], indices: list[int], dataset: Any) -> Any:
        """Summed log-loss, target tokens, and index, translation and reference of each pair, if it decodes."""
        count = int((batch["labels"] != IGNORED_LABEL).sum())
        log_loss = model(**batch).loss.item() * count
        if not self.decode:  # Trainer asks for the loss alone since it has no `compute_metrics`
            return log_loss, count, []
        beams = {} if self.num_beams is None else {"num_beams": self.num_beams}
        generated = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **beams)
        texts = self.processing_class.batch_decode(generated, skip_special_tokens=True)
        return log_loss, count, list(zip(indices, texts, dataset[indices]["target"], strict=True))

    def summarize(self, parts: list[Any], dataset: Any) -> tuple[dict[str, float], np.ndarray]:
        """
        Negative log-likelihood per target token (with `</s>`, without smoothing), its exponential, and BLEU of what
        `generate` makes of the sources. The predictions are texts.
        """
        loss = sum(log_loss for log_loss, _, _ in parts) / sum(count for _, count, _ in parts)
        metrics = {"loss": loss, "perplexity": perplexity(loss)}
        decoded = sorted(each for _, _, pairs in parts for each in pairs)
        texts = [text for _, text, _ in decoded]
        if self.decode:
            metrics |= self.score_texts(texts, [reference for _, _, reference in decoded])
        return metrics, np.array(texts, dtype=object)

    def score_texts(self, texts: list[str], references: list[str]) -> dict[str, float]:
        """Scores of decoded texts, in training."""
        score = bleu(texts, references, self.args.bleu_tokenize, target_lang=self.language)
        self.bleu_signature = score.signature
        return {"bleu": score.value}


class Translation(Task):
    name = "translation"
    model_class = VanillaTransformerForConditionalGeneration
    trainer_class = TranslationTrainer
    unit = "pairs"
    fields = frozenset(
        {
            *("source", "target", "validation_source", "validation_target", "test_source", "test_target"),
            *("source_column", "target_column", "corpus", "target_lang", "example"),
            *("hold_out", "check_alignment", "drop_duplicates", "max_length_ratio"),
            *("label_smoothing", "augmentation", "bpe_dropout"),
            *("predict_with_generate", "generation_num_beams", "length_penalty", "length_penalty_type"),
            *("bleu_tokenize", "compound_bleu", "bootstrap_samples"),
            *("hub_native_model_id", "preprocessing_num_workers"),
        }
    )

    def make_trainer(self, **arguments: Any) -> TranslationTrainer:
        trainer = TranslationTrainer(**arguments)
        trainer.language = self.data.target_lang
        return trainer

    def load_texts(self) -> dict[str, ParallelText]:
        if self.args.compound_bleu:
            try:
                check_compounds(self.data.target_lang)
            except ValueError as error:
                raise RecipeError(str(error)) from error
        return super().load_texts()

    def no_training_text(self) -> str:
        return "No training text. Name `source` and `target`, or `train_file`, or `dataset_name`, or `corpus`."

    def no_validation_text(self) -> str:
        return (
            "Name some, for instance with `validation_source` and `validation_target`, or set `hold_out` to hold out "
            "a part of the training text."
        )

    def read(self, split: str) -> ParallelText | None:
        text = load_split(self.data, split)
        return None if text is None else self.check_and_clean(text, split)

    def read_test_set(self, name: str, files: tuple[str, ...]) -> ParallelText:
        if len(files) != 2:
            raise RecipeError(
                f"`test_sets` has {len(files)} file under {name!r}. Name two: {{{name}: [SOURCE, TARGET]}}."
            )
        return self.check_and_clean(read_two_files(*files), name)

    def check_and_clean(self, text: ParallelText, split: str) -> ParallelText:
        """Refuse sides that do not belong together, line by line, before lines are left out."""
        if self.data.check_alignment:
            self.notes += check_alignment(text, split)
        return clean(text, self.data, split)

    def arrange(self, texts: dict[str, ParallelText]) -> dict[str, ParallelText]:
        """Refuse swapped languages, and hold a part out of training where the recipe asks for it."""
        self.check_languages(texts)
        if "validation" not in texts and self.data.hold_out:
            train, validation = hold_out(texts.pop("train"), self.data.hold_out)
            texts = {"train": train, "validation": validation, **texts}
        return texts

    def check_languages(self, texts: dict[str, ParallelText]) -> None:
        self.notes += compare_languages(texts["train"], self.data.source_lang, self.data.target_lang)
        evidence = LanguageEvidence(texts["train"]) if len(texts) > 1 else None
        for split, text in texts.items():
            if evidence is not None and split != "train":
                check_direction(evidence, text, split)

    def report(self, text: ParallelText) -> str:
        return f"{report_lengths(text)}\n{report_swapped(text)}"

    def lines(self, text: ParallelText) -> list[str]:
        """Both sides, for a joint vocabulary (§5.1); with other letter case where the recipe asks for it."""
        if self.args.augmentation_shares:
            everyday = Everyday([], {**self.args.augmentation_shares, "copies": 0, "no_stop": 0}, self.args.seed)
            pairs = [everyday(*pair, epoch=0) for pair in zip(text.sources, text.targets, text.rows, strict=True)]
            return [side for pair in pairs for side in pair]
        return [*text.sources, *text.targets]

    def adapt_settings(self, settings: Any, text: ParallelText) -> None:
        """Write into generation settings what the model learns of single sentences, of letter case and of copying."""
        shown = text.sources[:: 1 + len(text) // LOOKED_AT]
        settings.split_sentences = sum(len(into_sentences(line)) == 1 for line in shown) >= SINGLE * len(shown)
        for name, share in (("protect_copies", "copies"), ("restore_case", "lower")):
            known = getattr(settings, name, False)  # by the model that training starts from
            setattr(settings, name, known or self.args.augmentation_shares.get(share, 0) > 0)

    def example(self, text: ParallelText, dataset: datasets.Dataset) -> str:
        return self.data.example or str(dataset[choose_short(dataset)]["source"])

    def encode_texts(
        self,
        texts: dict[str, ParallelText],
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        say: Callable[..., None],
    ) -> dict[str, datasets.Dataset]:
        """
        Every text with its token ids, and training text without pairs that are too long.

        Raises:
            RecipeError: if no training pair is short enough, or a text to score has a pair past the last learned
                position.
        """
        with self.args.main_process_first(desc="encoding"):
            workers = self.data.preprocessing_num_workers
            encoded = {split: encode(text, tokenizer, f"Encoding {split}", workers) for split, text in texts.items()}
        longest, cause = longest_sentence(self.args), "Raise `tokens_per_step` or `tokens_per_device`"
        for limit, name in ((config.position_limit, "max_position_embeddings"), (self.data.max_length, "max_length")):
            if limit is not None and limit < longest:
                longest, cause = limit, f"Raise `{name}`"
        for split, dataset in encoded.items():
            short = within(dataset, longest if split == "train" else config.position_limit or sys.maxsize)
            too_long = len(dataset) - len(short)
            if too_long and split != "train":
                raise RecipeError(
                    f"{too_long:,} pairs of the {split} text are longer than the {config.position_limit:,} positions "
                    "of the model. Raise `max_position_embeddings`, or leave them out."
                )
            if too_long:
                say(f"{split}: {too_long:,} pairs longer than {longest:,} tokens left out")
            if not len(short):
                raise RecipeError(f"Every pair of the {split} text is longer than {longest:,} tokens. {cause}.")
            encoded[split] = short
        return encoded

    def score(self, trainer: VanillaTransformerTrainer, dataset: datasets.Dataset, split: str) -> dict[str, Any]:
        """NLL, perplexity and every score of translations as the saved model makes them, with their signatures."""
        assert isinstance(trainer, TranslationTrainer)
        trainer.decode, trainer.num_beams = True, None
        output = trainer.predict(dataset, metric_key_prefix=split)
        trainer.decode, trainer.num_beams = self.args.predict_with_generate, self.args.generation_num_beams
        results = {name: output.metrics[name] for name in (f"{split}_loss", f"{split}_perplexity")}
        return results | self.final_scores(output, dataset["target"], split)

    def everyday_scores(
        self, trainer: VanillaTransformerTrainer, encoded: dict[str, datasets.Dataset]
    ) -> dict[str, Any]:
        """What `training.robustness` measures of some pairs of the test text, or else of the validation text."""
        split = next((name for name in ("test", "validation") if name in encoded), None)
        if not self.args.augmentation_shares or split is None:
            return {}

        def measure_here() -> list[dict[str, Any]]:
            model = trainer.accelerator.unwrap_model(trainer.model)
            translator = VanillaTransformerTranslationPipeline(
                model=model, tokenizer=trainer.processing_class, device=self.args.device
            )
            dataset = encoded[split].select(range(0, len(encoded[split]), 1 + len(encoded[split]) // TYPED))
            pairs = ParallelText.from_pairs(zip(dataset["source"], dataset["target"], strict=True))
            return [dataclasses.asdict(row) for row in measure(translator, pairs, self.data.target_lang)]

        return {"robustness": first_process(self.args, measure_here)}

    def final_scores(self, output: Any, references: list[str], split: str) -> dict[str, Any]:
        """Scores of the translations of a text, after training."""
        results: dict[str, Any] = {}
        scores = score_translations(
            list(output.predictions),
            list(references),
            self.data.target_lang,
            self.args.bleu_tokenize,
            self.args.compound_bleu,
            self.args.bootstrap_samples,
        )
        for key, score in scores.items():
            results |= {f"{split}_{key}": score.value, f"{key}_signature": score.signature}
            if score.margin is not None:
                results[f"{split}_{key}_margin"] = score.margin
        return results

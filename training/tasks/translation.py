"""Translation, of parallel text."""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import datasets
import numpy as np
import torch
from transformers import DataCollatorForSeq2Seq, GenerationConfig, PreTrainedModel

from training.data.batching import longest_sentence
from training.data.bpe_dropout import BpeDropout
from training.data.cache import name_content
from training.data.cleaning import LanguageEvidence, check_direction, clean, report_lengths, report_swapped
from training.data.corpus import check_and_clean, hold_out_once, load_clean
from training.data.encoding import encode, lengths, within
from training.data.everyday import COUNTED_PAIRS, WORD, Everyday
from training.data.languages import compare_languages
from training.data.parallel import ParallelText
from training.data.replay import draw, read_old_pairs, read_old_sources
from training.data.texts import holds_both_sides, read_one_file, read_two_files
from training.engine.evaluate import Evaluator
from training.engine.objective import Batch, Generation, Objective, Row
from training.engine.task import Task, choose_evenly, choose_short, describe_sample
from training.log import logger
from training.metrics.language_modeling import perplexity
from training.metrics.translation import bleu, bleu_metric, check_compounds, check_samples, score_translations
from training.recipe.fields import TrainingFields
from training.tasks.robustness import measure
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.configuration_vanilla_transformer import IGNORED_LABEL
from vanilla_transformer.errors import RecipeError
from vanilla_transformer.pipeline_vanilla_transformer import (
    VanillaTransformerTranslationPipeline,
    into_sentences,
    letter_case,
)
from vanilla_transformer.scores import Robustness, Score, SplitScores

TYPED = 500  # pairs, at most, that are scored as people type them
MEASURED_ROWS = 10_000  # of the training text, in memory at once
LOOKED_AT = 2_000  # sources, at most, in which sentences are counted
SINGLE = 0.95  # of them that are one sentence: the model then knows single sentences only
CAPITALS = 0.2  # of the words within them: more have a capital where nouns have one, as in German


class PairRow(Row):
    source: str
    target: str
    labels: list[int]


# Of a batch: summed log-loss, target tokens, and index and translation of each pair, if it is decoded.
Measured = tuple[float, int, list[tuple[int, str]]]


class TranslationObjective(Objective[PairRow, Measured]):
    """
    Learn and measure translation on data sets that `training.data.encoding.encode` made.

    Args:
        tokenizer: of the model.
        training: the recipe's fields.
        longest: tokens that a side of a training pair may have.
        language: code of the target language, if it is known.
        dataset: the training text, for augmentation.

    Attributes:
        everyday: what shows training pairs as people type them, if the recipe asks for it.
    """

    decodes = True

    def __init__(
        self,
        tokenizer: VanillaTransformerTokenizer,
        training: TrainingFields,
        longest: int,
        language: str | None = None,
        dataset: datasets.Dataset | None = None,
    ):
        self.tokenizer, self.training, self.longest, self.language = tokenizer, training, longest, language
        # Before workers begin, which would each look for the words of the text.
        self.everyday: Everyday | None = None
        if training.augmentation_shares and dataset is not None:
            shown = dataset.select(range(0, len(dataset), 1 + len(dataset) // COUNTED_PAIRS))
            pairs = list(ParallelText(shown))
            self.everyday = Everyday(pairs, training.augmentation_shares, training.data_order_seed)
        self.collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED_LABEL)

    def collate(self, rows: list[PairRow]) -> Batch:
        """Pad pairs to tensors: input_ids and attention_mask (B, S), labels (B, T) with -100 for padding."""
        batch: Batch = self.collator([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])
        return batch

    @functools.cached_property
    def segment(self) -> BpeDropout:
        """Return the collator that segments training pairs anew."""
        return BpeDropout(self.tokenizer, self.training.bpe_dropout, self.longest)

    def find_changes(self, rows: list[PairRow], epoch: int) -> dict[int, PairRow]:
        """Return those rows that an epoch shows in other words, with the ids of these, by their place among `rows`."""
        assert self.everyday is not None
        pairs = [self.everyday(row["source"], row["target"], row["row"], epoch) for row in rows]
        changed = [i for i, row in enumerate(rows) if pairs[i] != (row["source"], row["target"])]
        if not changed:
            return {}
        sources, targets = ([pairs[i][side] for i in changed] for side in (0, 1))
        ids = (
            self.tokenizer(sources, split_special_tokens=True).input_ids,
            self.tokenizer(text_target=targets, split_special_tokens=True).input_ids,
        )
        return {
            i: {**rows[i], "source": pairs[i].source, "target": pairs[i].target, "input_ids": source, "labels": target}
            for i, source, target in zip(changed, *ids, strict=True)
            if max(len(source), len(target)) <= self.longest
        }

    def shows_other_text(self) -> bool:
        return self.everyday is not None

    def measure_epoch(self, dataset: datasets.Dataset, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        sources, targets = lengths(dataset)
        text = dataset.select_columns(["source", "target", "row"])
        for start in range(0, len(text), MEASURED_ROWS):
            rows = text.select(range(start, min(start + MEASURED_ROWS, len(text)))).to_list()
            for i, new in self.find_changes(rows, epoch).items():
                sources[start + i], targets[start + i] = len(new["input_ids"]), len(new["labels"])
        return sources, targets

    def collate_training(self, rows: list[PairRow], epoch: int) -> Batch:
        if self.everyday is not None:
            changes = self.find_changes(rows, epoch)
            rows = [changes.get(i, row) for i, row in enumerate(rows)]
        if self.training.bpe_dropout:
            sources = self.segment([row["source"] for row in rows], [row["input_ids"] for row in rows])
            targets = self.segment([row["target"] for row in rows], [row["labels"] for row in rows])
            rows = [
                {**row, "input_ids": source, "labels": target}
                for row, source, target in zip(rows, sources, targets, strict=True)
            ]
        return self.collate(rows)

    def count_tokens(self, inputs: Batch) -> torch.Tensor:
        return inputs["attention_mask"].sum() + (inputs["labels"] != IGNORED_LABEL).sum()

    def measure(
        self, model: PreTrainedModel, batch: Batch, indices: list[int], generation: Generation | None
    ) -> Measured:
        """Return summed log-loss, target tokens, and index and translation of each pair, if it decodes."""
        count = int((batch["labels"] != IGNORED_LABEL).sum())
        log_loss = model(**batch).loss.item() * count
        if generation is None:
            return log_loss, count, []
        generated = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **generation)
        texts = self.tokenizer.batch_decode(generated, skip_special_tokens=True)
        return log_loss, count, list(zip(indices, texts, strict=True))

    def summarize(self, parts: list[Measured], dataset: datasets.Dataset) -> tuple[dict[str, float], np.ndarray]:
        """
        Return the negative log-likelihood per target token (with `</s>`, without smoothing), its exponential, and
        scores of what `generate` makes of the sources. The predictions are texts.
        """
        loss = sum(log_loss for log_loss, _, _ in parts) / sum(count for _, count, _ in parts)
        metrics = {"loss": loss, "perplexity": perplexity(loss)}
        texts = [text for _, text in sorted(each for _, _, decoded in parts for each in decoded)]
        if texts:
            metrics |= self.score_texts(texts, list(dataset["target"]))
        return metrics, np.array(texts, dtype=object)

    def score_texts(self, texts: list[str], references: list[str]) -> dict[str, float]:
        """Return the scores of decoded texts in training."""
        score = self.bleu(texts, references)
        return {"bleu": score.value, **{f"bleu_{name}": value for name, value in score.lengths.items()}}

    def bleu(self, texts: list[str], references: list[str]) -> Score:
        return bleu(texts, references, self.training.bleu_tokenize, target_lang=self.language)


class Translation(Task[ParallelText]):
    objective_class: ClassVar[type[TranslationObjective]] = TranslationObjective

    name = "translation"
    model_class = VanillaTransformerForConditionalGeneration
    unit = "pairs"

    @property
    def language(self) -> str | None:
        """The code of the language of what comes out, if it is known."""
        return self.data.target_lang

    def make_objective(
        self,
        tokenizer: VanillaTransformerTokenizer,
        config: VanillaTransformerConfig,
        dataset: datasets.Dataset | None = None,
    ) -> TranslationObjective:
        longest = min(longest_sentence(self.training), config.position_limit or sys.maxsize)
        return self.objective_class(tokenizer, self.training, longest, self.language, dataset)

    def check_settings(self) -> None:
        if self.training.bleu_tokenize is not None:
            bleu_metric(self.training.bleu_tokenize, "`bleu_tokenize`")
        check_samples(self.training.bootstrap_samples, "`bootstrap_samples`")
        if self.training.compound_bleu:
            check_compounds(self.data.target_lang)

    def no_training_text(self) -> str:
        return "No training text. Name `source` and `target`, or `train_file`, or `dataset_name`, or `corpus`."

    def no_validation_text(self) -> str:
        return (
            "Name some, for instance with `validation_source` and `validation_target`, or set `hold_out` to hold out "
            "a part of the training text."
        )

    def read(self, split: str) -> ParallelText | None:
        prepared = load_clean(self.data, split)
        if prepared is None:
            return None
        text, notes = prepared
        self.notes += notes
        return text

    def read_test_set(self, name: str, files: tuple[str, ...]) -> ParallelText:
        if len(files) == 1 and holds_both_sides(files[0]):
            return self.check_and_clean(read_one_file(files[0], self.data), name)
        if len(files) != 2:
            raise RecipeError(
                f"`test_sets` must have two files under {name!r}, but has {len(files)}. Name two: "
                f"{{{name}: [SOURCE, TARGET]}}, or one with both sides: .jsonl, .csv, .tsv, .tmx or .xliff."
            )
        return self.check_and_clean(read_two_files(*files), name)

    def check_and_clean(self, text: ParallelText, split: str) -> ParallelText:
        """Refuse sides that do not belong together, and leave out what is of no use."""
        text, notes = check_and_clean(text, self.data, split)
        self.notes += notes
        return text

    def arrange(self, texts: dict[str, ParallelText]) -> dict[str, ParallelText]:
        """Refuse swapped languages, and hold a part out of training where the recipe asks for it."""
        self.check_languages(texts)
        if "validation" not in texts and self.data.corrections is not None:
            texts = {"train": texts["train"], "validation": texts["train"], **texts}
        if "validation" not in texts and self.data.hold_out:
            train, validation = hold_out_once(texts.pop("train"), self.data.hold_out)
            texts = {"train": train, "validation": validation, **texts}
        return texts

    def add_old_text(
        self, texts: dict[str, ParallelText], translate: Callable[[list[str]], list[str]]
    ) -> dict[str, ParallelText]:
        """Mix old pairs into the training text, or the model's own translations, and hold some out."""
        replay, train = self.data.replayed, texts["train"]
        if replay is None:
            return texts
        if replay.is_synthetic:
            lines = read_old_sources(replay)
            drawn = draw(len(lines), replay.count(len(train)), replay.hold_out, self.training.seed)
            chosen = [lines[i] for part in drawn for i in part]
            old = ParallelText.from_pairs(zip(chosen, translate(chosen), strict=True))
            drawn = list(range(len(drawn[0]))), list(range(len(drawn[0]), len(chosen)))
        else:
            old = read_old_pairs(replay, self.data)
            drawn = draw(len(old), replay.count(len(train)), replay.hold_out, self.training.seed)
        mixed, held = (clean(old.select(part), self.data, "replay") for part in drawn)
        share = len(mixed) / (len(mixed) + len(train))
        made = ", translated by the model itself" if replay.is_synthetic else ""
        logger.info(
            f"replay: {len(mixed):,} old pairs{made}, {share:.0%} of the training text, "
            f"and {len(held):,} for validation"
        )
        return {**texts, "train": train + mixed, "replay": held}

    def check_languages(self, texts: dict[str, ParallelText]) -> None:
        self.notes += compare_languages(texts["train"], self.data.source_lang, self.data.target_lang)
        evidence = LanguageEvidence(texts["train"]) if len(texts) > 1 else None
        for split, text in texts.items():
            if evidence is not None and split != "train":
                check_direction(evidence, text, split)

    def report(self, text: ParallelText) -> str:
        return f"{report_lengths(text)}\n{report_swapped(text)}"

    def lines(self, text: ParallelText) -> Iterable[str]:
        """Both sides, for a joint vocabulary (§5.1); with other letter case where the recipe asks for it."""
        if self.training.augmentation_shares:
            everyday = Everyday(
                [], {**self.training.augmentation_shares, "copies": 0, "no_stop": 0}, self.training.seed
            )
            rows = zip(text.sources, text.targets, text.rows, strict=True)
            return (side for row in rows for side in everyday(*row, epoch=0))
        return itertools.chain(text.sources, text.targets)

    def sample_lines(self, text: ParallelText, at_most: int | None) -> Iterable[str]:
        if at_most is None or len(text) <= at_most:
            return self.lines(text)
        logger.info(describe_sample(at_most, len(text), self.unit))
        is_chosen = np.zeros(len(text), dtype=bool)
        is_chosen[choose_evenly(len(text), at_most)] = True
        return self.lines(text.select(is_chosen))

    def name_lines(self, text: ParallelText) -> str | None:
        shares = self.training.augmentation_shares
        return text.key and name_content(text.key, *([shares, self.training.seed] if shares else []))

    def adapt_settings(self, settings: GenerationConfig, text: ParallelText) -> None:
        """Write into generation settings what the model learns of single sentences, of letter case and of copying."""
        shown = text.sources[:: 1 + len(text) // LOOKED_AT]
        single = sum(len(into_sentences(line)) == 1 for line in shown)
        settings.split_sentences = single >= SINGLE * len(shown)
        sentences = (sentence for line in shown for sentence, _ in into_sentences(line))
        words = [word for each in sentences if letter_case(each) is None for word in WORD.findall(each)[1:]]
        capitals = sum(word[0].isupper() and word.partition("'")[0] != "I" for word in words)
        settings.protect_names = capitals <= CAPITALS * len(words)
        for name, share in (("protect_copies", "copies"), ("restore_case", "lower")):
            known = getattr(settings, name, False)  # by the model that training starts from
            setattr(settings, name, known or self.training.augmentation_shares.get(share, 0) > 0)

    def example(self, text: ParallelText, dataset: datasets.Dataset) -> str:
        return self.data.example or str(dataset[choose_short(dataset)]["source"])

    def encode_texts(
        self,
        texts: dict[str, ParallelText],
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
    ) -> dict[str, datasets.Dataset]:
        """
        Every text with its token ids, and training text without pairs that are too long.

        Raises:
            RecipeError: if no training pair is short enough, or a text to score has a pair past the last learned
                position.
        """
        workers = self.data.preprocessing_num_workers
        encoded = {split: encode(text, tokenizer, f"Encoding {split}", workers) for split, text in texts.items()}
        longest, cause = longest_sentence(self.training), "Raise `tokens_per_step` or `tokens_per_device`"
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
                logger.info(f"{split}: {too_long:,} pairs longer than {longest:,} tokens left out")
            if not len(short):
                raise RecipeError(f"Every pair of the {split} text is longer than {longest:,} tokens. {cause}.")
            encoded[split] = short
        return encoded

    def score(self, evaluator: Evaluator, dataset: datasets.Dataset) -> SplitScores:
        """Measure NLL, perplexity and every score of translations as the saved model makes them."""
        evaluation = evaluator.evaluate(dataset, generation={}, in_full_precision=True)
        measured = SplitScores.from_metrics(evaluation.metrics, rows=len(dataset))
        final = self.final_scores(measured, list(evaluation.predictions), list(dataset["target"]))
        return dataclasses.replace(measured, scores={"perplexity": measured.scores["perplexity"], **final})

    def scores_in_training(self, logged: dict[str, float]) -> SplitScores:
        measured = super().scores_in_training(logged)
        if "bleu" not in measured.scores:
            return measured
        # Which does not depend on the lines.
        signature = bleu(["a"], ["a"], self.training.bleu_tokenize, target_lang=self.data.target_lang).signature
        signed = dataclasses.replace(measured.scores["bleu"], signature=signature)
        return dataclasses.replace(measured, scores={**measured.scores, "bleu": signed})

    def score_everyday_input(
        self, model: PreTrainedModel, tokenizer: VanillaTransformerTokenizer, encoded: dict[str, datasets.Dataset]
    ) -> tuple[Robustness, ...]:
        """Measure copies of some pairs of the test text, or else of the validation text."""
        split = next((name for name in ("test", "validation") if name in encoded), None)
        if not self.training.augmentation_shares or split is None:
            return ()
        translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device=model.device)
        dataset = encoded[split].select(range(0, len(encoded[split]), 1 + len(encoded[split]) // TYPED))
        pairs = ParallelText.from_pairs(zip(dataset["source"], dataset["target"], strict=True))
        return tuple(measure(translator, pairs, self.data.target_lang))

    def final_scores(
        self, measured: SplitScores, predictions: list[str], references: list[str]
    ) -> Mapping[str, Score]:
        """Scores of the translations of a text, after training."""
        return score_translations(
            predictions,
            references,
            self.data.target_lang,
            self.training.bleu_tokenize,
            self.training.compound_bleu,
            self.training.bootstrap_samples,
        )

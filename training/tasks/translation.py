"""Translation: pairs of sentences, and any other text into text, such as summaries."""

import functools
import sys
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorForSeq2Seq

from training.arguments import TrainingArguments
from training.batching import batch_budget
from training.metrics.language_modeling import perplexity
from training.metrics.translation import bleu
from training.regularization import BpeDropout, r_drop_loss
from training.trainer import VanillaTransformerTrainer
from vanilla_transformer.loss_vanilla_transformer import IGNORED_LABEL


class TranslationTrainer(VanillaTransformerTrainer):
    """
    Train and evaluate a translation model on data sets that `training.encoding.encode` made.

    Args:
        As for `VanillaTransformerTrainer`.

    Attributes:
        decode: whether `evaluate` also translates, for BLEU; first what `predict_with_generate` says.
        bleu_signature: of the last evaluation.
    """

    def __init__(self, model: Any, args: TrainingArguments, processing_class: Any = None, **kwargs: Any):
        self.collator = DataCollatorForSeq2Seq(processing_class, label_pad_token_id=IGNORED_LABEL)
        self.decode = args.predict_with_generate
        self.bleu_signature: str | None = None
        if args.r_drop_alpha:
            model.training_loss = functools.partial(r_drop_loss, alpha=args.r_drop_alpha)
        super().__init__(model, args, processing_class=processing_class, **kwargs)

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad pairs to tensors: input_ids and attention_mask (B, S), labels (B, T) with -100 for padding."""
        return self.collator([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])

    @functools.cached_property
    def segment(self) -> BpeDropout:
        """What segments training pairs anew."""
        longest = min(batch_budget(self.args), self.model.config.position_limit or sys.maxsize)
        return BpeDropout(self.processing_class, self.args.bpe_dropout, longest)

    def collate_training(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
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

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *arguments: Any, **kwargs: Any) -> Any:
        if self.args.r_drop_alpha and model.training:
            inputs = {name: torch.cat([tensor, tensor]) for name, tensor in inputs.items()}
        return super().compute_loss(model, inputs, *arguments, **kwargs)

    def measure(self, model: Any, batch: dict[str, torch.Tensor], indices: list[int], dataset: Any) -> Any:
        """Summed log-loss, target tokens, and index, translation and reference of each pair, if it decodes."""
        count = int((batch["labels"] != IGNORED_LABEL).sum())
        log_loss = model(**batch).loss.item() * count
        if not self.decode:  # Trainer asks for the loss alone since it has no `compute_metrics`
            return log_loss, count, []
        beams = {} if self.args.generation_num_beams is None else {"num_beams": self.args.generation_num_beams}
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
            score = bleu(texts, [reference for _, _, reference in decoded], self.args.bleu_tokenize)
            self.bleu_signature = score.signature
            metrics["bleu"] = score.value
        return metrics, np.array(texts, dtype=object)

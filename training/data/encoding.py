"""Text to token ids: in parallel, kept on disk for the next run, with lengths for the batches."""

import hashlib
import os
import tempfile
from pathlib import Path

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from training.data.texts import ParallelText
from vanilla_transformer import VanillaTransformerTokenizer

# Below this, encoding takes less time than finding out that it is done.
CACHED_PAIRS = 10_000
# To be raised when `encode` makes something else of the same text.
ENCODING = 1


def encode(
    text: ParallelText,
    tokenizer: VanillaTransformerTokenizer,
    description: str = "Encoding",
    num_workers: int | None = None,
) -> datasets.Dataset:
    """
    Text with its token ids.

    Special tokens that stand in the text are read as text. `</s>` ends both sides. A large text is encoded once and
    found again in the cache of `datasets` as long as neither it nor the tokenizer changes.

    Args:
        num_workers: processes that share the work; as many as there are cores if absent.

    Returns:
        columns `source`, `target` (text), `row` (where the pair stands in what was read), `input_ids`, `labels` (ids),
        `source_length`, `target_length` (tokens).
    """

    def encode_batch(batch: dict[str, list[str]]) -> dict[str, list[int] | list[list[int]]]:
        source_ids = tokenizer(batch["source"], split_special_tokens=True).input_ids
        target_ids = tokenizer(text_target=batch["target"], split_special_tokens=True).input_ids
        return {
            "input_ids": source_ids,
            "labels": target_ids,
            "source_length": [len(ids) for ids in source_ids],
            "target_length": [len(ids) for ids in target_ids],
        }

    dataset = datasets.Dataset.from_dict({"source": text.sources, "target": text.targets, "row": text.rows})
    if len(text) < CACHED_PAIRS:
        return dataset.map(encode_batch, batched=True, desc=description)
    fingerprint = digest(text, tokenizer)
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "vanilla_transformer"
    folder.mkdir(parents=True, exist_ok=True)
    return dataset.map(
        encode_batch,
        batched=True,
        desc=description,
        num_proc=min(num_workers or available_cores(), len(text) // CACHED_PAIRS),
        cache_file_name=str(folder / f"{fingerprint}.arrow"),
        new_fingerprint=fingerprint,
        load_from_cache_file=True,
    )


def available_cores() -> int:
    """Cores that this process may use, where the system tells; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digest(text: ParallelText, tokenizer: VanillaTransformerTokenizer) -> str:
    """A name for a text as a tokenizer encodes it."""
    summary = hashlib.blake2b(f"{ENCODING}".encode(), digest_size=16)
    for part in describe_tokenizer(tokenizer):
        summary.update(part)
    for side in (text.sources, text.targets, map(str, text.rows)):
        for line in side:
            summary.update(line.encode())
            summary.update(b"\0")
    return summary.hexdigest()


def describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """All that a tokenizer encodes by: its file, or those of the one that an imported model keeps."""
    if hasattr(tokenizer, "backend_tokenizer"):
        return [tokenizer.backend_tokenizer.to_str().encode()]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return [file.read_bytes() for file in sorted(Path(folder).iterdir())]


def lengths(dataset: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each source and of each target, two arrays of shape (len(dataset),)."""
    arrays = dataset.select_columns(["source_length", "target_length"]).with_format("numpy")[:]
    return arrays["source_length"], arrays["target_length"]


def within(dataset: datasets.Dataset, max_tokens: int) -> datasets.Dataset:
    """The pairs of which neither side is longer than `max_tokens`."""
    source_lengths, target_lengths = lengths(dataset)
    kept = np.flatnonzero((source_lengths <= max_tokens) & (target_lengths <= max_tokens))
    return dataset if len(kept) == len(dataset) else dataset.select(kept)

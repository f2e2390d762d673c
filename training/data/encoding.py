"""Text to token ids: in parallel, kept on disk for the next run, with lengths for the batches."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from training.data.cache import digest_lines, keep, name_content
from training.data.parallel import BATCH, ParallelText, keep_rows, read_numbers
from vanilla_transformer import VanillaTransformerTokenizer

# Below this, encoding takes less time than finding out that it is done.
CACHED_PAIRS = 10_000
# Lines whose ids are objects of Python at once.
ENCODED_LINES = 1_000
ENCODED = "encoded"  # the beginning of the names of Arrow files


def encode(
    text: ParallelText,
    tokenizer: VanillaTransformerTokenizer,
    description: str = "Encoding",
    num_workers: int | None = None,
) -> datasets.Dataset:
    """
    Text with its token ids.

    Special tokens in the text are read as text. `</s>` ends both sides. A large text is encoded once and
    found again in the cache of `datasets` as long as neither it nor the tokenizer changes.

    Args:
        num_workers: processes that share the work; as many as there are cores if absent.

    Returns:
        columns `source`, `target` (text), `row` (where the pair is in what was read), `input_ids`, `labels` (ids),
        `source_length`, `target_length` (tokens), and `weight` where the text has it.
    """
    if len(text) < CACHED_PAIRS:
        table = make_encoder(tokenizer)(text.dataset.with_format("arrow")[:])
        return datasets.Dataset(table)

    def write(folder: Path) -> None:
        text.dataset.with_format("arrow").map(
            make_encoder(tokenizer),
            batched=True,
            batch_size=BATCH,
            writer_batch_size=BATCH,  # Arrow keeps a description of each in memory, where the file is mapped
            desc=description,
            num_proc=min(num_workers or available_cores(), len(text) // CACHED_PAIRS),
            cache_file_name=str(folder / f"{ENCODED}.arrow"),
            new_fingerprint=name,
        )

    def read(folder: Path) -> datasets.Dataset:
        files = sorted(folder.glob(f"{ENCODED}*.arrow"))
        found = datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])
        if len(found) != len(text):
            raise ValueError(f"{folder} has {len(found)} of {len(text)} pairs")
        return found

    key = text.key or digest_lines(text.sources, text.targets, map(str, text.rows))
    weights = read_numbers(text.dataset, "weight").tobytes() if text.key is None and has_weights(text.dataset) else b""
    name = f"encoded-{name_content(key, weights, *describe_tokenizer(tokenizer))}"
    return keep(name, write, read)


def make_encoder(tokenizer: VanillaTransformerTokenizer) -> Callable[[pa.Table], pa.Table]:
    """Gives pairs their ids and lengths, in a process of its own or in this one."""

    def encode_table(table: pa.Table) -> pa.Table:
        sides = (("source", "input_ids", "source_length"), ("target", "labels", "target_length"))
        kind = pa.list_(pa.int32())
        for side, name, _ in sides:
            some = (table[side][start : start + ENCODED_LINES] for start in range(0, len(table), ENCODED_LINES))
            ids = [pa.array(encode_lines(tokenizer, lines.to_pylist(), side == "target"), kind) for lines in some]
            table = table.append_column(name, pa.chunked_array(ids, kind))
        for _, name, length in sides:
            table = table.append_column(length, pc.list_value_length(table[name]))
        return table

    return encode_table


def encode_lines(tokenizer: PreTrainedTokenizerBase, lines: list[str], is_target: bool = False) -> list[list[int]]:
    """
    The ids of lines, with special tokens read as text; each ends with `</s>`.

    Our tokenizer's backend is called directly: through transformers the same takes twice as long. An imported
    tokenizer may tell sources from targets.
    """
    if type(tokenizer) is not VanillaTransformerTokenizer:
        sides = {"text_target": lines} if is_target else {"text": lines}
        found: list[list[int]] = tokenizer(**sides, split_special_tokens=True).input_ids
        return found
    backend = tokenizer.backend_tokenizer
    backend.no_padding()  # which a call may have left
    backend.no_truncation()
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(lines)]


def available_cores() -> int:
    """Cores that this process may use, where the system tells; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """All that a tokenizer encodes by: its file, or those of the one that an imported model keeps."""
    if hasattr(tokenizer, "backend_tokenizer"):
        return [tokenizer.backend_tokenizer.to_str().encode()]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return [file.read_bytes() for file in sorted(Path(folder).iterdir())]


def has_weights(dataset: datasets.Dataset) -> bool:
    """Return whether the pairs of a data set are shown different numbers of times."""
    return "weight" in dataset.column_names


def lengths(dataset: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each source and of each target, two arrays of int32 and of shape (len(dataset),)."""
    return read_numbers(dataset, "source_length"), read_numbers(dataset, "target_length")


def within(dataset: datasets.Dataset, max_tokens: int) -> datasets.Dataset:
    """The pairs of which neither side is longer than `max_tokens`."""
    source_lengths, target_lengths = lengths(dataset)
    fits = (source_lengths <= max_tokens) & (target_lengths <= max_tokens)
    if fits.all():
        return dataset
    return keep_rows(dataset, fits)

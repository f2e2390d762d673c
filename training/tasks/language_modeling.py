"""
Language models on plain text: masked ones, whose encoder sees both sides (BERT), and causal ones (GPT, LaMDA).

A line is a text; with a separator it is a dialogue of several turns, each of which gets a `</s>`. Texts are joined and
cut into blocks of equal length, so that nothing is padded and long texts are not lost.
"""

from collections.abc import Iterator

import datasets

from training.arguments import RecipeError
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.text import read_lines


def read_texts(path: str, turn_separator: str | None = None) -> list[list[str]]:
    """
    The turns of each line that is not blank; one for a line without a separator.

    Raises:
        TextError, RecipeError: as `read_lines`, and for an empty separator.
    """
    if turn_separator == "":
        raise RecipeError("`turn_separator` is empty. Give what stands between turns, such as '\\t', or leave it out.")
    texts = []
    for line in read_lines(path):
        turns = line.split(turn_separator) if turn_separator is not None else [line]
        turns = [turn.strip() for turn in turns if turn.strip()]
        if turns:
            texts.append(turns)
    return texts


def encode_blocks(
    texts: list[list[str]], tokenizer: VanillaTransformerTokenizer, block_size: int, drop_short: bool = True
) -> datasets.Dataset:
    """
    Texts one after the other, each turn with its `</s>`, cut into blocks of so many tokens.

    Args:
        drop_short: whether a last block that is shorter is left out, as in training, where all are of one length.

    Returns:
        columns `row` (position of the block), `input_ids`, `source_length`, `target_length`.

    Raises:
        RecipeError: if the texts do not fill a block.
    """
    blocks: list[list[int]] = []
    block: list[int] = []
    for ids in encode_turns(texts, tokenizer):
        block += ids
        while len(block) >= block_size:
            blocks.append(block[:block_size])
            block = block[block_size:]
    if len(block) > 1 and not (drop_short and blocks):
        blocks.append(block)
    if not blocks:
        raise RecipeError(f"The text has {len(block)} tokens, which make no block. Give more text.")
    lengths = [len(ids) for ids in blocks]
    return datasets.Dataset.from_dict(
        {"row": list(range(len(blocks))), "input_ids": blocks, "source_length": lengths, "target_length": lengths}
    )


def encode_turns(
    texts: list[list[str]], tokenizer: VanillaTransformerTokenizer, at_once: int = 1000
) -> Iterator[list[int]]:
    """The ids of each turn."""
    turns = [turn for text in texts for turn in text]
    for start in range(0, len(turns), at_once):
        yield from tokenizer(turns[start : start + at_once], split_special_tokens=True).input_ids

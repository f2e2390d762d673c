"""Token ids of many lines, word by word: most words of a line are known from the lines before it."""

import itertools
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from vanilla_transformer import VanillaTransformerTokenizer

KNOWN_WORDS = 200_000  # at most; of so many one process keeps about 60 MB


class WordEncoder:
    """
    Gives lines the ids that the tokenizer gives them, with special tokens read as text, faster where words repeat.

    The tokenizer parts a text before every single space, and encodes each part by itself: what a word becomes does not
    depend on the words beside it. Lines with other white space, and tokenizers of other kinds, are encoded as usual.

    Args:
        tokenizer: of a model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.knows_words = type(tokenizer) is VanillaTransformerTokenizer
        self.first: dict[str, list[int]] = {}  # words without and with the space before them
        self.following: dict[str, list[int]] = {}

    def __call__(self, lines: Sequence[str], is_target: bool = False) -> list[list[int]]:
        """The ids of lines, each with `</s>` at its end."""
        if not self.knows_words:
            sides = {"text_target": list(lines)} if is_target else {"text": list(lines)}
            encoded: list[list[int]] = self.tokenizer(**sides, split_special_tokens=True).input_ids
            return encoded
        parted = [part_words(line) for line in lines]
        self.learn(words for words in parted if words is not None)
        first, following, end = self.first, self.following, self.tokenizer.eos_token_id
        found: list[list[int]] = []
        for words in parted:
            if words is None:
                found.append([])
                continue
            ids = first[words[0]].copy()
            for word in words[1:]:
                ids += following[word]
            ids.append(end)
            found.append(ids)
        others = [i for i, words in enumerate(parted) if words is None]
        if others:
            encoded = self.tokenizer([lines[i] for i in others], split_special_tokens=True).input_ids
            for i, ids in zip(others, encoded, strict=True):
                found[i] = ids
        return found

    def learn(self, lines: Iterable[list[str]]) -> None:
        """Encode the words that are not known yet."""
        if len(self.first) + len(self.following) > KNOWN_WORDS:
            self.first.clear()
            self.following.clear()
        first, following = self.first, self.following
        starts: dict[str, None] = {}
        others: dict[str, None] = {}
        for words in lines:
            if words[0] not in first:
                starts[words[0]] = None
            for word in itertools.islice(words, 1, None):
                if word not in following:
                    others[word] = None
        new = [*starts, *(f" {word}" for word in others)]
        if not new:
            return
        encoded = self.tokenizer(new, split_special_tokens=True, add_special_tokens=False).input_ids
        first.update(zip(starts, encoded, strict=False))
        following.update(zip(others, encoded[len(starts) :], strict=True))


def part_words(line: str) -> list[str] | None:
    """The words of a line with single spaces between them and no other white space; `None` for another line."""
    words = line.split(" ")
    return words if words == line.split() else None

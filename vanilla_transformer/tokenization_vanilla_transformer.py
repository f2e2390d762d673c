# Copyright 2026 The vanilla_transformer authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Joint byte-pair encoding: one vocabulary for source and target (§5.1), lossless for any text."""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers.tokenization_utils_base import BatchEncoding
from transformers.tokenization_utils_tokenizers import TokenizersBackend
from transformers.utils import TensorType

# No character before U+0300 joins the one before it.
COMPOSABLE = re.compile(r"[\s\S][\u0300-\U0010ffff]+")
to_nfc = partial(unicodedata.normalize, "NFC")


# A text, or its words; a pair of texts, or a batch of any of these.
Texts = str | list["Texts"] | tuple["Texts", ...]


def add_spaces(words: Texts) -> Texts:
    """Return words, or a batch or a pair of them, with the space that is before each but the first in a text."""
    if not isinstance(words, (list, tuple)):
        return words
    return type(words)(f" {each}" if i and isinstance(each, str) else add_spaces(each) for i, each in enumerate(words))


def split_inputs(text: Texts, text_pair: Texts | None, is_split_into_words: bool) -> list[list[list[str]]]:
    """Return the one or two sequences of each row of a call, each as its words or as the one text that it is."""

    def is_sequence(value: Texts) -> bool:
        return all(isinstance(word, str) for word in value) if is_split_into_words else isinstance(value, str)

    if is_sequence(text):
        text, text_pair = [text], None if text_pair is None else [text_pair]
    if text_pair is None:
        rows: list[Any] = [(row,) if is_sequence(row) else row for row in text]
    else:
        rows = list(zip(text, text_pair, strict=True))
    return [[list(sequence) if is_split_into_words else [sequence] for sequence in row] for row in rows]


def composed_spans(text: str) -> list[tuple[int, int]]:
    """Return start and end of each run of several characters that NFC turns into others, as a letter and an accent."""
    spans = []
    for run in COMPOSABLE.finditer(text):
        starters = [i for i in range(run.start() + 1, run.end()) if not unicodedata.combining(text[i])]
        start = run.start()
        for end, following in pairwise((*starters, run.end(), run.end())):
            whole, rest = text[start:end], text[end:following]
            if to_nfc(whole + rest) == to_nfc(whole) + to_nfc(rest):  # else the next starter joins, as in Hangul
                if end - start > 1 and to_nfc(whole) != whole:
                    spans.append((start, end))
                start = end
    return spans


def map_offsets(text: str, is_spaced: bool) -> tuple[list[int], list[int]]:
    """
    Map the offsets that the backend gives, which count only the first of the characters that NFC composes.

    Args:
        text: a text, or a word of one.
        is_spaced: whether `add_spaces` put a space before it, which is not counted.

    Returns:
        for each position in `text`, where a token that starts there starts, and where one that ends there ends.
    """
    starts = [max(i - is_spaced, 0) for i in range(len(text) + 1)]
    ends = list(starts)
    for start, end in composed_spans(text):
        starts[start:end] = [starts[start]] * (end - start)
        ends[start + 1 : end + 1] = [ends[end]] * (end - start)
    return starts, ends


def align_offsets(encoding: Encoding, sequences: list[list[str]], is_split_into_words: bool) -> Encoding:
    """Return an encoding with the offsets in its sequences as they are given, before NFC and `add_spaces`."""
    maps = [[map_offsets(part, is_spaced=i > 0) for i, part in enumerate(parts)] for parts in sequences]
    state = json.loads(encoding.__getstate__())
    for window in (state, *state["overflowing"]):
        for sequence, tokens in window["sequence_ranges"].items():
            for i in range(tokens["start"], tokens["end"]):
                starts, ends = maps[int(sequence)][window["words"][i] if is_split_into_words else 0]
                start, end = window["offsets"][i]
                window["offsets"][i] = starts[start], ends[end]
    aligned = Encoding()  # the offsets of an encoding can be read and not written
    aligned.__setstate__(json.dumps(state).encode())
    return aligned


def replace_encodings(
    encoded: BatchEncoding, encodings: list[Encoding], return_tensors: str | TensorType | None
) -> BatchEncoding:
    """Return what was encoded with other encodings, and with their offsets where it has offsets."""
    replaced = BatchEncoding(dict(encoded), encodings)
    if "offset_mapping" in encoded:
        offsets = [each.offsets for each in encodings]
        is_one_text = return_tensors is None and encoded["offset_mapping"] == encoded[0].offsets
        mapping = {"offset_mapping": offsets[0] if is_one_text else offsets}
        replaced.update(BatchEncoding(mapping, tensor_type=return_tensors))
    return replaced


class VanillaTransformerTokenizer(TokenizersBackend):
    r"""
    Byte-pair encoding (Sennrich et al. 2016) over bytes, shared by source and target.

    Text is normalised to NFC, split into words with the space before each, and every word is merged up from its bytes:
    there is no unknown token, and decoding gives the NFC text back to the last space. `</s>` ends each sequence. The
    offsets of a token leave out the space before its word, and count the characters of the text as it is given.

    Ids are the same in every vocabulary: `<s>` 0 starts the decoder, `<pad>` 1, `</s>` 2, `<mask>` 3.

    A special token in the text of a user is read as that token, as in all of transformers; pass
    `split_special_tokens=True` to encode it as the characters it is made of.

    With `is_split_into_words=True` words get the ids of their text, in which a space is between them, and offsets in
    each word. A `TokenizersBackend` that reads the same file joins words without a space, and its offsets leave out
    the accents of text that is not in NFC.

    Args:
        vocab (`dict[str, int]`, *optional*): token -> id. Without it only the special tokens exist.
        merges (`list`, *optional*): pairs in the order they are merged.
        bos_token, pad_token, eos_token (`str`): the special tokens.
        mask_token (`str` or `AddedToken`): the special token that replaces a word and the space before it.
        split_at_spaces (`bool`): whether words end at spaces only, for text that is tokenized already: `t-shirt` and
            `&apos;s` are a word each. Else letters, digits and punctuation part words too, as in GPT-2.

    Example:

    ```python
    >>> from vanilla_transformer import VanillaTransformerTokenizer

    >>> tokenizer = VanillaTransformerTokenizer.train(["a cat sat", "a cat ran"], vocab_size=270)
    >>> tokenizer.decode(tokenizer("¿a cat?").input_ids, skip_special_tokens=True)
    '¿a cat?'

    ```
    """

    vocab_files_names = {"vocab_file": "vocab.json", "merges_file": "merges.txt", "tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "right"
    model = BPE  # type: ignore[assignment]

    def __init__(
        self,
        vocab: dict[str, int] | None = None,
        merges: list[tuple[str, str]] | None = None,
        bos_token: str = "<s>",
        pad_token: str = "<pad>",
        eos_token: str = "</s>",
        mask_token: str | AddedToken = "<mask>",
        split_at_spaces: bool = False,
        **kwargs: Any,
    ):
        if vocab is None:
            vocab = {str(token): i for i, token in enumerate((bos_token, pad_token, eos_token, mask_token))}
        if isinstance(mask_token, str):  # it replaces a word, which begins with the space before it
            mask_token = AddedToken(mask_token, lstrip=True, normalized=False, special=True)
        self._tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges or []))
        self._tokenizer.normalizer = normalizers.NFC()
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if split_at_spaces:
            at_spaces = pre_tokenizers.Split(" ", behavior="merged_with_next")
            into_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([at_spaces, into_bytes])
        self._tokenizer.decoder = decoders.ByteLevel()
        # A text of several words that are tidied up after decoding would not be the text that went in.
        kwargs["clean_up_tokenization_spaces"] = False
        kwargs["split_at_spaces"] = split_at_spaces  # kept in tokenizer_config.json
        kwargs.pop("unk_token", None)
        super().__init__(
            bos_token=bos_token, pad_token=pad_token, eos_token=eos_token, mask_token=mask_token, **kwargs
        )
        ends = processors.TemplateProcessing(
            single=["$A", str(eos_token)],
            pair=["$A", str(eos_token), "$B:1", f"{eos_token}:1"],
            special_tokens=[(str(eos_token), self.eos_token_id)],
        )
        # Libraries find words by gaps between the offsets of tokens: the space before a word is not part of it.
        trim = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
        self._tokenizer.post_processor = processors.Sequence([trim, ends])

    def _encode_plus(  # type: ignore[override]
        self, text: Texts, text_pair: Texts | None = None, is_split_into_words: bool = False, **kwargs: Any
    ) -> BatchEncoding:
        """
        Encode as all of transformers does, with offsets that cover every character that NFC composes; words are
        encoded as they are in a text with a space between them.
        """
        if is_split_into_words:
            text, text_pair = add_spaces(text), None if text_pair is None else add_spaces(text_pair)
        encoded = super()._encode_plus(
            text=text,  # type: ignore[arg-type]
            text_pair=text_pair,  # type: ignore[arg-type]
            is_split_into_words=is_split_into_words,
            **kwargs,
        )
        inputs = split_inputs(text, text_pair, is_split_into_words)
        is_moved = [
            is_split_into_words or not all(unicodedata.is_normalized("NFC", part) for parts in row for part in parts)
            for row in inputs
        ]
        if encoded.encodings is None or not any(is_moved):
            return encoded
        rows = [int(row) for row in encoded.get("overflow_to_sample_mapping", range(len(inputs)))]
        encodings = [
            align_offsets(each, inputs[row], is_split_into_words) if is_moved[row] else each
            for each, row in zip(encoded.encodings, rows, strict=True)
        ]
        return replace_encodings(encoded, encodings, kwargs.get("return_tensors"))

    @classmethod
    def train(
        cls, texts: Iterator[str] | list[str], vocab_size: int, split_at_spaces: bool = False, **kwargs: Any
    ) -> "VanillaTransformerTokenizer":
        """
        Learn a vocabulary from source and target text together (§5.1).

        Args:
            texts: lines of both languages.
            vocab_size (`int`): entries, of which 4 are special tokens and 256 single bytes. A small corpus may hold
                fewer pairs than that: then the vocabulary is smaller.
            split_at_spaces (`bool`): whether words end at spaces only.
            kwargs: for `tokenizers.trainers.BpeTrainer`, such as `min_frequency`.

        Raises:
            `ValueError`: if `vocab_size` has no room for special tokens and bytes.
        """
        smallest = 4 + len(pre_tokenizers.ByteLevel.alphabet())
        if vocab_size < smallest:
            raise ValueError(
                f"`vocab_size` must be at least {smallest} (4 special tokens and 256 bytes), but is {vocab_size}. "
                "Give more."
            )
        kwargs.setdefault("show_progress", False)
        return cls(split_at_spaces=split_at_spaces).train_new_from_iterator(texts, vocab_size, **kwargs)


__all__ = ["VanillaTransformerTokenizer"]

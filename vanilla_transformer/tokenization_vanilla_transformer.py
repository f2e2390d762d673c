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
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers.tokenization_utils_base import BatchEncoding
from transformers.tokenization_utils_tokenizers import TokenizersBackend


def add_spaces(words: Any) -> Any:
    """Return words, or a batch or a pair of them, with the space that is before each but the first in a text."""
    if not isinstance(words, (list, tuple)):
        return words
    return type(words)(f" {each}" if i and isinstance(each, str) else add_spaces(each) for i, each in enumerate(words))


def shift_offsets(encoding: Encoding) -> Encoding:
    """Return an encoding of words with offsets in each word, without the space that `add_spaces` put before it."""
    state = json.loads(encoding.__getstate__())
    for window in (state, *state["overflowing"]):
        window["offsets"] = [
            (max(low - 1, 0), max(high - 1, 0)) if word else (low, high)
            for word, (low, high) in zip(window["words"], window["offsets"], strict=True)
        ]
    shifted = Encoding()  # the offsets of an encoding can be read and not written
    shifted.__setstate__(json.dumps(state).encode())
    return shifted


class VanillaTransformerTokenizer(TokenizersBackend):
    r"""
    Byte-pair encoding (Sennrich et al. 2016) over bytes, shared by source and target.

    Text is normalised to NFC, split into words with the space before each, and every word is merged up from its bytes:
    there is no unknown token, and decoding gives the NFC text back to the last space. `</s>` ends each sequence. The
    offsets of a token leave out the space before its word.

    Ids are the same in every vocabulary: `<s>` 0 starts the decoder, `<pad>` 1, `</s>` 2, `<mask>` 3.

    A special token that stands in the text of a user is read as that token, as in all of transformers; pass
    `split_special_tokens=True` to encode it as the characters it is made of.

    With `is_split_into_words=True` words get the ids of their text, in which a space is between them, and offsets in
    each word. Only this class does so: a `TokenizersBackend` that reads the same file joins words without a space.

    Args:
        vocab (`dict[str, int]`, *optional*): token -> id. Without it only the special tokens exist.
        merges (`list`, *optional*): pairs in the order they are merged.
        bos_token, pad_token, eos_token (`str`): the special tokens.
        mask_token (`str` or `AddedToken`): the special token that stands for a word and the space before it.

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
    model = BPE

    def __init__(
        self,
        vocab: dict[str, int] | None = None,
        merges: list[Any] | None = None,
        bos_token: str = "<s>",
        pad_token: str = "<pad>",
        eos_token: str = "</s>",
        mask_token: str | AddedToken = "<mask>",
        **kwargs: Any,
    ):
        if vocab is None:
            vocab = {str(token): i for i, token in enumerate((bos_token, pad_token, eos_token, mask_token))}
        if isinstance(mask_token, str):  # it stands for a word, which begins with the space before it
            mask_token = AddedToken(mask_token, lstrip=True, normalized=False, special=True)
        self._tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges or []))
        self._tokenizer.normalizer = normalizers.NFC()
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = decoders.ByteLevel()
        # A text of several words that are tidied up after decoding would not be the text that went in.
        kwargs["clean_up_tokenization_spaces"] = False
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

    def _encode_plus(
        self, text: Any, text_pair: Any = None, is_split_into_words: bool = False, **kwargs: Any
    ) -> BatchEncoding:
        """Encode as all of transformers does; words are encoded as they are in a text with a space between them."""
        if not is_split_into_words:
            return super()._encode_plus(text=text, text_pair=text_pair, **kwargs)
        encoded = super()._encode_plus(
            text=add_spaces(text), text_pair=add_spaces(text_pair), is_split_into_words=True, **kwargs
        )
        return self._replace_encodings(encoded, [shift_offsets(each) for each in encoded.encodings], **kwargs)

    @staticmethod
    def _replace_encodings(
        encoded: BatchEncoding, encodings: list[Encoding], return_tensors: Any = None, **kwargs: Any
    ) -> BatchEncoding:
        """Return what was encoded with other encodings, and with their offsets where it has offsets."""
        replaced = BatchEncoding(dict(encoded), encodings)
        if "offset_mapping" in encoded:
            offsets: Any = [each.offsets for each in encodings]
            if return_tensors is None and encoded["offset_mapping"] == encoded.encodings[0].offsets:  # of one text
                offsets = offsets[0]
            replaced.update(BatchEncoding({"offset_mapping": offsets}, tensor_type=return_tensors))
        return replaced

    @classmethod
    def train(cls, texts: Iterator[str] | list[str], vocab_size: int, **kwargs: Any) -> "VanillaTransformerTokenizer":
        """
        Learn a vocabulary from source and target text together (§5.1).

        Args:
            texts: lines of both languages.
            vocab_size (`int`): entries, of which 4 are special tokens and 256 single bytes. A small corpus may hold
                fewer pairs than that: then the vocabulary is smaller.
            kwargs: for `tokenizers.trainers.BpeTrainer`, such as `min_frequency`.

        Raises:
            `ValueError`: if `vocab_size` has no room for special tokens and bytes.
        """
        smallest = 4 + len(pre_tokenizers.ByteLevel.alphabet())
        if vocab_size < smallest:
            raise ValueError(
                f"`vocab_size` is {vocab_size}, and special tokens and bytes take {smallest}. Give more than that."
            )
        kwargs.setdefault("show_progress", False)
        return cls().train_new_from_iterator(texts, vocab_size, **kwargs)


__all__ = ["VanillaTransformerTokenizer"]

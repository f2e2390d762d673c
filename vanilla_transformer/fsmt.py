"""The tokenizer of models that were imported from FSMT or fairseq, which have a vocabulary for each language."""

from typing import Any

import transformers


class FSMTTokenizer(transformers.FSMTTokenizer):
    """
    FSMT's tokenizer, which also encodes the target language (`text_target`), as training and scores need it.

    It is saved under the name that transformers knows, whose own class encodes a target with the source's vocabulary.
    """

    src_lang: str
    encoder: dict[str, int]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # How each language is parted into words, and the ids of its tokens.
        self._source_side = self.src_lang, self.encoder
        self._target_side = self.tgt_lang, {token: index for index, token in self.decoder.items()}

    def _switch_to_target_mode(self) -> None:
        """Encode the target language; transformers calls it for `text_target`."""
        self.src_lang, self.encoder = self._target_side

    def _switch_to_input_mode(self) -> None:
        self.src_lang, self.encoder = self._source_side

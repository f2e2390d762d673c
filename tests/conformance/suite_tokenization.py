"""The common tokenizer tests of transformers; `tests/conformance/run.py` puts this beside them."""

import tempfile
import unittest

from vanilla_transformer import VanillaTransformerTokenizer

from .test_tokenization_common import TokenizerTesterMixin

TEXTS = ["This is a text.", "lower newer wider", "Esto es un texto, con más de una línea.", "日本語 العربية ไทย"]


class TestTokenizer(TokenizerTesterMixin, unittest.TestCase):
    tokenizer_class = VanillaTransformerTokenizer
    rust_tokenizer_class = VanillaTransformerTokenizer
    test_slow_tokenizer = False

    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            VanillaTransformerTokenizer.train(TEXTS * 5, vocab_size=320).save_pretrained(folder)
            cls.from_pretrained_id = folder
            super().setUpClass()
        VanillaTransformerTokenizer.train(TEXTS * 5, vocab_size=320).save_pretrained(cls.tmpdirname)
        cls.from_pretrained_id = [cls.tmpdirname]
        cls.tokenizers_list = [(VanillaTransformerTokenizer, cls.tmpdirname, {})]

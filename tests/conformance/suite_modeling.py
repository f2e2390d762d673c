"""The common model tests of transformers over every class; `tests/conformance/run.py` puts this beside them."""

import unittest

from transformers.models.auto import modeling_auto
from transformers.testing_utils import require_torch, torch_device

import vanilla_transformer
from vanilla_transformer import VanillaTransformerConfig

from .generation.test_utils import GenerationTesterMixin
from .test_configuration_common import ConfigTester
from .test_modeling_common import ModelTesterMixin, ids_tensor
from .test_training_mixin import TrainingTesterMixin

# By these tables the common tests know which labels a head takes.
for table, name in (
    ("MODEL_MAPPING_NAMES", "VanillaTransformerModel"),
    ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "VanillaTransformerForConditionalGeneration"),
    ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "VanillaTransformerForCausalLM"),
    ("MODEL_FOR_MASKED_LM_MAPPING_NAMES", "VanillaTransformerForMaskedLM"),
    ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "VanillaTransformerForSequenceClassification"),
    ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES", "VanillaTransformerForTokenClassification"),
    ("MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES", "VanillaTransformerForQuestionAnswering"),
):
    getattr(modeling_auto, table)["vanilla_transformer"] = name


class Tester:
    """Sizes and inputs. A model of one stack says that the other is deeper; of both, the tests want equal depths."""

    def __init__(self, parent, is_encoder_decoder):
        self.parent = parent
        self.is_encoder_decoder = is_encoder_decoder
        self.batch_size = 13
        self.seq_length = self.encoder_seq_length = self.decoder_seq_length = self.key_length = 7
        self.hidden_size = 16
        self.num_hidden_layers = 2
        self.num_attention_heads = 4
        self.vocab_size = 99
        self.is_training = True

    def get_config(self, **changes):
        depth = self.num_hidden_layers
        depths = {"encoder_layers": depth, "decoder_layers": depth if self.is_encoder_decoder else depth + 1}
        return VanillaTransformerConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=20,
            is_encoder_decoder=self.is_encoder_decoder,
            **{**depths, **changes},
        )

    def prepare_config_and_inputs_for_common(self):
        ids = ids_tensor([self.batch_size, self.seq_length], self.vocab_size - 4) + 4
        ids[:, -1] = 2
        inputs = {"input_ids": ids, "attention_mask": ids.ne(1).long()}
        if self.is_encoder_decoder:
            target = ids_tensor([self.batch_size, self.decoder_seq_length], self.vocab_size - 4) + 4
            inputs |= {"decoder_input_ids": target, "decoder_attention_mask": target.ne(1).long()}
        return self.get_config(), {name: tensor.to(torch_device) for name, tensor in inputs.items()}


class CausalTester(Tester):
    """Without dropout and with 0 for padding: the training test uses the tokens 1 to 19."""

    causal_lm_class = vanilla_transformer.VanillaTransformerForCausalLM

    def get_config(self):
        depths = {"encoder_layers": self.num_hidden_layers + 1, "decoder_layers": self.num_hidden_layers}
        return super().get_config(dropout=0.0, is_decoder=True, pad_token_id=0, bos_token_id=1, **depths)


class EncoderTester(Tester):
    """It has no loss to train with, and its class is in none of the tables of those that have none."""

    def __init__(self, parent, is_encoder_decoder):
        super().__init__(parent, is_encoder_decoder)
        self.is_training = False


def make_suite(name, classes, is_encoder_decoder=False, tester=Tester, mixins=()):
    """A test class of common tests over model classes that take the same inputs."""

    def set_up(self):
        self.model_tester = tester(self, is_encoder_decoder)
        self.config_tester = ConfigTester(self, config_class=VanillaTransformerConfig, hidden_size=32)

    body = {
        "all_model_classes": tuple(getattr(vanilla_transformer, model_class) for model_class in classes),
        "is_encoder_decoder": is_encoder_decoder,
        "test_can_init_all_missing_weights_before_2023": True,
        "setUp": set_up,
        "test_config": lambda self: self.config_tester.run_common_tests(),
        "__module__": __name__,
    }
    bases = (ModelTesterMixin, *mixins, unittest.TestCase)
    return require_torch(type(name, bases, body))


TestConditionalGeneration = make_suite(
    "TestConditionalGeneration",
    ["VanillaTransformerModel", "VanillaTransformerForConditionalGeneration"],
    is_encoder_decoder=True,
    mixins=(GenerationTesterMixin,),
)
TestCausalLM = make_suite(
    "TestCausalLM",
    ["VanillaTransformerModel", "VanillaTransformerForCausalLM"],
    tester=CausalTester,
    mixins=(GenerationTesterMixin, TrainingTesterMixin),
)
TestEncoder = make_suite("TestEncoder", ["VanillaTransformerEncoderModel"], tester=EncoderTester)
TestMaskedLM = make_suite("TestMaskedLM", ["VanillaTransformerModel", "VanillaTransformerForMaskedLM"])
TestSequenceClassification = make_suite("TestSequenceClassification", ["VanillaTransformerForSequenceClassification"])
TestTokenClassification = make_suite("TestTokenClassification", ["VanillaTransformerForTokenClassification"])
TestQuestionAnswering = make_suite("TestQuestionAnswering", ["VanillaTransformerForQuestionAnswering"])

"""The original Transformer ("Attention Is All You Need", Vaswani et al. 2017) as a Hugging Face model."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from .configuration_vanilla_transformer import VanillaTransformerConfig
from .modeling_heads_vanilla_transformer import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForQuestionAnswering,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
)
from .modeling_vanilla_transformer import (
    VanillaTransformerEncoderModel,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerModel,
    VanillaTransformerPreTrainedModel,
)
from .pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline
from .tokenization_vanilla_transformer import VanillaTransformerTokenizer

__version__ = "0.1.0"

# For those who import this package the Auto classes find it. For those who do not, saving a model puts its code beside
# it. Tokenizers need none: tokenizer.json holds them whole.
AutoConfig.register(VanillaTransformerConfig.model_type, VanillaTransformerConfig)
AutoTokenizer.register(VanillaTransformerConfig, VanillaTransformerTokenizer)
VanillaTransformerConfig.register_for_auto_class()
for auto_class, model_class in (
    (AutoModel, VanillaTransformerModel),
    (AutoModelForCausalLM, VanillaTransformerForCausalLM),
    (AutoModelForMaskedLM, VanillaTransformerForMaskedLM),
    (AutoModelForQuestionAnswering, VanillaTransformerForQuestionAnswering),
    (AutoModelForSeq2SeqLM, VanillaTransformerForConditionalGeneration),
    (AutoModelForSequenceClassification, VanillaTransformerForSequenceClassification),
    (AutoModelForTextEncoding, VanillaTransformerEncoderModel),
    (AutoModelForTokenClassification, VanillaTransformerForTokenClassification),
):
    auto_class.register(VanillaTransformerConfig, model_class)
    model_class.register_for_auto_class(auto_class.__name__)
del auto_class, model_class

__all__ = [
    "VanillaTransformerConfig",
    "VanillaTransformerEncoderModel",
    "VanillaTransformerForCausalLM",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerForMaskedLM",
    "VanillaTransformerForQuestionAnswering",
    "VanillaTransformerForSequenceClassification",
    "VanillaTransformerForTokenClassification",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
    "VanillaTransformerTokenizer",
    "VanillaTransformerTranslationPipeline",
]

"""The original Transformer ("Attention Is All You Need", Vaswani et al. 2017) as a Hugging Face model."""

import transformers
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
from .pipeline_vanilla_transformer import (
    VanillaTransformerSummarizationPipeline,
    VanillaTransformerText2TextGenerationPipeline,
    VanillaTransformerTranslationPipeline,
)
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

# Version 5 of transformers has no pipelines of its own for these tasks. Its later releases refuse their names before
# they look them up, so that registering one takes its name off that list as well.
registry = transformers.pipelines.PIPELINE_REGISTRY
removed_tasks: dict[str, str] = getattr(transformers.pipelines, "REMOVED_TASKS", {})
for task, pipeline_class in (
    ("summarization", VanillaTransformerSummarizationPipeline),
    ("text2text-generation", VanillaTransformerText2TextGenerationPipeline),
    ("translation", VanillaTransformerTranslationPipeline),
):
    if task not in registry.supported_tasks:  # by nobody else
        registry.register_pipeline(task, pipeline_class, pt_model=AutoModelForSeq2SeqLM)
        removed_tasks.pop(task, None)
del pipeline_class, registry, removed_tasks, task

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
    "VanillaTransformerSummarizationPipeline",
    "VanillaTransformerText2TextGenerationPipeline",
    "VanillaTransformerTokenizer",
    "VanillaTransformerTranslationPipeline",
]

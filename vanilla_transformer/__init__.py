"""The original Transformer ("Attention Is All You Need", Vaswani et al. 2017) as a Hugging Face model."""

import transformers
from transformers import AutoConfig, AutoTokenizer

from ._version import __version__
from .configuration_vanilla_transformer import AUTO_MAP, VanillaTransformerConfig
from .loading import load_translator
from .modeling_vanilla_transformer import (
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForQuestionAnswering,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
    VanillaTransformerPreTrainedModel,
)
from .pipeline_vanilla_transformer import (
    VanillaTransformerSummarizationPipeline,
    VanillaTransformerText2TextGenerationPipeline,
    VanillaTransformerTranslationPipeline,
)
from .tokenization_vanilla_transformer import VanillaTransformerTokenizer

# For those who import this package the Auto classes find it. For those who do not, saving a model puts its code beside
# it. Tokenizers need none: tokenizer.json holds them whole.
AutoConfig.register(VanillaTransformerConfig.model_type, VanillaTransformerConfig)
AutoTokenizer.register(VanillaTransformerConfig, VanillaTransformerTokenizer)
VanillaTransformerConfig.register_for_auto_class()
for auto_name, reference in AUTO_MAP.items():
    if auto_name != "AutoConfig":
        model_class = globals()[reference.rpartition(".")[2]]
        getattr(transformers, auto_name).register(VanillaTransformerConfig, model_class)
        model_class.register_for_auto_class(auto_name)
del auto_name, model_class, reference

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
        registry.register_pipeline(task, pipeline_class, pt_model=transformers.AutoModelForSeq2SeqLM)
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
    "__version__",
    "load_translator",
]

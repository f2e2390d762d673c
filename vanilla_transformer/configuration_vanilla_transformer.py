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
"""
Configuration of the original Transformer: the paper's hyper-parameters, their checks, its Table 3. At the end: what
refuses inputs of a model that do not fit.
"""

# ruff: noqa: E402
import copy
import dataclasses
import difflib
import functools
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import transformers
from packaging.version import Version

# The first series of transformers that the tests pass with, and the first that they have not been run with.
OLDEST_TRANSFORMERS, UNTESTED_TRANSFORMERS = "5.17", "5.25"
TESTED_TRANSFORMERS = f"transformers>={OLDEST_TRANSFORMERS},<{UNTESTED_TRANSFORMERS}"  # as in pyproject.toml

# Before the imports below, which an older transformers lacks. This file also travels to the Hub, as remote code.
if Version(transformers.__version__) < Version(OLDEST_TRANSFORMERS):
    raise ImportError(
        f"vanilla_transformer needs {TESTED_TRANSFORMERS}, but transformers {transformers.__version__} is installed. "
        f"Install another: pip install '{TESTED_TRANSFORMERS}'"
    )

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import ModelOutput, TransformersKwargs, logging

# One name for every copy of this file that remote code makes, so that nothing is said twice, and below transformers'
# own logger, so that its verbosity rules here too.
logger = logging.get_logger("transformers.vanilla_transformer")

if Version(transformers.__version__).release[:2] >= Version(UNTESTED_TRANSFORMERS).release:
    logger.warning_once(
        f"vanilla_transformer is tested with {TESTED_TRANSFORMERS}, but transformers {transformers.__version__} is "
        "newer."
    )

IGNORED_LABEL = -100  # of what is not to be predicted, as in torch
Named = dict[str, Any]  # values by their names: arguments of a call, results, entries of a file
Forward = TypeVar("Forward", bound=Callable[..., Any])
Output = TypeVar("Output", bound=ModelOutput)

# ---------------------------------------------------------------------------------------------------------------------
# The name of the cache, which transformers changed in 5.24. Nothing else in this package knows both.
# ---------------------------------------------------------------------------------------------------------------------

CACHE_NAMES = ("cache", "past_key_values")
# The one of the installed transformers: it passes the cache, and reads it in outputs, by this name.
CACHE_NAME = (
    "cache" if "cache" in {each.name for each in dataclasses.fields(BaseModelOutputWithPast)} else CACHE_NAMES[1]
)
# Keywords that `forward` need not name, since transformers' models hand them through.
PASSED_ON = frozenset(TransformersKwargs.__annotations__) | {
    "debug_io",
    "labels",
    "logits_to_keep",
    "return_dict",
    "shift_labels",
    "use_cache",
}
# Packages whose code is between the line that calls a model and the model's own.
BETWEEN = frozenset({"accelerate", "torch", "transformers", "transformers_modules", "vanilla_transformer"})
warned_of: set[str] = set()  # keywords: the outermost `forward` names each, and those within it do not again


def rename_cache(arguments: Named, name: str) -> Named:
    """
    The same keyword arguments, with the cache under `name`, whichever of its names it has.

    A library that knows only the older name, as PEFT 0.21 does, passes the prefix of a text beside the cache that
    `generate` passes on: of two caches, the one that begins with the other is the one to go on from.

    Raises:
        `ValueError`: if two caches are given and neither begins with the other.
    """
    if not any(each in arguments for each in CACHE_NAMES):
        return arguments
    given = [arguments[each] for each in CACHE_NAMES if arguments.get(each) is not None]
    if len(given) > 1:
        given.sort(key=lambda cache: int(cache.get_seq_length()), reverse=True)
        if not begins_with(*given):
            raise ValueError(
                f"`{CACHE_NAMES[0]}` and `{CACHE_NAMES[1]}` are names of one argument, but are two caches of "
                f"{' and '.join(str(each.get_seq_length()) for each in given)} positions. Leave one out."
            )
    elif CACHE_NAME == "cache" and given and "past_key_values" in arguments and not torch.compiler.is_compiling():
        warn_of_deprecated("past_key_values")
    renamed = {key: value for key, value in arguments.items() if key not in CACHE_NAMES}
    return {**renamed, name: given[0]} if given else renamed


def begins_with(longer: Cache, shorter: Cache) -> bool:
    """Whether two caches are one, or the first holds what the second holds and more."""
    length = int(shorter.get_seq_length())
    if longer is shorter:
        return True
    if not length:
        return int(longer.get_seq_length()) > 0
    first, second = (
        getattr(each, "self_attention_cache", each).layers[0].keys[:, :, :length] for each in (longer, shorter)
    )
    return first.shape == second.shape and torch.equal(first, second)


def warn_of_deprecated(name: str) -> None:
    """Warn, with the line of the caller, of a name that transformers replaces; a library's line is not the user's."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    if frame.f_globals.get("__name__", "").partition(".")[0] != "peft":
        warnings.warn(f"`{name}` is deprecated: from 5.24 on transformers names it `cache`.", FutureWarning, level)


def accept_keywords(forward: Forward) -> Forward:
    """
    Let a `forward` with a parameter `cache` take it under both of its names, and look at keywords that nothing reads.

    Its signature shows the name that the installed transformers uses, since `generate` looks there. A cache under yet
    another name, as a later transformers may choose, is refused: the model would decode without a memory. Of any other
    keyword that a model does not know it warns once; layers are handed what their model has looked at.
    """
    signature = inspect.signature(forward)
    parameters = list(signature.parameters.values())
    names = {each.name for each in parameters[1:] if each.kind is not inspect.Parameter.VAR_KEYWORD}
    known = names | PASSED_ON
    is_of_model = "input_ids" in names
    as_they_are = names if is_of_model else names | {"position_ids"}

    @functools.wraps(forward)
    def checked(self: object, *args: Any, **kwargs: Any) -> Any:
        if kwargs.keys() <= as_they_are:
            return forward(self, *args, **kwargs)
        if "cache" in names:
            kwargs = rename_cache(kwargs, "cache")
        for name, value in kwargs.items():
            if name not in known and value is not None:
                refuse_lost_cache(name, value)
                if is_of_model and not torch.compiler.is_compiling():
                    warn_of_unknown(name, f"{type(self).__name__}.forward", names)
        return forward(self, *args, **kwargs)

    shown = [each.replace(name=CACHE_NAME) if each.name == "cache" else each for each in parameters]
    checked.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return checked  # type: ignore[return-value]


def refuse_lost_cache(name: str, value: object) -> None:
    """Raise if `value`, of a keyword that nothing reads, is a cache."""
    if not isinstance(value, Cache):
        return
    kind = type(value).__name__
    if name in CACHE_NAMES:
        raise ValueError(f"`{name}` must be None for a model without a decoder, but is a {kind}. Leave it out.")
    raise ValueError(
        f"`{name}` is a cache ({kind}), but no argument has that name: nothing would read it. Name it "
        f"{' or '.join(f'`{each}`' for each in CACHE_NAMES)}. If transformers {transformers.__version__}, which is "
        f"installed, passes it by itself, install a tested version: {TESTED_TRANSFORMERS}."
    )


def warn_of_unknown(name: str, owner: str, known: Iterable[str]) -> None:
    """Say once that a keyword has no effect, and which known one is nearest to it."""
    if name in warned_of:
        return
    warned_of.add(name)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    hint = f" Its nearest argument is `{nearest[0]}`." if nearest else ""
    logger.warning_once(f"`{name}` has no effect: `{owner}` has no argument of that name.{hint}")


def with_cache_names(output_class: type[Output], module: str) -> type[Output]:
    """
    A class of transformers' outputs whose cache is read under both of its names, as attribute and as key.

    From transformers 5.24 on that is the class itself; before, one for `module` to keep under the same name.
    """
    if CACHE_NAME == "cache":
        return output_class

    def renamed(key: str | int | slice) -> str | int | slice:
        return CACHE_NAME if key == "cache" else key

    body = {
        "__contains__": lambda self, key: output_class.__contains__(self, renamed(key)),
        "__doc__": output_class.__doc__,
        "__getitem__": lambda self, key: output_class.__getitem__(self, renamed(key)),
        "__module__": module,
        "__setitem__": lambda self, key, value: output_class.__setitem__(self, renamed(key), value),
        "cache": property(
            lambda self: getattr(self, CACHE_NAME), lambda self, value: setattr(self, CACHE_NAME, value)
        ),
        "get": lambda self, key, default=None: output_class.get(self, renamed(key), default),
    }
    return type(output_class.__name__, (output_class,), body)


# The changes of each preset to the defaults, which are the paper's base model. Names A to E are the rows of Table 3.
PRESETS: dict[str, dict[str, str | float]] = {
    "tiny": {
        "encoder_layers": 4,
        "decoder_layers": 4,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "dropout": 0.3,
    },
    "base": {},
    "big": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "dropout": 0.3},
    # (A): heads against their size, at a constant amount of computation.
    "A-h1": {"num_attention_heads": 1, "qk_head_dim": 512, "v_head_dim": 512},
    "A-h4": {"num_attention_heads": 4, "qk_head_dim": 128, "v_head_dim": 128},
    "A-h16": {"num_attention_heads": 16, "qk_head_dim": 32, "v_head_dim": 32},
    "A-h32": {"num_attention_heads": 32, "qk_head_dim": 16, "v_head_dim": 16},
    # (B): only the attention key size; values keep their 64.
    "B-dk16": {"qk_head_dim": 16, "v_head_dim": 64},
    "B-dk32": {"qk_head_dim": 32, "v_head_dim": 64},
    # (C): depth, width, size of the feed-forward layer.
    "C-N2": {"encoder_layers": 2, "decoder_layers": 2},
    "C-N4": {"encoder_layers": 4, "decoder_layers": 4},
    "C-N8": {"encoder_layers": 8, "decoder_layers": 8},
    "C-d256": {"hidden_size": 256, "qk_head_dim": 32, "v_head_dim": 32},
    "C-d1024": {"hidden_size": 1024, "qk_head_dim": 128, "v_head_dim": 128},
    "C-ff1024": {"intermediate_size": 1024},
    "C-ff4096": {"intermediate_size": 4096},
    # (D): regularisation.
    "D-dropout0.0": {"dropout": 0.0},
    "D-dropout0.2": {"dropout": 0.2},
    "D-smoothing0.0": {"label_smoothing": 0.0},
    "D-smoothing0.2": {"label_smoothing": 0.2},
    # (E): learned positions instead of sinusoids. The paper gives no length; training sentences are far shorter.
    "E-learned": {"position_embedding_type": "learned", "max_position_embeddings": 1024},
}

# The longest sequence of sinusoids, which have no longest, as a number that other libraries can count to.
NO_POSITION_LIMIT = 2**31 - 1
CHOICES = {"position_embedding_type": ("sinusoidal", "learned"), "sinusoid_type": ("paper", "tensor2tensor")}
# Beyond these a file is damaged: building such a model would not come to an end.
MOST_LAYERS, MOST_SIZE = 1_000, 1 << 24

# Names of fields in the paper, torch and other models, where one name cannot replace the other.
OTHER_NAMES = {
    **dict.fromkeys(("N", "n_layer", "n_layers", "num_layers"), "encoder_layers` and `decoder_layers"),
    **dict.fromkeys(("h", "n_head", "n_heads", "nhead"), "num_attention_heads"),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), "num_attention_heads"),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "dim_feedforward", "ffn_dim"), "intermediate_size"),
    **dict.fromkeys(("d_kv", "head_dim"), "qk_head_dim` and `v_head_dim"),
    **dict.fromkeys(("dim", "embed_dim", "n_embd"), "hidden_size"),
    **dict.fromkeys(("P_drop", "dropout_rate"), "dropout"),
    **dict.fromkeys(("max_source_positions", "max_target_positions", "n_positions"), "max_position_embeddings"),
    **dict.fromkeys(("normalize_before", "pre_norm"), "norm_first"),
    "activation": "hidden_act",
    "d_k": "qk_head_dim",
    "d_v": "v_head_dim",
    "eps_ls": "label_smoothing",
    "final_logits_bias": "output_bias",
    "tgt_vocab_size": "decoder_vocab_size",
    "target_vocab_size": "decoder_vocab_size",
    "label_smoothing_factor": "label_smoothing",
}
# Entries that transformers and libraries above it keep in a configuration without declaring them.
UNDECLARED = frozenset(
    {
        "attn_implementation",
        "auto_map",
        "custom_pipelines",
        "experts_implementation",
        "name_or_path",
        "output_attentions",
        "quantization_config",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
    }
)

# Where each Auto class finds its code in a repository on the Hub. Saving writes only the saved class by itself.
MODELING = "modeling_vanilla_transformer"
AUTO_MAP = {
    "AutoConfig": "configuration_vanilla_transformer.VanillaTransformerConfig",
    "AutoModel": f"{MODELING}.VanillaTransformerModel",
    "AutoModelForSeq2SeqLM": f"{MODELING}.VanillaTransformerForConditionalGeneration",
    "AutoModelForCausalLM": f"{MODELING}.VanillaTransformerForCausalLM",
    "AutoModelForMaskedLM": f"{MODELING}.VanillaTransformerForMaskedLM",
    "AutoModelForQuestionAnswering": f"{MODELING}.VanillaTransformerForQuestionAnswering",
    "AutoModelForSequenceClassification": f"{MODELING}.VanillaTransformerForSequenceClassification",
    "AutoModelForTextEncoding": f"{MODELING}.VanillaTransformerEncoderModel",
    "AutoModelForTokenClassification": f"{MODELING}.VanillaTransformerForTokenClassification",
}

# The pipelines that transformers finds in a repository of a model that translates.
CUSTOM_PIPELINES = {
    "translation": {
        "impl": "pipeline_vanilla_transformer.VanillaTransformerTranslationPipeline",
        "pt": ["AutoModelForSeq2SeqLM"],
    }
}


@strict
class VanillaTransformerConfig(PreTrainedConfig):
    r"""
    Configuration of "Attention Is All You Need" (Vaswani et al. 2017). The defaults are the paper's base model.

    Args:
        vocab_size (`int`, defaults to 37000):
            V, the size of the vocabulary that source and target share (§5.1).
        hidden_size (`int`, defaults to 512):
            d_model, the width of every layer (§3.1). `d_model` is an alias.
        encoder_layers (`int`, defaults to 6):
            N of the encoder (§3.1). `num_hidden_layers` is an alias.
        decoder_layers (`int`, defaults to 6):
            N of the decoder (§3.1).
        num_attention_heads (`int`, defaults to 8):
            h, the number of attention heads (§3.2.2).
        qk_head_dim (`int`, *optional*):
            d_k, the size of queries and keys in one head. `None` means `hidden_size / num_attention_heads`.
        v_head_dim (`int`, *optional*):
            d_v, the size of values in one head. `None` means `hidden_size / num_attention_heads`.
        intermediate_size (`int`, defaults to 2048):
            d_ff, the inner size of the feed-forward layers (§3.3). `d_ff` is an alias.
        hidden_act (`str`, defaults to `"relu"`):
            Activation of the feed-forward layers; any name in `transformers.activations.ACT2FN`.
        dropout (`float`, defaults to 0.1):
            P_drop on the output of each sublayer and on the sums of embeddings and positions (§5.4).
        attention_dropout (`float`, defaults to 0.0):
            Dropout on the attention weights. Not in the paper.
        activation_dropout (`float`, defaults to 0.0):
            Dropout inside the feed-forward layers. Not in the paper.
        classifier_dropout (`float`, *optional*):
            Dropout before the classifiers of the encoder's heads; `None` means `dropout`.
        label_smoothing (`float`, defaults to 0.1):
            ε_ls, spread over all V entries, in the training loss of translation only (§5.4).
        norm_first (`bool`, defaults to `False`):
            `False`: LayerNorm(x + Sublayer(x)) as in the paper. `True`: x + Sublayer(LayerNorm(x)), and a final
            LayerNorm after each stack.
        attention_bias (`bool`, defaults to `False`):
            Whether the four projections of attention have biases. The paper writes none (§3.2.2).
        attention_init_gain (`float`, defaults to 1.0):
            Gain of the Xavier-uniform initialization of the projections to queries, keys and values: 1 in the authors'
            code, 1/√2 in `torch.nn.MultiheadAttention` and fairseq. Without effect on weights that are loaded.
        layer_norm_eps (`float`, defaults to 1e-6):
            ε of LayerNorm, from the authors' code.
        position_embedding_type (`str`, defaults to `"sinusoidal"`):
            `"sinusoidal"` (§3.5; any length) or `"learned"` (row E of Table 3).
        max_position_embeddings (`int`, *optional*):
            Length of the learned position tables. Needed by `"learned"`, without effect for `"sinusoidal"`, where it
            becomes 2147483647: libraries that ask for the longest sequence expect a number.
        tie_word_embeddings (`bool`, defaults to `True`):
            One matrix for both embeddings and the output projection (§3.4). `False` gives three.
        output_bias (`bool`, defaults to `False`):
            Whether the output projection has a bias, as in Marian. The paper writes none (§3.4).
        scale_embedding (`bool`, defaults to `True`):
            Whether embeddings are multiplied by sqrt(d_model) (§3.4).
        decoder_vocab_size (`int`, *optional*):
            The size of the target's own vocabulary; `vocab_size` is then the source's, whose embeddings share nothing
            with the target's. `None`, as in the paper (§5.1), is one vocabulary for both.
        sinusoid_type (`str`, defaults to `"paper"`):
            The wavelengths of the sinusoids: `"paper"` for 2π · 10000^(2i/D) (§3.5), `"tensor2tensor"` for
            2π · 10000^(2i/(D-2)), those of the authors' code and of fairseq.
        position_offset (`int`, defaults to 0):
            The number of the first position of the sinusoids; 2 in fairseq.
        is_encoder_decoder, is_decoder (`bool`, default to `True`, `False`):
            Which stacks a model has: both; only the encoder (`False`, `False`); only the decoder (`False`, `True`).
            Set by the model classes.
        use_cache (`bool`, defaults to `True`):
            Whether the decoder returns its keys and values for the next step.
        bos_token_id, pad_token_id, eos_token_id, decoder_start_token_id (`int`, default to 0, 1, 2, 0):
            `<s>` starts the decoder, `<pad>` fills, `</s>` ends source and target.

    Raises:
        `StrictDataclassClassValidationError` (huggingface_hub): for sizes that do not fit together; the message names
        the field, its value and the remedy.

    Example:

    ```python
    >>> from vanilla_transformer import VanillaTransformerConfig

    >>> config = VanillaTransformerConfig()
    >>> config.hidden_size, config.d_ff, config.num_attention_heads
    (512, 2048, 8)
    >>> VanillaTransformerConfig.from_preset("big", vocab_size=32000).hidden_size
    1024

    ```
    """

    model_type = "vanilla_transformer"
    keys_to_ignore_at_inference = list(CACHE_NAMES)
    attribute_map = {
        "d_model": "hidden_size",
        "d_ff": "intermediate_size",
        # The names of BART, BERT and T5 for the same.
        "activation_function": "hidden_act",
        "attention_probs_dropout_prob": "attention_dropout",
        "hidden_dropout_prob": "dropout",
        "layer_norm_epsilon": "layer_norm_eps",
        "num_heads": "num_attention_heads",
    }

    vocab_size: int = 37000
    hidden_size: int = 512
    encoder_layers: int = 6
    decoder_layers: int = 6
    num_attention_heads: int = 8
    qk_head_dim: int | None = None
    v_head_dim: int | None = None
    intermediate_size: int = 2048
    hidden_act: str = "relu"
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    classifier_dropout: float | int | None = None
    label_smoothing: float | int = 0.1
    norm_first: bool = False
    attention_bias: bool = False
    attention_init_gain: float | int = 1.0
    layer_norm_eps: float = 1e-6
    position_embedding_type: str = "sinusoidal"
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool = True
    output_bias: bool = False
    scale_embedding: bool = True
    decoder_vocab_size: int | None = None
    sinusoid_type: str = "paper"
    position_offset: int = 0
    is_encoder_decoder: bool = True
    is_decoder: bool = False
    use_cache: bool = True
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:
        for name in kwargs:
            if not self.knows(name):
                logger.warning_once(f"`{name}` is not a field of {type(self).__name__}.{self.nearest_field(name)}")
        # Saving writes only the saved class; the others travel with it. An entry of another class, such as a
        # subclass, stays; one of ours names the file where the class is now, whatever an older folder says.
        own_classes = {reference.rpartition(".")[2] for reference in AUTO_MAP.values()}
        others = {
            name: reference
            for name, reference in (kwargs.get("auto_map") or {}).items()
            if not isinstance(reference, str) or reference.rpartition(".")[2] not in own_classes
        }
        kwargs["auto_map"] = {**AUTO_MAP, **others}
        if self.position_embedding_type == "sinusoidal" and self.max_position_embeddings is None:
            self.max_position_embeddings = NO_POSITION_LIMIT
        super().__post_init__(**kwargs)

    @property
    def num_hidden_layers(self) -> int:
        """The layers of the encoder; without an encoder, those of the decoder."""
        return self.encoder_layers if self.has_encoder else self.decoder_layers

    @num_hidden_layers.setter
    def num_hidden_layers(self, value: int) -> None:
        setattr(self, "encoder_layers" if self.has_encoder else "decoder_layers", value)

    @property
    def label_names(self) -> list[str]:
        """The names of the labels, by their numbers."""
        return [name for _, name in sorted((int(number), name) for number, name in (self.id2label or {}).items())]

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "VanillaTransformerConfig":
        """
        Build the configuration of a named model.

        Args:
            name (`str`):
                `"tiny"`, `"base"`, `"big"` or a row of the paper's Table 3 such as `"B-dk16"`.
            overrides:
                Any field of this class, on top of the preset.

        Raises:
            `ValueError`: if there is no preset of that name, or no such field.
        """
        if name not in PRESETS:
            raise ValueError(f"`name` is {name!r}, which is not a preset. Choose one of: {', '.join(PRESETS)}.")
        for key in overrides:
            if not cls.knows(key):
                raise ValueError(f"`{key}` is not a field of {cls.__name__}.{cls.nearest_field(key)}")
        # Overrides may use the paper's names, which must win over the preset's canonical ones.
        canonical = {cls.attribute_map.get(key, key): value for key, value in overrides.items()}
        return cls(**{**PRESETS[name], **canonical})

    @classmethod
    def knows(cls, name: str) -> bool:
        """Whether a field, its alias or an entry of transformers' own has this name."""
        names = {each.name for each in dataclasses.fields(cls)} | set(cls.attribute_map) | UNDECLARED
        return name in names or name == "num_hidden_layers" or name.startswith("_") or hasattr(PreTrainedConfig, name)

    @classmethod
    def nearest_field(cls, name: str) -> str:
        """A sentence that says which field may be meant by another name; nothing where none is near."""
        if name in OTHER_NAMES:
            return f" Use `{OTHER_NAMES[name]}`."
        names = [*(each.name for each in dataclasses.fields(cls)), *cls.attribute_map]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        return f" Did you mean `{near[0]}`?" if near else ""

    @property
    def query_key_size(self) -> int:
        """d_k: `qk_head_dim`, or its share of `hidden_size`."""
        return self.qk_head_dim if self.qk_head_dim is not None else self.hidden_size // self.num_attention_heads

    @property
    def value_size(self) -> int:
        """d_v: `v_head_dim`, or its share of `hidden_size`."""
        return self.v_head_dim if self.v_head_dim is not None else self.hidden_size // self.num_attention_heads

    @property
    def target_vocab_size(self) -> int:
        """The entries that the decoder reads and writes: `decoder_vocab_size`, or those that both sides share."""
        return self.vocab_size if self.decoder_vocab_size is None else self.decoder_vocab_size

    @property
    def has_encoder(self) -> bool:
        """Whether a model of this configuration has an encoder."""
        return self.is_encoder_decoder or not self.is_decoder

    @property
    def has_decoder(self) -> bool:
        """Whether a model of this configuration has a decoder."""
        return self.is_encoder_decoder or self.is_decoder

    @property
    def position_limit(self) -> int | None:
        """The longest sequence: the length of learned positions; sinusoids have no limit."""
        return self.max_position_embeddings if self.position_embedding_type == "learned" else None

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "VanillaTransformerConfig":
        """
        The configuration of one stack: with `decoder=True` a copy whose `num_hidden_layers` is `decoder_layers`.

        Caches are sized by it, for a decoder-only head as well, whose `is_encoder_decoder` is `False`.
        """
        if not decoder or encoder:
            return self
        decoder_config = copy.deepcopy(self)
        decoder_config.encoder_layers = self.decoder_layers
        decoder_config.vocab_size = self.target_vocab_size
        return decoder_config

    def with_stacks(self, encoder: bool, decoder: bool) -> "VanillaTransformerConfig":
        """The configuration of a model of both stacks, or of one of them: a copy, unless it is that already."""
        if (self.has_encoder, self.has_decoder) == (encoder, decoder):
            return self
        config = copy.deepcopy(self)
        config.is_encoder_decoder = encoder and decoder
        config.is_decoder = decoder and not encoder
        if not config.is_encoder_decoder:  # one stack does not translate, and has one vocabulary
            config.__dict__.pop("custom_pipelines", None)
            config.vocab_size = self.target_vocab_size if decoder else self.vocab_size
            config.decoder_vocab_size = None
        return config

    def to_dict(self) -> Named:
        """
        As in transformers, with the pipelines whose code travels with a saved model.

        A folder without code names none, so that `pipeline` takes those that the package has registered.
        """
        output = super().to_dict()
        if self.is_encoder_decoder:
            output.setdefault("custom_pipelines", copy.deepcopy(CUSTOM_PIPELINES))
        for pipeline in output.get("custom_pipelines", {}).values():  # in which `pipeline` puts the classes themselves
            pipeline["pt"] = [name if isinstance(name, str) else name.__name__ for name in pipeline.get("pt", ())]
        return output

    def validate_architecture(self) -> None:
        """Check that the sizes fit together; run on construction and before saving."""
        for name in (
            "vocab_size",
            "hidden_size",
            "encoder_layers",
            "decoder_layers",
            "num_attention_heads",
            "qk_head_dim",
            "v_head_dim",
            "intermediate_size",
            "max_position_embeddings",
            "decoder_vocab_size",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}. Give a whole number of at least 1.")
            most = MOST_LAYERS if name.endswith("layers") else MOST_SIZE
            if value is not None and value > most and name != "max_position_embeddings":
                raise ValueError(f"`{name}` is {value}. Give at most {most:,}: larger models are not built.")
        for name in ("vocab_size", "decoder_vocab_size"):
            size = getattr(self, name)
            if size is not None and self.pad_token_id is not None and not 0 <= self.pad_token_id < size:
                raise ValueError(
                    f"`pad_token_id` is {self.pad_token_id} with a `{name}` of {size}. Give the id of an entry, or "
                    "None for a model without padding."
                )
        for name in ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"`{name}` is {value}. Give a probability: at least 0 and below 1.")
        if not 0 < self.attention_init_gain < math.inf:
            raise ValueError(f"`attention_init_gain` is {self.attention_init_gain}. Give a positive, finite number.")
        if (self.qk_head_dim is None or self.v_head_dim is None) and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`num_attention_heads` is {self.num_attention_heads}, which does not divide `hidden_size` "
                f"{self.hidden_size}. Choose a divisor, or set `qk_head_dim` and `v_head_dim`."
            )
        for name, (first, other) in CHOICES.items():
            if getattr(self, name) not in (first, other):
                raise ValueError(f"`{name}` is {getattr(self, name)!r}. Choose {first!r} or {other!r}.")
        if self.position_embedding_type == "learned" and self.max_position_embeddings in (None, NO_POSITION_LIMIT):
            raise ValueError(
                f"`max_position_embeddings` is {self.max_position_embeddings} with `position_embedding_type` "
                "'learned'. Give the length of the longest sequence."
            )
        if self.position_embedding_type == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(
                f"`hidden_size` is {self.hidden_size}. Sinusoids come in pairs of sine and cosine: give an even size."
            )
        self.validate_sinusoids()
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"`hidden_act` is {self.hidden_act!r}. Choose one of: {', '.join(sorted(ACT2FN))}.")

    def validate_sinusoids(self) -> None:
        """Check the sinusoids of other implementations, which learned positions lack."""
        if self.position_offset < 0:
            raise ValueError(f"`position_offset` is {self.position_offset}. Give 0 or more.")
        if self.position_embedding_type == "learned":
            for name, default in (("sinusoid_type", "paper"), ("position_offset", 0)):
                if getattr(self, name) != default:
                    raise ValueError(
                        f"`{name}` is {getattr(self, name)!r} with `position_embedding_type` 'learned', where it has "
                        "no effect. Leave it out."
                    )
        if self.sinusoid_type == "tensor2tensor" and self.hidden_size < 4:
            raise ValueError(
                f"`hidden_size` is {self.hidden_size} with `sinusoid_type` 'tensor2tensor', whose wavelengths need at "
                "least 4."
            )


# ---------------------------------------------------------------------------------------------------------------------
# Checks of inputs
# ---------------------------------------------------------------------------------------------------------------------


def check_mask(
    mask: torch.Tensor, states: torch.Tensor, past_length: int | torch.Tensor = 0, may_be_longer: bool = False
) -> None:
    """Refuse a mask that does not fit states (B, T, D) after `past_length` others, and a 4-D one of whole numbers."""
    if mask.dim() == 4 and not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise ValueError(
            f"A 4-D `attention_mask` must be boolean (true: attend) or floating-point (added to the scores), but is "
            f"{mask.dtype}."
        )
    rows, length = states.shape[0], states.shape[1] + int(past_length)
    columns = mask.shape[-1]
    fits = columns == length or (may_be_longer and columns > length)
    if mask.dim() != 4 and (mask.dim() != 2 or mask.shape[0] != rows or not fits):
        raise ValueError(
            f"`attention_mask` has the shape {tuple(mask.shape)} for {rows} rows of {length} tokens, those in a cache "
            "included. Give 1 for each token and 0 for padding."
        )


def check_source(
    encoded: torch.Tensor | None, mask: torch.Tensor | None, states: torch.Tensor, has_source: bool
) -> None:
    """Refuse a source (B, S, D) that a decoder of states (B, T, D) lacks or cannot read, and a wrong mask."""
    if encoded is None and has_source:
        raise ValueError("The decoder got no source: give it `encoder_hidden_states`.")
    if encoded is not None and not has_source:
        raise ValueError(
            "`encoder_hidden_states` were given to a decoder that has no cross-attention. Leave them out."
        )
    if encoded is None or torch.compiler.is_compiling():
        return
    if encoded.shape[0] != states.shape[0]:
        raise ValueError(
            f"The source has {encoded.shape[0]} rows and the target {states.shape[0]}. Give one row of each for "
            "every sentence."
        )
    if mask is not None:
        check_mask(mask, encoded)


def check_labels(labels: torch.Tensor | None, number: int) -> None:
    """
    Refuse labels outside of 0 to `number` - 1 that are not -100.

    On a CPU: looking at them on a GPU would wait for it in every step, and there the kernel looks.
    """
    if labels is None or labels.device.type != "cpu" or labels.is_floating_point() or torch.compiler.is_compiling():
        return
    outside = (labels >= number) | ((labels < 0) & (labels != IGNORED_LABEL))
    if outside.any():
        raise ValueError(
            f"`labels` has {labels[outside][0].item()}: give 0 to {number - 1}, or {IGNORED_LABEL} for what is not "
            "to be predicted."
        )


def check_one_vocabulary(config: VanillaTransformerConfig) -> None:
    """Refuse to resize the embeddings of a model whose source and target have a vocabulary each."""
    if config.decoder_vocab_size is not None:
        raise ValueError(
            f"`decoder_vocab_size` must be None to resize the vocabulary, but is {config.decoder_vocab_size}: source "
            "and target have their own, and one number does not say which. Import a model with a joint one."
        )


def check_answers(name: str, positions: torch.Tensor | None) -> None:
    """Refuse negative positions, only on a CPU, as `check_labels` does."""
    if positions is None or positions.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if (positions < 0).any():
        raise ValueError(f"`{name}` has {int(positions.min())}. Give positions of tokens, counted from 0.")


def leave_out_padding(positions: torch.Tensor | None, padding: torch.Tensor) -> torch.Tensor | None:
    """Positions (B,) of which those in padding (B, S) are S, which the loss leaves out."""
    if positions is None:
        return None
    positions = positions.to(padding.device).flatten()
    longest = padding.shape[1]
    is_outside = padding.gather(1, positions.clamp(0, longest - 1).unsqueeze(1)).squeeze(1)
    return positions.masked_fill(is_outside, longest)


def real_tokens(attention_mask: torch.Tensor) -> torch.Tensor:
    """A mask (B, S) that says which tokens are not padding, as booleans; no other shape is taken."""
    if attention_mask.dim() != 2:
        raise ValueError(
            f"`attention_mask` has the shape {tuple(attention_mask.shape)}, which does not mark single tokens as "
            "padding. Give one of shape (B, S)."
        )
    return attention_mask != 0


def check_inputs(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, width: int) -> None:
    """Refuse anything but one of ids (B, T) and embeddings (B, T, `width`)."""
    if (input_ids is None) == (inputs_embeds is None):
        given = "neither" if input_ids is None else "both"
        raise ValueError(f"Give exactly one of `input_ids` and `inputs_embeds` to each stack; {given} was given.")
    if input_ids is not None and input_ids.dim() != 2:
        raise ValueError(f"`input_ids` is {tuple(input_ids.shape)}. Give a row of ids for each text: (B, T).")
    if inputs_embeds is not None and (inputs_embeds.dim() != 3 or inputs_embeds.shape[-1] != width):
        raise ValueError(
            f"`inputs_embeds` is {tuple(inputs_embeds.shape)}. Give vectors of `hidden_size` for each text: "
            f"(B, T, {width})."
        )


def check_length(
    limit: int, states: torch.Tensor, position_ids: torch.Tensor | None, past_length: int | torch.Tensor | None
) -> None:
    """Refuse states (B, T, D) at positions that are not below `limit`."""
    counted = states.shape[1] + (0 if past_length is None else past_length)
    longest = counted if position_ids is None else position_ids.max() + 1
    if longest > limit:
        raise ValueError(
            f"A sequence has {int(longest)} positions and `max_position_embeddings` is {limit}: shorten it "
            "or use sinusoidal positions, which have no limit."
        )


def check_one_stack(cache: Cache | None, **of_both: object) -> None:
    """Refuse what only a model of both stacks reads, and the `cache` that an encoder is given."""
    refuse_lost_cache(CACHE_NAME, cache)
    for name, value in of_both.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be None for a model of one stack, which reads `input_ids`, but is given. Leave it out."
            )


def check_source_mask(attention_mask: torch.Tensor | None) -> None:
    """Refuse a mask with a row for each position of the source, for a decoder that reads this source."""
    if attention_mask is not None and attention_mask.dim() == 4 and attention_mask.shape[2] != 1:
        raise ValueError(
            f"`attention_mask` has the shape {tuple(attention_mask.shape)}: a row for each position of the source, "
            "but cross-attention needs a row for each position of the target. Encode with this mask, by "
            "`get_encoder()`, and give `encoder_outputs` with a mask for cross-attention."
        )


def check_cache(cache: Cache | None, has_source: bool) -> Cache | None:
    """Return the cache that a decoder needs, made of one for its own keys and values; refuse any other."""
    if isinstance(cache, DynamicCache) and has_source:
        cache = EncoderDecoderCache(cache, DynamicCache())
    wanted = EncoderDecoderCache if has_source else Cache
    if cache is not None and not isinstance(cache, wanted):
        given = type(cache).__name__
        raise ValueError(
            f"`{CACHE_NAME}` must be transformers' `{wanted.__name__}`, but is a {given}. Give one, or none."
        )
    return cache


def check_padding_side(labels: torch.Tensor) -> None:
    """Refuse labels (B, T) with padding on the left, only on a CPU."""
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # a GPU would have to be waited for
        is_real = labels != IGNORED_LABEL
        if (is_real.any(dim=-1) & ~is_real[:, 0]).any():
            raise ValueError(
                f"`labels` has a row that begins with {IGNORED_LABEL}: the start token would come before padding. "
                'Pad them on the right, as a tokenizer with `padding_side="right"` does, or give `decoder_input_ids`.'
            )


__all__ = ["VanillaTransformerConfig"]

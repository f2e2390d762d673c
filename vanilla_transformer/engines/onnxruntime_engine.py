"""
Translation by onnxruntime: the original's own search, and all of its settings, over exported graphs.

`OnnxSteps` is the interface that the search is written against: start, step, move beams, keep sentences. Where a
request asks for more than that, such as sampling, the whole model is called as transformers does.

Shapes: B sentences, N rows, S source, T target, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from ..configuration_vanilla_transformer import (
    CACHE_NAME,
    Named,
    VanillaTransformerConfig,
    accept_keywords,
    check_length,
)
from ..errors import ModelFolderError, SettingsError
from ..exported import Exported
from ..generation_vanilla_transformer import Request, VanillaTransformerGenerationMixin
from ..modeling_vanilla_transformer import VanillaTransformerPreTrainedModel, shift_tokens_right
from ..pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NAME = "onnxruntime"
# The graphs, and inputs that tell each from the other.
INPUTS = {
    "encoder_model": ("input_ids", "attention_mask"),
    "decoder_model_merged": ("input_ids", "encoder_hidden_states", "encoder_attention_mask"),
}
PARTS = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")


class OnnxEncoder(nn.Module):
    """The encoder's graph, called as an encoder of transformers."""

    main_input_name = "input_ids"

    def __init__(self, session: "InferenceSession", position_limit: int | None):
        super().__init__()
        self.session, self.position_limit = session, position_limit

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: object) -> BaseModelOutput:
        """input_ids and attention_mask (B, S) -> states (B, S, D)."""
        if self.position_limit is not None:
            check_length(self.position_limit, input_ids, None, None)
        feeds = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.long().numpy()}
        return BaseModelOutput(last_hidden_state=torch.from_numpy(self.session.run(None, feeds)[0]))


class OnnxSteps:
    """The decoder's graph on one token of every row after the other; few rows of its cache move."""

    def __init__(self, model: "OnnxModel", request: Request):
        count, source = request.encoded.shape[:2]
        mask = request.mask if request.mask is not None else torch.ones(count, source)
        self.model = model
        self.encoded, self.mask = request.encoded, mask.long()
        self.past: dict[str, torch.Tensor] = {}
        self.copies = 0  # of each sentence, which the first step tells

    def step(self, ids: torch.Tensor) -> Iterable[torch.Tensor]:
        if not self.past:
            self.copies = len(ids) // len(self.encoded)
            self.encoded, self.mask = (each.repeat_interleave(self.copies, 0) for each in (self.encoded, self.mask))
        logits, present, _ = self.model.decode(ids[:, -1:], self.encoded, self.mask, self.past)
        self.past.update(present)
        return [logits[:, -1]]

    def move(self, rows: torch.Tensor) -> None:
        places = (rows != torch.arange(len(rows))).nonzero().squeeze(-1)
        if len(places):
            for name, states in self.past.items():
                if ".decoder." in name:  # all beams of a sentence share the source
                    states[places] = states[rows[places]]

    def keep(self, order: torch.Tensor) -> None:
        rows = (order.unsqueeze(-1) * self.copies + torch.arange(self.copies)).flatten()
        self.past = {name: states[rows] for name, states in self.past.items()}
        self.encoded, self.mask = self.encoded[rows], self.mask[rows]


class OnnxModel(VanillaTransformerGenerationMixin, VanillaTransformerPreTrainedModel):
    """
    The exported graphs as a model that translates: `generate` and all of its settings, and calls for logits.

    Args:
        encoder, decoder: sessions of onnxruntime.
        config, settings: those of the original.
    """

    _can_compile_fullgraph = False

    def __init__(
        self,
        encoder: "InferenceSession",
        decoder: "InferenceSession",
        config: VanillaTransformerConfig,
        settings: GenerationConfig,
    ):
        super().__init__(config)
        self.encoder, self.session = OnnxEncoder(encoder, config.position_limit), decoder
        self.generation_config = settings
        self.empty = {
            each.name: torch.zeros(1, each.shape[1], 0, each.shape[3])
            for each in decoder.get_inputs()
            if each.name.startswith("past_key_values.")
        }
        self.eval()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """labels (B, T) -> decoder_input_ids (B, T), shifted right."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        return self.encoder

    def decode(
        self,
        ids: torch.Tensor,
        encoded: torch.Tensor,
        mask: torch.Tensor,
        past: dict[str, torch.Tensor],
        attentions: bool = False,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], tuple[torch.Tensor, ...]]:
        """
        Run the decoder's graph on tokens (N, T).

        Args:
            past: keys and values of the steps before; nothing at the first one.
            attentions: whether to return the weights of attention to the source.

        Returns:
            logits (N, T, V), keys and values with those of this step (those of the source at the first one only), and
            weights (N, H, T, S) of each layer.

        Raises:
            ValueError: past the end of learned positions.
        """
        if self.config.position_limit is not None:
            before = next((states.shape[2] for name, states in past.items() if ".decoder." in name), 0)
            check_length(self.config.position_limit, ids, None, before)
        names = [name for name in self.empty if not past or ".decoder." in name]
        full = past or {name: each.expand(len(ids), -1, -1, -1) for name, each in self.empty.items()}
        feeds = {
            "encoder_attention_mask": mask.numpy(),
            "encoder_hidden_states": encoded.numpy(),
            "input_ids": ids.numpy(),
            **{name: states.numpy() for name, states in full.items()},
        }
        layers = range(self.config.decoder_layers if attentions else 0)
        wanted = [
            "logits",
            *(name.replace("past_key_values", "present") for name in names),
            *(f"cross_attentions.{layer}" for layer in layers),
        ]
        logits, *others = map(torch.from_numpy, self.session.run(wanted, feeds))
        states = dict(zip(names, others, strict=False))
        return logits, states, tuple(others[len(names) :])

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        cache: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        **kwargs: object,
    ) -> Seq2SeqLMOutput:
        """As the original's, without gradients, padding in front of the target, and states but cross-attentions."""
        if decoder_attention_mask is not None and not bool(decoder_attention_mask.all()):
            raise SettingsError(
                f"`decoder_attention_mask` must be all ones with `--engine {NAME}`, but has zeros. Give translations "
                "that begin with equally many tokens."
            )
        if kwargs.get("output_hidden_states"):
            raise SettingsError(
                f"`output_hidden_states` must be left out with `--engine {NAME}`. Use `--engine torch`."
            )
        if kwargs.get("labels") is not None:
            raise SettingsError(
                f"`labels` must be left out with `--engine {NAME}`, which computes no loss. Give `decoder_input_ids`, "
                "and take the loss of the logits."
            )
        if decoder_input_ids is None:
            raise SettingsError("`decoder_input_ids` must be given, but is None. Begin with the start token.")
        if encoder_outputs is None:
            if input_ids is None:
                raise SettingsError(
                    "`input_ids` must be given where `encoder_outputs` is not, but is None. Give one of them."
                )
            if attention_mask is None:
                attention_mask = torch.ones_like(input_ids)
            encoder_outputs = self.encoder(input_ids, attention_mask)
        encoded = encoder_outputs[0]
        mask = torch.ones(encoded.shape[:2], dtype=torch.long) if attention_mask is None else attention_mask.long()
        length = 0 if cache is None else cache.get_seq_length()
        check_positions(kwargs.get("decoder_position_ids"), length, decoder_input_ids.shape[1])
        past = {} if cache is None or length == 0 else self.read_cache(cache)
        attends = bool(kwargs.get("output_attentions"))
        ids = decoder_input_ids.contiguous()
        logits, present, attentions = self.decode(ids, encoded.contiguous(), mask, past, attends)
        if cache is not None:
            self.write_cache(cache, present, length)
        return Seq2SeqLMOutput(
            logits=logits,
            **{CACHE_NAME: cache},
            encoder_last_hidden_state=encoded,
            cross_attentions=attentions if attends else None,
        )

    def read_cache(self, cache: EncoderDecoderCache) -> dict[str, torch.Tensor]:
        """Return keys and values of a cache under the names of the graph."""
        past = {}
        for index in range(self.config.decoder_layers):
            own, source = cache.self_attention_cache.layers[index], cache.cross_attention_cache.layers[index]
            states = (own.keys, own.values, source.keys, source.values)
            for part, each in zip(PARTS, states, strict=True):
                past[f"past_key_values.{index}.{part}"] = each.contiguous()
        return past

    def write_cache(self, cache: EncoderDecoderCache, present: dict[str, torch.Tensor], length: int) -> None:
        """Write keys and values after the first `length` tokens, and those of the source once, into a cache."""
        for index in range(self.config.decoder_layers):
            parts = [present.get(f"past_key_values.{index}.{part}") for part in PARTS]
            key, value, source_key, source_value = parts
            assert key is not None and value is not None
            cache.self_attention_cache.update(key[:, :, length:], value[:, :, length:], index)
            if source_key is not None:
                cache.cross_attention_cache.update(source_key, source_value, index)
                cache.is_updated[index] = True

    def _can_be_fast(
        self, input_ids: torch.Tensor, settings: GenerationConfig, synced_gpus: bool, model_kwargs: Named
    ) -> bool:
        given = {name for name, value in model_kwargs.items() if value is not None}
        cache = model_kwargs.get(CACHE_NAME)
        return (
            input_ids.shape[1] == 1
            and not (settings.return_dict_in_generate or getattr(cache, "_is_user_defined", False))
            and given <= {"attention_mask", "encoder_outputs", CACHE_NAME, "use_cache", "logits_to_keep"}
        )

    def _start_steps(self, request: Request) -> OnnxSteps:
        return OnnxSteps(self, request)


def check_positions(positions: object, before: int, count: int) -> None:
    """
    Refuse positions (B, T) of the target that are not those which the graph counts.

    Args:
        before: tokens in the cache.
        count: T.

    Raises:
        SettingsError: for others.
    """
    counted = torch.arange(before, before + count)
    if positions is not None and not (
        isinstance(positions, torch.Tensor)
        and positions.shape[-1] == count
        and bool((positions.cpu() == counted).all())
    ):
        raise SettingsError(
            f"`decoder_position_ids` must count from {before} with `--engine {NAME}`, but do not. Leave them out."
        )


def open_session(file: Path, inputs: Sequence[str]) -> "InferenceSession":
    """
    Open a graph, which must have some inputs.

    Raises:
        ModelFolderError: if it is not there, is damaged or is another graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    # Threads that wait for the next product would take the time of torch's, which choose the tokens.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not file.is_file():
        raise ModelFolderError(f"{file.parent.parent} has no {file.parent.name}/{file.name}. Copy the folder again.")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        missing = {*inputs} - {each.name for each in session.get_inputs()}
        if missing:
            raise ValueError(f"its graph has no input {min(missing)}")
        return session
    except Exception as error:  # onnxruntime's own have no common class
        said = str(error).strip().partition("\n")[0].removesuffix(".")
        raise ModelFolderError(f"{file} is damaged: {said}. Copy the folder again, or export it anew.") from error


def load(
    folder: Path, exported: Exported, tokenizer: PreTrainedTokenizerBase, device: str
) -> VanillaTransformerTranslationPipeline:
    """Return a translator over an exported folder."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            'onnxruntime is not installed. Install it: pip install "vanilla-transformer[onnx]"'
        ) from error
    if device != "cpu":
        raise SettingsError(f"`device` must be cpu with `--engine {NAME}`, but is {device}. Use cpu.")
    suffix = "_quantized" if exported.precision == "int8" else ""
    encoder, decoder = (
        open_session(folder / "onnx" / f"{name}{suffix}.onnx", inputs) for name, inputs in INPUTS.items()
    )
    model = OnnxModel(encoder, decoder, exported.model_config(), exported.settings())
    return VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")

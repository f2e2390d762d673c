"""
The same model in ONNX: for onnxruntime, and in the folder that transformers.js loads in a browser and under node.

The folder says that it holds a Marian model, the one type of which transformers.js only reads the sizes: the graphs
themselves are ours.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConversionError
from ..exported import PRECISIONS
from .folder import (
    OWN_TOKENIZERS,
    check_exportable,
    describe_export,
    read_original,
    to_stock_tokenizer,
    write_target,
)
from .onnx_graphs import BASE, DIGITS, PARTS, DecoderGraph, EncoderGraph

# The endings that transformers.js gives to a file's name.
SUFFIXES = {"float32": "", "int8": "_quantized"}
PARTS_OF_EXPORT = ("the encoder's graph", "the decoder's graph", "weights in int8")  # the last one for int8 only
ENCODER, DECODER = "encoder_model", "decoder_model_merged"
OPSET = 18
MAX_POSITIONS = BASE**DIGITS
MAX_LENGTH = 512  # of a translation by transformers.js
JAVASCRIPT_DIFFERENCES = (
    "transformers.js has greedy search and sampling only. `vanilla-transformer translate --engine onnxruntime` "
    "searches as the original does, with all of its settings but `weight_precision`; docs/browser/ has the paper's "
    "search for a page.",
    "transformers.js reads special tokens in a text, such as `</s>`, as the tokens, and does not fill up translations "
    "of a batch that are finished: translate sentence by sentence.",
    "By itself transformers.js ends a translation after {limit} tokens, whatever the length of its source.",
)
PRECISION_DIFFERENCE = "It has no `weight_precision`, which is {!r} in the original's settings."
NO_JAVASCRIPT = (
    "transformers.js does not load it: it reads a tokenizer.json, and {} has other files. `vanilla-transformer "
    "translate --engine onnxruntime` runs it, with all settings of the original but `weight_precision`."
)
OPTIMUM_DIFFERENCE = (
    "optimum's ORTModelForSeq2SeqLM does not load it: export `--to marian` and run optimum-cli on that."
)
INT8_DIFFERENCE = (
    "Weights are rounded to 8 bits, and what they multiply while it runs, by one scale for the whole batch: some "
    "translations differ, and one can depend on the sentences beside it."
)


def import_libraries(precision: str) -> None:
    """
    Look for what an export needs.

    Raises:
        ConversionError: where a library is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        if precision == "int8":
            import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise ConversionError(
            f'{error.name} is not installed. Install it: pip install "vanilla-transformer[onnx]"'
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the remarks of torch and of the quantiser from the screen."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@torch.no_grad()
def write_graphs(model: PreTrainedModel, folder: Path, begin: Callable[[int], object] = lambda part: None) -> None:
    """
    Write `encoder_model.onnx` and `decoder_model_merged.onnx`, in float32.

    Args:
        begin: is told which of `PARTS_OF_EXPORT` begins.

    Raises:
        ConversionError: for what ONNX cannot hold.
    """
    check_exportable(model, "ONNX")
    config, layers = model.config, model.config.decoder_layers
    batch = Dim("batch_size", min=1)
    source, target = Dim("encoder_sequence_length", min=1), Dim("decoder_sequence_length", min=1)
    past, kept = Dim("past_decoder_sequence_length", min=0), Dim("past_encoder_sequence_length", min=0)
    ids, mask = torch.full((2, 7), config.eos_token_id), torch.ones(2, 7, dtype=torch.long)
    options: dict[str, Any] = {
        "dynamo": True,
        "opset_version": OPSET,
        "external_data": False,
        "verbose": False,
        "optimize": True,
    }
    heads, sizes = config.num_attention_heads, (config.query_key_size, config.value_size)
    # A tensor for each of them: torch takes one that comes twice for one input.
    caches = [torch.zeros(2, heads, length, size) for _ in range(layers) for length in (3, 5) for size in sizes]
    names = [f"{layer}.{part}" for layer in range(layers) for part in PARTS]
    with quiet():
        begin(0)
        torch.onnx.export(
            EncoderGraph(model).eval(),
            (ids, mask),
            str(folder / f"{ENCODER}.onnx"),
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_shapes={"input_ids": {0: batch, 1: source}, "attention_mask": {0: batch, 1: source}},
            **options,
        )
        begin(1)
        torch.onnx.export(
            DecoderGraph(model).eval(),
            (mask, ids[:, :2], torch.zeros(2, 7, config.hidden_size), caches),
            str(folder / f"{DECODER}.onnx"),
            input_names=[
                *("encoder_attention_mask", "input_ids", "encoder_hidden_states"),
                *(f"past_key_values.{name}" for name in names),
            ],
            output_names=[
                "logits",
                *(f"present.{name}" for name in names),
                *(f"cross_attentions.{layer}" for layer in range(layers)),
            ],
            dynamic_shapes={
                "encoder_attention_mask": {0: batch, 1: source},
                "input_ids": {0: batch, 1: target},
                "encoder_hidden_states": {0: batch, 1: source},
                "past": [{0: batch, 2: length} for length in (past, past, kept, kept)] * layers,
            },
            **options,
        )


def quantize(folder: Path) -> None:
    """Put graphs in int8 in the place of those in float32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in (ENCODER, DECODER):
        plain = folder / f"{name}.onnx"
        fold_transposed(plain)
        with quiet():
            quantize_dynamic(
                str(plain),
                str(folder / f"{name}{SUFFIXES['int8']}.onnx"),
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["MatMul", "Gather"],
                extra_options={"MatMulConstBOnly": True},
            )
        plain.unlink()


def fold_transposed(file: Path) -> None:
    """
    Write transposed constants out.

    The output projection that shares the embeddings' matrix is a transposition of it, which the quantiser leaves in
    float32: the largest product of a step.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(file))
    constants = {each.name: each for each in model.graph.initializer}
    for node in [each for each in model.graph.node if each.op_type == "Transpose" and each.input[0] in constants]:
        order = next((list(each.ints) for each in node.attribute if each.name == "perm"), None)
        values = numpy_helper.to_array(constants[node.input[0]]).transpose(order)
        model.graph.initializer.append(numpy_helper.from_array(values.copy(), node.output[0]))
        model.graph.node.remove(node)
    onnx.save(model, str(file))


def most_tokens(model: PreTrainedModel) -> int:
    """Return the most tokens of a translation by transformers.js, with the start token."""
    return min(MAX_LENGTH, model.config.position_limit or MAX_LENGTH)


def write_settings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what transformers.js reads: configuration, settings and tokenizer."""
    config = model.config
    ids = {
        name: getattr(config, name)
        for name in ("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id")
    }
    # By hand: `MarianConfig` refuses shapes that the graphs hold.
    of_marian = {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.target_vocab_size,
        "d_model": config.hidden_size,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "num_hidden_layers": config.encoder_layers,
        "encoder_attention_heads": config.num_attention_heads,
        "decoder_attention_heads": config.num_attention_heads,
        "encoder_ffn_dim": config.intermediate_size,
        "decoder_ffn_dim": config.intermediate_size,
        "activation_function": config.hidden_act,
        **ids,
    }
    stock = to_stock_tokenizer(tokenizer, config.position_limit or MAX_POSITIONS)
    stock.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if stock is not tokenizer:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name that transformers.js knows
    files = {
        "config.json": of_marian,
        "generation_config.json": {**ids, "num_beams": 1, "max_length": most_tokens(model)},
        "tokenizer_config.json": settings,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export_onnx(
    folder: str | Path,
    output: str | Path,
    precision: str = "float32",
    report: Callable[[str], object] = lambda text: None,
) -> tuple[str, ...]:
    """
    Write the model in a folder in ONNX, with its tokenizer, its scores, its pictures, its licence and a card.

    The folder is written aside and gets its name when it is whole.

    Args:
        folder: as training or `save_pretrained` wrote it.
        output: a folder that does not exist yet.
        precision: of the weights, one of `PRECISIONS`.
        report: is told what begins and how many parts are done, since they take from seconds to minutes.

    Returns:
        what it does differently.

    Raises:
        ModelFolderError: if the folder holds no usable model.
        ConversionError: for what ONNX cannot hold, where a library is not installed, and if `output` exists or cannot
            be written.
    """
    folder, output = Path(folder), Path(output)
    if precision not in PRECISIONS:
        raise ConversionError(f"`precision` must be one of {', '.join(PRECISIONS)} for ONNX, but is {precision!r}.")
    import_libraries(precision)
    model, tokenizer = read_original(folder)
    check_exportable(model, "ONNX")
    in_javascript = not isinstance(tokenizer, OWN_TOKENIZERS)
    # Weights of another precision would be torch's: with this setting every translation would be refused.
    weights = vars(model.generation_config).pop("weight_precision", None)
    of_javascript = tuple(each.format(limit=most_tokens(model)) for each in JAVASCRIPT_DIFFERENCES)
    differences = (
        *(of_javascript if in_javascript else (NO_JAVASCRIPT.format(type(tokenizer).__name__),)),
        OPTIMUM_DIFFERENCE,
        *((PRECISION_DIFFERENCE.format(weights),) if weights is not None else ()),
        *((INT8_DIFFERENCE,) if precision == "int8" else ()),
    )

    count = 3 if precision == "int8" else 2

    def begin(part: int) -> None:
        report(f"ONNX: {part} of {count} parts done; writing {PARTS_OF_EXPORT[part]} ...")

    def write(unfinished: Path) -> None:
        graphs = unfinished / "onnx"
        graphs.mkdir()
        write_graphs(model, graphs, begin)
        if precision == "int8":
            begin(2)
            quantize(graphs)
        write_settings(model, tokenizer, unfinished)
        describe_export(model, "onnx", precision, MAX_POSITIONS).save(unfinished)

    about = {"form": "onnx", "precision": precision, "differences": differences, "in_javascript": in_javascript}
    write_target(folder, output, write, **about)
    return differences

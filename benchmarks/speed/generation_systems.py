"""
The systems whose translation is compared: ours, and others with the same weights.

A system is a function of our model that returns what translates: source ids (B, S), beams, tokens to generate -> ids.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.conversion.marian import to_marian
from vanilla_transformer.conversion.to_ctranslate2 import build_spec

PADDING, START, END = 1, 0, 2
# Of the length, and the end of the search, as MarianMTModel has them.
SEARCH = {"length_penalty_type": "power", "early_stopping": False}
Translate = Callable[[torch.Tensor, int, int], list[list[int]]]


class Unchanged(LogitsProcessor):
    """Changes nothing, but may look at where rows are in the batch, so that they stay there."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


def by_generate(model: torch.nn.Module, **more: object) -> Translate:
    """`generate` of a model of transformers."""
    model.eval()

    def translate(source: torch.Tensor, beams: int, tokens: int) -> list[list[int]]:
        mask = (source != PADDING).long()
        settings = {"num_beams": beams, "max_new_tokens": tokens, "length_penalty": 1.0, **more}
        output: torch.Tensor = model.generate(input_ids=source, attention_mask=mask, **settings)
        return output[:, 1:].tolist()

    return translate


def ours(model: VanillaTransformerForConditionalGeneration) -> Translate:
    return by_generate(model, **SEARCH)


def ours_bfloat16(model: VanillaTransformerForConditionalGeneration) -> Translate:
    """Our model with its decoder's weights in bfloat16."""
    return by_generate(model, weight_precision="bfloat16", **SEARCH)


def ours_int8(model: VanillaTransformerForConditionalGeneration) -> Translate:
    """Our model with its decoder's weights in int8."""
    return by_generate(model, weight_precision="int8", **SEARCH)


def ours_plain(model: VanillaTransformerForConditionalGeneration) -> Translate:
    """Our model with a processor of the caller's: finished sentences stay in the batch, and no beam in its place."""
    return by_generate(model, logits_processor=LogitsProcessorList([Unchanged()]), **SEARCH)


def marian(model: VanillaTransformerForConditionalGeneration) -> Translate:
    return by_generate(to_marian(model))


def marian_bfloat16(model: VanillaTransformerForConditionalGeneration) -> Translate:
    return by_generate(to_marian(model).to(torch.bfloat16))


def ctranslate2(model: VanillaTransformerForConditionalGeneration, compute_type: str) -> Translate:
    """CTranslate2 by its own search, with tokens that are named by their ids."""
    from ctranslate2 import Translator

    names = [str(i) for i in range(model.config.vocab_size)]
    spec = build_spec(model, names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.mkdir()
        spec.validate()
        spec.optimize(quantization=compute_type)
        spec.save(str(path))
        translator = Translator(
            str(path), compute_type=compute_type, inter_threads=1, intra_threads=torch.get_num_threads()
        )

    def translate(source: torch.Tensor, beams: int, tokens: int) -> list[list[int]]:
        rows = [[names[i] for i in row if i != PADDING] for row in source.tolist()]
        results = translator.translate_batch(rows, beam_size=beams, max_decoding_length=tokens)
        return [[int(token) for token in result.hypotheses[0]] for result in results]

    return translate


GENERATION_SYSTEMS: dict[str, Callable[[VanillaTransformerForConditionalGeneration], Translate]] = {
    "ours": ours,
    "ours-bfloat16": ours_bfloat16,
    "ours-int8": ours_int8,
    "ours-plain": ours_plain,
    "marian": marian,
    "marian-bfloat16": marian_bfloat16,
    "ctranslate2": lambda model: ctranslate2(model, "float32"),
    "ctranslate2-int8": lambda model: ctranslate2(model, "int8"),
}

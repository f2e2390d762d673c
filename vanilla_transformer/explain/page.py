"""The page: one HTML file with its style, its program and the numbers of a run in it."""

import base64
import json
from importlib.resources import files
from typing import Any

import torch

from .run import Run
from .trace import Attention, Layer, Stack, Sublayer

Shown = dict[str, Any]  # what a page is filled with, as JSON holds it

LARGEST = 65504.0  # of 16 bits
BEAM_ROWS = 3  # hypotheses of a step on the page, in beams: those that are kept, and the best that are not


def write_page(explanation: Run) -> str:
    """Return the page of an explanation."""
    folder = files(__package__)
    parts = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    numbers = json.dumps(pack_explanation(explanation), ensure_ascii=False, separators=(",", ":"))
    page = parts["html"].replace("/* style */", parts["css"]).replace("/* program */", parts["js"])
    return page.replace("{/* numbers */}", numbers.replace("<", "\\u003c"))  # no text of the run ends the script


def pack(tensor: torch.Tensor) -> Shown:
    """Return a tensor as its shape and its numbers in 16 bits, as base64."""
    halves = tensor.detach().float().clamp(-LARGEST, LARGEST).to("cpu", torch.float16).contiguous()
    numbers = base64.b64encode(halves.numpy().astype("<f2").tobytes()).decode()
    return {"shape": list(tensor.shape), "numbers": numbers}


def pack_explanation(explanation: Run) -> Shown:
    """Return all that the page shows."""
    return {
        "text": explanation.text,
        "translation": explanation.translation,
        "sizes": explanation.sizes,
        "source": {"tokens": explanation.source_tokens, "ids": explanation.source_ids},
        "target": {"tokens": explanation.target_tokens, "ids": explanation.target_ids},
        "read": explanation.decoder_tokens,
        "encoder": pack_stack(explanation.encoder),
        "decoder": pack_stack(explanation.decoder),
        "candidates": [
            [[each.token, each.id, round(each.probability, 5)] for each in row] for row in explanation.candidates
        ],
        "beams": pack_beams(explanation),
    }


def pack_stack(stack: Stack) -> Shown:
    """Return the steps of an encoder or a decoder."""
    return {
        "embeddings": pack(stack.embeddings),
        "positions": pack(stack.positions),
        "input": pack(stack.input),
        "layers": [pack_layer(layer) for layer in stack.layers],
    }


def pack_layer(layer: Layer) -> Shown:
    """Return the steps of a layer."""
    sublayers = {"self": layer.self_attention, "cross": layer.cross_attention, "forward": layer.feed_forward}
    return {name: pack_sublayer(each) for name, each in sublayers.items() if each is not None}


def pack_sublayer(sublayer: Sublayer) -> Shown:
    """Return the steps of a sublayer; the page adds its input and its output by itself."""
    packed = {"output": pack(sublayer.output), "norm": pack(sublayer.norm)}
    if sublayer.attention is not None:
        packed["attention"] = pack_attention(sublayer.attention)
    if sublayer.inner is not None:
        packed["inner"] = pack(sublayer.inner)
    return packed


def pack_attention(attention: Attention) -> Shown:
    """Return the steps of an attention."""
    names = ("queries", "keys", "values", "products", "scores", "weights", "heads")
    packed: Shown = {name: pack(getattr(attention, name)) for name in names}
    return {**packed, "allowed": attention.allowed.int().tolist()}


def pack_beams(explanation: Run) -> list[list[Shown]]:
    """Return the steps of the search, each with its kept hypotheses and the best of the others."""
    beams = max((sum(each.is_kept for each in step) for step in explanation.beams), default=0)
    rows: list[list[Shown]] = []
    before: list[list[str]] = [[]]  # the tokens of the beams of the step before
    for step, lasts in zip(explanation.beams, explanation.beam_tokens, strict=True):
        tokens = [[*before[each.parent], last] for each, last in zip(step, lasts, strict=True)]
        rows.append(
            [
                {
                    "tokens": words,
                    "logP": round(each.log_probability, 4),
                    "score": round(each.score, 4),
                    "parent": each.parent,
                    "finished": each.is_finished,
                    "kept": each.is_kept,
                }
                for each, words in list(zip(step, tokens, strict=True))[: BEAM_ROWS * beams]
            ]
        )
        before = [
            words for each, words in zip(step, tokens, strict=True) if each.is_kept and not each.is_finished
        ] or [[]]
    return rows

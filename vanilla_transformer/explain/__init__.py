"""
The model seen from inside: every step from a sentence to its translation, with the numbers of a real run.

    from vanilla_transformer.explain import explain
    explanation = explain(model, tokenizer, "How are you?")
    explanation.decoder.layers[0].cross_attention.attention.weights  # (H, T, S)
    explanation.save("page.html")  # one page, which needs no network
"""

from html import escape
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import SettingsError, TextError
from ..plots import token_texts
from .beams import Hypothesis, search_beams
from .page import write_page
from .run import Candidate, Run
from .trace import Attention, Layer, Stack, Sublayer, build_stack, recorded

MOST_TOKENS = 64  # of a side: more would not fit on a page that a person reads
CANDIDATES = 10


class Explanation(Run):
    """One sentence on its way through a model, as an object and as a page; its attributes are those of `Run`."""

    def to_html(self) -> str:
        """Return the page: HTML with its style, its program and all numbers in it."""
        return write_page(self)

    def save(self, path: str | Path) -> None:
        """Write the page to a file."""
        Path(path).write_text(self.to_html(), encoding="utf-8")

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame of its own."""
        return f'<iframe srcdoc="{escape(self.to_html())}" style="width:100%;height:720px;border:0"></iframe>'


@torch.no_grad()
def explain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    translation: str | None = None,
    num_beams: int | None = None,
) -> Explanation:
    """
    Follow a sentence through a translation model.

    Args:
        text: one sentence of at most 64 tokens.
        translation: a translation to follow in the place of the model's own; there are no beams then.
        num_beams: of the search, at least 2; the model's own number if absent.

    Raises:
        TextError: for an empty or a long text.
        SettingsError: for a model that does not translate, or fewer than 2 beams.
    """
    check_request(model, text, num_beams)
    inputs = tokenizer(text.strip(), return_tensors="pt", split_special_tokens=True)
    source = inputs.input_ids.to(model.device)
    if source.shape[1] > MOST_TOKENS:
        raise TextError(f"The text must have at most {MOST_TOKENS} tokens, but has {source.shape[1]}. Shorten it.")
    beams: list[list[Hypothesis]] = []
    if translation is None:
        was_training = model.training
        model.eval()
        chosen = num_beams or max(2, model.generation_config.num_beams or 1)
        beams, target = search_beams(model, {"input_ids": source}, chosen)
        model.train(was_training)
        target = target[:MOST_TOKENS]
    else:
        target = tokenizer(text_target=translation, return_tensors="pt", split_special_tokens=True).input_ids[0]
        if len(target) > MOST_TOKENS:
            raise TextError(
                f"`translation` must have at most {MOST_TOKENS} tokens, but has {len(target)}. Shorten it."
            )
    target = target.to(model.device)
    decoder_ids = model.prepare_decoder_input_ids_from_labels(target.unsqueeze(0))
    with recorded(model) as recorder:
        logits = model(input_ids=source, decoder_input_ids=decoder_ids, use_cache=False).logits[0].float()  # (T, V)
        stacks = [build_stack(recorder, stack) for stack in model.base_model.stacks()]
    best, ids = logits.softmax(dim=-1).topk(min(CANDIDATES, logits.shape[-1]), dim=-1)
    lasts = [[each.ids[-1] for each in step] for step in beams]
    return Explanation(
        text=text.strip(),
        translation=str(tokenizer.decode(target, skip_special_tokens=True)),
        source_tokens=token_texts(tokenizer, source[0], of_source=True),
        source_ids=source[0].tolist(),
        target_tokens=token_texts(tokenizer, target),
        target_ids=target.tolist(),
        decoder_tokens=token_texts(tokenizer, decoder_ids[0]),
        encoder=stacks[0],
        decoder=stacks[1],
        logits=logits,
        candidates=[
            [Candidate(name_token(tokenizer, each), each, value) for each, value in zip(*row, strict=True)]
            for row in zip(ids.tolist(), best.tolist(), strict=True)
        ],
        beams=beams,
        beam_tokens=[[name_token(tokenizer, each) for each in step] for step in lasts],
        sizes=describe_model(model),
    )


def check_request(model: PreTrainedModel, text: str, num_beams: int | None) -> None:
    """
    Raises:
        TextError, SettingsError: for what cannot be explained.
    """
    config = model.config
    if not (getattr(config, "model_type", "") == "vanilla_transformer" and config.is_encoder_decoder):
        raise SettingsError(f"`model` must be a translation model of this package, but is a {type(model).__name__}.")
    if not isinstance(text, str) or not text.strip():
        raise TextError("The text must be a sentence, but is empty.")
    if num_beams is not None and num_beams < 2:
        raise SettingsError(f"`num_beams` must be at least 2, but is {num_beams}. One beam does not branch.")


def name_token(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """Return one token as text."""
    return token_texts(tokenizer, torch.tensor([token_id]))[0]


def describe_model(model: PreTrainedModel) -> dict[str, int | float | bool | str]:
    """Return the sizes that the page names."""
    config = model.config
    names = (
        "hidden_size",
        "intermediate_size",
        "encoder_layers",
        "decoder_layers",
        "num_attention_heads",
        "vocab_size",
    )
    sizes: dict[str, int | float | bool | str] = {name: getattr(config, name) for name in names}
    return {
        **sizes,
        "key_size": config.query_key_size,
        "value_size": config.value_size,
        "norm_first": config.norm_first,
        "hidden_act": config.hidden_act,
        "position_embedding_type": config.position_embedding_type,
        "length_penalty": float(model.generation_config.length_penalty or 0.0),
        "parameters": model.num_parameters(),
    }


__all__ = ["Attention", "Candidate", "Explanation", "Hypothesis", "Layer", "Stack", "Sublayer", "explain"]

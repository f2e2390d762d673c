"""Transformers' own loop, to compare the search of this package with, and a processor that changes nothing."""

import contextlib

import torch
from transformers import GenerationMixin, LogitsProcessor

from vanilla_transformer.generation_vanilla_transformer import VanillaTransformerGenerationMixin


class Unchanged(LogitsProcessor):
    """Changes nothing."""

    def __call__(self, input_ids, scores):
        return scores


class GNMTLengthPenalty(float):
    """The exponent α of GNMT's ((5 + |Y|) / 6)^α, told apart from transformers' own |Y|^α by its type."""


class PlainLoop:
    """
    The searches of transformers on the model's `forward`, with GNMT's length penalty.

    The two places where they divide by a length both compute `len ** α` from a length that is counted after the
    prompt: a prompt shorter by 5 adds 5 to it, and the factor 6^α completes ((5 + |Y|) / 6)^α.
    """

    def _sample(self, *arguments, **kwargs):
        return GenerationMixin._sample(self, *arguments, **kwargs)

    def _beam_search(self, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs):
        if generation_config.length_penalty_type == "gnmt":  # `generate` passes its own copy of the configuration
            generation_config.length_penalty = GNMTLengthPenalty(generation_config.length_penalty)
        return GenerationMixin._beam_search(
            self, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs
        )

    def _get_top_k_continuations(self, *, do_sample, **kwargs):
        # transformers before 5.24 leaves drawn candidates in the order of the draw, so that a hypothesis that ends
        # counts only if it was drawn early. In 5.24, and on every version in the search of this package, the best
        # come first.
        found = GenerationMixin._get_top_k_continuations(self, do_sample=do_sample, **kwargs)
        if not do_sample:
            return found
        order = found[0].argsort(dim=-1, descending=True, stable=True)
        return tuple(self._gather_beams(each, order) for each in found)

    def _update_finished_beams(self, *, topk_log_probs, decoder_prompt_len, length_penalty, **kwargs):
        if isinstance(length_penalty, GNMTLengthPenalty):
            topk_log_probs = topk_log_probs * 6.0 ** float(length_penalty)
            decoder_prompt_len -= 5
        return GenerationMixin._update_finished_beams(
            self,
            topk_log_probs=topk_log_probs,
            decoder_prompt_len=decoder_prompt_len,
            length_penalty=float(length_penalty),
            **kwargs,
        )

    @staticmethod
    def _check_early_stop_heuristic(*, running_beam_scores, decoder_prompt_len, length_penalty, **kwargs):
        if isinstance(length_penalty, GNMTLengthPenalty):
            running_beam_scores = running_beam_scores * 6.0 ** float(length_penalty)
            decoder_prompt_len -= 5
        return GenerationMixin._check_early_stop_heuristic(
            running_beam_scores=running_beam_scores,
            decoder_prompt_len=decoder_prompt_len,
            length_penalty=float(length_penalty),
            **kwargs,
        )


@contextlib.contextmanager
def plain_loop():
    """A context in which every model of this package searches by transformers' own loop."""
    mixin = VanillaTransformerGenerationMixin
    before = dict(vars(mixin))
    own = {name: value for name, value in vars(PlainLoop).items() if not name.startswith("__")}
    for name, value in own.items():
        setattr(mixin, name, value)
    try:
        yield
    finally:
        for name in own:
            if name in before:
                setattr(mixin, name, before[name])
            else:
                delattr(mixin, name)


@torch.no_grad()
def plain(model, *arguments, **kwargs):
    """Return the tokens of `model.generate` by transformers' own loop."""
    with plain_loop():
        return model.generate(*arguments, **kwargs)

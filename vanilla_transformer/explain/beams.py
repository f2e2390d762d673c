"""The beams of the search as they grow, read from the search itself by a stopping criterion that stops nothing."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from ..generation_vanilla_transformer import length_penalty


@dataclass
class Hypothesis:
    """
    The beginning of a translation, or a whole one.

    Attributes:
        ids: its tokens, without the start token.
        log_probability: log P(Y|X) of these.
        score: what the search ranks finished ones by, log P(Y|X) / length penalty (§6.1).
        parent: the place, from 0, of the beam of the step before that it goes on from.
        is_finished: whether it ends with `</s>` or at the greatest length.
        is_kept: whether the search goes on with it, or keeps it as finished.
    """

    ids: list[int]
    log_probability: float
    score: float
    parent: int
    is_finished: bool
    is_kept: bool


class CandidateRecorder(StoppingCriteria):
    """Sees the candidates of each step of a search, the best first, with the scores of all next tokens."""

    def __init__(self) -> None:
        self.candidates: list[torch.Tensor] = []  # (C, L) of each step
        self.scores: list[torch.Tensor] = []  # (K, V) of each step

    def __call__(self, input_ids: torch.Tensor, scores: tuple[torch.Tensor, ...], **kwargs: object) -> torch.Tensor:
        self.candidates.append(input_ids.clone())
        self.scores.append(scores[-1])
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def search_beams(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], num_beams: int
) -> tuple[list[list[Hypothesis]], torch.Tensor]:
    """
    Translate one sentence by beam search.

    Args:
        inputs: `input_ids` (1, S) and what else `generate` reads.
        num_beams: at least 2.

    Returns:
        for each step the hypotheses that the search looked at, the best first; and the ids (T,) of the translation,
        with `</s>` and without the start token.
    """
    recorder = CandidateRecorder()
    outputs = model.generate(
        **inputs,
        num_beams=num_beams,
        num_return_sequences=1,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        stopping_criteria=StoppingCriteriaList([recorder]),
    )
    settings = model.generation_config
    is_gnmt = getattr(settings, "length_penalty_type", None) == "gnmt"
    penalty = length_penalty(1.0 if settings.length_penalty is None else settings.length_penalty, is_gnmt)
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    limit = model.config.position_limit
    offset = getattr(settings, "source_length_offset", None)
    longest = None if offset is None else inputs["input_ids"].shape[1] + offset
    if limit is not None:
        longest = limit - 1 if longest is None else min(longest, limit - 1)
    steps: list[list[Hypothesis]] = []
    beams: list[tuple[list[int], float]] = [([], 0.0)]
    for candidates, scores in zip(recorder.candidates, recorder.scores, strict=True):
        places = {tuple(ids): place for place, (ids, _) in reversed(list(enumerate(beams)))}
        hypotheses: list[Hypothesis] = []
        for rank, row in enumerate(candidates[:, 1:].tolist()):
            parent = places.get(tuple(row[:-1]))
            if parent is None:  # of a beam that is dead, in a vocabulary smaller than the beam
                continue
            log_probability = beams[parent][1] + float(scores[parent, row[-1]])
            is_finished = row[-1] in ends or len(row) == longest
            going_on = sum(not each.is_finished for each in hypotheses)
            is_kept = rank < num_beams if is_finished else going_on < num_beams
            score = float(log_probability / penalty(len(row)))
            hypotheses.append(Hypothesis(row, log_probability, score, parent, is_finished, is_kept))
        steps.append(hypotheses)
        beams = [(each.ids, each.log_probability) for each in hypotheses if each.is_kept and not each.is_finished]
    return steps, outputs.sequences[0, 1:]

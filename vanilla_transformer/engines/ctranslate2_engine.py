"""
Translation by CTranslate2, with the original's penalty and limits.

CTranslate2 ranks by log P / |Y|^α only, and has one limit for all sentences of a call. Which hypotheses finish does
not depend on the penalty: so all of them are taken, ranked by ours, and a sentence with one that is longer than its
own limit is searched again with that.
"""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..configuration_vanilla_transformer import Named
from ..errors import ModelFolderError, SettingsError
from ..exported import Exported
from ..generation_vanilla_transformer import COUNTED_SOURCE_LENGTH, LENGTH_PENALTY_TYPES, length_penalty
from ..pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline

NAME = "ctranslate2"
SHARED_VOCABULARY = "shared_vocabulary.json"  # of models with one for both sides
# Finished hypotheses for each beam after which CTranslate2 stops. From 1.5 on, ranked by the paper's penalty, the best
# one was ours for each of 2,000 sentences.
PATIENCE = 2.0
# With a larger exponent longer hypotheses win, for which that is too early: at 3 the best one was missed.
LARGEST_PENALTY = 2.0
# Settings of `generate` that this engine goes by, and those that have nothing to say here.
HANDLED = frozenset(
    {
        *("num_beams", "length_penalty", "length_penalty_type", "early_stopping", "num_return_sequences"),
        *("max_length", "max_new_tokens", "source_length_offset", "longest_source"),
        *("suppress_tokens", "bad_words_ids", "renormalize_logits"),
        *("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"),
        *("split_sentences", "protect_copies", "protect_names", "restore_case", "alignment_heads"),
        *("transformers_version", "decoder_only", "beam_settings", "use_cache", "imported"),
    }
)
# Settings whose `None` is not given: torch takes the model's own source_length_offset, and fails for the others.
GIVEN_BY_A_VALUE = frozenset({"source_length_offset", "length_penalty", "num_beams", "num_return_sequences"})
Penalty = Callable[[int], Any]  # of a length, as a number
DEFAULT_MAX_LENGTH = 20  # of transformers, where neither a setting nor the source says one
# Values by which `generate` does nothing.
NEUTRAL = {
    **{"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "temperature": 1.0, "top_k": 50, "top_p": 1.0},
    **{"typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "min_length": 0, "min_new_tokens": 0},
    **{"no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "num_beam_groups": 1, "diversity_penalty": 0.0},
}


class CTranslate2Model:
    """
    A model that the pipeline can translate with: it has a configuration, settings and `generate`.

    Args:
        folder: as `export --to ctranslate2` wrote it.
        exported: what the folder says of itself.
        device: "cpu" or "cuda".
    """

    device = torch.device("cpu")  # of the ids that go in and come out

    def __init__(self, folder: Path, exported: Exported, device: str = "cpu"):
        try:
            import ctranslate2
        except ImportError as error:
            raise SettingsError(
                'CTranslate2 is not installed. Install it: pip install "vanilla-transformer[ctranslate2]"'
            ) from error
        if device not in ("cpu", "cuda"):
            raise SettingsError(f"`device` must be cpu or cuda for CTranslate2, but is {device}. Use cpu.")
        if device == "cuda" and not ctranslate2.get_cuda_device_count():
            raise SettingsError(
                "`device` must be cpu on this machine, where CTranslate2 finds no CUDA device, but is cuda. Use cpu."
            )
        for name in ("model.bin", "config.json"):
            if not (folder / name).is_file():
                raise ModelFolderError(f"{folder} has no {name}. Copy the folder again, or export it anew.")
        self.config = exported.model_config()
        try:
            self.translator = ctranslate2.Translator(
                str(folder), device=device, inter_threads=1, intra_threads=torch.get_num_threads()
            )
            self.source_tokens, self.target_tokens = read_vocabularies(folder)
            is_shared = (folder / SHARED_VOCABULARY).is_file()
            if is_shared and len(self.target_tokens) != self.config.vocab_size:
                raise ValueError(
                    f"its vocabulary has {len(self.target_tokens):,} tokens instead of {self.config.vocab_size:,}"
                )
        except (OSError, RuntimeError, ValueError) as error:
            said = str(error).strip().partition("\n")[0].removesuffix(".")
            raise ModelFolderError(
                f"The model in {folder} is damaged or does not fit this machine: {said}. Copy the folder again, or "
                "export it anew."
            ) from error
        self.generation_config = exported.settings()
        self.max_positions = exported.max_positions
        self.ids = {token: index for index, token in enumerate(self.target_tokens)}
        check_settings(vars(self.generation_config))

    def can_generate(self) -> bool:
        """Return whether it translates."""
        return True

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **settings: Any) -> torch.Tensor:
        """
        Translate as `generate` of the original does.

        Args:
            input_ids (`torch.LongTensor` of shape (B, S)), attention_mask (B, S): the source.
            settings: those of `HANDLED`; `None` in those of `GIVEN_BY_A_VALUE` is what the model has itself.

        Returns:
            `torch.LongTensor` of shape (B * num_return_sequences, 1 + T): start token, translation, `</s>`, padding.

        Raises:
            SettingsError: for other settings, and for a source or a translation that is longer than the table of
                positions.
        """
        settings = {
            name: value for name, value in settings.items() if value is not None or name not in GIVEN_BY_A_VALUE
        }
        check_settings(settings)
        self.check_special_tokens(settings)
        wanted = copy.deepcopy(self.generation_config)
        for name, value in settings.items():
            setattr(wanted, name, value)
        beams, returned = (
            read_count(wanted, "num_beams"),
            read_count(wanted, "num_return_sequences"),
        )
        penalty = read_penalty(wanted)
        if returned > beams:
            raise SettingsError(
                f"`num_return_sequences` must be at most `num_beams`, {beams}, but is {returned}. Give more beams."
            )
        if beams > 1 and wanted.early_stopping != "never":
            raise SettingsError(
                f"`early_stopping` must be 'never' with `--engine {NAME}`, but is {wanted.early_stopping!r}. Use "
                "`--engine torch`."
            )
        sources = self.list_sources(input_ids, attention_mask)
        limits = self.limit_lengths([len(source) for source in sources], wanted, settings)
        never = self.list_suppressed(wanted)
        # The start token has the first position.
        most = max(limits) if self.max_positions is None else self.max_positions - 1
        found = self.search(sources, min(max(limits), most), beams, never)
        for index, limit in enumerate(limits):
            if any(len(tokens) > limit for tokens, _ in found[index]):
                found[index] = self.search([sources[index]], limit, beams, never)[0]
            elif limit > most:
                self.check_ends(rank(found[index], penalty), returned, (most, limit), penalty)
        rows = [tokens for each in found for tokens, _ in rank(each, penalty)[:returned]]
        output = torch.full((len(rows), 1 + max(map(len, rows))), int(wanted.pad_token_id))
        output[:, 0] = int(wanted.decoder_start_token_id)
        for place, row in zip(output, rows, strict=True):
            place[1 : 1 + len(row)] = torch.tensor([self.ids[token] for token in row])
        return output

    def check_special_tokens(self, settings: Named) -> None:
        """
        Refuse another start or end than the exported model has.

        Raises:
            SettingsError: with the name of the first one.
        """
        for name in ("decoder_start_token_id", "eos_token_id"):
            own, given = getattr(self.generation_config, name), settings.get(name)
            if given not in (None, own, [own]):
                raise SettingsError(
                    f"`{name}` must be {own} with `--engine {NAME}`, as in the exported model, but is {given}. Use "
                    "`--engine torch` or `--engine onnxruntime`."
                )

    def list_sources(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[list[str]]:
        """Return the tokens of each source, without padding."""
        sources = [
            [self.source_tokens[index] for index in row[mask.bool()].tolist()]
            for row, mask in zip(input_ids, attention_mask, strict=True)
        ]
        longest = max(map(len, sources))
        if self.max_positions is not None and longest > self.max_positions:
            raise SettingsError(
                f"A sentence must have at most {self.max_positions:,} tokens for this exported model, but has "
                f"{longest:,}. Split it, for instance with `split_sentences`{self.larger_table}."
            )
        return sources

    @property
    def larger_table(self) -> str:
        """A further remedy for a table of positions that is too short, where the original has sinusoids."""
        return "" if self.config.position_limit is not None else ", or export with a larger `--max_positions`"

    def check_ends(
        self,
        ranked: Sequence[tuple[list[str], float]],
        returned: int,
        lengths: tuple[int, int],
        penalty: Penalty,
    ) -> None:
        """
        Refuse a result that the table of positions has cut.

        Args:
            ranked: the tokens of each hypothesis and its log P, best first.
            returned: how many of them are the result.
            lengths: tokens that the table has positions for, and tokens that a translation may have.
            penalty: of a length.

        Raises:
            SettingsError: if one of the result has been cut, or another one that could rank above one of the result.
        """
        most, limit = lengths
        end = self.target_tokens[self.config.eos_token_id]  # type: ignore[index]  # exports refuse several
        is_cut = [len(tokens) >= most and tokens[-1] != end for tokens, _ in ranked]
        tokens, worst = ranked[:returned][-1]
        least = worst / penalty(len(tokens))
        # log P only falls as a hypothesis grows; what divides it rises, or falls, all the way to the limit.
        may_rank = [score / max(penalty(most + 1), penalty(limit)) > least for _, score in ranked]
        if any(is_cut[:returned]) or any(cut and may for cut, may in zip(is_cut, may_rank, strict=True)):
            raise SettingsError(
                f"A translation must have at most {most:,} tokens for this exported model, but one is longer. Give "
                f"`max_new_tokens` of at most {most:,}, which cuts it there{self.larger_table}."
            )

    def limit_lengths(self, lengths: list[int], wanted: GenerationConfig, settings: Named) -> list[int]:
        """
        Return the most tokens of each translation, with `</s>`, as `generate` of the original counts them.

        Args:
            lengths: of the sources, with `</s>`.
            wanted: the model's settings with those of the call.
            settings: those of the call: only a limit among these takes the place of that by source length.

        Raises:
            SettingsError: for a limit that leaves no token.
        """
        offset = getattr(wanted, "source_length_offset", None)
        names = {"max_new_tokens": 1, "max_length": 2}  # which counts the start token
        given = vars(wanted) if offset is None or any(settings.get(name) is not None for name in names) else {}
        for name, least in names.items():
            value = given.get(name)
            if value is not None and value < least:
                raise SettingsError(f"`{name}` must be at least {least}, but is {value}. Leave it out, or give more.")
            if value is not None:
                return [value - least + 1] * len(lengths)
        if offset is None:
            return [DEFAULT_MAX_LENGTH - 1] * len(lengths)
        if offset < 0:
            raise SettingsError(f"`source_length_offset` must be at least 0, but is {offset}. Give more.")
        counted = max(COUNTED_SOURCE_LENGTH, getattr(wanted, "longest_source", None) or 0)
        limits = [min(length, counted) + offset for length in lengths]
        learned = self.config.position_limit
        return limits if learned is None else [min(limit, learned - 1) for limit in limits]

    def list_suppressed(self, wanted: GenerationConfig) -> list[list[str]]:
        """Return the sequences of tokens that a translation may not have."""
        ids = [[index] for index in wanted.suppress_tokens or []] + list(wanted.bad_words_ids or [])
        if ids and not wanted.renormalize_logits and (wanted.num_beams or 1) > 1:
            raise SettingsError(
                f"`renormalize_logits` must be True with `--engine {NAME}` where tokens are suppressed, since "
                f"CTranslate2 does so, but is {wanted.renormalize_logits}. Use `--engine torch`."
            )
        return name_tokens(ids, self.target_tokens)

    def search(
        self, sources: list[list[str]], limit: int, beams: int, never: list[list[str]]
    ) -> list[list[tuple[list[str], float]]]:
        """Return all finished hypotheses of each source, each with its log P."""
        several: Named = {"suppress_sequences": never} if never else {}
        if beams > 1:
            several |= {"patience": PATIENCE, "num_hypotheses": round(beams * PATIENCE)}
        results = self.translator.translate_batch(
            sources,
            beam_size=beams,
            length_penalty=1.0,  # 0 would switch to another way to stop
            max_input_length=0,  # without it sources are cut, without a word, at 1,024
            min_decoding_length=0,  # by default a translation is never empty
            max_decoding_length=limit,
            return_scores=True,
            return_end_token=True,
            **several,
        )
        return [
            [(tokens, score * len(tokens)) for tokens, score in zip(each.hypotheses, each.scores, strict=True)]
            for each in results
        ]

    def score(self, source: dict[str, torch.Tensor], sequences: torch.Tensor) -> torch.Tensor:
        """Return log P of each token after the first, of sequences (N, 1 + T) with sources (N, S) -> (N, T)."""
        sources = self.list_sources(source["input_ids"], source["attention_mask"])
        end, padding = self.config.eos_token_id, self.config.pad_token_id
        targets = [[each for each in row if each not in (end, padding)] for row in sequences[:, 1:].tolist()]
        tokens = [[self.target_tokens[index] for index in target] for target in targets]
        results = self.translator.score_batch(sources, tokens, max_input_length=0)
        scores = torch.zeros(sequences.shape[0], sequences.shape[1] - 1)
        for place, result in zip(scores, results, strict=True):  # which has `</s>` at its end
            length = min(len(place), len(result.log_probs))
            place[:length] = torch.tensor(result.log_probs[:length])
        return scores


class CTranslate2Translator(VanillaTransformerTranslationPipeline):
    """The translation pipeline over a `CTranslate2Model`."""

    def _score_tokens(self, source: dict[str, torch.Tensor], sequences: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.model.score(source, sequences)
        return scores

    def _encode_prefix(self, prefix: str, count: int) -> torch.Tensor:
        raise SettingsError(
            f"`prefix` must be left out with `--engine {NAME}`, but is {prefix!r:.60}. Use `--engine torch` or "
            "`--engine onnxruntime`."
        )

    def add_alignments(self, texts: list[str], results: list[list[Named]]) -> None:
        raise SettingsError(
            f"`return_alignments` must be left out with `--engine {NAME}`, which gives no attention of single heads. "
            "Use `--engine torch` or `--engine onnxruntime`."
        )


def read_count(wanted: GenerationConfig, name: str) -> int:
    """
    Return a number of beams or of translations; 1 where none is set.

    Raises:
        SettingsError: if it is below 1.
    """
    count: int | None = getattr(wanted, name)
    if count is not None and count < 1:
        raise SettingsError(f"`{name}` must be at least 1, but is {count}. Leave it out, or give more.")
    return count or 1


def read_penalty(wanted: GenerationConfig) -> Penalty:
    """
    Return the penalty of a length that is asked for.

    Raises:
        SettingsError: for a type that there is not.
    """
    kind = getattr(wanted, "length_penalty_type", None) or "power"
    if kind not in LENGTH_PENALTY_TYPES:
        raise SettingsError(f"`length_penalty_type` must be one of {LENGTH_PENALTY_TYPES}, but is {kind!r}.")
    exponent = 1.0 if wanted.length_penalty is None else wanted.length_penalty
    if (wanted.num_beams or 1) > 1 and exponent > LARGEST_PENALTY:
        raise SettingsError(
            f"`length_penalty` must be at most {LARGEST_PENALTY:g} with `--engine {NAME}`, which stops before longer "
            f"translations are found, but is {exponent:g}. Use `--engine torch` or `--engine onnxruntime`."
        )
    return length_penalty(exponent, kind == "gnmt")


def name_tokens(sequences: Sequence[Sequence[int]], tokens: Sequence[str]) -> list[list[str]]:
    """Return the tokens of sequences of ids, without sequences that have an id outside of the vocabulary."""
    known = (each for each in sequences if all(0 <= index < len(tokens) for index in each))
    return [[tokens[index] for index in sequence] for sequence in known]


def rank(hypotheses: Sequence[tuple[list[str], float]], penalty: Penalty) -> list[tuple[list[str], float]]:
    """Return hypotheses, tokens and log P, best first by a penalty."""
    return sorted(hypotheses, key=lambda each: each[1] / penalty(len(each[0])), reverse=True)


def read_vocabularies(folder: Path) -> tuple[list[str], list[str]]:
    """Return the tokens of the source's ids, and of the target's, as CTranslate2 stores them."""
    shared = folder / SHARED_VOCABULARY
    files = [shared] * 2 if shared.is_file() else [folder / f"{side}_vocabulary.json" for side in ("source", "target")]
    source, target = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return source, target


def find_unknown_setting(settings: Named) -> str | None:
    """Return the name of the first setting that this engine would drop without a word."""
    for name, value in settings.items():
        is_said = value is not None and value is not False and value != NEUTRAL.get(name)
        if is_said and name not in HANDLED and not name.startswith("_"):
            return name
    return None


def check_settings(settings: Named) -> None:
    """
    Refuse settings that this engine would drop without a word.

    Raises:
        SettingsError: with the name of the first one.
    """
    name = find_unknown_setting(settings)
    if name == "generation_config":
        raise SettingsError(
            f"`generation_config` must be left out with `--engine {NAME}`. Give what it sets as arguments."
        )
    if name is not None:
        value = " ".join(repr(settings[name]).split())  # a tensor has several lines
        raise SettingsError(
            f"`{name}` must be left out with `--engine {NAME}`, which does not have it, but is {value:.60}. "
            f"Use `--engine torch`{'' if name == 'weight_precision' else ' or `--engine onnxruntime`'}."
        )


def load(folder: Path, exported: Exported, tokenizer: PreTrainedTokenizerBase, device: str) -> CTranslate2Translator:
    """Return a translator over an exported folder."""
    model = CTranslate2Model(folder, exported, device)
    return CTranslate2Translator(model=model, tokenizer=tokenizer, device="cpu")

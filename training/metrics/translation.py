"""
Scores of translations: BLEU, chrF2 and TER by sacreBLEU, METEOR by NLTK, and the tokenized BLEU of the paper.

Each score is a function of lines, and an `evaluate.Metric` that works without the Hub and inside `evaluate.combine`:

    >>> import evaluate
    >>> scores = evaluate.combine([Bleu(), Chrf()]).compute(predictions=["Wie geht es?"], references=["Wie geht es?"])
    >>> round(scores["bleu"]), scores["chrf_signature"][:13]
    (100, 'chrF2|nrefs:1')
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import datasets
import nltk
import numpy as np
import pycountry
import sacrebleu
import sacremoses
from nltk.corpus import wordnet
from nltk.stem import PorterStemmer, SnowballStemmer
from nltk.translate.meteor_score import meteor_score
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.bleu import BLEUScore
from sacremoses.corpus import NonbreakingPrefixes

from training.metrics.metric import Metric
from training.metrics.segmentation import lacks_spaces, script_without_spaces, two_letters
from vanilla_transformer.errors import MetricError
from vanilla_transformer.scores import Score

SEED = 12345  # of resampling, as sacreBLEU has it
LEAST_SAMPLES = 40  # of which one in 40 lies outside either end of a 95% interval
TOKENIZERS = tuple(sorted(BLEU.TOKENIZERS))
CHARACTER_TOKENIZERS = ("char", "zh")
WORD_TOKENIZERS = ("13a", "intl", "none")  # which need spaces between words
# Compounds are taken apart at their hyphens, as the paper's authors (tensor2tensor, get_ende_bleu.sh) did for German.
COMPOUND = re.compile(r"(\S)-(\S)")


def paired(hypotheses: Iterable[str], references: Iterable[str]) -> tuple[list[str], list[str]]:
    """
    Both as lists.

    Raises:
        MetricError: if there are not as many hypotheses as references, or none.
    """
    hypotheses, references = list(hypotheses), list(references)
    if len(hypotheses) != len(references) or not references:
        raise MetricError(
            f"There are {len(hypotheses):,} hypotheses and {len(references):,} references. Give one for each line."
        )
    return hypotheses, references


def check_samples(samples: int, name: str = "`samples`") -> None:
    """
    Args:
        name: of the argument, for the error.

    Raises:
        MetricError: for a number of samples that gives no interval of 95%.
    """
    if samples != 0 and samples < LEAST_SAMPLES:
        raise MetricError(
            f"{name} must be at least {LEAST_SAMPLES} for an interval of 95%, or 0 for none, but is {samples}. Give a "
            "number such as 1000."
        )


def draw_samples(lines: int, samples: int) -> Iterator[np.ndarray]:
    """Positions of the lines in each sample of a text, drawn with replacement, as sacreBLEU draws them."""
    generator = np.random.default_rng(SEED)
    for _ in range(samples):
        yield generator.integers(lines, size=lines)


def bleu_metric(tokenize: str, name: str = "`tokenize`", **options: object) -> BLEU:
    """
    sacreBLEU's BLEU with one of its tokenizers.

    Args:
        name: of the argument, for the error.
        options: of sacreBLEU's.

    Raises:
        MetricError: for another tokenizer, or one whose own package or model is missing.
    """
    if tokenize not in TOKENIZERS:
        raise MetricError(f"{name} must be one of {', '.join(TOKENIZERS)}, but is {tokenize!r}. Choose one.")
    try:
        return BLEU(tokenize=tokenize, force=tokenize == "none", **options)
    except (Exception, SystemExit) as error:  # of a package, of the network: each tokenizer raises its own
        said = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
        raise MetricError(
            f"{name} must be a tokenizer that sacreBLEU can load, but is {tokenize!r}: {said}. Install what it needs, "
            "or choose another."
        ) from error


def default_tokenizer(target_lang: str | None) -> str:
    """
    The tokenizer of sacreBLEU for a language: zh, ja-mecab and ko-mecab, or char where the package of those two is not
    installed, and for other languages without spaces between words; 13a for all others.

    Args:
        target_lang: code of the language, with a script or a region or without.
    """
    script, language = script_without_spaces(target_lang), two_letters(target_lang)
    if script == "Hani":
        return "zh"
    if script == "Jpan":
        language = "ja"
    elif script is not None:
        return "char"
    elif language != "ko" or "latn" in str(target_lang).lower():
        return "13a"
    try:
        bleu_metric(f"{language}-mecab")
    except MetricError:
        warnings.warn(
            f"BLEU of {target_lang} counts characters: sacreBLEU's {language}-mecab, which finds words, is not "
            f'installed. `pip install "sacrebleu[{language}]"` installs it.',
            stacklevel=1,  # one place for all callers, so that it is said once
        )
        return "char"
    return f"{language}-mecab"


def warn_without_spaces(references: list[str]) -> None:
    """Warn if words between spaces are counted in a text that has none."""
    if lacks_spaces(references):
        warnings.warn(
            "The references have no spaces between words, and words are counted between spaces: BLEU, TER and METEOR "
            "then say little. Name their language with `target_lang`, such as zh, ja or th, and no tokenizer.",
            stacklevel=1,
        )


def score_with_sacrebleu(
    metric: sacrebleu.metrics.base.Metric, name: str, hypotheses: list[str], references: list[str], samples: int
) -> Score:
    """A metric of sacreBLEU over a text, with a margin from so many samples of it; 0 is none."""
    hypotheses, references = paired(hypotheses, references)
    check_samples(samples)
    if not samples:
        score = metric.corpus_score(hypotheses, [references])
        return Score(score.score, f"{name}|{metric.get_signature()}", **lengths(score))
    statistics = metric._extract_corpus_statistics(hypotheses, [references])
    score = metric._aggregate_and_compute(statistics)
    # As `corpus_score` does, which holds all samples in memory at once: 7 GB for chrF2 of 100,000 lines.
    table = np.array(statistics, dtype=np.float32)
    values = sorted(
        float(metric._compute_score_from_stats(table[drawn].sum(0)).score)
        for drawn in draw_samples(len(table), samples)
    )
    metric.n_bootstrap, metric.seed = samples, str(SEED)
    outside = samples // 40  # of the interval, at either end
    margin = (values[samples - outside - 1] - values[outside]) / 2
    return Score(score.score, f"{name}|{metric.get_signature()}", margin, **lengths(score))


def lengths(score: sacrebleu.metrics.base.Score) -> dict[str, float]:
    """The brevity penalty of a BLEU score and the length of the translations by that of the references."""
    return {"brevity_penalty": score.bp, "length_ratio": score.ratio} if isinstance(score, BLEUScore) else {}


def bleu(
    hypotheses: list[str],
    references: list[str],
    tokenize: str | None = None,
    samples: int = 0,
    target_lang: str | None = None,
) -> Score:
    """
    BLEU (Papineni et al. 2002) as sacreBLEU computes it (Post 2018).

    Args:
        hypotheses, references: as many lines each, detokenized text unless `tokenize` is "none".
        tokenize: one of sacreBLEU's tokenizers; without it that of the language, 13a for most.
        samples: for the margin; 0 is none.
        target_lang: code of the language.

    Raises:
        MetricError: if the numbers of lines differ, or are 0, and for settings that cannot be. So do the other scores.
    """
    tokenize = tokenize or default_tokenizer(target_lang)
    score = score_with_sacrebleu(bleu_metric(tokenize), "BLEU", hypotheses, references, samples)
    if tokenize in WORD_TOKENIZERS:
        warn_without_spaces(references)
    return score


def chrf(hypotheses: list[str], references: list[str], samples: int = 0) -> Score:
    """chrF2 (Popović 2015): F-score of character n-grams with recall twice as important, by sacreBLEU."""
    return score_with_sacrebleu(CHRF(), "chrF2", hypotheses, references, samples)


def ter(hypotheses: list[str], references: list[str], samples: int = 0) -> Score:
    """TER (Snover et al. 2006): edits and shifts per word, between spaces, of the reference, by sacreBLEU."""
    score = score_with_sacrebleu(TER(), "TER", hypotheses, references, samples)
    warn_without_spaces(references)
    return score


def check_compounds(target_lang: str | None) -> str:
    """
    The code by which Moses' tokenizer knows a language.

    Raises:
        MetricError: for a language that it does not know, or none.
    """
    known = {code for code in NonbreakingPrefixes().available_langs.values() if script_without_spaces(code) is None}
    language = two_letters(target_lang)
    if language is None or language not in known:
        shown = ", ".join(sorted(code for code in known if len(code) == 2))
        raise MetricError(
            "`target_lang` must be a language that Moses' tokenizer knows, for BLEU with compounds taken apart, but "
            f"is {target_lang!r}. Choose one of: {shown}."
        )
    return language


def compound_bleu(
    hypotheses: list[str], references: list[str], target_lang: str | None = None, samples: int = 0
) -> Score:
    """
    Tokenized BLEU with compounds taken apart, as the paper's 28.4 was computed: Unicode punctuation replaced, Moses'
    tokenizer, "Rad-Weg" as three tokens, then BLEU without smoothing. It is not comparable with `bleu`, and higher.
    """
    language = check_compounds(target_lang)
    tokenizer, normalizer = sacremoses.MosesTokenizer(language), sacremoses.MosesPunctNormalizer()

    def split(line: str) -> str:
        tokens = tokenizer.tokenize(normalizer.replace_unicode_punct(line), return_str=True, escape=False)
        return COMPOUND.sub(r"\1 ##AT##-##AT## \2", tokens)

    metric = bleu_metric("none", smooth_method="none")
    score = score_with_sacrebleu(
        metric, "BLEU (compounds)", [split(line) for line in hypotheses], [split(line) for line in references], samples
    )
    tokenized = f"tok:moses-{language}+compounds"
    return dataclasses.replace(score, signature=str(score.signature).replace("tok:none", tokenized))


class NoSynonyms:
    """Takes the place of WordNet where NLTK asks for it and there is none."""

    @staticmethod
    def synsets(word: str) -> list[object]:
        return []


def has_wordnet() -> bool:
    """Whether NLTK finds WordNet on this machine: `python -m nltk.downloader wordnet` installs it."""
    try:
        wordnet.ensure_loaded()
    except LookupError:
        return False
    return True


def stemmer_of(language: str | None) -> PorterStemmer | SnowballStemmer | None:
    """Porter's for English, as in the original METEOR; Snowball's for the other languages that it knows."""
    if language == "en":
        return PorterStemmer()
    known = pycountry.languages.get(alpha_2=language) if language else None
    name = known.name.lower() if known is not None else None
    return SnowballStemmer(name) if name in SnowballStemmer.languages else None


class CachedStemmer:
    """A stemmer that sees each word once; without one, words stay as they are."""

    def __init__(self, stemmer: PorterStemmer | SnowballStemmer | None):
        self.stem = lru_cache(maxsize=None)(str if stemmer is None else stemmer.stem)


def meteor(
    hypotheses: list[str],
    references: list[str],
    target_lang: str | None = None,
    tokenize: str | None = None,
    samples: int = 0,
) -> Score:
    """
    METEOR (Banerjee and Lavie 2005) by NLTK, the mean over the sentences.

    It is named by what could be matched: "METEOR" with stems and WordNet's synonyms (English, where WordNet is
    installed), else "METEOR (exact+stem)", and "METEOR (exact)" for a language without a stemmer, "METEOR (exact,
    characters)" where its tokenizer finds no words.

    Args:
        target_lang: code of the language, such as "es".
        tokenize: one of sacreBLEU's tokenizers, or "none"; without it that of the language, 13a for most.
        samples: for the margin; 0 is none.
    """
    hypotheses, references = paired(hypotheses, references)
    check_samples(samples)
    language, tokenize = two_letters(target_lang), tokenize or default_tokenizer(target_lang)
    stemmer = stemmer_of(language)
    synonyms = wordnet if language == "en" and has_wordnet() else NoSynonyms()
    cached, words = CachedStemmer(stemmer), bleu_metric(tokenize).tokenizer
    values = 100 * np.array(
        [
            meteor_score([words(reference).split()], words(hypothesis).split(), stemmer=cached, wordnet=synonyms)
            for hypothesis, reference in zip(hypotheses, references, strict=True)
        ]
    )
    name = "METEOR"
    if isinstance(synonyms, NoSynonyms):
        name = "METEOR (exact)" if stemmer is None else "METEOR (exact+stem)"
    if tokenize in CHARACTER_TOKENIZERS and default_tokenizer(target_lang) in CHARACTER_TOKENIZERS:
        name = "METEOR (exact, characters)"
    if tokenize in WORD_TOKENIZERS:
        warn_without_spaces(references)
    stems = "none" if stemmer is None else f"{type(stemmer).__name__.removesuffix('Stemmer').lower()}-{language}"
    how = f"case:lc|tok:{tokenize}|stem:{stems}|version:nltk-{nltk.__version__}"
    if not samples:
        return Score(float(values.mean()), f"{name}|nrefs:1|{how}")
    means = [values[drawn].mean() for drawn in draw_samples(len(values), samples)]
    low, high = np.quantile(means, [0.025, 0.975])
    signature = f"{name}|nrefs:1|bs:{samples}|seed:{SEED}|{how}"
    return Score(float(values.mean()), signature, float(high - low) / 2)


def score_translations(
    hypotheses: list[str],
    references: list[str],
    target_lang: str | None = None,
    tokenize: str | None = None,
    compounds: bool = False,
    samples: int = 0,
) -> dict[str, Score]:
    """
    Every score of a text, by its key in results: "bleu", "chrf", "ter", "meteor", and "compound_bleu" if asked for.

    TER is left out where there are no spaces between words: counting characters, it takes up to a second a line.

    Args:
        target_lang: code of the language, for the tokenizer, METEOR's stems and Moses' tokenizer.
        tokenize: one of sacreBLEU's tokenizers, for BLEU and METEOR; "none" for text that is tokenized already; that
            of the language without it.
        samples: for the margins; 0 is none.

    Raises:
        MetricError: as `bleu`, and for `compounds` without a `target_lang` that Moses' tokenizer knows.
    """
    tokenize = tokenize or default_tokenizer(target_lang)
    scores = {"bleu": bleu(hypotheses, references, tokenize, samples), "chrf": chrf(hypotheses, references, samples)}
    if tokenize == "none" or script_without_spaces(target_lang) is None:
        scores["ter"] = ter(hypotheses, references, samples)
    else:
        warnings.warn(
            f"TER is left out: it counts words between spaces, but {target_lang} is written without spaces. For TER, "
            "give text that is split into words, with `tokenize` none.",
            stacklevel=1,
        )
    scores["meteor"] = meteor(hypotheses, references, target_lang, tokenize, samples)
    if compounds:
        scores["compound_bleu"] = compound_bleu(hypotheses, references, target_lang, samples)
    return scores


class TranslationMetric(Metric):
    """
    A score as an `evaluate.Metric`: predictions and references are lines; the results are `{key}` in percent,
    `{key}_signature`, with `samples` `{key}_margin`, and of BLEU `{key}_brevity_penalty` and `{key}_length_ratio`.

    Args:
        options: what the function of the score takes besides the lines.
    """

    takes = "predictions and references: one line of text each"
    columns = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
    key: str
    function: Callable[..., Score]

    def __init__(self, **options: object):
        self.options, self.description_text = options, self.function.__doc__
        super().__init__()

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, object]:
        score = self.function(predictions, references, **self.options)
        results: dict[str, object] = {self.key: score.value, f"{self.key}_signature": score.signature}
        results |= {f"{self.key}_{name}": value for name, value in score.lengths.items()}
        return results if score.margin is None else {**results, f"{self.key}_margin": score.margin}


class Bleu(TranslationMetric):
    """`bleu` as an `evaluate.Metric`."""

    key, function = "bleu", staticmethod(bleu)


class Chrf(TranslationMetric):
    """`chrf` as an `evaluate.Metric`."""

    key, function = "chrf", staticmethod(chrf)


class Ter(TranslationMetric):
    """`ter` as an `evaluate.Metric`."""

    key, function = "ter", staticmethod(ter)


class Meteor(TranslationMetric):
    """`meteor` as an `evaluate.Metric`."""

    key, function = "meteor", staticmethod(meteor)


class CompoundBleu(TranslationMetric):
    """`compound_bleu` as an `evaluate.Metric`; it needs `target_lang`."""

    key, function = "compound_bleu", staticmethod(compound_bleu)

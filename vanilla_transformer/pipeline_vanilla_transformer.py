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
Text in, text out: the translation pipeline that travels with a model.

    pipeline("translation", model=FOLDER_OR_REPOSITORY, trust_remote_code=True)
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm
from transformers import Pipeline, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from .configuration_vanilla_transformer import Named
from .kernels_vanilla_transformer import unchanged_weights

logger = logging.get_logger(__name__)

# Arguments of the pipeline itself, besides `return_scores`; `generate` gets all others.
OWN_ARGUMENTS = (
    *("tokens_per_batch", "progress", "split_sentences", "protect_copies", "restore_case", "prefix"),
    "return_alignments",
)
# Texts of a stream that are read, and sorted by length, at once: few at first, so that the first results come early,
# then twice as many each time, since batches of similar length need a choice.
FIRST_CHUNK, LARGEST_CHUNK = 32, 1024

# A source with more than so many times the tokens of the longest one of the training is far from all that was learned.
FAR_LONGER = 2
# The length of the longest one where a model does not say: few sentences have more tokens.
UNKNOWN_LONGEST_SOURCE = 128

# Marks that end a sentence before a space and what may begin another. They occur in numbers and names too.
MARKS = ".!?…‼⁇⁈⁉‽"
# Marks of scripts that have their own. They end sentences and nothing else, so that no space has to follow.
OWN_MARKS = (
    "\u3002\uff01\uff1f\uff61\ufe12\ufe52\ufe56\ufe57"  # Chinese and Japanese
    "\u061f\u06d4\u0700\u0701\u0702\u07f9"  # Arabic, Urdu, Syriac, N'Ko
    "\u0964\u0965\u1c7e\u1c7f\uabeb\ua8ce\ua8cf\u1c3b\u1c3c\u1944\u1945"  # Devanagari and other scripts of India
    "\u104b\u17d4\u17d5\u1b5f\ua9c9\u1aa8\u1aa9\uaa5d\uaa5e\uaa5f"  # Burmese, Khmer, and others of South-East Asia
    "\u0f0d\u0f0e\u1803\u1809\ua4ff"  # Tibetan, Mongolian, Lisu
    "\u0589\u1362\u1367\u1368\ua60e\ua60f"  # Armenian, Ethiopic, Vai
)
CLOSING = re.escape("”’»›)]」』）】》〉")
QUOTES = "\"'“‘«‹"  # which close before a space: German writes „so“ and »so«
OPENING = "\"'“‘„‚«‹([¿¡—–-"
BEGINNING = f"[{re.escape(OPENING)}]*+"
# A mark with what closes after it, and the space behind. Possessive quantifiers and the look-behind keep the time
# linear in the length of the text.
SENTENCE_END = re.compile(
    rf"(?:(?P<mark>(?<![{MARKS}{OWN_MARKS}])[{MARKS}]++"
    # In Greek a semicolon is the question mark, and Armenian's full stop is typed as a colon.
    r"|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]|(?<=[\u0561-\u0587]):)"
    rf"[{CLOSING}{QUOTES}]*+\s++(?={BEGINNING}(?P<next>[^\W_]))"
    # Ethiopic's full stop may be typed as two word spaces. Khmer's "etc." (\u179b between two marks) is not an end,
    # and the number of a verse belongs to the verse.
    rf"|(?<![{MARKS}{OWN_MARKS}])[{MARKS}]*+(?:[{OWN_MARKS}](?!\u179b\u17d4)|\u1361\u1361)"
    rf"(?:\s*+(?:\d{{1,3}}+\s*+)?+[{OWN_MARKS}]|[{MARKS}])*+[{CLOSING}]*+"
    rf"(?:[{CLOSING}{QUOTES}]++(?=\s|$))?+\s*+(?=\S|$))"
)
# Words whose dot ends no sentence, and those whose dot ends none before a number.
ABBREVIATIONS = (
    " adm approx av avda brig bspw bzw ca capt cf chr cmdr col cpl dhr dr dra ee eq evtl fig gen ggf gov hr hrn inkl "
    "insp lt ltd maj messrs mevr mio mlle mme mr mrd mrs ms mt nr pfc ph pp prof pvt rep reps rev sen sens sgt sig "
    "sog sr sra sras sres st supt tsd uds vgl vol vs zzgl акад напр проф ул डॉ पं प्रो ডা "
)
BEFORE_NUMBERS = (
    " abb abs abschn al anm app apr art aug bd bde cap ch chap chs dec dez ed eqs feb figs jan jul jun kap lit mar no "
    "nos nov num núm nums oct okt ord pág págs para pos pt rn sec sect sep sept tab tel vols ziff "
    "гл илл кн пп разд рис стр ст табл тел "
)
NUMBER = re.compile(rf"{BEGINNING}(?:\d|[IVXLC]{{2,}}\b)")
# The number of an item or a chapter, which has no sentence before it.
ITEM = re.compile(rf"[\s{re.escape(OPENING)}*•·]*(?:\d{{1,3}}(?:\.\d{{1,3}})*|[IVX]{{1,5}})")
INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # "j", and "u.s" before the dot that ends it
# German writes a dot after ordinal numbers: "im 19. Jahrhundert", "am 3. und 4. Mai", but not after "I am 30".
ORDINAL = re.compile(
    r"(?:\b(?:d(?:er|ie|as|e[mns])|[mdsk]?ein(?:e[mnrs]?)?|(?:ihr|unser|euer|eur|jed|dies)(?:e[mnrs]?)?|im|ins|ans|aufs|"
    r"beim|vom|zu[mr]|(?<!\bi\s)am)\s+|\d\.,?(?:\s+|\s*[-–/]\s*|\s*(?:und|oder|bis|sowie)\s+))"
    r"(?:\d{1,2}\.\d{1,2}|\d{1,3}|[ivx]{2,5})\Z"
)
SHORT_NUMBER = re.compile(r"(?:.*[\s(])?(?:\d{1,3}|[ivx]{2,5})")
AFTER_ORDINAL = re.compile(
    r"(?:Jan|Jän|Feb|Apr|Aug|Okt|Nov|Dez|Januar|Jänner|Februar|Feber|März|Mrz|April|Mai|Juni?|Juli?|August|Sept?|September|"
    r"Oktober|November|Dezember|Advent|Auflage|Bundesliga|Dünya|Etage|Geburtstag|Halbzeit|Jahrgang|Jahrestag|"
    r"Jahrhunderts?|Jahrtausends?|Jh|Kapitel|Klasse|Liga|Mal|Minute|Platz|Rang|Runde|Semester|Staffel|Stock|Teil|"
    r"Weltkriegs?)\b|\d{1,2}\.\s"
)
LOOK = 40  # characters to either side of a mark in which what decides is looked for

# Things that a translation copies. A mark at the end of an address belongs to the sentence.
EMOJI = "[\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff\u2600-\u27bf\u2b50\u2b55\u203c\u2049]"
# The ends of addresses without "www", but those that are words.
TOP_LEVELS = "com|org|net|edu|gov|info|io|dev|app|ai|tv|eu|uk|de|fr|es|mx|ar|br|pt|nl|ch|ca|au|jp|cn|ru|pl|se|dk|fi"
FILE_TYPES = (
    "pdf|txt|md|docx?|xlsx?|pptx?|jpe?g|png|gif|svg|py|js|c|h|zip|gz|csv|mp3|mp4|wav|html?|json|ya?ml|xml|exe|log"
)
COPIED = re.compile(
    r"(?P<tag></?[^\W\d_][^<>\n]*>)"
    r"|(?P<placeholder>\{\{[^{}\n]*\}\}|\$?\{[^{}\n]*\}|%(?:\d+\$|\(\w+\))?[-+0]?\d*(?:\.\d+)?[sdifxu@](?!\w))"
    r"|(?P<email>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<web>(?:https?://|www\.)[^\s<>\"'()]*[^\s<>\"'().,:;!?]"
    rf"|(?<![\w.@/\\-])[\w-]+(?:\.[\w-]+)*\.(?:{TOP_LEVELS})(?:/[^\s<>\"'()]*[^\s<>\"'().,:;!?])?(?![\w@]))"
    r"|(?P<path>(?<![\w/\\])(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w.-]*\w){2,}|(?<![\w/\\])[A-Za-z]:\\[\w.-]*\w"
    rf"|(?<![\w/\\.-])[\w-]+(?:\.[\w-]+)*\.(?:{FILE_TYPES})(?!\w))"
    r"|(?P<mention>(?<![\w@])@\w+)|(?P<hashtag>(?<![\w#&])#\w+)"
    rf"|(?P<emoji>{EMOJI}(?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d{EMOJI})*)"
    r"|(?P<number>(?:(?<!\w)[+$€£¥])?(?<![\w.])\d+(?:[.,:/ -]?\d+)*(?![\w])%?)"
)
# These a model may say in other words, and often copies by itself.
TRIED_FIRST = ("number", "name")
# Symbols that replace what is copied; a model that was trained with `augmentation` has learned to keep them.
MASKS = "①②③④⑤⑥⑦⑧⑨"
NAME = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
FIRST_LETTER = re.compile(r"^[¿¡\"'«“‘(]*[^\W\d_]")
UNKNOWN_PIECES = 3  # a word of so many tokens is rare in the training text, or not there


def into_sentences(text: str) -> list[tuple[str, str]]:
    """
    Part a text into sentences, each with the space behind it: joined again they are the text.

    Lines end sentences. Within a line a sentence ends at `.`, `!`, `?` or `…` before a space and a capital letter, a
    digit or a letter of a script without capitals, and at the marks of other scripts, such as `。`, `؟`, `۔` and `।`.
    It does not end after an abbreviation, initials, an ordinal number or the number of an item.
    """
    parts: list[tuple[str, str]] = []
    for line, line_end in re.findall(r"([^\n]*)(\n+|$)", text):
        start = 0
        for match in SENTENCE_END.finditer(line):
            if match.end() < len(line) and is_sentence_end(line, start, match):
                sentence = line[start : match.end()].rstrip()
                parts.append((sentence, line[start + len(sentence) : match.end()]))
                start = match.end()
        rest = line[start:]
        if rest or line_end:
            stripped = rest.rstrip()
            parts.append((stripped, rest[len(stripped) :] + line_end))
    return parts


def is_sentence_end(line: str, start: int, match: re.Match[str]) -> bool:
    """Whether a match of `SENTENCE_END` ends the sentence of a line that begins at `start`."""
    before = line[max(start, match.start() - LOOK) : match.start()]
    following = match["next"]
    # The letters of Georgian are lower case to Unicode, and begin sentences.
    if following is not None and following.islower() and not "\u10d0" <= following <= "\u10ff":
        return False
    if match.group()[0] not in MARKS[1:] and ITEM.fullmatch(before):
        return False
    if match["mark"] != ".":
        return True
    word = re.split(r"\s", before)[-1].lower().lstrip(OPENING)
    last = re.split("[-–/]", word)[-1]  # of a compound
    if INITIALS.fullmatch(word) or f" {last} " in ABBREVIATIONS:
        return False
    after = line[match.end() : match.end() + LOOK]
    if f" {last} " in BEFORE_NUMBERS and NUMBER.match(after):
        return False
    number = before.lower()
    if SHORT_NUMBER.fullmatch(number) and AFTER_ORDINAL.match(after):
        return False
    return ORDINAL.search(number) is None


class Item(NamedTuple):
    """A part of a text that a translation copies."""

    start: int
    end: int
    kind: str
    text: str


def find_items(text: str) -> list[Item]:
    """Addresses, paths, placeholders, tags, mentions, emoji and numbers in the order of a text."""
    return [
        Item(*match.span(), str(match.lastgroup), match.group())
        for match in COPIED.finditer(text)
        if match.lastgroup not in ("web", "path") or not match.group().replace(".", "").isdigit()
    ]


def count_item(item: Item, text: str) -> int:
    """How often a thing occurs in a text; the marks within a number may be those of another language."""
    if item.kind != "number":
        return text.count(item.text)
    digits = re.sub(r"\D", "", item.text)
    return sum(re.sub(r"\D", "", each.text) == digits for each in find_items(text) if each.kind == "number")


def put_masks(text: str, items: list[Item]) -> tuple[str, dict[str, str]]:
    """A text with a symbol in the place of each thing, of as many as there are symbols, and what each replaces."""
    symbols = iter(symbol for symbol in MASKS if symbol not in text)
    parts, end, masked = [], 0, {}
    for item, symbol in zip(items, symbols, strict=False):
        parts += [text[end : item.start], symbol]
        masked[symbol], end = item.text, item.end
    return "".join([*parts, text[end:]]), masked


def letter_case(text: str) -> str | None:
    """Whether all letters of a text are capitals, "upper", or all its words begin with one, "title"."""
    words = NAME.findall(re.sub(f"[{MASKS}]", "", text))
    letters = "".join(words)
    if len(letters) > 3 and letters.isupper():
        return "upper"
    titled = [word[0].isupper() for word in words]
    return "title" if len(words) > 2 and all(titled) and any(word[1:].islower() for word in words) else None


class Shown:
    """
    A sentence as a model sees it, and the way back from its translation.

    Args:
        sentence: with the white space around it.
        items: of it, in order, to hide behind symbols.
        restore_case: whether a text in capitals, or with a capital in each word, is shown in small letters.

    Attributes:
        text: what the model translates.
        masked: what each symbol in it replaces.
    """

    def __init__(self, sentence: str, items: list[Item], restore_case: bool):
        text, self.masked = put_masks(sentence, items)
        self.text = text.strip()
        start = text.index(self.text)
        self.before, self.after = text[:start], text[start + len(self.text) :]
        self.case = letter_case(self.text) if restore_case else None
        if self.case is not None:
            self.text = self.text.lower()

    def is_kept_by(self, translation: str) -> bool:
        """Whether a translation has each symbol once."""
        return all(translation.count(symbol) == 1 for symbol in self.masked)

    def restore(self, translation: str) -> str:
        """
        The translation of the sentence, with each thing once in the place of its symbol.

        One whose symbol is lost is put between two words, or at an end, as far into the text as it is in the source.
        """
        text = translation.upper() if self.case == "upper" else translation
        if self.case == "title":  # in whose small letters the model sees no capital at the beginning
            text = FIRST_LETTER.sub(lambda start: start[0].upper(), text)
        for symbol in self.masked:
            first, found, rest = text.partition(symbol)
            text = first + found + re.sub(f" ?{symbol}", "", rest) if found else self.insert(symbol, text)
        text = re.sub(f"[{MASKS}]", lambda symbol: self.masked.get(symbol[0], symbol[0]), text)
        return self.before + text + self.after

    def insert(self, symbol: str, text: str) -> str:
        """A translation with a symbol that it has lost."""
        ends = MARKS + OWN_MARKS
        share = self.text.index(symbol) / max(1, len(self.text.rstrip(ends)) - 1)
        gaps = [0, *(match.start() for match in re.finditer(r"\s", text)), len(text.rstrip(ends))]
        gap = min(gaps, key=lambda gap: abs(gap - share * gaps[-1]))
        before, after = text[:gap].rstrip(), text[gap:].lstrip()
        return f"{before}{' ' * bool(before)}{symbol}{' ' * (after[:1] not in ('', *ends))}{after}"


class VanillaTransformerTranslationPipeline(Pipeline):
    r"""
    Translate sentences, those of similar length together.

    The result for a string is a list of `{"translation_text": ...}`, one for each of `num_return_sequences`; for a
    list it is a list with such a dict, or with a list of several, for each string; for any other iterable, such as a
    generator or a data set's column, it is a generator of the same. White space around a text stays around its
    translation, and a text without a letter stays as it is. Special tokens in a text are read as text. A warning, once
    a call, names a text with more than twice the tokens of the longest source of the training
    (`model.generation_config.longest_source`, or else 128).

    Args, of the constructor or of a call, which wins:
        tokens_per_batch (`int`, defaults to 2048):
            Source tokens in a batch, padding included. A longer sentence has a batch of its own.
        batch_size (`int`, *optional*):
            At most so many sentences in a batch.
        return_scores (`bool`, defaults to `False`):
            Adds `"score"`: what beam search ranks by, log P(Y|X) divided by the length penalty (§6.1). It is computed
            afresh for every translation, so that those of greedy search and of sampling can be compared.
        split_sentences (`bool`, *optional*):
            Whether to translate each text sentence by sentence; its lines and the spaces between sentences are kept.
            Without it `model.generation_config.split_sentences` holds, which training writes where its sources were
            single sentences, unless several translations or scores are asked for.
        protect_copies (`bool`, *optional*):
            Whether addresses, paths, placeholders, tags, mentions, emoji, numbers and unknown names come out as they
            are. The model translates them hidden behind symbols, numbers and names only where it has not copied them
            by itself. Needs a model that was trained with `augmentation`, and without the argument
            `model.generation_config.protect_copies` says whether it was. Names are left out where
            `model.generation_config.protect_names` is `False`, which training writes for sources whose language writes
            nouns with a capital, as German does.
        restore_case (`bool`, *optional*):
            Whether a text in capitals, or with a capital in each word, is translated in small letters; capitals become
            capitals again, and the other text begins with one. Without it `model.generation_config.restore_case`
            holds.
        prefix (`str`, *optional*):
            The beginning of every translation; the search goes on from there. A score counts it too.
        return_alignments (`bool`, defaults to `False`):
            Adds `"alignment"`: pairs of words, "0-0 1-2", as `align_words` finds them.
        progress (`bool` or `tqdm`, defaults to `False`):
            Whether to show a progress bar; or one that several calls share, which each of them moves on.
        generate arguments:
            All others are passed to `model.generate`. Without any it decodes as the paper does.

    Raises:
        `ValueError`: for input that is not text, and for arguments that do not go together.

    Example:

    ```python
    >>> from vanilla_transformer import (
    ...     VanillaTransformerConfig,
    ...     VanillaTransformerForConditionalGeneration,
    ...     VanillaTransformerTokenizer,
    ...     VanillaTransformerTranslationPipeline,
    ... )

    >>> tokenizer = VanillaTransformerTokenizer.train(["a cat sat", "a cat ran"], vocab_size=270)
    >>> config = VanillaTransformerConfig.from_preset("tiny", vocab_size=len(tokenizer))
    >>> model = VanillaTransformerForConditionalGeneration(config)
    >>> translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    >>> [len(translations) for translations in translator(["a cat", ""], num_return_sequences=2)]
    [2, 2]

    ```
    """

    warned_of_length = False  # in this call
    text_key = "translation_text"  # the name of the text in a result

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not self.model.config.is_encoder_decoder or not self.model.can_generate():
            raise ValueError(f"`model` is a {type(self.model).__name__}, which does not translate.")

    def _sanitize_parameters(self, return_scores: bool | None = None, **arguments: Any) -> tuple[Named, Named, Named]:
        for name in ("return_dict_in_generate", "output_scores", "output_logits"):
            if arguments.pop(name, None):
                raise ValueError(f"`{name}` is for `model.generate`: this pipeline gives texts. Use `return_scores`.")
        own = {name: arguments.pop(name, None) for name in OWN_ARGUMENTS}
        given = {name: value for name, value in own.items() if value is not None}
        if given.get("tokens_per_batch", 1) < 1:
            raise ValueError(f"`tokens_per_batch` is {given['tokens_per_batch']}. Give at least 1.")
        return given, arguments, {} if return_scores is None else {"return_scores": return_scores}

    def __call__(
        self, inputs: str | Iterable[str], batch_size: int | None = None, num_workers: int | None = None, **kwargs: Any
    ) -> Any:
        """Translate a string, a list of strings, or any iterable of them: see the class."""
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}. Give at least 1.")
        batching, generate_arguments, results = self._sanitize_parameters(**kwargs)
        batching = {**self._preprocess_params, **batching, "batch_size": batch_size or self._batch_size}
        generate_arguments = {**self._forward_params, **generate_arguments}
        return_scores = {**self._postprocess_params, **results}.get("return_scores", False)
        self.warned_of_length = False
        if isinstance(inputs, str):
            return self.translate([inputs], generate_arguments, return_scores, **batching)[0]
        if isinstance(inputs, (list, tuple)):
            return [unwrap_single(r) for r in self.translate(inputs, generate_arguments, return_scores, **batching)]
        try:
            stream = None if isinstance(inputs, (bytes, Mapping)) else iter(inputs)
        except TypeError:
            stream = None
        if stream is None:
            raise ValueError(f"`inputs` is {inputs!r:.60}. Give a string, a list of strings or an iterable of them.")
        splits = self.splits(generate_arguments, return_scores, batching.get("split_sentences"))
        total = len(inputs) if isinstance(inputs, Sized) and not splits else None
        return self._stream(stream, total, generate_arguments, return_scores, batching)

    def _stream(
        self,
        inputs: Iterator[object],
        total: int | None,
        generate_arguments: Named,
        return_scores: bool,
        batching: Named,
    ) -> Iterator[Named | list[Named]]:
        with progress_bar(batching.pop("progress", False), total) as bar:
            for chunk in chunks(texts_only(inputs)):
                results = self.translate(chunk, generate_arguments, return_scores, progress=bar, **batching)
                yield from map(unwrap_single, results)

    def translate(
        self,
        texts: Iterable[str],
        generate_arguments: Named,
        return_scores: bool = False,
        split_sentences: bool | None = None,
        return_alignments: bool = False,
        **settings: Any,
    ) -> list[list[Named]]:
        """The translations of each text, best first."""
        texts = list(texts_only(texts))
        if return_alignments:
            if not self.tokenizer.is_fast:
                kind = type(self.tokenizer).__name__
                raise ValueError(
                    "`return_alignments` needs the place of each token in its text, but the tokenizer of this "
                    f"imported model, {kind}, does not give it. Leave `return_alignments` out."
                )
            results = self.translate(texts, generate_arguments, return_scores, split_sentences, **settings)
            self.add_alignments(texts, results)
            return results
        if not self.splits(generate_arguments, return_scores, split_sentences):
            return self.translate_sentences(texts, generate_arguments, return_scores, **settings)
        parts = [into_sentences(text) for text in texts]
        sentences = [sentence for part in parts for sentence, _ in part]
        translated = iter(self.translate_sentences(sentences, generate_arguments, **settings))
        joined = ("".join(next(translated)[0][self.text_key] + space for _, space in part) for part in parts)
        return [[{self.text_key: text}] for text in joined]

    def add_alignments(self, texts: list[str], results: list[list[Named]]) -> None:
        """Add to each translation of each text which words belong together, as "0-0 1-2"."""
        pairs = [(text, result) for text, several in zip(texts, results, strict=True) for result in several]
        targets = [result[self.text_key] for _, result in pairs]
        links = align_words(self.model, self.tokenizer, [text for text, _ in pairs], targets)
        for (_, result), found in zip(pairs, links, strict=True):
            result["alignment"] = " ".join(f"{source}-{target}" for source, target in found)

    def splits(self, generate_arguments: Named, return_scores: bool, split_sentences: bool | None) -> bool:
        """Whether texts are translated sentence by sentence: what is asked for, or else what the model has learned."""
        several = return_scores or self._setting(generate_arguments, "num_return_sequences", 1) > 1
        if split_sentences and several:
            raise ValueError(
                "`split_sentences` joins the translations of a text's sentences into one, so there is no list of "
                "translations and no score. Leave out `return_scores` and `num_return_sequences`, or split the text "
                "yourself."
            )
        learned = getattr(self.model.generation_config, "split_sentences", False) and not several
        return learned if split_sentences is None else split_sentences

    def translate_sentences(
        self,
        sentences: list[str],
        generate_arguments: Named,
        return_scores: bool = False,
        protect_copies: bool | None = None,
        restore_case: bool | None = None,
        prefix: str | None = None,
        progress: bool | tqdm = False,
        **batching: Any,
    ) -> list[list[Named]]:
        """
        The translations of sentences, in the order given, with what they copy and the white space around them.

        Things that the model loses are hidden behind symbols, and the sentence is translated again.
        """
        if return_scores and generate_arguments.get("decoder_input_ids") is not None:
            raise ValueError(
                "`return_scores` is given with `decoder_input_ids`, whose tokens the search does not score. Leave "
                "one of the two out."
            )
        count = self._setting(generate_arguments, "num_return_sequences", 1)
        if count < 1:
            raise ValueError(f"`num_return_sequences` is {count}. Give at least 1.")
        beams = self._setting(generate_arguments, "num_beams", 1)
        if beams < 1:
            raise ValueError(f"`num_beams` must be at least 1, but is {beams}. Leave it out, or give more.")
        learned = self.model.generation_config
        protects = getattr(learned, "protect_copies", False) if protect_copies is None else protect_copies
        restores = getattr(learned, "restore_case", False) if restore_case is None else restore_case
        if prefix is not None and generate_arguments.get("decoder_input_ids") is not None:
            raise ValueError("`prefix` and `decoder_input_ids` both begin the translation. Leave one of the two out.")
        if prefix is not None or generate_arguments.get("decoder_input_ids") is not None:
            protects = False  # a translation that is begun may hold what is copied
        score = {"score": 0.0} if return_scores else {}
        results: list[list[Named]] = [
            [{self.text_key: sentence, **score} for _ in range(count)] for sentence in sentences
        ]
        items = {
            index: find_items(sentence) if protects else []
            for index, sentence in enumerate(sentences)
            if any(map(str.isalpha, sentence))
        }
        hidden = {index: [item for item in found if item.kind not in TRIED_FIRST] for index, found in items.items()}
        shown = {index: Shown(sentences[index], found, restores) for index, found in hidden.items()}
        shown = {index: each for index, each in shown.items() if any(map(str.isalpha, each.text))}
        with progress_bar(progress, len(sentences)) as bar:
            bar.update(len(sentences) - len(shown))
            translated = self._run(shown, generate_arguments, return_scores, bar, prefix=prefix, **batching)
        for index, outputs in translated.items():
            results[index] = [{**each, self.text_key: shown[index].restore(each[self.text_key])} for each in outputs]
        again = {}
        for index, outputs in translated.items() if protects else ():
            lost = self._lost(sentences[index], items[index], results[index])
            if lost or not all(shown[index].is_kept_by(each[self.text_key]) for each in outputs):
                again[index] = Shown(sentences[index], sorted(hidden[index] + lost), restores)
        # Of all beams those come first that have every symbol once.
        several = {**generate_arguments, "num_return_sequences": max(count, beams)}
        for index, outputs in self._run(again, several, return_scores, None, **batching).items():
            outputs.sort(key=lambda each: not again[index].is_kept_by(each[self.text_key]))
            results[index] = [
                {**each, self.text_key: again[index].restore(each[self.text_key])} for each in outputs[:count]
            ]
        return results

    def _lost(self, sentence: str, items: list[Item], outputs: list[Named]) -> list[Item]:
        """Numbers and unknown names that a translation of a sentence has less, or more, often than the sentence."""
        taken = {position for item in items for position in range(item.start, item.end)}
        names = [] if letter_case(sentence) else list(NAME.finditer(sentence))
        if not getattr(self.model.generation_config, "protect_names", True):
            names = []
        elif not any(name.group()[0].isupper() for name in names[1:2]):
            names = names[1:]  # the first word has a capital whatever it is; a name often has two
        found = [item for item in items if item.kind in TRIED_FIRST]
        for match in names:
            if match.start() not in taken and self._is_unknown_name(match.group()):
                found.append(Item(*match.span(), "name", match.group()))
        texts = [output[self.text_key] for output in outputs]
        return [item for item in found if any(count_item(item, text) != count_item(item, sentence) for text in texts)]

    def _is_unknown_name(self, word: str) -> bool:
        """Whether a word begins with a capital and is rare, in small letters too, in what the tokenizer learned."""
        if not word[0].isupper() or word.isupper():
            return False
        pieces = self.tokenizer([f" {word}", f" {word.lower()}"], add_special_tokens=False).input_ids
        return all(len(ids) >= UNKNOWN_PIECES for ids in pieces)

    def _run(
        self,
        shown: dict[int, Shown],
        generate_arguments: Named,
        return_scores: bool,
        bar: tqdm | None,
        tokens_per_batch: int = 2048,
        batch_size: int | None = None,
        prefix: str | None = None,
    ) -> dict[int, list[Named]]:
        """Batches of sentences of similar length through the model."""
        count = self._setting(generate_arguments, "num_return_sequences", 1)
        results = {}
        encoded = {index: self.preprocess(each.text) for index, each in shown.items()}
        limit = position_limit(self.model.config)
        for index, ids in encoded.items():
            if limit is not None and len(ids["input_ids"]) > limit:
                raise ValueError(
                    f"The sentence {shown[index].text!r:.60} has {len(ids['input_ids']):,} tokens, and the model has "
                    f"{limit:,} positions. Split it, for instance with `split_sentences`."
                )
        self.warn_of_length([(shown[index].text, len(ids["input_ids"])) for index, ids in encoded.items()])
        batches: list[list[int]] = []
        # Longest first: what does not fit in memory shows at once, and the bar does not slow down.
        for index in sorted(encoded, key=lambda i: len(encoded[i]["input_ids"]), reverse=True):
            longest = len(encoded[batches[-1][0]]["input_ids"]) if batches else 0
            in_batch = len(batches[-1]) if batches else 0
            if not batches or (in_batch + 1) * longest > tokens_per_batch or in_batch == batch_size:
                batches.append([])
            batches[-1].append(index)
        with unchanged_weights():
            for batch in batches:
                inputs = self.tokenizer.pad([encoded[index] for index in batch], return_tensors="pt")
                if prefix is not None:
                    begun = self._encode_prefix(prefix, len(batch))
                    generate_arguments = {**generate_arguments, "decoder_input_ids": begun}
                outputs = self.postprocess(self.forward(inputs, return_scores=return_scores, **generate_arguments))
                for position, index in enumerate(batch):
                    results[index] = outputs[position * count : (position + 1) * count]
                if bar is not None:
                    bar.update(len(batch))
        return results

    def _encode_prefix(self, prefix: str, count: int) -> torch.Tensor:
        """The ids (B, 1 + P) that translations begin with: the start token and those of the text."""
        if hasattr(self.tokenizer, "get_tgt_vocab") and not hasattr(self.tokenizer, "_switch_to_target_mode"):
            raise ValueError(
                "`prefix` would be encoded as source text by transformers' FSMTTokenizer. Load this model with "
                "`load_translator` of vanilla_transformer.loading, whose tokenizer encodes both languages."
            )
        ids = self.tokenizer(text_target=prefix, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        start = self.model.generation_config.decoder_start_token_id
        return torch.tensor([[start, *ids]] * count, device=self.model.device)

    def warn_of_length(self, sentences: list[tuple[str, int]]) -> None:
        """Warn, once a call, of the first sentence that is far longer than any of the training. They have lengths."""
        longest = getattr(self.model.generation_config, "longest_source", None)
        limit = FAR_LONGER * (longest or UNKNOWN_LONGEST_SOURCE)
        text, length = next((each for each in sentences if each[1] > limit), ("", 0))
        if not length or self.warned_of_length:
            return
        self.warned_of_length = True
        known = f"the longest source of the training has {longest:,}" if longest else "few sentences are that long"
        logger.warning(
            f"The text {text!r:.60} has {length:,} tokens, but {known}. Parts of it may be lost: shorten it, or use "
            "`split_sentences`, which divides texts at the ends of sentences."
        )

    def preprocess(self, input_: str, **parameters: object) -> Named:
        """A sentence to its ids."""
        # `_run` and the engines check lengths: a warning before their error would say the same.
        return {"input_ids": self.tokenizer(input_, split_special_tokens=True, verbose=False)["input_ids"]}

    def _forward(
        self, input_tensors: dict[str, torch.Tensor], return_scores: bool = False, **generate_arguments: Any
    ) -> Named:
        sequences = self.model.generate(**input_tensors, **generate_arguments)  # (B * num_return_sequences, 1 + T)
        scores = self._score(input_tensors, sequences, generate_arguments) if return_scores else None
        return {"sequences": sequences, "scores": scores}

    def _setting(self, generate_arguments: Named, name: str, default: Any) -> Any:
        """Return a setting of `generate`: an argument, or the configuration passed to it, or the model's own."""
        given = generate_arguments.get("generation_config")
        places = [generate_arguments, {} if given is None else vars(given), vars(self.model.generation_config)]
        return next((place[name] for place in places if place.get(name) is not None), default)

    def _score(
        self, inputs: dict[str, torch.Tensor], sequences: torch.Tensor, generate_arguments: Named
    ) -> torch.Tensor:
        """log P(Y|X) by the length penalty, for sequences (N, 1 + T) of inputs (B, S) -> (N,)."""
        copies = sequences.shape[0] // inputs["input_ids"].shape[0]
        source = {name: tensor.repeat_interleave(copies, dim=0) for name, tensor in inputs.items()}
        tokens = sequences[:, 1:]  # (N, T)
        log_probabilities = self._score_tokens(source, sequences)
        # Padding, which may be the same token as `</s>`, follows that, or the last token before the limit.
        ends = torch.as_tensor(self._setting(generate_arguments, "eos_token_id", -1), device=tokens.device)
        is_end = torch.isin(tokens, ends)
        padding = (tokens == self._setting(generate_arguments, "pad_token_id", -1)) & ~is_end
        real = (~padding).flip(-1).cumsum(dim=-1).flip(-1) > 0
        real &= is_end.cumsum(dim=-1) - is_end.long() == 0  # up to the first end and with it
        length = real.sum(dim=-1)
        is_gnmt = self._setting(generate_arguments, "length_penalty_type", "power") == "gnmt"
        penalty = (5 + length) / 6 if is_gnmt else length
        exponent = self._setting(generate_arguments, "length_penalty", 1.0)
        return (log_probabilities * real).sum(dim=-1) / penalty**exponent

    def _score_tokens(self, source: dict[str, torch.Tensor], sequences: torch.Tensor) -> torch.Tensor:
        """log P of each token after the first, of sequences (N, 1 + T) with sources (N, S) -> (N, T)."""
        logits = self.model(**source, decoder_input_ids=sequences[:, :-1]).logits  # (N, T, V)
        return logits.float().log_softmax(dim=-1).gather(-1, sequences[:, 1:].unsqueeze(-1)).squeeze(-1)

    def postprocess(self, model_outputs: Named, **parameters: object) -> list[Named]:
        """Ids to texts, with their scores if they have any."""
        texts = self.tokenizer.batch_decode(model_outputs["sequences"], skip_special_tokens=True)
        if model_outputs["scores"] is None:
            return [{self.text_key: text} for text in texts]
        scores = model_outputs["scores"].tolist()
        return [{self.text_key: text, "score": score} for text, score in zip(texts, scores, strict=True)]


class VanillaTransformerSummarizationPipeline(VanillaTransformerTranslationPipeline):
    """Summarize texts: the translation pipeline, with results of `{"summary_text": ...}`."""

    text_key = "summary_text"


class VanillaTransformerText2TextGenerationPipeline(VanillaTransformerTranslationPipeline):
    """Text from text, whatever the model was trained for: results of `{"generated_text": ...}`."""

    text_key = "generated_text"


@torch.no_grad()
def align_words(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: list[str],
    targets: list[str],
    batch_size: int = 32,
) -> list[list[tuple[int, int]]]:
    """
    Find which words of translations belong to which words of their sources, by cross-attention (§3.2.3).

    Words are what white space parts. Each target word is linked to the source word that the decoder looks at most
    while it writes it, and each source word without a link to the target word that looks at it most. The weights are
    the mean over `model.generation_config.alignment_heads`, a list of (layer, head), or else over all heads of the
    last layer (benchmarks/results/alignment.md).

    Args:
        model, tokenizer: of a translation model; the tokenizer must know where tokens are in the text.
        sources, targets: texts and their translations, by the model or by anyone.

    Returns:
        pairs (source word, target word), from 0, of each text.
    """
    was_training, implementation = model.training, model.config._attn_implementation
    chosen = getattr(model.generation_config, "alignment_heads", None)
    links: list[list[tuple[int, int]]] = []
    try:
        model.eval()
        model.set_attn_implementation("eager")  # the only one that gives weights
        for start in range(0, len(sources), batch_size):
            texts, translations = sources[start : start + batch_size], targets[start : start + batch_size]
            settings = {"return_offsets_mapping": True, "split_special_tokens": True}
            source, target = tokenizer(texts, **settings), tokenizer(text_target=translations, **settings)
            inputs = tokenizer.pad({"input_ids": source["input_ids"]}, return_tensors="pt").to(model.device)
            labels = tokenizer.pad({"input_ids": target["input_ids"]}, return_tensors="pt")["input_ids"]
            decoder_ids = model.prepare_decoder_input_ids_from_labels(labels.to(model.device))
            layers = model(**inputs, decoder_input_ids=decoder_ids, output_attentions=True).cross_attentions
            heads = [layers[-1].mean(dim=1)] if not chosen else [layers[layer][:, head] for layer, head in chosen]
            weights = torch.stack(heads).mean(dim=0).float().cpu()  # (B, T, S)
            for row in range(len(texts)):
                of_source = word_numbers(texts[row], source["offset_mapping"][row])
                of_target = word_numbers(translations[row], target["offset_mapping"][row])
                links.append(link_words(weights[row], of_source, of_target))
    finally:
        model.set_attn_implementation(implementation)
        model.train(was_training)
    return links


def word_numbers(text: str, offsets: list[tuple[int, int]]) -> list[int]:
    """The word that each token ends in, from 0; -1 for one without a character of a word."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    ends = {position: word for word, (start, end) in enumerate(words) for position in range(start, end)}
    return [ends.get(end - 1, -1) if end > start else -1 for start, end in offsets]


def link_words(weights: torch.Tensor, of_source: list[int], of_target: list[int]) -> list[tuple[int, int]]:
    """Weights (T, S) of tokens, and the word of each token -> pairs (source word, target word), sorted."""
    count, length = max(of_source, default=-1) + 1, max(of_target, default=-1) + 1
    if not count or not length:
        return []
    by_word = torch.zeros(length, count)  # summed over the tokens of a source word, the mean of those of a target word
    for row, target in enumerate(of_target):
        for column, source in enumerate(of_source):
            if target >= 0 and source >= 0:
                by_word[target, source] += weights[row, column] / of_target.count(target)
    links = {(int(row.argmax()), target) for target, row in enumerate(by_word)}
    linked = {source for source, _ in links}
    links |= {(source, int(by_word[:, source].argmax())) for source in range(count) if source not in linked}
    return sorted(links)


def position_limit(config: PreTrainedConfig) -> int | None:
    """The tokens that a model of any type has positions for; none where sinusoids go on without end."""
    return getattr(config, "position_limit", getattr(config, "max_position_embeddings", None))


def texts_only(inputs: Iterable[object]) -> Iterator[str]:
    """The inputs one by one; raises `ValueError` for the first that is not a string."""
    for position, text in enumerate(inputs):
        if not isinstance(text, str):
            raise ValueError(f"`inputs` has {text!r:.60} at position {position}. Give strings only.")
        yield text


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of `FIRST_CHUNK`, then of twice as many each time up to `LARGEST_CHUNK`."""
    rest, size = iter(texts), FIRST_CHUNK
    while chunk := list(itertools.islice(rest, size)):
        yield chunk
        size = min(2 * size, LARGEST_CHUNK)


def progress_bar(progress: bool | tqdm, total: int | None) -> AbstractContextManager[tqdm]:
    """The bar that is given, which stays open, or a new one; a new one is not shown for `False`."""
    if isinstance(progress, tqdm):
        return nullcontext(progress)
    return tqdm(total=total, disable=not progress, unit="sentence")


def unwrap_single(results: list[Named]) -> Named | list[Named]:
    """The one result, or all of several."""
    return results[0] if len(results) == 1 else results


__all__ = [
    "VanillaTransformerSummarizationPipeline",
    "VanillaTransformerText2TextGenerationPipeline",
    "VanillaTransformerTranslationPipeline",
]

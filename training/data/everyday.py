"""Pairs as people type them: other letter case, no full stop, and things that a translation copies."""

import random
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vanilla_transformer.pipeline_vanilla_transformer import MASKS

WITHOUT_STOP = 0.4  # of the pairs in another case: who leaves out capitals leaves out full stops
# Capitals and full stops are left out most of single words: pairs of so few words are changed so many times as often.
SHORT, SHORT_FACTOR = 2, 3
# Where the text of a copy is: in the place of a word of both sides, beside the sentence, or without one.
PLACED, BESIDE = 0.6, 0.32
WITHOUT_PAIR = ["{0}", "{0}", "{0}.", "{0}: {1}", "{0}, {1}", "{0} {1}"]

STOP = re.compile(r"\s*[.!?…。！？।؟۔]+$")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
SHARED = re.compile(r"(?<![\w.,:/-])(?:\d[\d.,:]*\d|\d)(?![\w/-])")  # a number that may be on both sides
COUNTED_PAIRS = 200_000  # enough to find which words translate each other
FREQUENT = 1_500  # pairs: words in more of them are beside everything

SYLLABLE_STARTS = [
    *"bcdfghjklmnpqrstvwxyz",
    *("ch", "sh", "th", "kh", "br", "dr", "gr", "kr", "tr", "st", "zh", "ny", "ll"),
]
SYLLABLE_VOWELS = [*"aeiou" * 6, *"áéíóöüãø", *("ai", "ei", "ia", "io", "ou", "ee")]
SYLLABLE_ENDS = [*[""] * 6, *"nrslmktxzvd", *("ng", "sk")]
DOMAINS = [
    *("com", "org", "net", "edu", "gov", "info", "io", "app", "dev", "ai", "tv", "eu"),
    *("es", "mx", "fr", "de", "co.uk"),
]
FILE_TYPES = [*("pdf", "txt", "docx", "jpg", "png", "py", "zip", "csv", "mp3", "html", "json")]
TAGS = [*("b", "i", "u", "p", "a", "em", "strong", "span", "div", "code", "h1", "h2", "li")]
EMOJI = "😀😂🙂😉😍😎🤔😢😭😡👍👎👏🙏💪👋✨🎉🎁🔥🌍🌞🌧🍕🍎☕🚗🚀✈🏠📷📱💡📌✅❌❤⭐⚽🐶🐱"


class Items:
    """
    Things that a translation copies, drawn at random: no two runs of letters are likely to be the same.

    Args:
        draw: where the chance comes from.
        words: of which addresses, paths and placeholders are made.
    """

    def __init__(self, draw: random.Random, words: Sequence[str]):
        self.draw, self.words = draw, words

    def digits(self, least: int, most: int) -> str:
        return "".join(self.draw.choices(string.digits, k=self.draw.randint(least, most)))

    def syllables(self, least: int, most: int) -> str:
        return "".join(
            (self.draw.choice(SYLLABLE_STARTS) if self.draw.random() < 0.85 else "")
            + self.draw.choice(SYLLABLE_VOWELS)
            + self.draw.choice(SYLLABLE_ENDS)
            for _ in range(self.draw.randint(least, most))
        )

    def word(self) -> str:
        return self.draw.choice(self.words) if self.words and self.draw.random() < 0.6 else self.syllables(1, 3)

    def number(self) -> str:
        draw = self.draw
        whole = str(draw.randint(1, 9)) + self.digits(0, 5)
        return draw.choice(
            [
                *[whole] * 5,
                f"{draw.randint(0, 999)}{draw.choice('.,')}{self.digits(1, 2)}",
                f"{draw.randint(1, 999)}{draw.choice('.,')}{self.digits(3, 3)}",
                str(draw.randint(1900, 2099)),
                f"{draw.randint(0, 23)}:{draw.randint(0, 59):02d}",
                f"{draw.randint(1900, 2099)}-{draw.randint(1, 12):02d}-{draw.randint(1, 31):02d}",
                f"{draw.randint(1, 31)}/{draw.randint(1, 12)}/{draw.randint(1900, 2099)}",
                f"{draw.choice('$€£')}{draw.randint(1, 9999)}{draw.choice(['', f'.{self.digits(2, 2)}'])}",
                f"{draw.randint(1, 100)}%",
                f"+{self.digits(2, 2)} {self.digits(3, 3)} {self.digits(3, 4)}",
            ]
        )

    def host(self) -> str:
        extra = self.draw.choice(["", "", "", f"-{self.word()}", self.digits(1, 3)])
        return f"{self.word()}{extra}.{self.draw.choice(DOMAINS)}"

    def web_address(self) -> str:
        start = self.draw.choice(["https://www.", "https://", "http://", "www.", ""])
        path = "".join(
            "/" + (self.word() if self.draw.random() < 0.7 else self.digits(1, 5))
            for _ in range(self.draw.choice([0, 0, 1, 1, 2]))
        )
        query = f"?{self.word()}={self.digits(1, 5)}" if path and self.draw.random() < 0.15 else ""
        return start + self.host() + path + query

    def email_address(self) -> str:
        more = self.draw.choice(["", "", f"{self.draw.choice('._-+')}{self.word()}", self.digits(1, 4)])
        return f"{self.word()}{more}@{self.host()}"

    def path(self) -> str:
        folders = [self.word() for _ in range(self.draw.randint(1, 3))]
        file = f"{self.word()}.{self.draw.choice(FILE_TYPES)}"
        return self.draw.choice(
            [
                file,
                f"{self.word()}_{file}",
                "/" + "/".join([*folders, file]),
                "/" + "/".join([self.word(), *folders]),
                "/".join(["~", *folders, file]),
                "\\".join(["C:", *folders, file]),
            ]
        )

    def mention(self) -> str:
        return f"@{self.word()}{self.draw.choice(['', '', self.digits(1, 3), '_' + self.word()])}"

    def hashtag(self) -> str:
        return f"#{self.draw.choice([self.word(), self.word().capitalize() + self.word().capitalize()])}"

    def emoji(self) -> str:
        return self.draw.choice(EMOJI)

    def placeholder(self) -> str:
        word, other, number = self.word(), self.word(), self.draw.randint(0, 9)
        return self.draw.choice(
            [
                *["{" + word + "}"] * 2,
                "{" + f"{word}_{other}" + "}",
                "{" + str(number) + "}",
                "{{" + word + "}}",
                "{{ " + word + " }}",
                "${" + word + "}",
                *["%s", "%d", f"%{number}$s", f"%({word})s", "%.2f"],
                *[f"<{self.draw.choice(TAGS)}>", f"</{self.draw.choice(TAGS)}>", f"<{word}/>"],
            ]
        )

    def name(self) -> str:
        """A name that no text is likely to have."""
        first, second = self.syllables(1, 3).capitalize(), self.syllables(1, 2).capitalize()
        return self.draw.choice([*[first] * 6, f"{first} {second}", f"{first}-{second}", f"O'{second}", f"Mc{second}"])

    def mask(self) -> str:
        return self.draw.choice(MASKS)


# Kinds of things to copy, and how often each is drawn.
KINDS: dict[str, float] = {
    "number": 0.2,
    "name": 0.2,
    "web_address": 0.07,
    "email_address": 0.07,
    "path": 0.05,
    "mention": 0.03,
    "hashtag": 0.03,
    "emoji": 0.06,
    "placeholder": 0.09,
    "mask": 0.2,
}


class Pair(NamedTuple):
    source: str
    target: str


def upper(pair: Pair) -> Pair:
    """All capitals, on both sides."""
    return Pair(pair.source.upper(), pair.target.upper())


def title(pair: Pair) -> Pair:
    """Every Word Of The Source With a Capital; the target as it is."""
    return Pair(WORD.sub(lambda word: word[0][0].upper() + word[0][1:], pair.source), pair.target)


def lower(pair: Pair) -> Pair:
    """the source without capitals; the target as it is."""
    return Pair(pair.source.lower(), pair.target)


def no_stop(pair: Pair) -> Pair:
    """Without the marks at the end, on both sides, where both have one and words before it."""
    source, target = STOP.sub("", pair.source), STOP.sub("", pair.target)
    if source in ("", pair.source) or target in ("", pair.target):
        return pair
    for opening, closing in ("¿?", "¡!"):
        if closing in pair.target[len(target) :] and target.startswith(opening):
            target = target[1:]
    return Pair(source, target) if target else pair


class Everyday:
    """
    Changes some training pairs, others in each epoch, so that a model learns what people type.

    The change of a pair depends on the seed, the epoch and the number of its row only: a run that goes on from a
    checkpoint, and one on another number of processes, sees the same text.

    Args:
        pairs: of the training text, `COUNTED_PAIRS` at most, in which words that translate each other, and words to
            make addresses of, are found.
        shares: of the pairs, by "upper", "title", "lower", "no_stop" and "copies".
        seed: of all that is drawn.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], shares: dict[str, float], seed: int):
        self.shares, self.seed = shares, seed
        self.translations, self.words = find_words(pairs) if shares["copies"] else ({}, [])

    def __call__(self, source: str, target: str, row: int, epoch: int) -> Pair:
        """A pair as an epoch shows it; mostly as it is."""
        draw = random.Random(f"{self.seed} {epoch} {row}")
        factor = SHORT_FACTOR if len(source.split()) <= SHORT else 1
        pair, without_stop = Pair(source, target), factor * self.shares["no_stop"]
        if draw.random() < self.shares["copies"]:
            pair = self.with_copy(pair, draw)[0]
        else:  # the case of what is copied must stay
            changed = [factor * self.shares[kind] for kind in CASES]
            (case,) = draw.choices([*CASES, None], [*changed, max(0, 1 - sum(changed))])
            if case is not None:
                pair, without_stop = CASES[case](pair), WITHOUT_STOP
        return no_stop(pair) if draw.random() < without_stop else pair

    def with_copy(self, pair: Pair, draw: random.Random, kind: str | None = None) -> tuple[Pair, str]:
        """A pair with something to copy, of one kind, on both sides, or that without the pair; and what it is."""
        items = Items(draw, self.words)
        kind = draw.choices([*KINDS], [*KINDS.values()])[0] if kind is None else kind
        item, chance = str(getattr(items, kind)()), draw.random()
        places = self.places(pair) if chance < PLACED else []
        if places:
            source, target = draw.choice(places)
            return Pair(replace_word(pair.source, source, item), replace_word(pair.target, target, item)), item
        if chance < PLACED + BESIDE:
            return put_beside(pair, item, draw), item
        text = draw.choice(WITHOUT_PAIR).format(item, items.number() if draw.random() < 0.5 else items.name())
        return Pair(text, text), item

    def places(self, pair: Pair) -> list[tuple[str, str]]:
        """Words and numbers of a source, each once there, with the word of the target that says the same."""
        sources, targets = Counter(WORD.findall(pair.source)), Counter(WORD.findall(pair.target))
        numbers = set(SHARED.findall(pair.source)) & set(SHARED.findall(pair.target))
        found = [(number, number) for number in sorted(numbers) if pair.source.count(number) == 1]
        for word, count in sources.items():
            if count > 1:
                continue
            if word in targets and word[0].isupper() and len(word) > 2:
                said = [word]
            else:
                known = self.translations.get(word.lower(), ())
                said = [each for each in targets if each.lower() in known]
            if len(said) == 1 and targets[said[0]] == 1:
                found.append((word, said[0]))
        return found


def find_words(pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, set[str]], list[str]]:
    """
    Words that translate each other, by how often they are in the same pairs (Dice's coefficient), and words to make
    addresses of.

    Returns:
        the translations of each word, in small letters; and words of the Latin alphabet in the order of that.
    """
    sides = [tuple({word.lower() for word in WORD.findall(side)} for side in pair) for pair in pairs]
    sources, targets = (Counter(word for pair in sides for word in pair[side]) for side in (0, 1))
    usable = [
        {word for word, count in side.items() if 4 <= count < FREQUENT and len(word) > 3}
        for side in (sources, targets)
    ]
    both = Counter(
        (first, second) for pair in sides for first in pair[0] & usable[0] for second in pair[1] & usable[1]
    )
    translations: dict[str, set[str]] = {}
    for (first, second), count in both.items():
        if count >= 4 and 2 * count / (sources[first] + targets[second]) > 0.4:
            translations.setdefault(first, set()).add(second)
    counts = sources + targets
    words = sorted(word for word, count in counts.items() if count > 1 and 2 < len(word) < 10 and word.isascii())
    return translations, [word for word in words if word.isalpha()]


def replace_word(text: str, word: str, by: str) -> str:
    """A text with another word in the place of one."""
    return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _: by, text, count=1)


def put_beside(pair: Pair, item: str, draw: random.Random) -> Pair:
    """A pair with a thing before it, after it, before its full stop, in brackets, or in tags around it."""
    place = draw.random()
    if place < 0.3:
        between = draw.choice([" ", " ", ": ", " - "])
        return Pair(*(f"{side}{between}{item}" for side in pair))
    if place < 0.55:
        between = draw.choice([" ", ": ", ", ", " - "])
        return Pair(*(f"{item}{between}{side}" for side in pair))
    if place < 0.8:
        return Pair(*(STOP.sub("", side) + f" {item}" + "".join(STOP.findall(side)).strip() for side in pair))
    if re.fullmatch(r"<\w+>", item):
        return Pair(*(f"{item}{side}</{item[1:]}" for side in pair))
    return Pair(*(f"{side} ({item})" for side in pair))


CASES: dict[str, Callable[[Pair], Pair]] = {"upper": upper, "title": title, "lower": lower}

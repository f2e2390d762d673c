"""Codes of languages, and the scripts and languages that put no spaces between words."""

from collections.abc import Sequence

import pycountry
import regex

SAMPLED_LINES = 1_000  # of a text, spread over it: enough to see its script
LEAST_GAPS = 1 / 8  # spaces a character in text that is split into words; running text of these scripts has fewer

# Scripts without spaces between words, by ISO 15924, and the languages that are written in them if their code names no
# other. Chinese languages have no common code in pycountry.
SCRIPTS = {
    "Hani": "zh cdo cjy cmn cnp cpx csp czh czo gan hak hsn lzh mnp nan wuu yue",
    "Jpan": "ja ojp ryu",
    "Thai": "th nod sou tts",
    "Laoo": "lo",
    "Khmr": "km",
    "Mymr": "my blk kht mnw rki shn",
    "Tibt": "bo adx dz",
    "Lana": "",
    "Tale": "tdd",
    "Talu": "khb",
    "Java": "",
    "Bali": "",
}
SCRIPT_OF_LANGUAGE = {language: script for script, languages in SCRIPTS.items() for language in languages.split()}
SCRIPT_VARIANTS = {"Hans": "Hani", "Hant": "Hani", "Hira": "Jpan", "Kana": "Jpan", "Hrkt": "Jpan"}
CHINESE = SCRIPTS["Hani"].split()

UNICODE_SCRIPTS = "".join(rf"\p{{scx={script}}}" for script in (*SCRIPTS, "Hira", "Kana", "Bopo") if script != "Jpan")
CHARACTER = regex.compile(rf"(?V1)[[{UNICODE_SCRIPTS}]&&[\p{{L}}\p{{M}}\p{{N}}]]")
GAP = regex.compile(rf"(?V1)(?<={CHARACTER.pattern})[^\S\n]+(?={CHARACTER.pattern})")
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


def two_letters(code: str | None) -> str | None:
    """
    The code of two letters of a language, or of three where it has no other: "zh" for zh-CN, zh_Hans, zho, chi and
    cmn, "de" for deu_Latn. Anything but a code stays, in lower case.
    """
    if code is None:
        return None
    language = subtags(code)[0].lower()
    standards = ("alpha_2", "alpha_3", "bibliographic")
    known = next((found for key in standards if (found := pycountry.languages.get(**{key: language}))), None)
    language = getattr(known, "alpha_2", language)
    return "zh" if language in CHINESE else language


def subtags(code: str) -> list[str]:
    """Language, script and region of a code, of those that it names."""
    return code.strip().replace("_", "-").split("-")


def script_without_spaces(code: str | None) -> str | None:
    """The script of a language by ISO 15924, if it puts no spaces between words: "Thai" for th, none for th-Latn."""
    if code is None:
        return None
    named = next((subtag.title() for subtag in subtags(code)[1:] if len(subtag) == 4 and subtag.isalpha()), None)
    if named is None:
        return SCRIPT_OF_LANGUAGE.get(two_letters(code) or "")
    script = SCRIPT_VARIANTS.get(named, named)
    return script if script in SCRIPTS else None


def separate_characters(text: str) -> str:
    """The text with spaces around each character of these scripts."""
    return str(CHARACTER.sub(r" \g<0> ", text))


def lacks_spaces(lines: Sequence[str]) -> bool:
    """
    Whether a text is mostly in scripts without spaces between words, and has not been split into words.

    A character of these scripts counts as much as a word of others.
    """
    sample = "\n".join(lines[:: max(1, len(lines) // SAMPLED_LINES)])
    characters = len(CHARACTER.findall(sample))
    units = len(WORD.findall(separate_characters(sample)))
    return 2 * characters > units and len(GAP.findall(sample)) <= LEAST_GAPS * characters

"""The files of translators: translation memories (TMX) and XLIFF, read one unit at a time, in flat memory."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lxml import etree

from training.data.files import explain_damage, open_file, strip_packing
from vanilla_transformer.errors import RecipeError, TextError

MEMORIES = (".tmx", ".xlf", ".xliff")
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Elements within a segment whose content is code of the document, or another text: what comes after them is text.
CODE = frozenset({"bpt", "ept", "ph", "it", "ut", "sub", "x", "bx", "ex", "sc", "ec", "cp", "sm", "em"})
UNTRANSLATED = frozenset({"new", "needs-translation", "initial"})  # states of a target, in both versions of XLIFF


class Unit(NamedTuple):
    """A sentence pair, and where it is, counted from 1; a side that a unit lacks is empty."""

    number: int
    source: str
    target: str


def read_memory(path: str, source_lang: str | None, target_lang: str | None) -> Iterator[Unit]:
    """
    The units of a `.tmx`, `.xlf` or `.xliff` file; `.gz` or `.zst` may follow.

    Inline tags are left out, and their text stays where it is one of the sentence. A language code without a region,
    such as "en", means all that there are; of several variants in a unit the first is taken, or the one that
    is named exactly.

    Args:
        source_lang, target_lang: language codes; XLIFF says by itself which side is which.

    Raises:
        RecipeError: if a language is not named, or not there.
        TextError: for broken XML, and for XML that declares entities.
    """
    kind = Path(strip_packing(path)).suffix
    try:
        with explain_damage(path), open_file(path) as file:
            if kind == ".tmx":
                yield from read_tmx(file, path, source_lang, target_lang)
            else:
                yield from read_xliff(file, path, source_lang, target_lang)
    except etree.XMLSyntaxError as error:
        said = str(error.msg).partition(", line ")[0]
        raise TextError(f"{path}, line {error.lineno} is broken XML: {said}. Export it again.") from None


def find_elements(file: BinaryIO, path: str, names: tuple[str, ...]) -> Iterator[etree._Element]:
    """
    Each element of some names when it is whole; afterwards it is dropped, with all before it.

    Raises:
        TextError: for XML that declares entities, which could grow without end.
    """
    elements = etree.iterparse(
        file,
        events=("end",),
        tag=[f"{{*}}{name}" for name in names],
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        collect_ids=False,
        huge_tree=False,
    )
    is_checked = False
    for _, element in elements:
        if not is_checked:
            declared = element.getroottree().docinfo.internalDTD
            if declared is not None and any(True for _ in declared.iterentities()):
                raise TextError(
                    f"{path} declares entities, which a memory of sentences does not need. Leave them out."
                )
            is_checked = True
        yield element
        element.clear()
        for done in (element, *element.iterancestors()):  # a unit of XLIFF 2 has its segments, a group its units
            parent = done.getparent()
            while parent is not None and done.getprevious() is not None:
                del parent[0]


def local_name(element: etree._Element) -> str:
    """The name of an element without its namespace; of a comment or an entity, none."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def read_text(element: etree._Element) -> str:
    """The sentence in a segment: without inline tags, and with single spaces."""
    parts = [element.text or ""]

    def collect(parent: etree._Element) -> None:
        for child in parent:
            name = local_name(child)
            if name and name not in CODE:
                parts.append(child.text or "")
                collect(child)
            parts.append(child.tail or "")

    collect(element)
    return re.sub(r"[ \t\r\n]+", " ", "".join(parts)).strip()


def normalize_language(code: str) -> str:
    """A code as it is compared: "en_US" and "EN-us" are "en-us"."""
    return code.strip().replace("_", "-").lower()


def choose_variant(variants: dict[str, str], language: str) -> str:
    """The text of a language: of the exact code, or else of the first that is the language with a region."""
    wanted = normalize_language(language)
    if wanted in variants:
        return variants[wanted]
    family = wanted.partition("-")[0]
    near = (text for code, text in variants.items() if code.partition("-")[0] == family)
    return next(near, "")


def need_languages(path: str, source_lang: str | None, target_lang: str | None, found: list[str]) -> tuple[str, str]:
    """
    Both languages.

    Raises:
        RecipeError: if one is not named.
    """
    for name, code in (("source_lang", source_lang), ("target_lang", target_lang)):
        if code is None:
            there = f" It has, for instance: {', '.join(found)}." if found else ""
            raise RecipeError(f"`{name}` is missing, and {path} does not say which language is which side.{there}")
    assert source_lang is not None and target_lang is not None
    return source_lang, target_lang


def read_tmx(file: BinaryIO, path: str, source_lang: str | None, target_lang: str | None) -> Iterator[Unit]:
    """The units of a TMX file; see `read_memory`."""
    languages: Counter[str] = Counter()
    found = {"source": False, "target": False}
    number = 0
    for number, unit in enumerate(find_elements(file, path, ("tu",)), start=1):
        variants: dict[str, str] = {}
        for variant in unit.iterchildren("{*}tuv"):
            code = normalize_language(variant.get(LANGUAGE) or variant.get("lang") or "")
            segment = variant.find("{*}seg")
            if segment is not None:
                variants.setdefault(code, read_text(segment))
        languages.update(list(variants))
        source, target = need_languages(path, source_lang, target_lang, list(variants))
        pair = Unit(number, choose_variant(variants, source), choose_variant(variants, target))
        found["source"] |= bool(pair.source)
        found["target"] |= bool(pair.target)
        yield pair
    if not number:
        raise TextError(f"{path} has no units (<tu>). Export it again.")
    for side, wanted in (("source", source_lang), ("target", target_lang)):
        if not found[side]:
            there = ", ".join(code for code, _ in languages.most_common(10))
            raise RecipeError(
                f"`{side}_lang` must be a language of {path}, but is {wanted}. That has text only in: {there}. Choose "
                "one of these."
            )


def read_xliff(file: BinaryIO, path: str, source_lang: str | None, target_lang: str | None) -> Iterator[Unit]:
    """The units of a file of XLIFF 1.2 or 2; see `read_memory`."""
    number, is_swapped = 0, False
    for number, unit in enumerate(find_elements(file, path, ("trans-unit", "segment")), start=1):
        if number == 1:
            is_swapped = find_direction(unit, path, source_lang, target_lang)
        source, target = unit.find("{*}source"), unit.find("{*}target")
        state = unit.get("state") or (None if target is None else target.get("state"))
        texts = ["" if each is None else read_text(each) for each in (source, target)]
        if state in UNTRANSLATED:
            texts[1] = ""
        yield Unit(number, *(reversed(texts) if is_swapped else texts))
    if not number:
        raise TextError(f"{path} has no units (<trans-unit> or <segment>). Export it again.")


def find_direction(unit: etree._Element, path: str, source_lang: str | None, target_lang: str | None) -> bool:
    """
    Return whether a file translates the other way round than the recipe.

    Raises:
        RecipeError: if it is of other languages.
    """
    named = ["", ""]
    for parent in unit.iterancestors():
        for index, names in enumerate((("source-language", "srcLang"), ("target-language", "trgLang"))):
            named[index] = named[index] or normalize_language(parent.get(names[0]) or parent.get(names[1]) or "")
    families = [code.partition("-")[0] for code in named]
    wanted = [normalize_language(code or "").partition("-")[0] for code in (source_lang, target_lang)]
    if all(not (ours and theirs) or ours == theirs for ours, theirs in zip(wanted, families, strict=True)):
        return False
    if all(not (ours and theirs) or ours == theirs for ours, theirs in zip(wanted, families[::-1], strict=True)):
        return True
    raise RecipeError(
        f"`source_lang` and `target_lang` must be those of {path}, {named[0]} and {named[1] or 'no language'}, but "
        f"are {source_lang} and {target_lang}. Name the languages of the file, or another file."
    )

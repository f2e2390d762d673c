"""The kinds of values that fields take, and what is wrong with others, in the words of a recipe."""

import enum
import types
import typing
from argparse import ArgumentError, ArgumentParser

from training.recipe.ranges import Value

REMEDIES = {bool: "Give true or false", float: "Give a number", int: "Give a whole number"}


def find_kinds(annotation: object) -> list[object]:
    """Return the types of a union, or the only one; each as it is without parameters."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return list(typing.get_args(annotation)) if is_union else [annotation]


def describe_remedy(annotation: object) -> str:
    """Return what to give for a field of that type."""
    kinds = find_kinds(annotation)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return f"Choose one of: {', '.join(str(each.value) for each in kind)}"
        if typing.get_origin(kind) is typing.Literal:
            return f"Choose one of: {', '.join(map(str, typing.get_args(kind)))}"
    return next((REMEDIES[kind] for kind in REMEDIES if kind in kinds and str not in kinds), "Give one value")


def is_of_kind(value: Value, annotation: object) -> bool:
    """Return whether a value is of a simple type, or of one of several; true and false are not numbers."""
    origins = (typing.get_origin(kind) or kind for kind in find_kinds(annotation))
    kinds = tuple(kind for kind in origins if isinstance(kind, type))
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def find_fault_of_words(parser: ArgumentParser, words: list[str], annotation: object, written: Value) -> str | None:
    """
    Return what is wrong with the words of a field.

    Args:
        parser: knows the field, and raises what is wrong.
        words: `--field value ...` or `--field=value`.
        annotation: the type of the field.
        written: the value as the file has it; `None` on the command line.
    """
    option, equals, value = words[0].partition("=")
    values = [value, *words[1:]] if equals else words[1:]
    name, shown = option.removeprefix("--").replace("-", "_"), repr(" ".join(values) if written is None else written)
    kinds = [typing.get_origin(kind) or kind for kind in find_kinds(annotation)]
    if isinstance(written, dict) and dict not in kinds:
        return f"`{name}` is {shown}. {describe_remedy(annotation)}."
    try:
        rest = parser.parse_known_args(words)[1]
    except ArgumentError:
        if not values:
            return f"`{name}` has no value. {describe_remedy(annotation)}."
        if written is None and not equals and values[0].startswith("-") and str in kinds:
            return f"`{name}` is {shown}, which begins with a dash. Write --{name}={values[0]}"
        return f"`{name}` is {shown}. {describe_remedy(annotation)}."
    if rest and written is None:
        return f"`{name}` is {shown}: {len(values)} words. Give one, in quotes if it has spaces."
    return f"`{name}` is {shown}. {describe_remedy(annotation)}." if rest else None

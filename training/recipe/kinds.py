"""The kinds of values that fields take, and what is wrong with others, in the words of a recipe."""

import enum
import types
import typing
from argparse import ArgumentError, ArgumentParser

from training.recipe.ranges import Value

RULES = {bool: "true or false", float: "a number", int: "a whole number"}


def find_kinds(annotation: object) -> list[object]:
    """Return the types of a union, or the only one; each as it is without parameters."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return list(typing.get_args(annotation)) if is_union else [annotation]


def describe_rule(annotation: object) -> str:
    """Return what a value of that type must be."""
    kinds = find_kinds(annotation)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return f"one of {', '.join(str(each.value) for each in kind)}"
        if typing.get_origin(kind) is typing.Literal:
            return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    return next((RULES[kind] for kind in RULES if kind in kinds and str not in kinds), "one value")


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
    rule = describe_rule(annotation)
    fault = f"`{name}` must be {rule}, but is {shown}. {'Choose' if rule.startswith('one of ') else 'Give'} one."
    if isinstance(written, dict) and dict not in kinds:
        return fault
    try:
        rest = parser.parse_known_args(words)[1]
    except ArgumentError:
        if not values:
            return f"`{name}` must be {rule}, but has no value. Give one."
        if written is None and not equals and values[0].startswith("-") and str in kinds:
            return f"`{name}` must not begin with a dash after a space, but is {shown}. Write --{name}={values[0]}"
        return fault
    if rest and written is None:
        return f"`{name}` must be one word, but is {len(values)}: {shown}. Give one, in quotes if it has spaces."
    return fault if rest else None

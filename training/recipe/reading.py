"""YAML as a recipe has it: plain values, of limited size and depth; nothing is run, and no field is given twice."""

import re
from typing import Any

import yaml

MOST_CHARACTERS = 1_000_000
MOST_LEVELS = 20


class RecipeLoader(yaml.SafeLoader):
    """YAML without tags that make objects, without aliases, which can mean any number of values, and not deep."""

    levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, f"`*{event.anchor}` repeats a value", mark)
        if self.levels >= MOST_LEVELS:
            raise yaml.composer.ComposerError(None, None, f"it has more than {MOST_LEVELS} levels", mark)
        self.levels += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.levels -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"`{name}` is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


# PyYAML takes 1e-6 for a string: its numbers need a dot. transformers' own fields have such numbers.
RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """
    Return what some YAML holds.

    Raises:
        yaml.YAMLError: if it is none, or has tags, aliases, too many levels or too many characters.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"it has {len(text):,} characters, and a recipe at most {MOST_CHARACTERS:,}")
    try:
        return yaml.load(text, RecipeLoader)
    except (ValueError, TypeError) as error:  # such as a date that no calendar has, or a list as a name
        raise yaml.YAMLError(str(error)) from error

"""Faults of a configuration are told in one line; bugs keep their traceback."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from training.engine.start import faults_of_configuration
from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.errors import RecipeError


def test_only_what_a_configuration_says_of_its_values_is_a_fault_of_the_recipe():
    for values in ({"hidden_size": 30, "num_attention_heads": 4}, {"hidden_size": "wide"}):
        with pytest.raises(RecipeError, match="hidden_size"), faults_of_configuration():
            VanillaTransformerConfig(**values)
    bugs = (
        *(ValueError("shapes"), TypeError("no such argument"), KeyError("x")),
        StrictDataclassClassValidationError(validator="validate_architecture", cause=TypeError("None < 1")),
    )
    for bug in bugs:
        bug.__cause__ = getattr(bug, "cause", None) or TypeError("None < 1")
        with pytest.raises(type(bug)) as raised, faults_of_configuration():
            raise bug
        assert raised.value is bug

"""The start of a training: its vocabulary and configuration, and the message where one of them is impossible."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from training.data.parallel import ParallelText
from training.engine.start import faults_of_configuration, learn_once
from training.recipe.fields import DataFields, ModelFields, TrainingFields
from training.tasks.language_modeling import CausalLanguageModeling, PlainText
from training.tasks.translation import Translation
from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerTokenizer
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


@pytest.mark.parametrize("task", [Translation, CausalLanguageModeling])
def test_the_vocabulary_of_a_large_text_is_learned_from_lines_at_even_distances(task, capsys):
    pairs = [(f"the house {i} {i % 7}", f"la casa {i} {i % 5}") for i in range(300)]
    text, lines = ParallelText.from_pairs(pairs), [*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)]
    some = [*lines[:300:3], *lines[300::3]]
    if task is CausalLanguageModeling:
        text, some = PlainText(lines, {}), lines[::6]

    def learn(at_most: int | None) -> str:
        fields = ModelFields(vocab_size=400, input_sentence_size=at_most)
        return learn_once(fields, task(DataFields(), TrainingFields()), text).backend_tokenizer.to_str()

    def expect(of_lines: list[str]) -> str:
        return VanillaTransformerTokenizer.train(of_lines, 400).backend_tokenizer.to_str()

    assert learn(None) == learn(len(text)) == learn(10_000) == expect(lines) != expect(some)
    assert capsys.readouterr().out == ""
    assert learn(100) == expect(some)
    assert f"learned from 100 of {len(text)} {'pairs' if task is Translation else 'lines'}" in capsys.readouterr().out


def test_a_vocabulary_of_a_part_is_not_that_of_all_the_text_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(Translation, "name_lines", lambda self, text: "its content")
    text = ParallelText.from_pairs([(f"the house {i}", f"la casa {i}") for i in range(100)])
    task = Translation(DataFields(), TrainingFields())
    learned = [
        learn_once(ModelFields(vocab_size=400, input_sentence_size=size), task, text) for size in (None, 5, None)
    ]
    every, some, again = (tokenizer.backend_tokenizer.to_str() for tokenizer in learned)
    assert every == again != some

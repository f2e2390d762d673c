"""Texts of a recipe: those that are not what it says, and what a model keeps of them."""

import pytest
from transformers import GenerationConfig

from training.data.parallel import ParallelText
from training.recipe.fields import DataFields, TrainingFields
from training.tasks import TASKS
from training.train import main


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--target", "{tmp}/train.en"], "Source and target of the train text must differ, but are the same in all"),
        (["--validation_target", "{tmp}/validation.en"], "Source and target of the validation text must differ"),
        (["--test_sets", "{{copy: [{tmp}/train.es, {tmp}/train.es]}}"], "Source and target of the copy text must"),
        (
            ["--target", "{tmp}/shifted.es"],
            "in the train text, from about row 3 on, sources fit the target 1 row before",
        ),
        (
            ["--source_lang", "es", "--target_lang", "en"],
            "`source_lang` must be the language of the source, but is es",
        ),
    ],
)
def test_texts_that_cannot_be_what_they_are_said_to_be_are_refused(recipe, tmp_path, capsys, arguments, named):
    lines = (tmp_path / "train.es").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "shifted.es").write_text("".join(lines[1:] + lines[:1]), encoding="utf-8")
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    assert main([str(recipe), "--report_only", "true", *arguments]) == 2
    assert named in capsys.readouterr().err


def test_doubtful_text_is_told_and_does_not_stop_a_run(recipe, capsys):
    assert main([str(recipe), "--report_only", "true", "--source_lang", "de"]) == 0
    assert "`source_lang` is de, but the source of the train text reads like en" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sources", "single", "names"),
    [
        (["The dog sleeps in the house.", "Ana is here."], True, True),
        (["The dog sleeps. The cat sleeps too.", "She went home."], False, True),
        (["I came. He saw. We won.", "I think I know what I want, I said. Tom sleeps."], False, True),
        (["Dogs And Cats", "Tea And Coffee", "The dog sleeps."], True, True),
        (["Der Hund schläft in dem Haus.", "Die Frau liest ein Buch."], True, False),
    ],
)
def test_a_model_keeps_what_its_sources_say_of_sentences_and_of_nouns(sources, single, names):
    task = TASKS["translation"](DataFields(), TrainingFields(augmentation={"copies": 0.1, "lower": 0.1}))
    settings = GenerationConfig()
    task.adapt_settings(settings, ParallelText.from_pairs([(source, "x") for source in sources]))
    assert (settings.split_sentences, settings.protect_names) == (single, names)
    assert settings.protect_copies and settings.restore_case

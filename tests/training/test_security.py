"""Nothing runs out of a folder of a model, data set or checkpoint, or out of a recipe; size and depth have limits."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from training.data.memories import read_memory
from training.data.texts import load_dataset, read_one_file
from training.engine.checkpoints import find_damage
from training.recipe.fields import DataFields
from training.recipe.parse import parse_recipe
from training.tasks.question_answering import read_squad
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.errors import ModelCardError, ModelFolderError, RecipeError, TextError
from vanilla_transformer.loading import load_model, load_translator
from vanilla_transformer.model_card import ModelCardFacts
from vanilla_transformer.text import read_json


class Trap:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def sprung(tmp_path):
    """Where a trap makes a folder; it must not be there in the end."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


@pytest.fixture
def yes(monkeypatch):
    """A user who says yes to whatever transformers asks on a terminal."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


def test_a_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").is_dir()


def test_pickled_weights_are_not_read(model_folder, sprung):
    torch.save({"model.shared.weight": Trap(sprung)}, model_folder / "pytorch_model.bin")
    load_model(model_folder)  # by the safe file beside it
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(ModelFolderError, match=r"has no model\.safetensors"):
        load_model(model_folder)


@pytest.mark.parametrize("model_type", ["unknown", "vanilla_transformer"])
def test_code_beside_a_model_is_not_run_even_where_transformers_would_ask(model_folder, sprung, yes, model_type):
    (model_folder / "trap.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    for name, classes in (("config.json", ("AutoConfig", "AutoModelForSeq2SeqLM")), ("tokenizer_config.json", ())):
        file = model_folder / name
        settings = json.loads(file.read_text())
        settings["auto_map"] = dict.fromkeys(classes, "trap.Trap") or {"AutoTokenizer": ["trap.Trap", "trap.Trap"]}
        settings |= {"model_type": model_type} if classes else {"tokenizer_class": "Trap"}
        file.write_text(json.dumps(settings))
    if model_type == "unknown":
        with pytest.raises(ModelFolderError, match="is damaged"):
            load_translator(model_folder)
    else:
        model, _ = load_model(model_folder)
        assert type(model) is VanillaTransformerForConditionalGeneration


def test_a_script_in_a_data_set_is_not_run(tmp_path, sprung, yes):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "data.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        load_dataset(DataFields(dataset_name=str(folder)), "train")


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_with_code_is_damaged(finished, tmp_path, sprung, name):
    checkpoint = shutil.copytree(finished / "run" / "checkpoint-2", tmp_path / "checkpoint-2")
    torch.save(Trap(sprung), checkpoint / name)
    assert zipfile.is_zipfile(checkpoint / name)
    assert find_damage(checkpoint) == f"{name} holds more than numbers, as a file with code does"


# ----- recipes -----


@pytest.mark.parametrize(
    "value",
    ["!!python/object/apply:os.mkdir [SPRUNG]", "!!python/name:os.mkdir", "!!python/object/new:os.mkdir [SPRUNG]"],
)
def test_tags_in_a_recipe_make_no_objects(tmp_path, sprung, value):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"output_dir: {value.replace('SPRUNG', str(sprung))}\n")
    with pytest.raises(RecipeError, match="is not YAML: could not determine a constructor"):
        parse_recipe([str(recipe)])
    with pytest.raises(RecipeError, match="`config_overrides` must be names and values"):
        parse_recipe(["--output_dir", "run", "--config_overrides", f"{{a: {value.replace('SPRUNG', str(sprung))}}}"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: &a [x, x]\nb: [*a, *a]\n", r"`\*a` repeats a value"),  # nine of these in a row are a billion values
        (f"a: {'[' * 30}{']' * 30}\n", "it has more than 20 levels"),
        (f"a: {'[' * 30_000}\n", "it has more than 20 levels"),
        (f"a: {'x' * 1_000_000}\n", "it has 1,000,004 characters"),
        ("a: 2020-02-31\n", "day is out of range"),
    ],
)
def test_a_recipe_has_limits(tmp_path, content, said):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(content)
    with pytest.raises(RecipeError, match=said):
        parse_recipe([str(recipe)])


# ----- JSON and XML -----

DEEP = "[" * 100_000


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_of_a_model_that_is_too_deep_is_damaged(model_folder, name):
    (model_folder / name).write_text(DEEP)
    with pytest.raises(ModelFolderError, match="is damaged"):
        load_model(model_folder)


def test_other_json_that_is_too_deep_is_an_error_in_words(tmp_path):
    (tmp_path / "model_card.json").write_text(DEEP)
    with pytest.raises(ModelCardError, match="it has too many levels"):
        ModelCardFacts.load(tmp_path)
    (tmp_path / "text.jsonl").write_text('{"source": "a", "target": ' + DEEP + "\n")
    with pytest.raises(RecipeError, match="line 1 is not JSON"):
        read_one_file(str(tmp_path / "text.jsonl"), DataFields())
    (tmp_path / "squad.json").write_text(DEEP)
    with pytest.raises(RecipeError, match="is not JSON"):
        read_squad(tmp_path / "squad.json")


def test_a_file_of_settings_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "settings.json").write_text("[1, 2, 3]")
    assert read_json(tmp_path / "settings.json") == [1, 2, 3]
    monkeypatch.setattr("vanilla_transformer.text.MOST_JSON", 8)
    with pytest.raises(ValueError, match="it has 9 bytes, but such a file has at most 8"):
        read_json(tmp_path / "settings.json")


@pytest.mark.parametrize("segment", ["<hi>" * 300 + "a" + "</hi>" * 300, "a" * 11_000_000])
def test_a_memory_that_is_too_deep_or_has_an_endless_segment_is_broken(tmp_path, segment):
    (tmp_path / "memory.tmx").write_text(
        f'<tmx><body><tu><tuv xml:lang="en"><seg>{segment}</seg></tuv><tuv xml:lang="es"><seg>b</seg></tuv></tu>'
        "</body></tmx>"
    )
    with pytest.raises(TextError, match="is broken XML"):
        list(read_memory(str(tmp_path / "memory.tmx"), "en", "es"))

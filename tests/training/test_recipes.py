"""Recipes and launch configurations that come with the project."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from training.recipe.corpus_size import choose_row
from training.recipe.parse import parse_recipe

TRAINING = Path(__file__).resolve().parents[2] / "training"
RECIPES = sorted((TRAINING / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_are_read_with_every_row_of_their_tables(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    table = content.get("by_corpus_size", [{}])
    words = {"replay": "{source: x}"}
    needed = [word for name in content.get("needs", []) for word in (f"--{name}", words.get(name, "x"))]
    for pairs in [row.get("up_to", 10**9) for row in table]:
        recipe = parse_recipe([str(path), *needed], pairs)
        assert recipe.row == (choose_row(table, pairs) if recipe.has_table else {})


@pytest.mark.parametrize(
    "path",
    [path for path in RECIPES if path.stem not in ("own_files", "finetune", "corrections")],
    ids=lambda path: path.name,
)
def test_recipes_of_known_data_say_first_what_was_measured(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    assert any(re.match("# (Measured|Not measured|Expected, not measured by us)", line) for line in head)
    words = " ".join(line.removeprefix("# ") for line in head)
    told = re.search(r"\d (minutes|hours|days)\b", words) and re.search(r"\b(CPU|GPU|P100)\b", words)
    assert told or "its time was not measured" in words or "neither its time nor its scores" in words


@pytest.mark.parametrize("path", sorted((TRAINING / "recipes").glob("wmt14_*.yaml")), ids=lambda path: path.name)
def test_the_papers_recipes_are_the_papers(path):
    recipe = parse_recipe([str(path)])
    assert (recipe.training.bpe_dropout, recipe.training.noam_scale) == (0, 1)
    assert (recipe.training.tokens_per_step, recipe.training.warmup_steps) == (25000, 4000)
    steps, averaged = (300000, 20) if recipe.model.preset == "big" else (100000, 5)
    assert (recipe.training.max_steps, recipe.training.average_checkpoints) == (steps, averaged)
    assert not recipe.model.config_overrides
    assert recipe.training.compound_bleu is (recipe.data.target_lang == "de")


@pytest.mark.parametrize("name", ["sst2", "masked_lm"])
def test_a_recipe_for_new_models_starts_from_a_model_of_any_shape(name):
    files = ["--train_file", "train.tsv", "--validation_file", "validation.tsv"]
    path = str(TRAINING / "recipes" / f"{name}.yaml")
    assert parse_recipe([path, *files]).model.config_overrides == {"encoder_layers": 2}
    recipe = parse_recipe([path, *files, "--init_from", "runs/other"])
    assert recipe.model.config_overrides == {} and recipe.model.dropout is not None


@pytest.mark.parametrize(
    ("name", "processes", "machines"), [("one_gpu", 1, 1), ("multi_gpu", 8, 1), ("multi_node", 16, 2)]
)
def test_accelerate_reads_its_configurations(name, processes, machines):
    words = ["--config_file", str(TRAINING / "accelerate" / f"{name}.yaml"), "-m", "training.train", "recipe.yaml"]
    arguments, configuration, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert (arguments.num_processes, arguments.num_machines) == (processes, machines)
    assert arguments.multi_gpu is (processes > 1)
    assert not arguments.cpu
    assert configuration is not None


def test_the_slurm_script_is_a_script():
    subprocess.run(["bash", "-n", str(TRAINING / "accelerate" / "slurm.sh")], check=True)

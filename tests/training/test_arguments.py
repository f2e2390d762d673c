import pytest

from training.arguments import RecipeError, parse_recipe


@pytest.fixture
def recipe(tmp_path):
    def write(content: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(f"output_dir: {tmp_path / 'out'}\n" + content)
        return str(path)

    return write


def test_the_defaults_are_the_papers(recipe):
    model, _, training = parse_recipe([recipe("")])
    assert (model.preset, model.vocab_size) == ("base", 37000)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert (training.warmup_steps, training.max_grad_norm, training.weight_decay) == (4000, 0, 0)
    assert (training.tokens_per_step, training.average_checkpoints) == (25000, 5)
    assert parse_recipe([recipe("preset: big\n")])[2].average_checkpoints == 20


def test_the_command_line_wins_and_types_are_kept(recipe):
    path = recipe("preset: tiny\nmax_steps: 10\nconfig_overrides: {norm_first: true}\nadam_epsilon: 1e-8\n")
    model, data, training = parse_recipe([path, "--max_steps", "20", "--source", "x"])
    assert (training.max_steps, training.adam_epsilon, data.source) == (20, 1e-8, "x")
    assert model.config_overrides == {"norm_first": True}


@pytest.mark.parametrize(
    ("content", "arguments", "named"),
    [
        ("warmup_stepz: 4\n", [], r"no recipe field `warmup_stepz`\. Did you mean `warmup_steps`?"),
        ("", ["--learning_rat", "1"], "no recipe field `learning_rat`. Did you mean `learning_rate`?"),
        ("preset: huge\n", [], "`preset` is 'huge'. Choose one of: tiny"),
        ("label_smoothing_factor: 0.1\n", [], "Use `label_smoothing`"),
        ("per_device_train_batch_size: 8\n", [], "Use `tokens_per_device`"),
        ("learning_rate: 0.1\n", [], r"`learning_rate` has no effect.*noam: false"),
        ("tokens_per_step: 0\n", [], "`tokens_per_step` is 0"),
        ("max_steps: 0\n", [], "`max_steps` is 0"),
        ("num_attention_heads: 3\n", [], r"no recipe field `num_attention_heads`.*config_overrides: .num_attention"),
        ("warmup_steps: 0\n", [], "`warmup_steps` is 0"),
        ("save_total_limit: 2\n", [], "`save_total_limit` is 2 and `average_checkpoints` 5"),
        ("run_on: tpu\n", [], "`run_on` is 'tpu'"),
        ("config_overrides: {norm_frist: true}\n", [], "has `norm_frist`, which is no field.*`norm_first`"),
        ("", ["--config_overrides", "[1]"], "`config_overrides` is '.1.'"),
        ("bleu_tokenize: 13b\n", [], "`bleu_tokenize` is .13b.. Choose one of"),
        ("load_best_model_at_end: true\n", [], "Use `average_checkpoints`"),
        ("", ["--max_steps", "3", "stray"], "stray"),
        ("- a\n", [], r"is not YAML|holds no fields"),
        ("a: [\n", [], "is not YAML"),
    ],
)
def test_bad_recipes_are_refused(recipe, content, arguments, named):
    with pytest.raises(RecipeError, match=named):
        parse_recipe([recipe(content), *arguments])


def test_missing_recipes_and_folders_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"absent\.yaml cannot be read"):
        parse_recipe([str(tmp_path / "absent.yaml")])
    with pytest.raises(RecipeError, match="`output_dir` is missing"):
        parse_recipe(["--preset", "tiny"])


def test_the_trainers_schedules_are_open_without_the_papers(recipe):
    for content, arguments in (
        ("noam: false\nlearning_rate: 0.001\nlr_scheduler_type: linear\n", []),
        ("learning_rate: 0.001\nlr_scheduler_type: linear\n", ["--noam", "false"]),
        ("learning_rate: 0.001\nlr_scheduler_type: linear\n", ["--no_noam"]),
    ):
        _, _, training = parse_recipe([recipe(content), *arguments])
        assert (training.learning_rate, training.lr_scheduler_type) == (0.001, "linear")

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.trainer_utils import HubStrategy

from training.engine.arguments import TrainingArguments, make_arguments
from training.recipe.fields import HUB_STRATEGIES, LENGTH_PENALTY_TYPES, PRESETS
from training.recipe.names import REPLACED
from training.recipe.parse import parse_recipe
from training.tasks import TASKS
from vanilla_transformer import configuration_vanilla_transformer, generation_vanilla_transformer
from vanilla_transformer.errors import RecipeError, UserError

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "training" / "recipes"


@pytest.fixture
def recipe(tmp_path):
    def write(content: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(content if "output_dir:" in content else f"output_dir: {tmp_path / 'out'}\n{content}")
        return str(path)

    return write


def start(arguments):
    """Check a recipe as far as that goes without its texts, and make transformers' arguments of it."""
    parsed = parse_recipe(arguments)
    TASKS[parsed.model.task](parsed.data, parsed.training).check_settings()
    return make_arguments(parsed.training, parsed.others)


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_lists_the_fields(capsys, word):
    with pytest.raises(SystemExit) as stop:
        parse_recipe([word])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--tokens_per_step" in shown and "at most 2%" in shown and "--help_all" in shown
    assert "--adam_beta1" not in shown


def test_all_fields_but_refused_ones_are_listed_on_request(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_recipe(["--help_all"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in ("adam_beta1", "torch_compile", "hold_out"))
    assert not any(f"--{name} " in shown for name in REPLACED)


def test_help_needs_no_library():
    code = "import sys; import training.recipe.help; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "set()\n"


def test_fields_may_have_the_values_that_the_libraries_know():
    assert tuple(configuration_vanilla_transformer.PRESETS) == PRESETS
    assert tuple(generation_vanilla_transformer.LENGTH_PENALTY_TYPES) == LENGTH_PENALTY_TYPES
    assert sorted(HUB_STRATEGIES) == sorted(HubStrategy)


def test_the_defaults_are_the_papers(recipe):
    parsed = parse_recipe([recipe("")])
    model, training = parsed.model, parsed.training
    assert (model.preset, model.vocab_size) == ("base", 37000)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert (training.warmup_steps, training.max_grad_norm, training.weight_decay) == (4000, 0, 0)
    assert (training.tokens_per_step, training.average_checkpoints) == (25000, 5)
    assert parse_recipe([recipe("preset: big\n")]).training.average_checkpoints == 20


def test_the_command_line_wins_and_types_are_kept(recipe):
    path = recipe("preset: tiny\nmax_steps: 10\nconfig_overrides: {norm_first: true}\nadam_epsilon: 1e-8\n")
    parsed = parse_recipe([path, "--max_steps", "20", "--source", "x"])
    training = parsed.training
    assert (training.max_steps, training.adam_epsilon, parsed.data.source) == (20, 1e-8, "x")
    assert parsed.model.config_overrides == {"norm_first": True}


TABLE = """
by_corpus_size:
  - {up_to: 10, preset: tiny, vocab_size: 300, expect: little}
  - {up_to: 1000, preset: tiny, dropout: 0.2}
  - {preset: big}
"""


@pytest.mark.parametrize(
    ("pairs", "preset", "vocab_size"), [(10, "tiny", 300), (11, "tiny", 37000), (1001, "big", 37000)]
)
def test_the_table_chooses_by_the_size_of_the_corpus(recipe, pairs, preset, vocab_size):
    parsed = parse_recipe([recipe(TABLE)], pairs=pairs)
    assert parsed.has_table
    assert (parsed.model.preset, parsed.model.vocab_size) == (preset, vocab_size)
    assert parsed.training.average_checkpoints == (20 if preset == "big" else 5)


def test_recipe_and_command_line_win_over_the_table(recipe):
    path = recipe(TABLE + "vocab_size: 400\n")
    assert parse_recipe([path], pairs=5).model.vocab_size == 400
    assert parse_recipe([path, "--vocab_size", "500", "--preset", "base"], pairs=5).model.preset == "base"
    # A model to start from has its shape and vocabulary already.
    assert not {"preset", "vocab_size"} & parse_recipe([recipe(TABLE), "--init_from", "x"], pairs=5).given
    assert parse_recipe([recipe(TABLE + "init_from:\n")], pairs=5).model.preset == "tiny"
    # So has a tokenizer its vocabulary.
    learned = recipe(TABLE + "min_frequency: 3\n")
    assert parse_recipe([learned], pairs=5).model.min_frequency == 3
    given = parse_recipe([learned, "--tokenizer", "x"], pairs=5).given
    assert "preset" in given and not {"vocab_size", "min_frequency"} & given


@pytest.mark.parametrize("null", [["--{}", "null"], ["--{}=null"], ["--{}", "~"], ["--{}", "NULL"], ["--{}", ""]])
@pytest.mark.parametrize(
    ("field", "value", "default"),
    [
        ("patience", "3", None),
        ("tokens_per_device", "100", None),
        ("max_length_ratio", "4", None),
        ("vocab_size", "300", 37000),
        ("hold_out", "5", 0),
        ("drop_duplicates", "true", False),
        ("config_overrides", "{norm_first: true}", {}),
        ("test_sets", "{news: news.tsv}", {}),
        ("dataset_name", "some/texts", None),
        ("max_steps", "9", -1),
    ],
)
def test_null_on_the_command_line_unsets_any_field(recipe, null, field, value, default):
    path = recipe(f"eval_strategy: steps\n{field}: {value}\n")
    parsed = parse_recipe([path, *(word.format(field) for word in null)])
    arguments = next(each for each in (parsed.model, parsed.data, parsed.training) if hasattr(each, field))
    assert getattr(arguments, field) == default and field not in parsed.given
    assert field in parse_recipe([path]).given


@pytest.mark.parametrize("name", ["own_files", "finetune", "snli", "causal_lm", "summarization"])
def test_a_shipped_recipe_can_be_run_without_patience(name, tmp_path):
    arguments = [str(RECIPES / f"{name}.yaml"), "--patience", "null", "--output_dir", str(tmp_path)]
    recipe = parse_recipe([*arguments, "--init_from", "x"] if name == "finetune" else arguments, pairs=10)
    assert recipe.training.patience is None and recipe.training.save_total_limit is None
    with pytest.raises(RecipeError, match="or keep all checkpoints: `save_total_limit: null`"):
        parse_recipe([*arguments, "--init_from", "x", "--save_total_limit", "9"], pairs=10)


def test_small_numbers_need_no_dot_and_lists_stay(recipe):
    """PyYAML takes 1e-6 for a string, and JSON writes it without a dot."""
    for text in ("1e-6", "1.0e-6", "0.000001"):
        parsed = parse_recipe([recipe(f"config_overrides: {{layer_norm_eps: {text}, eos_token_id: [2, 3]}}\n")])
        assert parsed.model.config_overrides == {"layer_norm_eps": 1e-6, "eos_token_id": [2, 3]}
    parsed = parse_recipe([recipe("adam_epsilon: 1e-8\n"), "--config_overrides", "{layer_norm_eps: 1e-5}"])
    assert parsed.training.adam_epsilon == 1e-8 and parsed.model.config_overrides == {"layer_norm_eps": 1e-5}


def test_null_unsets_what_a_table_or_an_earlier_word_says_and_no_more(recipe):
    assert parse_recipe([recipe(TABLE), "--dropout", "null"], pairs=11).model.dropout is None
    assert parse_recipe([recipe(TABLE + "dropout: null\n")], pairs=11).model.dropout is None
    assert parse_recipe([recipe("by_corpus_size: [{dropout: null}]\n")]).model.dropout is None
    path = recipe("patience: 3\neval_strategy: steps\n")
    assert parse_recipe([path, "--patience", "2", "--patience", "null"]).training.patience is None
    assert parse_recipe([path, "--patience", "null", "--patience", "2"]).training.patience == 2
    assert parse_recipe([recipe("patience: null\n")]).training.patience is None
    # A field that is null is not given: these two would have no effect beside each other.
    parsed = parse_recipe([recipe("vocab_size: null\ntokenizer: x\nnoam_scale: null\nnoam: false\n")])
    assert not {"vocab_size", "noam_scale"} & parsed.given
    with pytest.raises(RecipeError, match=r"no recipe field `patienc`\. Did you mean `patience`"):
        parse_recipe([path, "--patienc", "null"])
    with pytest.raises(RecipeError, match="`source` is missing"):
        parse_recipe([recipe("needs: [source]\n"), "--source", "null"])


@pytest.mark.parametrize("field", ["patience", "tokens_per_device", "average_checkpoints", "eval_steps", "max_length"])
def test_an_optional_number_out_of_range_is_refused_with_the_way_to_have_none(recipe, field):
    with pytest.raises(RecipeError, match=f"`{field}` must be .*, but is 0.*Give .*, or null to leave it unset"):
        parse_recipe([recipe("eval_strategy: steps\n"), f"--{field}", "0"])
    with pytest.raises(RecipeError, match=r"`tokens_per_step` must be at least 1, but is 0\. Give more\.$"):
        parse_recipe([recipe(""), "--tokens_per_step", "0"])


DATASET = {"dataset_name": "some/texts", "dataset_config_name": "de-en", "validation_split": "dev"}
PAIR = {"source": "a.en", "target": "a.de"}


@pytest.mark.parametrize(
    ("in_recipe", "on_command_line", "named"),
    [
        (DATASET, PAIR, PAIR),
        (DATASET, {"train_file": "a.tsv"}, {"train_file": "a.tsv"}),
        (DATASET, {"dataset_name": "other/texts"}, {"dataset_name": "other/texts"}),
        (DATASET, {"dataset_config_name": "fr-en"}, {**DATASET, "dataset_config_name": "fr-en"}),
        (DATASET, {"corpus": "phrasebook"}, {"corpus": "phrasebook"}),
        (DATASET, {"test_file": "t.tsv"}, {**DATASET, "test_file": "t.tsv"}),
        (PAIR, {"source": "b.en"}, {"source": "b.en", "target": "a.de"}),
        (PAIR, {"train_file": "a.tsv"}, {"train_file": "a.tsv"}),
        (PAIR, {"corpus": "phrasebook"}, {**PAIR, "corpus": "phrasebook"}),
        ({**PAIR, "validation_source": "v.en", "test_file": "t.tsv"}, {"dataset_name": "x"}, {"dataset_name": "x"}),
        (
            {**PAIR, "validation_source": "v.en", "validation_target": "v.de", "test_file": "t.tsv"},
            {"validation_file": "v.tsv", "test_source": "t.en", "test_target": "t.de"},
            {**PAIR, "validation_file": "v.tsv", "test_source": "t.en", "test_target": "t.de"},
        ),
        ({"train_file": "a.tsv", "validation_file": "v.tsv"}, PAIR, {**PAIR, "validation_file": "v.tsv"}),
        ({"corpus": "phrasebook"}, PAIR, {**PAIR, "corpus": "phrasebook"}),
        # Both on the command line, or both in the recipe: kept, and refused where the text is read.
        ({}, {**PAIR, **DATASET}, {**PAIR, **DATASET}),
        ({**PAIR, **DATASET}, {}, {**PAIR, **DATASET}),
        (DATASET, {"source": "null"}, DATASET),
    ],
)
def test_text_on_the_command_line_takes_the_place_of_the_recipes(recipe, in_recipe, on_command_line, named):
    content = "".join(f"{name}: {value}\n" for name, value in in_recipe.items())
    words = [word for name, value in on_command_line.items() for word in (f"--{name}", value)]
    parsed = parse_recipe([recipe(content), *words])
    fields = ("corpus", "train_split", "test_split", *DATASET)
    fields += tuple(f"{split}_{name}" for split in ("validation", "test") for name in (*PAIR, "file"))
    found = {name: getattr(parsed.data, name) for name in (*fields, *PAIR, "train_file")}
    assert {name: value for name, value in found.items() if value is not None} == named


def test_epochs_on_the_command_line_take_the_place_of_the_recipes_steps(recipe):
    training = parse_recipe([recipe("max_steps: 10\n"), "--num_train_epochs", "2"]).training
    assert (training.max_steps, training.num_train_epochs) == (-1, 2)
    training = parse_recipe([recipe("by_corpus_size: [{max_steps: 10}]\n"), "--num_train_epochs", "2"]).training
    assert (training.max_steps, training.num_train_epochs) == (-1, 2)
    training = parse_recipe([recipe("num_train_epochs: 2\n"), "--max_steps", "10"]).training
    assert training.max_steps == 10


def test_the_best_model_has_the_lowest_nll(recipe):
    content = "load_best_model_at_end: true\neval_strategy: steps\npatience: 3\n"
    training = start([recipe(content)])
    assert (training.metric_for_best_model, training.greater_is_better) == ("eval_loss", False)
    with pytest.raises(
        RecipeError, match=r"`save_total_limit` must be at least 8 .* and `patience` 3.*but is 7\. Keep"
    ):
        parse_recipe([recipe(content + "save_total_limit: 7\n")])


def test_bf16_is_taken_where_the_gpu_computes_in_it(recipe, monkeypatch):
    assert start([recipe("run_on: cpu\n")]).bf16 is False
    assert start([recipe("run_on: cpu\nbf16: true\n")]).bf16 is True
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    # Trainer's own part would set the GPU up.
    monkeypatch.setattr(TrainingArguments.__base__, "__post_init__", lambda self: setattr(self, "report_to", []))
    for native in (True, False):
        monkeypatch.setattr("training.engine.arguments.has_native_bf16", lambda native=native: native)
        assert start([recipe("")]).bf16 is native
        assert start([recipe("run_on: cpu\n")]).bf16 is False
        assert start([recipe("bf16: false\n")]).bf16 is False


@pytest.mark.parametrize(
    ("content", "arguments", "named"),
    [
        ("warmup_stepz: 4\n", [], r"no recipe field `warmup_stepz`\. Did you mean `warmup_steps`?"),
        ("", ["--learning_rat", "1"], "no recipe field `learning_rat`. Did you mean `learning_rate`?"),
        (
            "batch_size: 64\n",
            [],
            r"no recipe field `batch_size`\. "
            "Use `tokens_per_device`",
        ),
        ("preset: huge\n", [], "`preset` must be one of tiny.*, but is 'huge'. Choose"),
        ("label_smoothing_factor: 0.1\n", [], "Use `label_smoothing`"),
        ("per_device_train_batch_size: 8\n", [], "Use `tokens_per_device`"),
        ("learning_rate: 0.1\n", [], r"`learning_rate` has no effect.*noam: false"),
        ("lr_scheduler_type: cosine\n", [], r"`lr_scheduler_type` has no effect.*noam: false"),
        ("noam: false\nnoam_scale: 2\n", [], "`noam_scale` has no effect with `noam: false`"),
        ("noam_scale: 2\n", ["--noam_scale", "3", "--noam", "false"], "`noam_scale` has no effect"),
        ("noam: false\ndecay_steps: 2\n", [], "`decay_steps` has no effect with `noam: false`. Use `lr_sch"),
        ("decay_steps: -1\n", [], "`decay_steps` must be at least 0, but is -1"),
        ("min_frequency: 3\n", ["--init_from", "x", "--min_frequency", "3"], "`min_frequency` has no effect"),
        ("init_from: x\nmin_frequency: 3\n", [], "`min_frequency` has no effect beside `init_from`"),
        ("tokenizer: x\nvocab_size: 300\n", [], "`vocab_size` has no effect beside `tokenizer`"),
        (
            "config_overrides: {vocab_size: 300}\n",
            [],
            "`vocab_size` must be a field of the recipe itself, but is in `config_overrides`",
        ),
        (
            "config_overrides: {dropout: 0.2}\n",
            ["--dropout", "0.05"],
            "`dropout` must be given once, but is 0.05, and 0.2 in `config_overr",
        ),
        ("dropout: 3\nlabel_smoothing: 2\nvocab_size: -5\n", [], "(?s)3 faults.*`dropout`.*`label_sm.*`vocab_size`"),
        ("seed: -1\n", [], "`seed` must be from 0 to 4,294,967,295, but is -1. Give"),
        ("data_seed: 5_000_000_000\n", [], "`data_seed` must be from 0 .*, but is 5000000000"),
        ("report_to: foo\n", [], "`report_to` must be one of none, .*, but is foo. Choose"),
        (
            "init_from: runs/a/checkpoint-2\noutput_dir: runs/a\n",
            [],
            "`output_dir` must not hold the model of `init_from`, .*, but is runs/a",
        ),
        ("tokens_per_step: 0\n", [], "`tokens_per_step` must be at least 1, but is 0"),
        ("max_steps: 0\n", [], "`max_steps` must be more than 0, or -1, but is 0"),
        ("num_train_epochs: 0\n", [], "`num_train_epochs` must be more than 0, but is 0"),
        ("needs: [init_from]\n", [], "`init_from` is missing"),
        ("num_attention_heads: 3\n", [], r"no recipe field `num_attention_heads`.*config_overrides: .num_attention"),
        ("preset: tiny\nseed: 2\npreset: base\n", [], "`preset` is given twice"),
        ("generation_num_beams: 0\n", [], "`generation_num_beams` must be at least 1, but is 0"),
        ("noam_scale: 0\n", [], "`noam_scale` must be more than 0, but is 0"),
        ("save_steps: 0\n", [], "`save_steps` must be more than 0, but is 0"),
        ("weight_decay: -1\n", [], "`weight_decay` must be at least 0, but is -1"),
        ("adam_beta2: 1.5\n", [], "`adam_beta2` must be at least 0 and less than 1, but is 1.5"),
        ("dataloader_num_workers: -1\n", [], "`dataloader_num_workers` must be at least 0, but is -1"),
        ("dataloader_persistent_workers: true\n", [], "`dataloader_persistent_workers` cannot be set in a recipe"),
        ("generation_config: x\n", [], "Use `num_beams`, `length_penalty`, `length_penalty_type` and `early_stop"),
        ("num_beams: 0\n", [], "`num_beams` must be at least 1, but is 0. Give more"),
        ("early_stopping: maybe\n", [], "`early_stopping` must be one of true, false, never, but is 'maybe'. Choose"),
        ("warmup_steps: 0\n", [], "`warmup_steps` must be at least 1 .*, but is 0"),
        (
            "save_total_limit: 2\n",
            [],
            "`save_total_limit` must be at least 5 with `average_checkpoints` 5, .* but is 2",
        ),
        ("run_on: tpu\n", [], "`run_on` must be one of auto, .*, but is 'tpu'"),
        (
            "config_overrides: {norm_frist: true}\n",
            [],
            "must have fields of the configuration, but has `norm_frist`.*Did you mean `norm_first`",
        ),
        ("config_overrides: {num_layers: 3}\n", [], "has `num_layers`.*`encoder_layers` and `decoder_layers`"),
        ("", ["--config_overrides", "[1]"], "`config_overrides` must be names and values, but is '.1.'"),
        ("bleu_tokenize: 13b\n", [], "`bleu_tokenize` must be one of .*, but is .13b.. Choose one"),
        ("metric_for_best_model: bleu\n", [], "lowest validation NLL"),
        ("patience: 2\n", [], "`patience` must have evaluations to compare, but is 2 with `eval_strategy` no"),
        ("patience: 0\n", [], "`patience` must be at least 1, but is 0"),
        ("hold_out: -1\n", [], "`hold_out` must be at least 0, but is -1"),
        ("max_length_ratio: 1\n", [], "`max_length_ratio` must be more than 1, but is 1"),
        ("test_sets: {news: 3}\n", [], "`test_sets` must have files under 'news', but has 3"),
        ("test_sets: {train: [a, b]}\n", [], "`test_sets` must have names of its own, but has 'train'"),
        ("min_frequency: -1\n", [], "`min_frequency` must be at least 1, but is -1"),
        ("tokenizer: x\nsplit_at_spaces: true\n", [], "`split_at_spaces` has no effect beside `tokenizer`"),
        ("preprocessing_num_workers: 0\n", [], "`preprocessing_num_workers` must be at least 1, but is 0"),
        ("1: 2\n", [], "holds no fields"),
        ("by_corpus_size: [{up_to: '2,000'}, {}]\n", [], "`by_corpus_size` must be a list of rows"),
        ("by_corpus_size: [{up_to: true}, {}]\n", [], "`by_corpus_size` must be a list of rows"),
        (
            "by_corpus_size: [{up_to: 9, hold_out: 3}, {}]\n",
            [],
            "`by_corpus_size` must not have .*, but has `hold_out`",
        ),
        (
            "load_best_model_at_end: true\neval_strategy: steps\nsave_total_limit: 9\n",
            [],
            "without `patience`",
        ),
        ("by_corpus_size: {preset: tiny}\n", [], "`by_corpus_size` must be a list of rows"),
        ("by_corpus_size: [{up_to: 9}, {up_to: 5}, {}]\n", [], "`by_corpus_size` must be a list of rows"),
        ("by_corpus_size: [{up_to: 9}]\n", [], "`by_corpus_size` must be a list of rows"),
        ("by_corpus_size: [{up_to: 9, presett: tiny}, {}]\n", [], "no recipe field `presett`"),
        (
            "",
            ["--max_steps", "3", "stray"],
            r"^`max_steps` must be one word, but is 2: '3 stray'\. Give one, in quotes if it has spaces\.$",
        ),
        ("", ["--seed"], r"^`seed` must be a whole number, but has no value\. Give one\.$"),
        ("", ["--noam", "perhaps"], r"^`noam` must be true or false, but is 'perhaps'\. Give one\.$"),
        (
            "",
            ["--example", "-Hola"],
            r"^`example` must not begin with a dash after a space, but is '-Hola'\. Write --example=-Hola$",
        ),
        ("seed: x\n", [], r"^`seed` must be a whole number, but is 'x'\. Give one\.$"),
        ("seed: 2.5\n", [], r"^`seed` must be a whole number, but is 2\.5\. Give one\.$"),
        ("adam_beta1: {a: 1}\n", [], r"^`adam_beta1` must be a number, but is {'a': 1}\. Give one\.$"),
        ("source: {a: 1}\n", [], r"^`source` must be one value, but is {'a': 1}\. Give one\.$"),
        ("source: [a, b]\n", [], r"^`source` must be one value, but is \['a', 'b'\]\. Give one\.$"),
        ("fp16: 3.5\n", [], r"^`fp16` must be true or false, but is 3\.5\. Give one\.$"),
        (
            "save_strategy: often\n",
            [],
            r"^`save_strategy` must be one of no, steps, epoch, .*but is 'often'\. Choose one\.$",
        ),
        (
            "config_overrides: {dropout: abc}\n",
            [],
            r"^`dropout` in `config_overrides` must be a number, but is 'abc'\. Give one\.$",
        ),
        (
            "config_overrides: {layer_norm_eps: small}\n",
            [],
            r"`layer_norm_eps` in .* must be a number, but is 'small'\. Give one\.$",
        ),
        (
            "config_overrides: {d_ff: 1.5}\n",
            [],
            r"^`d_ff` in `config_overrides` must be a whole number, but is 1\.5\. Give one\.$",
        ),
        (
            "config_overrides: {norm_first: 1}\n",
            [],
            r"`norm_first` in .* must be true or false, but is 1\. Give one\.$",
        ),
        (
            "config_overrides: {encoder_layers: true}\n",
            [],
            r"`encoder_layers` in .* must be a whole number, but is True\. Give one\.$",
        ),
        ("- a\n", [], r"is not YAML|holds no fields"),
        ("a: [\n", [], "is not YAML"),
    ],
)
def test_bad_recipes_are_refused(recipe, content, arguments, named):
    with pytest.raises(UserError, match=named):
        start([recipe(content), *arguments])


def test_all_faults_are_reported_at_once(recipe):
    with pytest.raises(RecipeError) as refused:
        parse_recipe([recipe("preset: huge\nstride: -1\nseed: -1\nwarmup_steps: 0\nlicense: mine\n")])
    first, *faults = str(refused.value).split("\n")
    assert first == "the recipe has 6 faults:"
    # `stride` has no effect in translation either.
    told = ["preset", "stride", "seed", "license", "warmup_steps", "stride"]
    assert [fault.split("`")[1] for fault in faults] == told
    with pytest.raises(RecipeError, match=r"(?s)no recipe field `pre_set`.*no recipe field `stepz`"):
        parse_recipe([recipe("pre_set: base\n"), "--stepz", "3"])


def test_faults_of_all_kinds_are_reported_at_once(recipe):
    content = (
        "pre_set: base\noptim: adam\nseed: x\nstride: -1\nreplay: {sourc: a}\nneeds: [train_file, fileses]\n"
        "by_corpus_size: [{up_to: 9, hold_out: 3}, {}]\nlabel_column: a\nconfig_overrides: {dropout: abc}\n"
    )
    with pytest.raises(RecipeError) as refused:
        parse_recipe([recipe(content), "alone", "--max_steps", "3", "4", "--tokens_per_step", "0"])
    first, *faults = str(refused.value).split("\n")
    assert first == f"the recipe has {len(faults)} faults:"
    assert [fault.strip() for fault in faults] == [
        "'alone' belongs to no field. Write --field value after the recipe.",
        "There is no recipe field `fileses`. `--help_all` lists all of them.",
        "`optim` cannot be set in a recipe. Leave it out: the optimizer is always Adam, as in the paper.",
        "There is no recipe field `pre_set`. Did you mean `preset`?",
        "`by_corpus_size` must not have fields that describe the corpus, but has `hold_out`. Write it above the "
        "table.",
        "`train_file` is missing, which this recipe needs. Give it on the command line: --train_file ...",
        "`seed` must be a whole number, but is 'x'. Give one.",
        "`max_steps` must be one word, but is 2: '3 4'. Give one, in quotes if it has spaces.",
        "`replay` must have only source, target, file, share, hold_out, but has `sourc`. Give some of these.",
        "`stride` must be at least 0, but is -1. Give more, such as 128.",
        "`tokens_per_step` must be at least 1, but is 0. Give more.",
        "`dropout` in `config_overrides` must be a number, but is 'abc'. Give one.",
        "`replay` must have a model that was trained before, but has none. Name one with `init_from`.",
        "`label_column` has no effect in translation, only in text-classification. Leave it out.",
        "`stride` has no effect in translation, only in question-answering. Leave it out.",
    ]


def test_a_fault_that_may_follow_from_another_is_left_for_later(recipe):
    content = "patience: x\nload_best_model_at_end: true\neval_strategy: steps\nsave_total_limit: 9\n"
    with pytest.raises(RecipeError, match=r"^`patience` must be a whole number, but is 'x'\. Give one\.$"):
        parse_recipe([recipe(content)])
    parsed = parse_recipe([recipe("seed: x\n"), "--seed", "3"])  # the command line wins
    assert parsed.training.seed == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        # A value that is not read cannot be compared: `learning_rate` has no effect unless `noam` is false.
        ("noam: perhaps\nlearning_rate: 0.1\nnoam_scale: 2\n", ["noam"]),
        ("push_to_hub: perhaps\nhub_native_model_id: a/b\n", ["push_to_hub"]),
        ("eval_stratgy: steps\npatience: 2\n", ["eval_stratgy"]),
        ("preset: bigg\nsave_total_limit: 10\n", ["preset"]),
        ("init_form: x\nreplay: {source: a}\n", ["init_form"]),
        ("task: [a, b]\nstride: 3\n", ["task"]),
        ("needs: target\ntarged: x\n", ["targed"]),
        # A remedy may name another field that is wrong for itself.
        (
            "per_device_train_batch_size: 8\ntokens_per_device: 0\n",
            ["per_device_train_batch_size", "tokens_per_device"],
        ),
        ("generation_config: x\nnum_beams: 0\n", ["generation_config", "num_beams"]),
        ("noam_scale: x\nlearning_rate: 0.1\n", ["noam_scale", "learning_rate"]),
        ("warmup_stepz: 3\nwarmup_steps: 0\n", ["warmup_stepz", "warmup_steps"]),
        ("stride: x\n", ["stride", "stride"]),  # in translation it has no effect either
        (
            "init_from: [a, b]\nmin_frequency: 3\nsplit_at_spaces: true\n",
            ["init_from", "min_frequency", "split_at_spaces"],
        ),
        ("eval_strategy: often\nsave_total_limit: 2\n", ["eval_strategy", "save_total_limit"]),
        ("by_corpus_size: [{up_to: 9, hold_out: 3}, {}]\nhold_out: -1\n", ["by_corpus_size", "hold_out"]),
    ],
)
def test_a_fault_hides_only_what_was_found_by_its_value(recipe, content, told):
    with pytest.raises(RecipeError) as refused:
        parse_recipe([recipe(content)])
    lines = str(refused.value).split("\n")
    assert [line.split("`")[1] for line in lines[len(lines) > 1 :]] == told


def test_a_recipe_without_a_folder_is_told_of_its_other_faults(tmp_path):
    with pytest.raises(
        RecipeError, match=r"(?s)2 faults.*`output_dir` is missing.*`hub_native_model_id` has no effect"
    ):
        parse_recipe(["--hub_native_model_id", "a/b"])


def test_a_recipe_does_not_change(recipe):
    parsed = parse_recipe([recipe("")])
    for part, field in (
        (parsed, "data"),
        (parsed.model, "preset"),
        (parsed.data, "source"),
        (parsed.training, "seed"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field, "x")


def test_a_program_that_is_not_installed_is_named(recipe, monkeypatch):
    monkeypatch.setattr("training.engine.arguments.get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(RecipeError, match="`report_to` must be a program that is installed, but is wandb"):
        start([recipe("report_to: wandb\n")])


def test_words_that_yaml_or_the_command_line_take_for_something_else(recipe):
    content = "eval_strategy: no\nsource_lang: no\nresume_from_checkpoint: false\nexample: -Hola\nbf16: no\n"
    parsed = parse_recipe([recipe(content)])
    assert (parsed.training.eval_strategy, parsed.data.source_lang, parsed.data.example) == ("no", "no", "-Hola")
    assert parsed.training.resume_from_checkpoint == "False" and parsed.training.bf16 is False


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
        # Fields of the schedule that the command line leaves are idle.
        ("noam_scale: 2\n", ["--noam", "false", "--learning_rate", "0.001", "--lr_scheduler_type", "linear"]),
    ):
        training = parse_recipe([recipe(content), *arguments]).training
        assert (training.learning_rate, training.lr_scheduler_type) == (0.001, "linear")

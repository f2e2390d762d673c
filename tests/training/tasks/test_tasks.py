"""Every task by one program: from its files to a folder that transformers' own pipelines and the card's code use."""

import contextlib
import json
import re
import shutil

import datasets
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

import vanilla_transformer  # noqa: F401  (registers the Auto classes)
from training.data.phrasebook import phrasebook
from training.recipe.fields import DataFields, TrainingFields
from training.recipe.names import TASK_FIELDS
from training.tasks import TASKS
from training.tasks.summarization import Summarization
from training.tasks.translation import Translation
from training.train import main
from vanilla_transformer.model_card import TASKS as ON_CARDS
from vanilla_transformer.scores import Results, SplitScores

SENTENCES = [english for english, _ in phrasebook()["train"] if " " in english][:120]
TINY = {
    "preset": "tiny",
    "config_overrides": {"encoder_layers": 1, "decoder_layers": 1, "hidden_size": 32, "intermediate_size": 32},
    "vocab_size": 320,
    "tokens_per_step": 400,
    "noam_scale": 2.0,
    "warmup_steps": 10,
    "max_steps": 8,
    "save_steps": 4,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "logging_steps": 4,
    "average_checkpoints": 2,
    "run_on": "cpu",
    "source_lang": "en",
    "license": "apache-2.0",
}


def squad(sentences):
    """Each sentence twice over is a context, the question its first word, and the answer the second."""
    paragraphs = []
    for i, sentence in enumerate(sentences):
        context = f"{sentence} {sentence}"
        answer = sentence.split()[1]
        entry = {"text": answer, "answer_start": context.index(answer)}
        qas = [{"id": i if i % 2 else f"{i}", "question": f"{sentence.split()[0]}?", "answers": [entry]}]
        paragraphs.append({"context": context, "qas": qas})
    return json.dumps({"data": [{"paragraphs": paragraphs}]})


def write_text(task, sentences):
    """The text of a task, and the name of its file."""
    if task == "text-classification":
        rows = [
            f"{sentence}\t{sentence.split()[-1]}\t{'question' if '?' in sentence else 'statement'}"
            for sentence in sentences
        ]
        return "text.tsv", "premise\thypothesis\tlabel\n" + "\n".join(rows) + "\n"
    if task == "question-answering":
        return "text.json", squad(sentences)
    if task == "summarization":
        rows = [json.dumps({"source": sentence, "target": " ".join(sentence.split()[:2])}) for sentence in sentences]
        return "text.jsonl", "\n".join(rows) + "\n"
    return "text.txt", "\n".join(sentences) + "\n"


FIELDS = {
    "text-classification": {"text_columns": ["premise", "hypothesis"]},
    "question-answering": {"max_length": 40, "stride": 8},
    "fill-mask": {"max_length": 32},
    "text-generation": {"max_length": 32, "turn_separator": "?"},
}
SCORED = {
    "summarization": ("ROUGE-1", "ROUGE-Lsum"),
    "text-classification": ("accuracy", "F1", "| test | label question |", "| test | pairs with pronouns |"),
    "question-answering": ("exact match", "F1"),
    "fill-mask": ("perplexity",),
    "text-generation": ("perplexity",),
}


def write_task_recipe(folder, task, name, **changes):
    """Write the texts and the recipe of a task into a folder."""
    files = {}
    for split, sentences in (
        ("train", SENTENCES[:80]),
        ("validation", SENTENCES[80:100]),
        ("test", SENTENCES[100:]),
    ):
        file, text = write_text(task, sentences)
        files[f"{split}_file"] = str(folder / f"{split}.{file}")
        (folder / f"{split}.{file}").write_text(text, encoding="utf-8")
    settings = {"task": task, "output_dir": str(folder / name), **TINY, **FIELDS.get(task, {}), **files, **changes}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({key: value for key, value in settings.items() if value is not None}))
    return recipe


@pytest.fixture
def train(tmp_path, capsys):
    """Train a task on its text; the folder and what was printed."""

    def run(task, name="run", **changes):
        status = main([str(write_task_recipe(tmp_path, task, name, **changes))])
        printed = capsys.readouterr()
        return status, tmp_path / name, printed.out, printed.err

    return run


@pytest.fixture
def trained(made_once):
    """Return what a task gives: its folder, into which nobody may write, and what was printed."""

    def get(task):
        def fill(folder):
            with open(folder / "output.txt", "w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
                assert main([str(write_task_recipe(folder, task, "run"))]) == 0

        folder = made_once(task, fill)
        return folder / "run", (folder / "output.txt").read_text(encoding="utf-8")

    return get


@pytest.mark.parametrize("task", SCORED)
def test_a_run_leaves_a_folder_that_is_ready_for_use(trained, task):
    folder, output = trained(task)
    assert "step 4: validation NLL" in output and re.search(r"\ntest: NLL \d", output)
    results = json.loads((folder / "all_results.json").read_text())
    assert {"validation_loss", "test_loss", "steps"} <= set(results)
    assert not any(name.endswith(("_runtime", "_per_second")) for name in results)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(shown in card for shown in SCORED[task]) and "{{" not in card and "None" not in card
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["pipeline_tag"] == task and metadata["metrics"]
    assert (folder / "curves.png").is_file() and (folder / "attention.png").is_file() == (task == "summarization")
    # The code on the card, with the package imported in the place of the code beside the weights.
    code = card.split("```python\n")[1].partition("```")[0].replace(", trust_remote_code=True", "")
    exec(code, {})


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-classification", "fill-mask", "text-generation"])
def test_transformers_own_pipelines_run(trained, task):
    folder, _ = trained(task)
    example = json.loads((folder / "model_card.json").read_text())["example"]
    if task == "text-classification":
        found = pipeline(task, model=str(folder))({"text": example[0], "text_pair": example[1]})
        assert found["label"] in ("question", "statement")
    elif task == "fill-mask":
        assert len(pipeline(task, model=str(folder))(example, top_k=3)) == 3
    else:
        text = pipeline(task, model=str(folder))(example, add_special_tokens=False, max_new_tokens=3)[0][
            "generated_text"
        ]
        assert text.startswith(example)
    features = pipeline("feature-extraction", model=str(folder))("The house is red.")
    assert len(features[0][0]) == 32


@pytest.mark.slow
def test_tasks_follow_each_other(train, trained, tmp_path):
    """Fill in masks, then classify, then classify other labels: the encoder stays, the head is new."""
    masked, _ = trained("fill-mask")
    unshaped = {"preset": None, "vocab_size": None, "config_overrides": None, "init_from": str(masked)}
    status, folder, output, errors = train(
        "text-classification", "classes", **unshaped, max_steps=1, warmup_steps=10**6
    )
    assert status == 0, errors
    assert "new parts, which" in output and "lacks: classifier" in output and "before training" not in output
    encoders = [
        AutoModelForSequenceClassification.from_pretrained(each).model.encoder.layers[0].fc1.weight
        for each in (masked, folder)
    ]
    assert encoders[0].sub(encoders[1]).abs().max() < 1e-4
    status, _, output, errors = train("text-classification", "again", **{**unshaped, "init_from": str(folder)})
    assert status == 0 and "before training, test: NLL" in output and "new parts" not in output
    rows = (tmp_path / "train.text.tsv").read_text().replace("question\n", "other\n").replace("statement\n", "third\n")
    (tmp_path / "labels.tsv").write_text(rows.replace("third\n", "fourth\n", 3))
    status, _, output, errors = train(
        "text-classification", "labels", **{**unshaped, "init_from": str(folder)},
        train_file=str(tmp_path / "labels.tsv"), validation_file=None, test_file=None, eval_strategy="no",
    )  # fmt: skip
    assert status == 0 and "lacks: classifier" in output, errors
    # As many labels as before, but others.
    rows = (tmp_path / "train.text.tsv").read_text().replace("question\n", "other\n").replace("statement\n", "third\n")
    (tmp_path / "labels.tsv").write_text(rows)
    status, _, output, errors = train(
        "text-classification", "renamed", **{**unshaped, "init_from": str(folder)},
        train_file=str(tmp_path / "labels.tsv"), validation_file=None, test_file=None, eval_strategy="no",
    )  # fmt: skip
    assert status == 0 and "lacks: classifier" in output, errors
    # On the command line it takes the place of what the recipe says of new models.
    train("text-classification", "other", vocab_size=999, max_steps=1)
    words = ["--init_from", str(masked), "--output_dir", str(tmp_path / "named")]
    assert main([str(tmp_path / "recipe.yaml"), *words]) == 0
    # A translator of one's own from an encoder: its decoder is new.
    status, _, output, errors = train("summarization", "summaries", **unshaped)
    assert status == 0 and "lacks: model.decoder" in output, errors


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("text-clasification", {}, "text-generation, but is 'text-clasification'. Did you mean text-classification?"),
        ("poetry", {}, "text-generation, but is 'poetry'. Choose one."),
        (
            "fill-mask",
            {"bpe_dropout": 0.1},
            "`bpe_dropout` has no effect in fill-mask, only in translation and summari",
        ),
        ("text-classification", {"train_file": None}, "No training text. Name `train_file` or `dataset_name`."),
        (
            "fill-mask",
            {"validation_file": None},
            "there is no validation text, but is steps. Name some with `validation_file`",
        ),
        ("fill-mask", {"test_sets": {"more": ["a", "b"]}}, "`test_sets` must have one file under 'more', but has 2"),
        (
            "summarization",
            {"test_sets": {"more": "a"}},
            "`test_sets` must have two files under 'more', but has 1. Name two",
        ),
        (
            "text-classification",
            {"text_columns": ["a", "b", "c"]},
            "`text_columns` must be one column, or two, but is ['a', 'b', 'c']",
        ),
        ("text-classification", {"text_columns": ["premise", "sentence"]}, "line 2 has no 'sentence', only: premise"),
        (
            "text-generation",
            {"max_length": 1},
            "`max_length` must be at least 2, since a block of one token has none to predict, but is 1",
        ),
        ("question-answering", {"stride": 60}, "with a stride of 60. Raise `max_length`"),
        (
            "fill-mask",
            {"max_length": 256, "tokens_per_step": 200},
            "has 256 tokens, but a batch holds 200. Raise `tokens_per_step`",
        ),
        ("fill-mask", {"dataset_name": "some/texts"}, "named twice, by `train_file` and `dataset_name`"),
    ],
)
def test_a_recipe_that_cannot_work_is_one_line_before_training(train, task, changes, message):
    status, folder, _, errors = train(task, **changes)
    assert status == 2 and message in errors and errors.count("\n") == 1
    assert not list(folder.glob("checkpoint-*"))


def test_a_test_text_without_labels_is_left_out(train, tmp_path):
    path = tmp_path / "unlabelled.tsv"
    path.write_text("premise\thypothesis\tlabel\na\tb\t-\n")
    status, _, output, errors = train("text-classification", test_file=str(path))
    assert status == 0 and "test: no text is left: 1 rows without a label" in output, errors
    status, _, _, errors = train("text-classification", train_file=str(path))
    assert status == 2 and "unlabelled.tsv has nothing to learn from: 1 rows without a label" in errors


def test_labels_that_cannot_be_learned_are_named(train, tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("premise\thypothesis\tlabel\na\tb\tyes\nc\td\tyes\n")
    status, _, _, errors = train("text-classification", train_file=str(path))
    assert status == 2 and "labels.tsv has only the label 'yes'" in errors
    status, folder, _, errors = train("text-classification", test_file=str(path))
    assert status == 2 and "labels.tsv, line 2 has the label 'yes', which the training text lacks" in errors
    assert not list(folder.glob("checkpoint-*"))


def test_answers_in_no_window_are_counted(train, tmp_path):
    content = json.loads(squad(SENTENCES[:40]))
    paragraph = content["data"][0]["paragraphs"][0]
    paragraph["context"] = " ".join(SENTENCES[:30])
    answer = " ".join(SENTENCES[2:25])
    paragraph["qas"][0]["answers"] = [{"text": answer, "answer_start": paragraph["context"].index(answer)}]
    path = tmp_path / "long.json"
    path.write_text(json.dumps(content))
    status, _, output, errors = train("question-answering", train_file=str(path), test_file=str(path))
    assert status == 0, errors
    assert "train: 1 questions whose answer is whole in no window of 40 tokens, left out" in output
    assert "test: 1 questions whose answer is whole in no window of 40 tokens, kept" in output


@pytest.mark.slow
def test_text_comes_from_a_data_set(train, tmp_path):
    """Labels that are numbers with names get their names; a data set may hold the splits that no file is named for."""
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["other", "asked"])}
    )
    rows = {"sentence": SENTENCES, "label": [int("?" in sentence) for sentence in SENTENCES]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, part in (("train", whole.select(range(80))), ("validation", whole.select(range(80, 120)))):
        part.to_parquet(folder / f"{split}.parquet")
    nothing = {"train_file": None, "validation_file": None, "test_file": None}
    status, run, _, errors = train(
        "text-classification", dataset_name=str(folder), text_columns=["sentence"], **nothing
    )
    assert status == 0, errors
    assert json.loads((run / "config.json").read_text())["id2label"] == {"0": "other", "1": "asked"}
    assert json.loads((run / "tokenizer.json").read_text())["truncation"] is None
    status, _, _, errors = train("fill-mask", "masked", dataset_name=str(folder), **nothing)
    assert status == 2 and "row 1 has no text under 'text', only: sentence, label" in errors
    status, _, _, errors = train("fill-mask", "masked", dataset_name=str(folder), text_columns=["sentence"], **nothing)
    assert status == 0, errors


@pytest.mark.slow
def test_splits_of_a_data_set_have_names(train, tmp_path):
    """Other names than ours, and a test part whose labels are not published."""
    folder = tmp_path / "texts"
    folder.mkdir()
    names = datasets.ClassLabel(names=["other", "asked"])
    features = datasets.Features({"sentence": datasets.Value("string"), "label": names})
    splits = {"train": range(80), "validation_matched": range(80, 120), "test": []}
    listed = [{"split": split, "path": f"{split}.parquet"} for split in splits]
    card = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": listed}]})
    (folder / "README.md").write_text(f"---\n{card}---\n")
    for split, labels in splits.items():
        sentences = [SENTENCES[i] for i in labels] or SENTENCES[:9]
        rows = {"sentence": sentences, "label": [int("?" in sentence) if labels else -1 for sentence in sentences]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}.parquet")
    data = {
        "dataset_name": str(folder),
        "train_file": None,
        "validation_file": None,
        "test_file": None,
        "text_columns": None,
    }
    status, _, _, errors = train("text-classification", **data)
    assert status == 2 and "there is no validation text" in errors and "`validation_split`" in errors
    status, _, _, errors = train("text-classification", **data, validation_split="valid")
    assert status == 2 and "`validation_split` must be one of " in errors and "but is 'valid'. Name" in errors
    status, _, output, errors = train(
        "text-classification", **data, train_split="train[:50%]", validation_split="validation_matched"
    )
    assert status == 0, errors
    assert "train: 40 texts" in output and "test: no text is left: 9 rows without a label (empty, -)" in output


def test_every_task_has_a_card_and_fields():
    assert list(TASKS) == list(ON_CARDS) == list(TASK_FIELDS)


def test_turns_of_a_dialogue_are_told_apart(train, tmp_path):
    path = tmp_path / "dialogues.jsonl"
    rows = [{"turns": [english, "Yes.", None][:2]} for english in SENTENCES[:60]]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    files = {f"{split}_file": str(path) for split in ("train", "validation", "test")}
    status, _, output, errors = train("text-generation", text_columns=["turns"], turn_separator=None, **files)
    assert status == 0 and "train: 120 texts" in output, errors
    rows[7] = {"turns": ["a", 3]}
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    status, _, _, errors = train("text-generation", text_columns=["turns"], turn_separator=None, **files)
    assert status == 2 and "line 8 has no text under 'turns'" in errors


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(train, trained, tmp_path):
    """With masks that depend on the epoch."""
    whole, _ = trained("fill-mask")
    parted = shutil.copytree(whole, tmp_path / "parted")
    shutil.rmtree(parted / "checkpoint-8")
    status, _, output, errors = train("fill-mask", "parted", resume_from_checkpoint=True)
    assert status == 0 and "going on from" in output, errors
    weights = [load_file(folder / "model.safetensors") for folder in (whole, parted)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["question-answering", "fill-mask"])
def test_two_processes_that_accumulate_end_where_one_batch_does(train, launch, tmp_path, task):
    """The same steps: each row counts the same, whichever batch has it."""
    train(task, "alone", dropout=0.0, noam_scale=0.3)
    parts = ["--tokens_per_device", "100", "--output_dir", str(tmp_path / "both")]
    done = launch(str(tmp_path / "recipe.yaml"), *parts, processes=2)
    assert done.returncode == 0, done.stderr
    assert "tokens a step: 400 = 2 processes x 100 x 2" in done.stdout
    scores = [json.loads((tmp_path / name / "all_results.json").read_text()) for name in ("alone", "both")]
    assert scores[0].keys() == scores[1].keys()
    assert scores[1]["test_loss"] == pytest.approx(scores[0]["test_loss"], rel=1e-4)


def test_summaries_are_scored_in_their_language(tokenizer, config):
    for language, expected in (("de", 0), ("en", 100)):  # the stem is the same in English
        task = Summarization(DataFields(source_lang=language), TrainingFields())
        scores = task.make_objective(tokenizer, config).score_texts(["running"], ["run"])
        assert scores["rouge1"] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:TER is left out")
def test_translations_are_scored_in_their_language(tokenizer, config):
    hypotheses, references = ["今天天气很好，我们去散步。"], ["今天天气很好，我们去走走。"]
    task = Translation(DataFields(target_lang="zh"), TrainingFields(bootstrap_samples=0))
    scores = task.make_objective(tokenizer, config).score_texts(hypotheses, references)
    logged = task.scores_in_training(
        {"eval_loss": 1.0, **{f"eval_{name}": value for name, value in scores.items()}}
    ).scores["bleu"]
    assert scores["bleu"] > 50 and "|tok:zh|" in logged.signature
    final = task.final_scores(SplitScores(1.0), hypotheses, references)
    assert final["bleu"] == logged
    assert "ter" not in final
    shown = Results({"test": SplitScores(1.0, final)}).names  # on the card
    assert shown == {"bleu": "BLEU", "chrf": "chrF2", "meteor": "METEOR (exact, characters)"}

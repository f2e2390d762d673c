"""The model that comes with the project: checkpoints/tiny-en-es."""

import json
import random
import shutil
from pathlib import Path

import pytest
import sacrebleu
import torch
import yaml
from safetensors import safe_open
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    pipeline,
)

from tests.conftest import DATA, corpus
from tests.plain import plain_loop
from training.data.everyday import KINDS, Everyday, Pair
from training.data.phrasebook import phrasebook
from training.demo import main
from training.publish.hub import check_folder, package_code
from training.tasks.robustness import bare
from vanilla_transformer.configuration_vanilla_transformer import AUTO_MAP
from vanilla_transformer.text import read_lines

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "checkpoints" / "tiny-en-es"
# Of a subject that neither Tatoeba nor the phrasebook dwells on.
SAILING = [
    ("The skipper hoists the mainsail.", "El patrón iza la vela mayor."),
    ("The skipper lowers the mainsail.", "El patrón arría la vela mayor."),
    ("The sailor hoists the jib.", "El marinero iza el foque."),
    ("The sailor lowers the jib.", "El marinero arría el foque."),
    ("The skipper trims the mainsail.", "El patrón caza la vela mayor."),
    ("The sailor trims the jib.", "El marinero caza el foque."),
    ("The mainsail is torn.", "La vela mayor está rasgada."),
    ("The jib is torn.", "El foque está rasgado."),
    ("The skipper steers to port.", "El patrón gobierna a babor."),
    ("The skipper steers to starboard.", "El patrón gobierna a estribor."),
    ("The sailor drops the anchor.", "El marinero fondea el ancla."),
    ("The sailor weighs the anchor.", "El marinero leva el ancla."),
    ("We tack to port.", "Viramos a babor."),
    ("We tack to starboard.", "Viramos a estribor."),
    ("The keel touches the sandbank.", "La quilla toca el banco de arena."),
    ("The rudder touches the sandbank.", "El timón toca el banco de arena."),
    ("The skipper reefs the mainsail.", "El patrón riza la vela mayor."),
    ("The sailor coils the halyard.", "El marinero aduja la driza."),
    ("The halyard is torn.", "La driza está rasgada."),
    ("The sailor steers to port.", "El marinero gobierna a babor."),
]
HELD_OUT = [
    ("The sailor hoists the mainsail.", "El marinero iza la vela mayor."),
    ("The skipper lowers the jib.", "El patrón arría el foque."),
    ("The sailor steers to starboard.", "El marinero gobierna a estribor."),
    ("The skipper weighs the anchor.", "El patrón leva el ancla."),
]


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture
def model():
    return AutoModelForSeq2SeqLM.from_pretrained(FOLDER)


def test_the_tutorials_sentence_is_translated(model, tokenizer):
    inputs = tokenizer("How are you?", return_tensors="pt")
    assert tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True) == "¿Cómo estás?"
    translator = pipeline("translation", model=str(FOLDER), trust_remote_code=True)
    assert translator("How are you?")[0]["translation_text"] == "¿Cómo estás?"


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 4])
def test_the_fast_search_translates_real_sentences_as_the_plain_one_does(model, tokenizer, num_beams):
    """100 sentences of many lengths, one by one and in batches, as they come and by length."""
    sentences = [line.partition("\t")[0] for line in read_lines(DATA / "tatoeba_en_es.tsv")]

    def translate(order, size, **arguments):
        found = {}
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            inputs = tokenizer([sentences[i] for i in chosen], return_tensors="pt", padding=True)
            outputs = model.generate(**inputs, num_beams=num_beams, **arguments).tolist()
            found |= {i: [token for token in ids if token != 1] for i, ids in zip(chosen, outputs, strict=True)}
        return found

    with plain_loop():
        plain = translate(range(len(sentences)), 25)
    by_length = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    for size in (1, 16, 64):
        assert translate(range(len(sentences)), size) == plain, size
    assert translate(by_length, 17) == plain


def read_everyday():
    """Return what people type and the translations of it that are right, in small letters and without marks."""
    lines = (REPOSITORY / "tests" / "data" / "everyday.tsv").read_text(encoding="utf-8").splitlines()
    return [(typed, right.split("|")) for typed, right in (line.split("\t") for line in lines)]


def test_greetings_and_single_words_are_right():
    """Through the pipeline, as people type them: without capitals, without marks, or in capitals only."""
    typed, right = zip(*read_everyday(), strict=True)
    translator = pipeline("translation", model=str(FOLDER), trust_remote_code=True)
    found = [bare(each["translation_text"]) for each in translator(list(typed))]
    wrong = [each for each in zip(typed, found, right, strict=True) if each[1] not in each[2]]
    assert not wrong


@pytest.mark.slow
def test_things_to_copy_come_out_once():
    """300 sentences with a number, an address, a placeholder, an emoji or a name that no text has."""
    english = [english for english, _ in phrasebook()["test"]]
    draw = random.Random(2017)
    kinds = [kind for kind in KINDS if kind != "mask"]
    everyday = Everyday([], {"copies": 1.0, "upper": 0, "title": 0, "lower": 0, "no_stop": 0}, seed=2017)
    made = [everyday.with_copy(Pair(english[i], ""), draw, kinds[i % len(kinds)]) for i in range(300)]
    sources = [pair.source for pair, _ in made]
    translator = pipeline("translation", model=str(FOLDER), trust_remote_code=True)
    found = [each["translation_text"] for each in translator(sources)]
    kept = [
        text.count(item) == source.count(item) for text, source, (_, item) in zip(found, sources, made, strict=True)
    ]
    assert sum(kept) >= 297


def test_white_space_around_a_sentence_changes_nothing():
    english = [english for english, _ in phrasebook()["test"]][:60]
    translator = pipeline("translation", model=str(FOLDER), trust_remote_code=True)
    plain = [each["translation_text"] for each in translator(english)]
    assert [each["translation_text"] for each in translator([f"  {each}\t" for each in english])] == [
        f"  {each}\t" for each in plain
    ]


@pytest.mark.slow
def test_weights_of_less_precision_translate_as_well(model, tokenizer):
    """500 sentences: BLEU within 0.3."""
    folder = corpus("tatoeba_en_es")
    sentences, references = ([*read_lines(folder / f"test.{side}")][:500] for side in ("en", "es"))
    translator = pipeline("translation", model=model, tokenizer=tokenizer, device="cpu")
    scores = {}
    for precision in (None, "bfloat16", "int8"):
        found = [each["translation_text"] for each in translator(sentences, weight_precision=precision)]
        scores[precision] = sacrebleu.corpus_bleu(found, [references]).score
    assert scores[None] > 40
    assert abs(scores["bfloat16"] - scores[None]) < 0.3 and abs(scores["int8"] - scores[None]) < 0.3


def test_it_is_small_and_float32(model):
    """Its file is in half precision; everyone gets float32."""
    assert model.dtype == torch.float32 and json.loads((FOLDER / "config.json").read_text())["dtype"] == "float32"
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 16e6


def test_it_is_ready_for_the_hub():
    check_folder(FOLDER)
    assert json.loads((FOLDER / "config.json").read_text())["auto_map"] == AUTO_MAP
    for file in FOLDER.iterdir():  # the code is in the package, and in no second place
        assert file.suffix in (".json", ".png", ".md", ".safetensors") and not file.is_symlink()
    assert len(package_code(FOLDER)) == 6  # what a push puts beside it


def test_its_card_says_what_it_is_made_of_and_what_it_cannot_do():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "cc-by-2.0" and metadata["language"] == ["en", "es"]
    assert {"bleu", "chrf", "ter", "meteor"} <= set(metadata["metrics"])
    for said in ("https://tatoeba.org", "CC BY 2.0", "phrasebook", "(curves.png)", "translates badly or makes up"):
        assert said in card
    assert (FOLDER / "curves.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_plain_trainer_goes_on_from_it(model, tokenizer, tmp_path):
    """Three epochs help with sentences of the same subject that it was not shown."""

    def encode(pairs):
        return [dict(tokenizer(source, text_target=target)) for source, target in pairs]

    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=3,
            per_device_train_batch_size=4,
            learning_rate=5e-4,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=encode(SAILING),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )
    before = [trainer.evaluate(encode(pairs))["eval_loss"] for pairs in (SAILING, HELD_OUT)]
    trainer.train()
    after = [trainer.evaluate(encode(pairs))["eval_loss"] for pairs in (SAILING, HELD_OUT)]
    assert after[0] < before[0] - 0.5 and after[1] < before[1] - 0.5
    assert model.dtype == torch.float32


def test_the_demo_shows_it(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert main(["checkpoints/tiny-en-es"]) == 0
    printed = capsys.readouterr().out
    assert "How are you?  ->  ¿Cómo estás?" in printed
    assert "translate --model checkpoints/tiny-en-es" in printed
    assert main(["checkpoints/absent"]) == 2


def test_the_demo_names_what_is_missing(tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(FOLDER, folder)
    (folder / "tokenizer.json").unlink()
    assert main([str(folder)]) == 2
    assert "has no tokenizer.json" in capsys.readouterr().err

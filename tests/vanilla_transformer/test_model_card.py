import dataclasses
import json

import pytest
import yaml

from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.errors import ModelCardError
from vanilla_transformer.model_card import (
    FACTS,
    ModelCardFacts,
    ModelPlace,
    check_language,
    check_license,
    folder_card,
    render_model_card,
)
from vanilla_transformer.scores import Results

CONFIG = VanillaTransformerConfig.from_preset("tiny", vocab_size=1000)
REPOSITORY = ModelPlace("someone/en-es", revision="v3")


def results_of(**more):
    """Results as their file holds them, with some more entries."""
    table = {
        "test_loss": 0.1234,
        "test_perplexity": 1.1313,
        "test_bleu": 98.765,
        "bleu_signature": "BLEU|nrefs:1|case:mixed",
        **more,
    }
    return Results.from_json(table)


@pytest.fixture
def facts():
    return ModelCardFacts(
        preset="tiny",
        source_lang="en",
        target_lang="es",
        license="apache-2.0",
        data_description="a phrasebook",
        train_rows=7000,
        steps=900,
        tokens_per_step=1500,
        warmup_steps=300,
        noam_scale=0.3,
        seed=42,
        averaged=5,
        optimizer="Adam, β1 0.9, β2 0.98, ε 1e-09",
        precision="float32",
        seconds=90.0,
        hardware="CPU, 2 threads",
        example='Say "hello".',
        results=results_of(),
    )


def metadata_of(text):
    return yaml.safe_load(text.split("---")[1])


def test_another_schedule_than_the_paper_s_is_on_the_card(facts):
    assert "| learning rate | the paper's (§5.3), 300 warm-up steps, scaled by 0.3 |" in str(
        render_model_card(facts, CONFIG, 1_446_912, REPOSITORY)
    )
    facts.decay_steps = 100
    text = str(render_model_card(facts, CONFIG, 1_446_912, REPOSITORY))
    assert "300 warm-up steps, scaled by 0.3, falling to 0 in the last 100 steps |" in text
    facts.warmup_steps, facts.schedule = None, "0.001 at most, linear, 100 warm-up steps"
    facts.optimizer += ", decoupled weight decay 20"
    text = str(render_model_card(facts, CONFIG, 1_446_912, REPOSITORY))
    assert "| learning rate | 0.001 at most, linear, 100 warm-up steps |" in text
    assert "decoupled weight decay 20 |" in text


def test_a_mean_with_the_weights_before_is_on_the_card(facts):
    assert "share of the new weights" not in str(render_model_card(facts, CONFIG, 1_446_912, REPOSITORY))
    facts.base_model, facts.new_share = "opus-mt-en-es", 0.7
    text = str(render_model_card(facts, CONFIG, 1_446_912, REPOSITORY))
    assert "| share of the new weights | 70%; the rest is of `opus-mt-en-es` |" in text


def test_every_fact_is_on_the_card(facts):
    text = str(render_model_card(facts, CONFIG, 1_446_912, REPOSITORY))
    for shown in (
        "1,446,912",
        "4 encoder, 4 decoder",
        "7,000",
        "| 0.1234 | 1.13 | 98.7",
        "BLEU|nrefs:1|case:mixed",
        "300 warm-up steps, scaled by 0.3",
        "CPU, 2 threads",
        "| precision | float32 |",
        'tokenizer("Say \\"hello\\".", ',
        "1.5 minutes",
    ):
        assert shown in text, shown
    assert "{{" not in text and "{%" not in text and "None" not in text
    metadata = metadata_of(text)
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("transformers", "translation")
    assert (metadata["language"], metadata["license"]) == (["en", "es"], "apache-2.0")
    assert {"arxiv:1706.03762", "custom_code"} <= set(metadata["tags"])
    assert metadata["metrics"] == ["bleu", "perplexity"]
    measured = [metric for result in metadata["model-index"][0]["results"] for metric in result["metrics"]]
    assert {metric["type"]: metric["value"] for metric in measured} == {"bleu": 98.77, "perplexity": 1.13}
    assert [m["args"] for m in measured if m["type"] == "bleu"] == [{"signature": "BLEU|nrefs:1|case:mixed"}]


def test_intervals_and_another_start_are_on_the_card(facts):
    text = str(render_model_card(facts, CONFIG, 1, REPOSITORY))
    assert "initialization" not in text and "±" not in text
    facts.results = results_of(
        test_bleu_margin=1.234, test_compound_bleu=99.5, compound_bleu_signature="BLEU (compounds)|nrefs:1"
    )
    config = VanillaTransformerConfig.from_dict({**CONFIG.to_dict(), "attention_init_gain": 0.5})
    text = str(render_model_card(facts, config, 1, REPOSITORY))
    assert "| initialization | gain 0.5 for the projections to queries, keys and values |" in text
    assert metadata_of(text)["metrics"] == ["bleu", "perplexity"]
    assert "| 98.77 ± 1.23 | 99.50 |" in text and "BLEU (compounds)|nrefs:1" in text
    assert "95% interval" in text


def test_only_languages_share_a_vocabulary(facts):
    assert "| vocabulary | 1,000 joint byte-level BPE |" in str(render_model_card(facts, CONFIG, 1, REPOSITORY))
    facts.task = "text-classification"
    assert "| vocabulary | 1,000 byte-level BPE |" in str(render_model_card(facts, CONFIG, 1, REPOSITORY))


def test_the_code_loads_the_commit_that_the_card_belongs_to(facts):
    text = str(render_model_card(facts, CONFIG, 1, REPOSITORY))
    assert text.count('from_pretrained("someone/en-es", revision="v3", trust_remote_code=True)') == 2
    assert text.count('model="someone/en-es", revision="v3", trust_remote_code=True') == 1
    assert "\n# en-es\n" in text
    folder = str(render_model_card(facts, CONFIG, 1, ModelPlace("runs/demo")))
    assert 'from_pretrained("runs/demo", trust_remote_code=True)' in folder and "revision" not in folder


def test_both_forms_of_a_model_name_each_other(facts):
    ours = str(render_model_card(facts, CONFIG, 1, dataclasses.replace(REPOSITORY, native="someone/en-es-marian")))
    place = ModelPlace("someone/en-es-marian", "v1", None, "someone/en-es", True, differences=("It stops early.",))
    native = str(render_model_card(facts, CONFIG, 1, place))
    assert "(https://huggingface.co/someone/en-es-marian)" in ours
    assert "(https://huggingface.co/someone/en-es)" in native
    assert "* It stops early." in native and "trust_remote_code" not in native
    metadata = metadata_of(native)
    assert "custom_code" not in metadata["tags"]
    assert not {"model-index", "metrics", "model_name", "base_model"} & set(metadata)  # its scores are the original's


def test_facts_that_are_not_known_are_left_out():
    text = str(render_model_card(ModelCardFacts(), CONFIG, 1, REPOSITORY))
    assert "This model was not scored." in text
    assert all(
        word not in text for word in ("None", "learning rate", "| data |", "| time |", "| steps |", "![", "NLL")
    )
    assert "from scratch" not in text and "fine-tuned" not in text
    assert not {"language", "license", "datasets", "base_model", "metrics", "model-index"} & set(metadata_of(text))


def test_a_folder_that_training_started_from_is_not_a_repository(facts):
    facts.base_model = "runs/own_files"
    text = str(render_model_card(facts, CONFIG, 1, REPOSITORY))
    assert "fine-tuned from `runs/own_files`" in text and "base_model" not in metadata_of(text)
    facts.base_model_on_hub = True
    assert metadata_of(str(render_model_card(facts, CONFIG, 1, REPOSITORY)))["base_model"] == "runs/own_files"


def test_a_folder_says_what_its_card_says(model_folder, facts):
    facts.save(model_folder)
    (model_folder / "curves.png").touch()
    text = str(folder_card(model_folder, REPOSITORY))
    config = VanillaTransformerConfig.from_pretrained(model_folder)
    # Two encoder and three decoder layers of 32 channels, 48 inside, and one embedding.
    attention, feed_forward, norm = 4 * 32 * 32, 2 * 32 * 48 + 48 + 32, 2 * 32
    parameters = 2 * (attention + feed_forward + 2 * norm) + 3 * (2 * attention + feed_forward + 3 * norm)
    assert f"| {parameters + config.vocab_size * 32:,} |" in text
    assert "(curves.png)" in text and "attention.png" not in text and "98.7" in text


def test_damaged_facts_are_named(model_folder):
    for content in (
        "{",
        '{"colour": "red"}',
        "[]",
        '{"results": null}',
        '{"steps": "many"}',
        '{"results": {"a_loss": "x"}}',
        '{"results": {"a_loss": 1, "a_bleu": null}}',
        '{"results": []}',
    ):
        (model_folder / FACTS).write_text(content)
        with pytest.raises(ModelCardError, match=r"model_card.json is damaged"):
            folder_card(model_folder, REPOSITORY)
    (model_folder / FACTS).write_text(json.dumps({"seed": 5}))
    assert "| seed | 5 |" in str(folder_card(model_folder, REPOSITORY))


def test_tables_hold_any_text(facts):
    facts.data_description = "one | two\nthree"
    assert "| data | one \\| two three |" in str(render_model_card(facts, CONFIG, 1, REPOSITORY))


def test_scores_of_other_texts_are_not_those_of_the_data_set(facts):
    facts.datasets = ["someone/pairs"]
    facts.results = results_of(news_loss=1.0, news_perplexity=2.7, news_bleu=30.0)
    index = metadata_of(str(render_model_card(facts, CONFIG, 1, REPOSITORY)))["model-index"][0]["results"]
    assert {(r["dataset"]["type"], r["dataset"]["name"], r["dataset"]["split"]) for r in index} == {
        ("someone/pairs", "a phrasebook", "test"),
        ("custom", "news", "news"),
    }


def test_only_the_papers_decoding_is_called_that(model_folder):
    assert "decodes as the paper does" in str(folder_card(model_folder, REPOSITORY))
    path = model_folder / "generation_config.json"
    path.write_text(path.read_text().replace('"num_beams": 4', '"num_beams": 1'))
    text = str(folder_card(model_folder, REPOSITORY))
    assert "as the paper does" not in text and "uses `generation_config.json`" in text


@pytest.mark.parametrize("code", ["german", "xx", "e", "", "EN", "EN-us", "zzz1"])
def test_a_word_that_is_not_a_language_is_refused(code, facts):
    with pytest.raises(ModelCardError, match=f"`target_lang` must be a code of ISO 639, but is '{code}'"):
        check_language(code, "target_lang")
    facts.source_lang = code or "none"
    with pytest.raises(ModelCardError, match="must be a code of ISO 639"):
        render_model_card(facts, CONFIG, 1, REPOSITORY)


@pytest.mark.parametrize("code", ["en", "es", "ast", "deu", "zh"])
def test_languages_are_known(code):
    check_language(code)


def test_a_word_that_is_not_a_licence_or_data_set_is_refused(facts):
    with pytest.raises(
        ModelCardError,
        match=r"`license` must be an identifier of the Hub, but is 'Apache-2'\. Did you mean apache-2.0\?",
    ):
        check_license("Apache-2")
    facts.license = "mine"
    with pytest.raises(ModelCardError, match=r"`license` must be .*, but is 'mine'"):
        render_model_card(facts, CONFIG, 1, REPOSITORY)
    facts.license, facts.datasets = "cc-by-2.0", ["two words"]
    with pytest.raises(
        ModelCardError, match="`datasets` must have names of data sets on the Hub, but has 'two words'"
    ):
        render_model_card(facts, CONFIG, 1, REPOSITORY)

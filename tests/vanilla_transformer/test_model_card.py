import yaml

from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.model_card import ModelCardFacts, write_model_card

FACTS = {
    "preset": "tiny",
    "base_model": None,
    "config": VanillaTransformerConfig.from_preset("tiny", vocab_size=1000),
    "parameters": 1_446_912,
    "source_lang": "en",
    "target_lang": "es",
    "data_description": "a phrasebook",
    "train_pairs": 7000,
    "steps": 900,
    "tokens_per_step": 1500,
    "warmup_steps": 300,
    "noam_scale": 0.3,
    "seed": 42,
    "averaged": 5,
    "optimizer": "Adam, β1 0.9, β2 0.98, ε 1e-09",
    "seconds": 90.0,
    "hardware": "CPU, 2 threads",
    "example": 'Say "hello".',
    "results": {
        "test_loss": 0.1234,
        "test_perplexity": 1.1313,
        "test_bleu": 98.765,
        "bleu_signature": "nrefs:1|case:mixed",
    },
}


def test_every_fact_is_on_the_card(tmp_path):
    text = write_model_card(tmp_path, ModelCardFacts(**FACTS)).read_text(encoding="utf-8")
    for shown in (
        "1,446,912",
        "4 encoder, 4 decoder",
        "7,000",
        "| 0.1234 | 1.13 | 98.7",
        "nrefs:1|case:mixed",
        "300 warm-up steps, scaled by 0.3",
        "CPU, 2 threads",
        'tokenizer("Say \\"hello\\".", ',
        "1.5 minutes",
    ):
        assert shown in text, shown
    assert "{{" not in text and "{%" not in text and "None" not in text
    metadata = yaml.safe_load(text.split("---")[1])
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("transformers", "translation")
    assert metadata["language"] == ["en", "es"]
    assert "arxiv:1706.03762" in metadata["tags"]
    measured = {m["type"]: m["value"] for result in metadata["model-index"][0]["results"] for m in result["metrics"]}
    assert measured == {"bleu": 98.77, "perplexity": 1.13}


def test_the_code_loads_the_repository_that_is_named(tmp_path):
    text = write_model_card(tmp_path, ModelCardFacts(**FACTS), "someone/en-es").read_text(encoding="utf-8")
    assert text.count('from_pretrained("someone/en-es", ') == 2
    assert "\n# en-es\n" in text and str(tmp_path) not in text


def test_what_is_not_known_is_left_out(tmp_path):
    unknown = {
        "source_lang": None,
        "target_lang": None,
        "data_description": None,
        "warmup_steps": None,
        "seconds": None,
        "results": {},
    }
    text = write_model_card(tmp_path, ModelCardFacts(**{**FACTS, **unknown})).read_text(encoding="utf-8")
    assert "This model was not scored." in text
    assert all(word not in text for word in ("None", "learning rate", "| data |", "| time |"))
    assert "language" not in yaml.safe_load(text.split("---")[1])

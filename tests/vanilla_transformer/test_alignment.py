from pathlib import Path

import pytest
import torch

from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.cli import main
from vanilla_transformer.loading import load_model
from vanilla_transformer.pipeline_vanilla_transformer import align_words, link_words, word_numbers

ROOT = Path(__file__).resolve().parents[2]
GOLD = ROOT / "tests" / "data" / "alignments.en-es.tsv"


def test_tokens_belong_to_the_words_of_white_space():
    #                     the      _red     _hou     se       .        </s>
    assert word_numbers("the red house.", [(0, 3), (3, 7), (7, 11), (11, 13), (13, 14), (0, 0)]) == [0, 1, 2, 2, 2, -1]
    assert word_numbers(" a  b", [(0, 1), (1, 2), (2, 5)]) == [-1, 0, 1]


def test_links_are_the_largest_weights_of_words_in_both_directions():
    weights = torch.tensor(
        [
            [0.9, 0.1, 0.0, 0.0],  # the first target word looks at the first source word
            [0.1, 0.2, 0.3, 0.4],  # the two tokens of the second one at the third, whose tokens have 0.7 together
            [0.0, 0.4, 0.3, 0.3],
        ]
    )
    assert link_words(weights, [0, 1, 2, 2], [0, 1, 1]) == [(0, 0), (1, 1), (2, 1)]
    assert link_words(weights[:, :0], [], [0, 1, 1]) == []


def test_alignments_do_not_depend_on_the_texts_beside(model_folder):
    model, tokenizer = load_model(model_folder)
    sources, targets = ["the house is red", "the car", ""], ["la casa es roja", "el coche", "nuevo"]
    together = align_words(model, tokenizer, sources, targets)
    assert together == [align_words(model, tokenizer, [s], [t])[0] for s, t in zip(sources, targets, strict=True)]
    assert together[2] == [] and model.config._attn_implementation == "sdpa"
    assert all(0 <= s < 4 and 0 <= t < 4 for s, t in together[0])


def test_chosen_heads_are_used(model_folder):
    model, tokenizer = load_model(model_folder)
    pair = (["the red car is new"], ["el coche rojo es nuevo"])
    by_head = []
    for layer in range(3):
        model.generation_config.alignment_heads = [[layer, 1]]
        by_head.append(align_words(model, tokenizer, *pair))
    assert len({str(each) for each in by_head}) > 1
    model.generation_config.alignment_heads = [[2, head] for head in range(4)]
    chosen = align_words(model, tokenizer, *pair)
    model.generation_config.alignment_heads = None
    assert chosen == align_words(model, tokenizer, *pair)


def test_the_bundled_model_aligns_far_better_than_the_diagonal():
    model, tokenizer = load_model(ROOT / "checkpoints" / "tiny-en-es")
    rows = [line.split("\t") for line in GOLD.read_text(encoding="utf-8").splitlines()[1:]]
    assert len(rows) == 60
    found = align_words(model, tokenizer, [row[0] for row in rows], [row[1] for row in rows])
    gold = [{tuple(map(int, pair.split("-"))) for pair in row[2].split()} for row in rows]
    common = sum(len(set(a) & g) for a, g in zip(found, gold, strict=True))
    error = 1 - 2 * common / (sum(map(len, found)) + sum(map(len, gold)))
    assert error < 0.12  # the diagonal has 0.37


def test_the_pipeline_adds_alignments(model_folder):
    model, tokenizer = load_model(model_folder)
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    (result,) = translator("the house", return_alignments=True)
    links = align_words(model, tokenizer, ["the house"], [result["translation_text"]])[0]
    assert result["alignment"] == " ".join(f"{source}-{target}" for source, target in links)
    several = translator(["the house", "the car"], return_alignments=True, num_return_sequences=2)
    assert all("alignment" in each for results in several for each in results)


@pytest.mark.parametrize("format_", ["text", "jsonl"])
def test_the_command_writes_them_after_a_tab(capsys, format_):
    model = str(ROOT / "checkpoints" / "tiny-en-es")
    assert main(["translate", "--model", model, "--alignments", "--output_format", format_, "The house is red."]) == 0
    said = capsys.readouterr().out
    assert said.endswith("\t0-0 1-1 2-2 3-3\n" if format_ == "text" else '"alignment": "0-0 1-1 2-2 3-3"}]}\n')


def test_a_prefix_begins_every_translation():
    model, tokenizer = load_model(ROOT / "checkpoints" / "tiny-en-es")
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    texts = ["How are you?", "How is your father today?"]
    forced = translator(texts, prefix="¿Qué tal", num_return_sequences=2, return_scores=True)
    for text, results in zip(texts, forced, strict=True):
        for result in results:
            assert result["translation_text"].startswith("¿Qué tal")
            inputs = tokenizer(text, text_target=result["translation_text"], return_tensors="pt")
            with torch.no_grad():
                loss = model(**inputs).loss * inputs.labels.shape[1]
            penalty = ((5 + inputs.labels.shape[1]) / 6) ** model.generation_config.length_penalty
            assert result["score"] == pytest.approx(-float(loss) / penalty, abs=1e-3)
    free = translator(texts[0])[0]["translation_text"]
    assert translator(texts[0], prefix=free[:5])[0]["translation_text"] == free


def test_a_prefix_and_decoder_inputs_exclude_each_other(model_folder):
    model, tokenizer = load_model(model_folder)
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    with pytest.raises(ValueError, match="`prefix` and `decoder_input_ids`"):
        translator("the house", prefix="la", decoder_input_ids=torch.tensor([[0]]))


def test_allowed_tokens_are_obeyed_by_the_fast_search(model_folder, monkeypatch):
    from vanilla_transformer import generation_vanilla_transformer as generation

    model, tokenizer = load_model(model_folder)
    allowed = tokenizer(" casa roja", add_special_tokens=False).input_ids
    monkeypatch.setattr(generation, "CalledSteps", None)  # the whole model is not called
    inputs = tokenizer(["the house", "the red car is new"], return_tensors="pt", padding=True)
    sequences = model.generate(**inputs, prefix_allowed_tokens_fn=lambda batch, ids: [*allowed, 2], max_new_tokens=6)
    assert set(sequences[:, 1:].flatten().tolist()) <= {*allowed, 1, 2}

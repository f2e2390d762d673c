import json

from training.data.bpe_dropout import BpeDropout
from training.tasks import translation
from training.train import main
from vanilla_transformer import VanillaTransformerTokenizer


def test_bpe_dropout_segments_the_same_text_in_other_ways(tokenizer):
    texts = ["the red car is new", "el coche rojo es nuevo"] * 20
    usual = tokenizer(texts).input_ids
    segment = BpeDropout(tokenizer, 0.5, longest=1000)
    drawn = segment(texts, usual)
    assert len({tuple(ids) for ids in drawn[::2]}) > 5
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn] == texts
    assert all(
        ids[-1] == tokenizer.eos_token_id and len(ids) >= len(known) for ids, known in zip(drawn, usual, strict=True)
    )
    assert tokenizer(texts).input_ids == usual
    short = BpeDropout(tokenizer, 0.9, longest=len(usual[1]))
    assert short(texts, usual)[1::2] == usual[1::2]  # what is drawn is longer than that


def test_a_run_with_it_saves_a_tokenizer_without(recipe, tmp_path, monkeypatch):
    segmented = []

    class Watched(BpeDropout):
        def __call__(self, texts, usual):
            drawn = super().__call__(texts, usual)
            segmented.append((sum(map(len, drawn)), sum(map(len, usual))))
            return drawn

    monkeypatch.setattr(translation, "BpeDropout", Watched)
    dropped = tmp_path / "dropped"
    assert main([str(recipe)]) == 0
    settings = json.loads((tmp_path / "run" / "tokenizer.json").read_text(encoding="utf-8"))
    assert main([str(recipe), "--output_dir", str(dropped), "--bpe_dropout", "0.3"]) == 0
    assert json.loads((dropped / "tokenizer.json").read_text(encoding="utf-8")) == settings
    assert settings["model"]["dropout"] is None
    texts = ["The house is red."] * 10
    for folder in (dropped, dropped / "checkpoint-12"):
        saved = VanillaTransformerTokenizer.from_pretrained(folder)
        assert len({tuple(ids) for ids in saved(texts).input_ids}) == 1
    assert "BPE-dropout 0.3" in (dropped / "README.md").read_text(encoding="utf-8")
    assert len(segmented) >= 24 and all(drawn > usual for drawn, usual in segmented)

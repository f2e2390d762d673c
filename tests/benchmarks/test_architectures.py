"""The models that the Transformer is compared with: right, of equal size, and behind the training program."""

import copy
import functools
import json

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from benchmarks.architectures import ARCHITECTURES
from benchmarks.architectures.run import main, parse
from benchmarks.architectures.study import Run, shape_words
from benchmarks.architectures.train import main as train
from tests.training.small import write_recipe
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.generation_vanilla_transformer import CalledSteps, FastSteps

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "encoder_layers": 2,
    "decoder_layers": 4,
}
VOCAB_SIZE = 50


@functools.cache
def make_config(name):
    architecture = ARCHITECTURES[name]
    return architecture.config_class(vocab_size=VOCAB_SIZE, **architecture.shape(VOCAB_SIZE, **SHAPE, dropout=0.1))


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    torch.manual_seed(0)
    model = ARCHITECTURES[request.param].model_class(copy.deepcopy(make_config(request.param))).eval()
    with torch.no_grad():
        model.lm_head.weight *= 3  # hypotheses that differ
    return model


@pytest.fixture
def source():
    """Sources (3, 7) of different lengths, and their mask."""
    ids = torch.randint(4, VOCAB_SIZE, (3, 7), generator=torch.Generator().manual_seed(1))
    ids[1, 4:] = ids[2, 6:] = 1
    return {"input_ids": ids, "attention_mask": (ids != 1).long()}


@torch.no_grad()
def test_no_token_sees_a_later_one(model, source):
    target = torch.randint(4, VOCAB_SIZE, (3, 6))
    changed = target.clone()
    changed[:, 3] = (target[:, 3] - 3) % (VOCAB_SIZE - 4) + 4
    before, after = (model(**source, decoder_input_ids=ids).logits for ids in (target, changed))
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert (after[:, 3:] - before[:, 3:]).abs().amax(dim=(0, 2)).min() > 1e-4


@torch.no_grad()
def test_padding_changes_nothing_and_every_token_counts(model, source):
    target = torch.randint(4, VOCAB_SIZE, (3, 6))
    logits = model(**source, decoder_input_ids=target).logits
    without = model(source["input_ids"][1:2, :4], decoder_input_ids=target[1:2]).logits
    torch.testing.assert_close(without, logits[1:2], atol=1e-5, rtol=1e-4)
    for place in range(4):
        ids = source["input_ids"].clone()
        ids[1, place] = (ids[1, place] - 3) % (VOCAB_SIZE - 4) + 4
        changed = model(ids, attention_mask=source["attention_mask"], decoder_input_ids=target).logits
        assert (changed[1] - logits[1]).abs().max() > 1e-4
        torch.testing.assert_close(changed[0], logits[0])


@torch.no_grad()
def test_one_token_after_the_other_gives_the_logits_of_all_at_once(model, source):
    target = torch.randint(4, VOCAB_SIZE, (3, 9))
    expected = model(**source, decoder_input_ids=target).logits
    cache, found = None, []
    for start, end in ((0, 1), (1, 2), (2, 3), (3, 7), (7, 8), (8, 9)):
        outputs = model(**source, decoder_input_ids=target[:, start:end], cache=cache, use_cache=True)
        cache = outputs.cache
        found.append(outputs.logits)
        assert cache.get_seq_length() == end
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_search_finds_the_same_with_a_cache_and_without(model, source, beams, monkeypatch):
    taken = []
    for kind in (FastSteps, CalledSteps):
        step = kind.step
        monkeypatch.setattr(kind, "step", lambda self, ids, step=step: taken.append(type(self)) or step(self, ids))
    settings = {"num_beams": beams, "max_new_tokens": 12}
    fast = model.generate(**source, **settings)
    assert set(taken) == {FastSteps}
    torch.testing.assert_close(model.generate(**source, **settings, use_cache=False), fast)
    recorded = model.generate(**source, **settings, return_dict_in_generate=True, output_scores=True)
    torch.testing.assert_close(recorded.sequences, fast)
    assert len({tuple(row) for row in fast.tolist()}) > 1
    cached = model.generate(**source, **settings, output_hidden_states=True)  # which the fast search lacks
    torch.testing.assert_close(cached, fast)


def test_memories_do_not_grow(source):
    sizes = {}
    for name, architecture in ARCHITECTURES.items():
        model = architecture.model_class(make_config(name)).eval()
        for length in (5, 40):
            outputs = model(**source, decoder_input_ids=torch.full((3, length), 5), use_cache=True)
            layers = outputs.cache.self_attention_cache.layers
            sizes[name, length] = sum(each.keys.numel() for each in layers if each.is_initialized)
    assert sizes["LSTM", 40] == sizes["LSTM", 5] > 0
    assert sizes["convolutional", 40] == sizes["convolutional", 5] > 0
    assert sizes["Transformer", 40] == 8 * sizes["Transformer", 5]


@pytest.mark.parametrize("size", [64, 128])
def test_all_have_as_many_parameters(size):
    shape = {**SHAPE, "hidden_size": size, "intermediate_size": 2 * size, "encoder_layers": 4}
    sizes = [each.build(6000, **shape).num_parameters() for each in ARCHITECTURES.values()]
    assert max(sizes) / min(sizes) < 1.02


def test_a_folder_is_loaded_by_the_auto_class(model, source, tmp_path):
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py")) or type(model).__module__.startswith("vanilla_transformer")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is type(model)
    target = torch.randint(4, VOCAB_SIZE, (3, 6))
    torch.testing.assert_close(
        loaded(**source, decoder_input_ids=target).logits, model(**source, decoder_input_ids=target).logits
    )


def test_forget_gates_begin_open():
    lstm = ARCHITECTURES["LSTM"].model_class(make_config("LSTM")).model.decoder.layers[0].lowest
    size = lstm.hidden_size
    assert lstm.bias_ih_l0[size : 2 * size].tolist() == [1.0] * size
    assert lstm.bias_ih_l0[:size].abs().sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LSTM", "convolutional"])
def test_the_training_program_trains_it(name, tmp_path, capsys):
    recipe = write_recipe(tmp_path)
    assert train([name, str(recipe), "--max_steps", "6"]) == 0
    run = Run(name, tmp_path / "run", ())
    assert type(AutoModelForSeq2SeqLM.from_pretrained(run.folder)) is ARCHITECTURES[name].model_class
    assert (run.folder / "attention.png").is_file()
    assert run.step_seconds > 0
    assert set(run.history("eval_loss")) == set(run.history("eval_bleu")) == {6}


def test_the_transformer_of_the_translation_begins_with_the_gain_of_its_recipe(tmp_path):
    tokenizer = VanillaTransformerTokenizer.train(["a b"], 270)
    for task, gain in (("translate", 0.7071), ("distance", 1.0)):
        options = parse(["--task", task, "--data", str(tmp_path)])
        assert shape_words("Transformer", options, tokenizer)["attention_init_gain"] == gain
        assert "attention_init_gain" not in shape_words("LSTM", options, tokenizer)


def test_a_training_that_was_stopped_keeps_what_it_goes_on_from(tmp_path, monkeypatch):
    """The training program ends with status 0 after SIGTERM."""
    monkeypatch.setattr("benchmarks.architectures.study.subprocess.run", lambda *_, **__: None)
    state = tmp_path / "run" / "checkpoint-5" / "optimizer.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    with pytest.raises(SystemExit, match=r"run was stopped\. Repeat the command to go on\."):
        Run("LSTM", tmp_path / "run", ()).complete()
    assert state.is_file()


def test_an_architecture_that_there_is_not_is_refused(capsys):
    assert train(["GRU"]) != 0
    assert "LSTM, convolutional, Transformer" in capsys.readouterr().err


SMALL = ["--hidden_size", "16", "--intermediate_size", "16", "--encoder_layers", "1", "--decoder_layers", "1"]


@pytest.fixture
def two(monkeypatch):
    """Two of the three architectures, of which a table has a row each."""
    monkeypatch.delitem(ARCHITECTURES, "convolutional")


@pytest.mark.slow
def test_a_table_of_cost(tmp_path, capsys, two):
    output = tmp_path / "cost.md"
    words = [*SMALL, "--vocab_size", "30", "--lengths", "4", "8", "--longest_without_cache", "4", "--repeats", "1"]
    assert main(["--task", "cost", "--work", str(tmp_path / "work"), *words, "--output", str(output)]) == 0
    text = output.read_text(encoding="utf-8")
    assert text.count("| Transformer |") == text.count("| LSTM |") == 6
    assert output.with_suffix(".png").is_file()


@pytest.fixture
def made(monkeypatch):
    """The folders of trainings that commands make, in this process."""
    made = []

    def complete(run):
        if not (run.folder / "clock.json").is_file():
            made.append(run.folder.name)
            assert train([run.architecture, *run.words, "--output_dir", str(run.folder)]) == 0
        return run

    monkeypatch.setattr(Run, "complete", complete)
    return made


@pytest.mark.slow
def test_a_table_of_copying_whose_trainings_are_found_again(tmp_path, made, capsys, two):
    work, output = tmp_path / "work", tmp_path / "distance.md"
    words = [*SMALL, "--trained", "3", "6", "--distances", "4", "9", "--steps", "5", "--seeds", "2", "--rates", "1e-3"]
    for _ in range(2):
        assert main(["--task", "distance", "--work", str(work), *words, "--output", str(output)]) == 0
        assert sorted(made) == sorted(f"{name}-{seed}" for name in ARCHITECTURES for seed in (1, 2))
    text = output.read_text(encoding="utf-8")
    assert text.count(" ± ") == 6 and "| right over 9, % |" in text
    tokenizer = VanillaTransformerTokenizer.from_pretrained(work / "tokenizer")
    assert len(tokenizer("A....?A").input_ids) == len("A....?A") + 1


@pytest.mark.slow
def test_a_table_of_translation(tmp_path, made, monkeypatch, capsys, two):
    monkeypatch.setattr("benchmarks.architectures.translate.EVALUATIONS", 2)
    write_recipe(tmp_path)
    for split, new in (("train", "train"), ("validation", "val"), ("validation", "test_2016_flickr")):
        for side, language in (("en", "en"), ("es", "de")):
            (tmp_path / f"{new}.{language}").write_bytes((tmp_path / f"{split}.{side}").read_bytes())
    work, output = tmp_path / "work", tmp_path / "translate.md"
    words = [*SMALL, "--steps", "8", "--tokens_per_step", "200", "--vocab_size", "300", "--seeds", "1"]
    words += ["--rates", "0.001", "0.002", "--tune_steps", "2", "--decoded", "2", "--data", str(tmp_path)]
    assert main(["--task", "translate", "--work", str(work), *words, "--output", str(output)]) == 0
    assert len(made) == 4 + 2
    scores = [json.loads(file.read_text(encoding="utf-8")) for file in work.rglob("scores.json")]
    assert 2 <= len(scores) <= 4  # equal time is equal steps for the fastest
    assert output.read_text(encoding="utf-8").count("| LSTM |") == 1
    assert output.with_suffix(".png").is_file()

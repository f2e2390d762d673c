"""More pairs by models of both directions: what is translated, kept, left out and counted, and going on."""

import json
import queue

import pytest
from safetensors.torch import load_file, save_file

from training import augment
from training.augment import choose, main
from training.tasks.robustness import OFF
from training.translate import Work, prepare, translate_parts
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.errors import SettingsError
from vanilla_transformer.loading import load_model

pytestmark = pytest.mark.usefixtures("forked")

SOURCES = ["the house is red", "the car is new", "the house is red", "the red car", "the new house", "a test"]
TARGETS = ["la casa es roja", "el coche es nuevo", "la casa es roja", "el coche rojo", "la casa nueva", "una prueba"]


@pytest.fixture
def files(tmp_path):
    for name, lines in (
        ("train.en", SOURCES),
        ("train.es", TARGETS),
        ("valid.en", ["A  Test"]),
        ("valid.es", ["otra cosa"]),
        ("more.es", ["la casa", "el coche", "", "la casa"]),
    ):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tmp_path


def command(files, model, *more):
    words = ["--source", files / "train.en", "--target", files / "train.es", "--forward", model, "--backward", model]
    words += ["--exclude", files / "valid.en", files / "valid.es", "--output", files / "out", "--num_beams", 1]
    return [str(word) for word in (*words, *more)]


def written(files):
    sources, targets = (
        (files / "out" / name).read_text(encoding="utf-8").splitlines() for name in ("source.txt", "target.txt")
    )
    return list(zip(sources, targets, strict=True)), json.loads((files / "out" / "augment.json").read_text())


@pytest.mark.slow
def test_pairs_of_both_models_are_added_and_counted_by_origin(files, model_folder, capsys):
    arguments = command(files, model_folder, "--repeat", 2, "--max_length_ratio", 1000, "--num_processes", 2)
    assert main([*arguments, "--target_text", str(files / "more.es")]) == 0
    pairs, counts = written(files)
    real = list(zip(SOURCES, TARGETS, strict=True))[:5]
    assert pairs[:10] == real * 2
    assert counts["real"] == {"read": 6, "in excluded text": 1, "written": 10}
    assert [counts[origin]["read"] for origin in ("forward", "backward", "target text")] == [4, 4, 2]
    for numbers in counts.values():
        assert numbers["written"] <= numbers["read"] * 2
    assert len(pairs) == sum(numbers["written"] for numbers in counts.values())
    sources, targets = ({pair[side] for pair in pairs} for side in (0, 1))
    assert "a test" not in sources and "una prueba" not in targets
    assert "real: 6 read, 1 in excluded text, 10 written" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_run_translates_only_what_is_not_done(files, model_folder, monkeypatch):
    monkeypatch.setattr(augment, "PART_SIZE", 2)
    arguments = command(files, model_folder, "--max_length_ratio", 1000, "--num_processes", 1)
    assert main(arguments) == 0
    pairs, _ = written(files)
    unfinished = files / "out" / "unfinished"
    (unfinished / "backward-0000001.json").unlink()
    (unfinished / "forward-0000000.json").write_text('["las casas", "los coches"]', encoding="utf-8")
    assert main(arguments) == 0
    again, _ = written(files)
    assert ("the house is red", "las casas") in again and ("the car is new", "los coches") in again
    assert [pair for pair in again if pair[1] not in ("las casas", "los coches")] == [
        pair for pair in pairs if pair[0] not in SOURCES[:2] or pair[1] in TARGETS
    ]


def test_tokenized_lines_reach_the_model_whole_and_as_they_are(model_folder, tmp_path, monkeypatch):
    """A model that learned single sentences, and what everyday input needs, is told to leave both."""
    model, _ = load_model(model_folder)
    for name in OFF:
        setattr(model.generation_config, name, True)
    model.save_pretrained(model_folder)
    lines = ("a dog &apos;s t-shirt . The car is new .", "5 &amp; 6 &quot; A Red House &quot; .")
    seen = []

    def echo(model, input_ids, num_beams, **inputs):
        seen.append((len(input_ids), num_beams))
        return input_ids

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "generate", echo)
    job = augment.Origin("forward", str(model_folder), lines, False).write(tmp_path)
    work = augment.Work((job,), tmp_path, {"num_beams": 3}, OFF)
    translate_parts(work, {0: (0,)}, "cpu", queue.Queue())
    pairs = augment.pairs_of(augment.read_translations(work, job, len(lines)), is_target=False)
    assert list(pairs) == [(line, line) for line in lines]
    assert seen == [(2, 3)]


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_wrote_its_plan_goes_on(files, model_folder):
    arguments = command(files, model_folder, "--num_processes", 1)
    unfinished = files / "out" / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "plan.part").write_text('{"num_be')
    assert main(arguments) == 0


@pytest.mark.slow
def test_translations_of_another_text_are_not_taken(files, model_folder, capsys):
    arguments = command(files, model_folder, "--num_processes", 1)
    assert main(arguments) == 0
    (files / "train.en").write_text("\n".join([*SOURCES[:-2], "b", "c"]) + "\n", encoding="utf-8")
    assert main(arguments) == 2
    assert "`--output` must be that of the same run or a new one" in capsys.readouterr().err
    (files / "train.en").write_text("\n".join(SOURCES) + "\n", encoding="utf-8")
    assert main(arguments) == 0
    weights = model_folder / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert main(arguments) == 2


def test_translations_by_other_settings_of_a_model_are_not_taken(model_folder, tmp_path):
    job = augment.Origin("forward", str(model_folder), ("the house is red",), False).write(tmp_path)
    work = Work((job,), tmp_path / "out", {"num_beams": 4})
    assert prepare(work) == prepare(work) == [1]
    model, _ = load_model(model_folder)
    model.generation_config.length_penalty = 0.2
    model.generation_config.save_pretrained(model_folder)
    with pytest.raises(SettingsError, match="another text, model or search"):
        prepare(work)


def test_pairs_that_are_left_out():
    dropped = {}
    pairs = [
        ("", "la casa"),
        ("Madrid", "madrid "),
        ("one", "uno"),
        ("one", "uno"),
        ("The  Test", "una cosa"),
        ("a thing", "LA prueba"),
        ("word " * 40, "palabra"),
        ("two", "dos"),
        ("known", "conocido"),
        ("Go!", "Ve"),
    ]
    chosen = list(choose(pairs, {("known", "conocido")}, {"the test", "la prueba"}, 1.0, 2.5, 3.0, dropped))
    assert chosen == [("one", "uno"), ("two", "dos")]
    assert dropped == {
        **{"empty": 1, "equal sides": 1, "there already": 2, "in excluded text": 2, "odd lengths": 1, "too short": 1}
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repeat", "-1"], "`--repeat` must be at least 0, but is -1"),
        (["--num_beams", "0"], "`--num_beams` must be at least 1, but is 0"),
        (["--max_length_ratio", "1"], "`--max_length_ratio` must be more than 1, but is 1"),
    ],
)
def test_options_that_cannot_be(words, message, files, model_folder, capsys):
    assert main(command(files, model_folder, *words)) == 2
    assert message in capsys.readouterr().err


def test_a_model_is_needed(files, capsys):
    words = ["--source", str(files / "train.en"), "--target", str(files / "train.es"), "--output", str(files / "out")]
    assert main(words) == 2
    assert (
        "`--forward` or `--backward` must name the folder of a model, but both are missing" in capsys.readouterr().err
    )
    assert main([*words, "--forward", "x", "--target_text", str(files / "more.es")]) == 2
    assert "`--target_text` must have a model that translates it" in capsys.readouterr().err

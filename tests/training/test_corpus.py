import errno
import gzip
import json
import multiprocessing
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from training.data import corpus
from training.data.batching import Draw
from training.data.cache import keep
from training.data.corpus import hold_out_once, load_clean
from training.data.texts import load_split
from training.recipe.fields import DataFields
from training.recipe.parse import parse_recipe
from vanilla_transformer.errors import RecipeError, TextError

PAIRS = [(f"sentence number {i} is here", f"la frase número {i} está aquí") for i in range(300)]
PAIRS += [("", "x"), PAIRS[3], PAIRS[3], ("short", "muy largo " * 30)]
FIELDS = {"drop_duplicates": True, "max_length_ratio": 3, "check_alignment": True}


def pack_zst(content: bytes) -> bytes:
    with pa.BufferOutputStream() as packed:
        with pa.CompressedOutputStream(packed, "zstd") as stream:
            stream.write(content)
        return packed.getvalue().to_pybytes()


@pytest.fixture
def sides(tmp_path):
    """Write the pairs in a form, and return the fields that name them."""

    def write(form: str, pairs=PAIRS, name="text") -> dict[str, str]:
        lines = ["".join(f"{pair[side]}\n" for pair in pairs).encode() for side in (0, 1)]
        if form == "parquet":
            columns = {"source": [pair[0] for pair in pairs], "target": [pair[1] for pair in pairs]}
            datasets.Dataset.from_dict(columns).to_parquet(tmp_path / f"{name}.parquet")
            return {"train_file": str(tmp_path / f"{name}.parquet")}
        pack = {"": bytes, ".gz": gzip.compress, ".zst": pack_zst}[form]
        for side, content in zip(("en", "es"), lines, strict=True):
            (tmp_path / f"{name}.{side}{form}").write_bytes(pack(content))
        return {"source": str(tmp_path / f"{name}.en{form}"), "target": str(tmp_path / f"{name}.es{form}")}

    return write


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache of its own, in which texts of any size are kept."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus, "LARGE", 1)
    return tmp_path / "cache" / "vanilla_transformer"


def refuse_to_read(*_):
    raise AssertionError("the text is read again")


@pytest.mark.parametrize("form", ["", ".gz", ".zst", "parquet"])
def test_a_text_from_the_cache_is_the_text_that_is_read(sides, tmp_path, monkeypatch, form):
    arguments = DataFields(**sides(form), **FIELDS)
    small, notes = load_clean(arguments, "train")
    assert small.key is None and len(small) == 300
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus, "LARGE", 1)
    for _ in range(2):
        large, again = load_clean(arguments, "train")
        assert (list(large), large.rows, large.dropped, again) == (list(small), small.rows, small.dropped, notes)
        assert large.key is not None and large.dataset.cache_files
        monkeypatch.setattr(corpus, "load_split", refuse_to_read)
    assert [path.suffix for path in (tmp_path / "cache" / "vanilla_transformer").iterdir()].count(".part") == 0


def test_settings_that_matter_give_another_text_and_others_the_same(sides, cached, tmp_path):
    named = sides("")
    first = load_clean(DataFields(**named, **FIELDS), "train")[0]
    moved = {name: shutil.copy(path, f"{path}.moved") for name, path in named.items()}
    same = load_clean(DataFields(**moved, **FIELDS, license="mit"), "train")[0]
    assert same.key == first.key
    others = [
        DataFields(**named, **{**FIELDS, "max_length_ratio": 2}),
        DataFields(**named),
        DataFields(**sides(".gz")),
    ]
    others += [DataFields(source=named["target"], target=named["source"], **FIELDS)]
    keys = {load_clean(each, "train")[0].key for each in others}
    Path(named["source"]).write_text(Path(named["source"]).read_text().replace("number 7 ", "number seven "))
    keys.add(load_clean(DataFields(**named, **FIELDS), "train")[0].key)
    assert len(keys) == 5 and first.key not in keys


@pytest.mark.parametrize("damage", ["cut", "facts", "rows", "empty"])
def test_a_damaged_entry_is_made_anew(sides, cached, damage, capsys):
    arguments = DataFields(**sides(""), **FIELDS)
    whole = list(load_clean(arguments, "train")[0])
    (folder,) = (path for path in cached.iterdir() if path.is_dir())
    text, facts = folder / corpus.TEXT, folder / corpus.FACTS
    if damage == "cut":
        text.write_bytes(text.read_bytes()[:-3000])
    elif damage == "facts":
        facts.write_text(facts.read_text()[:10])
    elif damage == "rows":
        facts.write_text(json.dumps({**json.loads(facts.read_text()), "pairs": 7}))
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    assert list(load_clean(arguments, "train")[0]) == whole
    assert "is damaged, and is made anew" in capsys.readouterr().out


def test_files_of_a_killed_run_are_cleared_and_a_failed_one_leaves_none(sides, cached, monkeypatch):
    cached.mkdir(parents=True)
    arguments = DataFields(**sides(""), **FIELDS)
    key = load_clean(arguments, "train")[0].key
    shutil.move(cached / key, cached / f"{key}.part")
    (cached / f"{key}.part" / "more").write_text("half")
    assert len(load_clean(arguments, "train")[0]) == 300
    assert not (cached / f"{key}.part").exists() and not (cached / key / "more").exists()

    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.rmtree(cached / key)
    monkeypatch.setattr(corpus, "write_rows", fill)
    with pytest.raises(TextError, match=r"must have room .* but its disk is full.*HF_DATASETS_CACHE"):
        load_clean(arguments, "train")
    assert not [path for path in cached.iterdir() if path.is_dir()]


def prepare(folder: str, arguments: DataFields) -> None:
    datasets.config.HF_DATASETS_CACHE, corpus.LARGE = folder, 1
    assert len(load_clean(arguments, "train")[0]) == 300


def test_two_processes_at_once_prepare_a_text_once(sides, cached):
    context = multiprocessing.get_context("fork")
    arguments = (str(cached.parent), DataFields(**sides(""), **FIELDS))
    started = [context.Process(target=prepare, args=arguments) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert len([path for path in cached.iterdir() if path.is_dir()]) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "file"))
    with pytest.raises(TextError, match=r"cache .*file/vanilla_transformer cannot be written: Not a directory"):
        keep("name", lambda folder: None, lambda folder: None)


def test_the_pairs_that_are_held_out_are_chosen_once(sides, cached, monkeypatch):
    text = load_clean(DataFields(**sides(""), **FIELDS), "train")[0]
    parts = hold_out_once(text, 4)
    monkeypatch.setattr(corpus, "choose_held", refuse_to_read)
    again = hold_out_once(text, 4)
    assert [list(part) for part in parts] == [list(part) for part in again] and len(parts[1]) == 4
    assert len({text.key, parts[0].key, parts[1].key}) == 3 and parts[0].key == again[0].key


@pytest.mark.parametrize("form", [".gz", ".zst"])
def test_sides_of_different_lengths_and_broken_packed_files_are_refused(sides, cached, form):
    named = sides(form)
    shorter = sides(form, PAIRS[:-2], "shorter")["target"]
    with pytest.raises(RecipeError, match=rf"text.en{form} has 304 lines and .*shorter.es{form} has 302"):
        load_clean(DataFields(source=named["source"], target=shorter), "train")
    content = Path(named["source"]).read_bytes()
    for broken in (content[: len(content) // 2], content[:20] + bytes(20) + content[40:], b"plain text\n"):
        Path(named["source"]).write_bytes(broken)
        with pytest.raises(TextError, match=rf"text.en{form} cannot be unpacked: .*Check that it is complete"):
            load_clean(DataFields(**named), "train")
    assert not [path for path in cached.iterdir() if path.is_dir()]


def test_parquet_that_is_broken_or_lacks_a_column_is_refused(sides, tmp_path):
    path = sides("parquet")["train_file"]
    with pytest.raises(RecipeError, match=r"parquet, row 1 has no text under 'es', only: source, target"):
        load_split(DataFields(train_file=path, target_column="es"), "train")
    content = Path(path).read_bytes()
    for broken in (content[:-100], b"PAR1", b""):
        Path(path).write_bytes(broken)
        with pytest.raises(TextError, match=r"text.parquet is damaged, or is not Parquet"):
            load_split(DataFields(train_file=path), "train")
    with pytest.raises(TextError, match=r"absent.parquet cannot be read: No such file"):
        load_split(DataFields(train_file=str(tmp_path / "absent.parquet")), "train")
    nested = [{"translation": {"source": "a", "target": "b"}}, {"translation": {"source": "c", "target": None}}]
    datasets.Dataset.from_list(nested).to_parquet(path)
    assert list(load_split(DataFields(train_file=path), "train")) == [("a", "b"), ("c", "")]


def test_packed_files_of_several_frames_are_read_whole(tmp_path):
    for form, pack in ((".gz", gzip.compress), (".zst", pack_zst)):
        path = tmp_path / f"text{form}"
        path.write_bytes(pack(b"a\nb\n") + pack(b"c\nd\n"))
        assert load_split(DataFields(source=str(path), target=str(path)), "train").sources == ["a", "b", "c", "d"]


def test_several_sources_are_read_one_after_the_other_with_their_weights(sides, cached):
    sources = [
        {**sides("", PAIRS[:100], "a"), "weight": 2},
        {"file": sides("parquet", PAIRS[100:160], "b")["train_file"]},
    ]
    text = load_clean(DataFields(sources=sources), "train")[0]
    assert list(text) == PAIRS[:160] and text.rows == list(range(1, 161))
    assert text.dataset["weight"][:] == [2.0] * 100 + [1.0] * 60
    for source in sources:
        source["weight"] = 1
    assert "weight" not in load_clean(DataFields(sources=sources), "train")[0].dataset.column_names
    with pytest.raises(RecipeError, match="named twice, by `source` and `sources`"):
        load_split(DataFields(sources=sources, source="a", target="b"), "train")


def test_sources_are_given_in_a_recipe_and_on_the_command_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("output_dir: run\nsources:\n- {source: a.en, target: a.es, weight: 2}\n- {file: b.tsv}\n")
    assert parse_recipe([str(path)]).data.sources == [
        {"source": "a.en", "target": "a.es", "weight": 2},
        {"file": "b.tsv"},
    ]
    given = parse_recipe([str(path), "--sources", "[{file: c.tsv, weight: .5}]"]).data
    assert given.sources == [{"file": "c.tsv", "weight": 0.5}]
    assert not parse_recipe([str(path), "--source", "a", "--target", "b"]).data.sources


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ("a.en", "`sources` must be a list of texts, but is 'a.en'"),
        ("[{source: a.en}]", "text 1 must name a `source` with its `target`.* but names source"),
        ("[{file: a.tsv}, {file: b.tsv, weight: 0}]", "text 2 must have a `weight` above 0, but has 0"),
        ("[{file: a.tsv, weight: -1.5}]", "must have a `weight` above 0, but has -1.5"),
        ("[{file: a.tsv, weight: .nan}]", "must have a `weight` above 0, but has nan"),
        ("[{file: a.tsv, weight: much}]", "must have a `weight` above 0, but has 'much'"),
        ("[{file: a.tsv, weigth: 2}]", "text 1 must have only source, target, file, .*, but has `weigth`"),
        ("[{file: 3}]", "must have text under `file`, but has 3"),
    ],
)
def test_sources_that_do_not_fit_are_refused(sources, named):
    with pytest.raises(RecipeError, match=named):
        parse_recipe(["--output_dir", "run", "--sources", sources])


def test_weights_are_honoured_and_every_epoch_has_the_same_steps():
    chance = np.random.default_rng(1)
    lengths = [chance.integers(2, 40, 1000) for _ in range(2)]
    weights = np.repeat(np.float32([2, 1, 0.25, 1.5]), 250)
    shown = np.zeros(1000)
    draw = Draw(weights, *lengths, seed=3)
    sampler = draw.make_sampler(400)
    for epoch in range(8):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == sampler.steps
        for batch in batches:
            assert max(side[batch].max() for side in lengths) * len(batch) <= 400
        counts = np.bincount(np.concatenate(batches), minlength=1000)
        assert [counts[weights == weight].sum() for weight in (2, 1, 0.25, 1.5)] == [500, 250, 62, 375]
        assert (counts[:500] == np.repeat([2, 1], 250)).all()
        shown += counts
    assert (shown > 0).all()
    sampler.set_epoch(3)
    assert list(sampler) == list(sampler)


def test_places_have_the_lengths_that_an_epoch_shows():
    lengths = np.arange(2, 12), np.arange(12, 2, -1)
    draw = Draw(np.repeat(np.float32([2, 0.5]), [4, 6]), *lengths, seed=0)

    def measure(epoch):
        return lengths[0] + epoch, lengths[1] + 1

    sampler = draw.make_sampler(40, measure=measure)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        shown = [pair for batch in sampler for pair in batch]
        assert sorted(shown) == sorted(draw(epoch)) and len(shown) == 11
        assert sampler.length_sort.source_lengths.tolist() == (lengths[0] + epoch)[draw(epoch)].tolist()

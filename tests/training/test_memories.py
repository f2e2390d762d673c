"""The files that translators have: TMX and XLIFF."""

import gzip
import os
import subprocess
import sys

import pytest

from training.data.texts import load_split
from training.recipe.fields import DataFields, TrainingFields
from training.tasks import TASKS
from vanilla_transformer.errors import RecipeError, TextError

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en-US"/><body>
<tu tuid="1"><note>a note</note>
  <tuv xml:lang="en-US"><seg>Click <bpt i="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept>
   now &amp; <hi>then</hi>.<ph>{1}</ph></seg></tuv>
  <tuv xml:lang="en-GB"><seg>Click here, colour.</seg></tuv>
  <tuv xml:lang="es_ES"><seg>Haz clic <bpt i="1"/>aquí<ept i="1"/>.</seg></tuv>
</tu>
<tu><tuv xml:lang="en-US"><seg>Not translated.</seg></tuv></tu>
<!-- a comment -->
<tu><tuv lang="en-US"><seg>Good day.</seg></tuv><tuv lang="fr"><seg>Bonjour.</seg></tuv>
  <tuv lang="es-MX"><seg>Buen día.</seg></tuv></tu>
</body></tmx>
"""
XLIFF_1 = """<?xml version="1.0"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
<file source-language="en-US" target-language="es" datatype="html" original="a"><body>
<trans-unit id="1"><source>A <g id="1">red</g> house<x id="2"/>.</source><target>Una casa <g id="1">roja</g>.</target>
 <alt-trans><source>no</source><target>no</target></alt-trans></trans-unit>
<trans-unit id="2"><source>Open.</source></trans-unit>
<trans-unit id="3"><source>New.</source><target state="needs-translation">New.</target></trans-unit>
<trans-unit id="4"><source>Yes.</source><target state="final">Sí.</target></trans-unit>
</body></file></xliff>
"""
XLIFF_2 = """<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en" trgLang="es-ES">
<file id="f"><unit id="u"><originalData><data id="d">&lt;br/&gt;</data></originalData>
<segment id="s1" state="final"><source>One <pc id="1">two</pc>.</source>
<target>Uno <pc id="1">dos</pc>.</target></segment>
<segment id="s2" state="initial"><source>Three.</source><target>Three.</target></segment>
</unit></file></xliff>
"""
LANGUAGES = {"source_lang": "en", "target_lang": "es"}


@pytest.fixture
def read(tmp_path):
    def read(name, content, **arguments):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_split(DataFields(train_file=str(path), **{**LANGUAGES, **arguments}), "train")

    return read


def get_pairs(text):
    return list(zip(text.rows, text.sources, text.targets, strict=True))


def test_a_tmx_is_read_without_its_tags_and_with_any_region(read):
    pairs = [(1, "Click here now & then.", "Haz clic aquí."), (3, "Good day.", "Buen día.")]
    text = read("memory.tmx", TMX)
    assert get_pairs(text) == pairs and text.dropped == {"without translation": 1}
    assert get_pairs(read("memory.tmx.gz", gzip.compress(TMX.encode()))) == pairs
    assert get_pairs(read("wide.tmx", TMX.replace("UTF-8", "UTF-16").encode("utf-16"))) == pairs


def test_a_region_that_is_named_is_taken_of_several_variants(read):
    assert read("memory.tmx", TMX, source_lang="en-GB").sources[0] == "Click here, colour."
    assert get_pairs(read("memory.tmx", TMX, source_lang="fr")) == [(3, "Bonjour.", "Buen día.")]


@pytest.mark.parametrize(
    ("name", "content", "pairs"),
    [
        ("a.xlf", XLIFF_1, [(1, "A red house.", "Una casa roja."), (4, "Yes.", "Sí.")]),
        ("a.xliff", XLIFF_2, [(1, "One two.", "Uno dos.")]),
    ],
    ids=["1.2", "2.0"],
)
def test_xliff_is_read_in_the_direction_of_the_recipe(read, name, content, pairs):
    assert get_pairs(read(name, content)) == pairs
    assert get_pairs(read(name, content, source_lang=None, target_lang=None)) == pairs
    swapped = [(number, target, source) for number, source, target in pairs]
    assert get_pairs(read(name, content, source_lang="es", target_lang="en")) == swapped
    with pytest.raises(
        RecipeError, match=r"`source_lang` and `target_lang` must be those of .*, en.* and .*, but are de"
    ):
        read(name, content, source_lang="de")


def test_missing_languages_are_named_with_those_that_are_there(read):
    with pytest.raises(RecipeError, match=r"`target_lang` is missing.*en-us, en-gb, es-es"):
        read("memory.tmx", TMX, target_lang=None)
    with pytest.raises(RecipeError, match=r"`target_lang` must be a language of .*, but is de\. .* only in: en-us"):
        read("memory.tmx", TMX, target_lang="de")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (TMX[:500], r"line \d+ is broken XML"),
        (TMX.replace("</tuv>", "", 1), "is broken XML"),
        ("no XML", "line 1 is broken XML"),
        ("<tmx><body/></tmx>", "has no units"),
        (b"\x1f\x8b", "is broken XML"),
    ],
)
def test_broken_xml_is_one_line_with_its_place(read, content, named):
    with pytest.raises(TextError, match=named):
        read("memory.tmx", content)


def test_entity_bombs_and_outside_entities_are_refused_and_not_opened(read, tmp_path):
    bomb = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (tmp_path / "secret").write_text("secret")
    outside = f'<!ENTITY i SYSTEM "file://{tmp_path}/secret">'
    for entities in (bomb, outside):
        content = TMX.replace('SYSTEM "tmx14.dtd"', f"[{entities}]").replace("Good day.", "&i;")
        with pytest.raises(TextError, match="declares entities"):
            read("memory.tmx", content)


def test_a_test_set_may_be_one_memory(tmp_path):
    (tmp_path / "memory.tmx").write_text(TMX)
    data = DataFields(**LANGUAGES, check_alignment=False)
    task = TASKS["translation"](data, TrainingFields())
    assert len(task.read_test_set("memory", (str(tmp_path / "memory.tmx"),))) == 2


MEASURED = """
import resource, sys
from training.data.memories import read_memory
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(1 for _ in read_memory(sys.argv[1], "en", "es")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


# The beginning of a file, a unit of it, and its end.
LARGE = {
    "large.tmx": (
        '<tmx version="1.4"><header/><body>\n',
        '<tu creationdate="20200101T000000Z"><tuv xml:lang="en"><seg>{0} some words here.</seg></tuv>'
        '<tuv xml:lang="es"><seg>{0} unas palabras aquí.</seg></tuv></tu>\n',
        "</body></tmx>",
    ),
    "large.xliff": (
        '<!-- exported --><xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en" '
        'trgLang="es"><file id="f">',
        '<unit id="{0}"><segment><source>{0} some words here.</source>'
        "<target>{0} unas palabras aquí.</target></segment></unit>\n",
        "</file></xliff>",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_memory_is_read_in_flat_memory(tmp_path, name):
    begin, unit, end = LARGE[name]
    grown = []
    for units in (10_000, 100_000):
        path = tmp_path / f"{units}_{name}"
        with path.open("w", encoding="utf-8") as file:
            file.write(begin)
            file.writelines(unit.format(number) for number in range(units))
            file.write(end)
        run = subprocess.run(
            [sys.executable, "-c", MEASURED, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env=dict(os.environ),
        )
        count, kilobytes = map(int, run.stdout.split())
        assert count == units
        grown.append(kilobytes)
    assert grown[1] < grown[0] + 4_000

"""The page's search in JavaScript beside ours, on a model of a few lines that both sides compute."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from vanilla_transformer.engines.ctranslate2_engine import NEUTRAL
from vanilla_transformer.generation_vanilla_transformer import Request, beam_search, greedy_search, length_penalty

BROWSER = Path(__file__).resolve().parents[2] / "docs" / "browser"
VOCABULARY, SENTENCES = 11, 40

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")

SCRIPT = """
import { beamSearch } from %s;
const V = %d;
// The logits of a row depend on its last token, on the length and on the sentence.
const logitOf = (seed, last, length, id) => (((seed * 31 + last * 17 + length * 7 + id * 13) * 7919) %% 101) / 12;
class Toy {
  constructor(seed) { this.seed = seed; }
  first(ids, start) { this.length = 0; return this.output([start]); }
  next(tokens) { return this.output(tokens); }
  output(tokens) {
    this.length++;
    const logits = new Float32Array(tokens.length * V);
    tokens.forEach((last, row) => {
      for (let id = 0; id < V; id++) logits[row * V + id] = logitOf(this.seed, last, this.length, id);
    });
    return { logits, vocabulary: V, attention: (row) => row };
  }
}
const results = [];
for (const [seed, settings] of %s)
  results.push((await beamSearch(new Toy(seed), [4, 5, 2], settings)).map(({ tokens, score }) => [tokens, score]));
console.log(JSON.stringify(results));
"""


class Toy:
    """The same model behind the interface of our search."""

    def __init__(self, seed):
        self.seed, self.length = seed, 0

    def step(self, ids):
        self.length += 1
        last, new = ids[:, -1:].double(), torch.arange(VOCABULARY).double()
        return [(((self.seed * 31 + last * 17 + self.length * 7 + new * 13) * 7919) % 101 / 12).float()]

    def move(self, rows):
        """A row's logits depend on its last token only."""

    def keep(self, order):
        """There is one sentence."""


def search(seed, beams, alpha, is_gnmt, limit, early_stopping):
    settings = GenerationConfig(
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=alpha,
        early_stopping=early_stopping,
        eos_token_id=2,
    )
    settings._eos_token_tensor = torch.tensor([2])
    request = Request(
        encoded=torch.zeros(1, 3, 1),
        mask=None,
        start=torch.zeros(1, 1, dtype=torch.long),
        padding=1,
        ends=torch.tensor([2]),
        limits=torch.tensor([1 + limit]),
        criteria=StoppingCriteriaList(),
        processors=LogitsProcessorList(),
    )
    if beams == 1:
        found = greedy_search(Toy(seed), request)
    else:
        penalty = length_penalty(alpha, is_gnmt)
        found = beam_search(Toy(seed), request, settings, penalty, True, lambda done: not done)["sequences"]
    return [[token for token in row[1:].tolist() if token != 1] for row in found]


def test_the_pages_search_finds_what_ours_finds(tmp_path):
    names = ("beams", "alpha", "isGnmt", "limit", "earlyStopping")
    cases = [
        [seed, {**dict(zip(names, values, strict=True)), "start": 0, "end": 2}]
        for seed in range(SENTENCES)
        for values in (
            *((4, 0.6, True, 12, "never"), (2, 1.0, False, 7, "never"), (3, 0.0, True, 5, "never")),
            *((4, 1.6, True, 12, False), (2, 1.0, False, 7, False), (3, 0.0, True, 5, False)),
            *((4, 1.6, True, 12, True), (2, 1.0, False, 7, True)),
            *((1, 0.6, True, 12, "never"), (1, 3.0, False, 12, False)),  # greedy, whatever the penalty would say
        )
    ]
    script = tmp_path / "run.mjs"
    script.write_text(SCRIPT % (json.dumps(str(BROWSER / "beam.mjs")), VOCABULARY, json.dumps(cases)))
    found = json.loads(subprocess.run(["node", str(script)], capture_output=True, check=True, timeout=120).stdout)
    lengths = set()
    for (seed, settings), hypotheses in zip(cases, found, strict=True):
        # `<pad>` is a token like any other to both; the lists are compared without it, since it fills our rows.
        tokens = [[token for token in each if token != 1] for each, _ in hypotheses]
        assert tokens == search(seed, *(settings[name] for name in names))
        scores = [score for _, score in hypotheses]
        assert scores == sorted(scores, reverse=True)
        lengths |= set(map(len, tokens))
    assert len(lengths) > 3  # ends and limits both occur


def test_the_page_goes_by_the_settings_of_a_model_or_refuses_it(tmp_path):
    settings = {
        "limits": [
            (3, {"source_length_offset": 50}, 262_144),
            (600, {"source_length_offset": 50}, 262_144),
            (600, {"source_length_offset": 50, "longest_source": 550}, 262_144),
            (3, {"source_length_offset": None, "max_length": 30}, 262_144),
            (3, {"source_length_offset": 50}, 40),  # learned positions
            (3, {"source_length_offset": None, "max_length": 1}, 262_144),
        ],
        "refused": [
            {"num_beams": 4, "early_stopping": "never", "top_k": None, "do_sample": False},
            {"num_beams": 1, "early_stopping": None, **NEUTRAL},
            {"suppress_tokens": [1]},
            {"num_beams": 4, "early_stopping": True},
            {"num_beams": 4, "early_stopping": False},
            {"num_beams": 4, "early_stopping": "always"},
            {"source_length_offset": 50, "max_new_tokens": 7, "suppress_tokens": [], "length_penalty_type": "power"},
            {"max_new_tokens": 7},
            {"length_penalty_type": "other"},
        ],
    }
    script = tmp_path / "run.mjs"
    script.write_text(
        f"""
import {{ limitOf }} from {json.dumps(str(BROWSER / "beam.mjs"))};
import {{ checkSettings, languageName, NEUTRAL, translateWith }} from {json.dumps(str(BROWSER / "model.mjs"))};
const {{ limits, refused }} = {json.dumps(settings)};
const or = (call) => {{ try {{ return call() ?? null; }} catch ({{ message }}) {{ return message; }} }};
const limit = ([length, generation_config, max_positions]) =>
  or(() => limitOf(Array(length), {{ generation_config, max_positions }}));
const reader = {{ encode: () => Array(30).fill(5) }};
const facts = {{ config: {{ eos_token_id: 2 }}, generation_config: {{}}, max_positions: 24 }};
const longer = await translateWith({{ facts, reader }}, "a text").catch(({{ message }}) => message);
const refusals = refused.map((each) => or(() => checkSettings(each)));
console.log(JSON.stringify([limits.map(limit), refusals, NEUTRAL, longer, ["de", "zh_CN"].map(languageName)]));
"""
    )
    found = json.loads(subprocess.run(["node", str(script)], capture_output=True, check=True, timeout=120).stdout)
    assert found[0] == [53, 562, 600, 29, 39, "The settings of the model leave no token to a translation."]
    assert found[1] == [
        *(None, None, "the page has no `suppress_tokens`, which is [1]"),
        *(None, None, 'the page has no `early_stopping` but true, false and "never", and it is "always"'),
        *(None, "the page has no `max_new_tokens`, which is 7"),
        'the page has no `length_penalty_type` but "gnmt" and "power", and it is "other"',
    ]
    assert found[2] == NEUTRAL
    assert found[3] == "The text has 31 tokens, and this page takes at most 24. Shorten it."
    assert found[4] == ["German", "zh_CN"]


def test_the_page_names_no_other_host_and_its_files_are_there():
    for file in BROWSER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "http://" not in text and "https://" not in text, file
    page = (BROWSER / "index.html").read_text(encoding="utf-8")
    for name in ("app.mjs", "style.css"):
        assert name in page and (BROWSER / name).is_file()
    assert "default-src 'self'" in page and 'lang="en"' in page and 'aria-live="polite"' in page


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_exports_the_model_that_is_named_and_only_when_it_is_another_one(tmp_path):
    shutil.copyfile(BROWSER.parents[1] / "Makefile", tmp_path / "Makefile")
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        '#!/bin/sh\necho "$4" >> exported\nmkdir -p "$5"\ntouch "$5/README.md"\n'
    )  # -m MODULE export ...
    python.chmod(0o755)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    words = ["make", "VENV=environment", ".browser/site/model/README.md"]
    for name in ("one", "one", "other", "other", "one"):
        subprocess.run([*words, f"PAGE_MODEL={name}"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "exported").read_text().split() == ["one", "other", "one"]

"""Pushes: what arrives, what is refused before, and what an interruption leaves."""

import base64
import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load

from tests.hub.cards import check_card
from tests.hub.repositories import Repository
from tests.hub.server import HubServer
from tests.marian import write_marian
from tests.training.small import write_recipe
from training.push import main
from vanilla_transformer.conversion.importing import import_folder


@pytest.fixture
def hub():
    with HubServer(users={"hf_alice": "alice", "hf_bob": "bob", "hf_read": "alice"}, read_only=["hf_read"]) as hub:
        yield hub


@pytest.fixture
def folder(pushed, tmp_path):
    """A copy of a finished run, without its checkpoints."""
    folder = tmp_path / "model"
    shutil.copytree(pushed.folder, folder, ignore=shutil.ignore_patterns("checkpoint-*", "logs"))
    return folder


def put(hub: HubServer, name: str, path: str, data: bytes) -> None:
    """A repository with one file."""
    repo = hub.repositories[f"models/{name}"] = Repository("models", name, False, None)
    file = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
    lines = [{"key": "header", "value": {"summary": "Add a file"}}, {"key": "file", "value": file}]
    repo.commit("main", lines, name.partition("/")[0])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_push_brings_everything_in_one_commit_with_a_tag(pushed):
    assert f"pushed: {pushed.repo}, v1" in pushed.output and f"pushed: {pushed.native}, v1" in pushed.output
    for repo in (pushed.repo, pushed.native):
        _, commit = pushed.hub.commits(repo)
        assert pushed.hub.repositories[f"models/{repo}"].tags == {"v1": commit.oid}
        assert {"curves.png", "attention.png", "all_results.json", "model_card.json", "README.md"} <= set(commit.files)
    files = pushed.hub.commits(pushed.repo)[-1].files
    local = content(pushed.folder)
    assert {name for name in files if name.endswith((".py", ".safetensors"))} > {"model.safetensors"}
    for name in set(files) - {"README.md", ".gitattributes"}:
        assert files[name] == local[name], name
    assert not [name for name in files if name.startswith(("checkpoint", "logs", "training_args"))]


@pytest.mark.slow
def test_cards_hold_what_was_measured_and_pass_the_hub(pushed, fresh_process):
    results = json.loads((pushed.folder / "all_results.json").read_text())
    for repo in (pushed.repo, pushed.native):
        card = pushed.hub.commits(repo)[-1].files["README.md"].decode()
        assert check_card(card) == ([], [])
        assert f"{results['validation_bleu']:.2f}" in card and results["bleu_signature"] in card
        assert "![" in card and "(attention.png)" in card
        assert not re.search(r"\{\{|\{%|None|More Information|TODO", card)
    names = (pushed.repo, pushed.native)
    valid = f"from huggingface_hub import ModelCard\nfor name in {names!r}: ModelCard.load(name).validate()"
    fresh_process(pushed.hub, valid, token="hf_alice")
    assert pushed.native in pushed.hub.commits(pushed.repo)[-1].files["README.md"].decode()
    measured = pushed.hub.commits(pushed.repo)[-1].files["README.md"].decode()
    assert measured.count("signature: BLEU|nrefs:1") == 1


# Words for `training.push`, the token, and the answer.
REFUSED = [
    (["--repo", "new"], "hf_nobody", "does not know the token"),
    (["--repo", "new"], None, "There is no token for the Hub. Run `hf auth login`"),
    (["--repo", "new"], "hf_read", "The token may only read"),
    (["--repo", "bob/new"], "hf_alice", "The token may not write to bob/new"),
    (["--repo", "bob/theirs"], "hf_alice", "The token may not write to bob/theirs"),
    (["--repo", "two words"], "hf_alice", "'two words' is not the name of a repository"),
    (["--repo", "bert"], "hf_alice", "alice/bert exists and holds a model of type 'bert'"),
    (["--repo", "notes"], "hf_alice", "alice/notes exists and holds notes.txt, but not a model"),
    (["--repo", "empty", "--private"], "hf_alice", "alice/empty is public, but was to be private"),
    (["--repo", "new", "--native", "alice/new"], "hf_alice", "Both forms of the model would go to alice/new"),
    (["--repo", "new", "--native", "bob/new"], "hf_alice", "The token may not write to bob/new"),
]
# And for `training.train`.
REFUSED_RECIPES = [
    (["--hub_model_id", "bob/new"], "hf_alice", "may not write to bob/new"),
    (["--source_lang", "EN"], "hf_alice", "`source_lang` must be a code of ISO 639, but is 'EN'"),
    (
        ["--hub_native_model_id", "alice/native", "--config_overrides", "{norm_first: true}"],
        "hf_alice",
        "`norm_first` must be as in a MarianMTModel, but is True",
    ),
]


def test_a_push_that_cannot_be_is_refused_in_words(hub, folder, run_together):
    put(hub, "alice/bert", "config.json", b'{"model_type": "bert"}')
    put(hub, "alice/notes", "notes.txt", b"a note")
    put(hub, "alice/empty", "README.md", b"a page")
    put(hub, "bob/theirs", "README.md", b"a page")
    before = content(folder)
    commits = {name: len(repo.commits) for name, repo in hub.repositories.items()}
    words, tokens, messages = zip(*REFUSED, strict=True)
    results = run_together(hub, "training.push", [["--model", folder, *each] for each in words], tokens)
    for result, said in zip(results, messages, strict=True):
        assert result.returncode == 2 and result.stderr.startswith("error: ") and said in result.stderr
    assert {name: len(repo.commits) for name, repo in hub.repositories.items()} == commits
    assert content(folder) == before


@pytest.mark.slow
def test_a_recipe_that_cannot_be_pushed_is_refused_before_the_first_step(hub, run_together, tmp_path):
    always = [write_recipe(tmp_path), "--push_to_hub", "true", "--report_to", "none"]
    words, tokens, messages = zip(*REFUSED_RECIPES, strict=True)
    results = run_together(hub, "training.train", [[*always, *each] for each in words], tokens)
    for result, said in zip(results, messages, strict=True):
        assert result.returncode == 2 and said in result.stderr
    assert not list(tmp_path.glob("run/checkpoint-*"))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("pipeline_vanilla_transformer.py", None, "has no pipeline_vanilla_transformer.py"),
        ("generation_vanilla_transformer.py", None, "has no generation_vanilla_transformer.py"),
        ("tokenizer_config.json", None, "has no tokenizer_config.json"),
        ("tokenizer.json", b"{", "is damaged"),
        ("model.safetensors", b"\0" * 100, "is damaged"),
        ("model.safetensors", None, "has no model.safetensors"),
        ("model_card.json", b'{"steps": "many"}', "model_card.json is damaged"),
        ("generation_config.json", b"{", "generation_config.json is damaged"),
        ("config.json", b'{"model_type": "bert"}', "holds a model of type 'bert'"),
    ],
)
def test_a_folder_that_others_could_not_load_is_refused(folder, capsys, file, content, said):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    assert main(["--model", str(folder), "--repo", "new"]) == 2  # before anything is asked of a Hub
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_push_replaces_what_the_last_one_brought(hub, folder, run_together, tmp_path):
    later = shutil.copytree(folder, tmp_path / "later" / folder.name)
    (later / "attention.png").unlink()
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "LICENSE"):
        (folder / name).write_bytes(b"{}")
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    commands = [["--model", each, "--repo", "new", "--private"] for each in (folder, later)]
    first_push, second_push = run_together(hub, "training.push", commands)
    assert first_push.returncode == 0 and "alice/new, v2" in second_push.stdout
    assert hub.repositories["models/alice/new"].private
    _, first, second = hub.commits("alice/new")
    gone = {"model-00001-of-00002.safetensors", "model.safetensors.index.json", "attention.png"}
    assert set(first.files) - set(second.files) == gone  # a licence stays
    assert "attention.png" not in second.files["README.md"].decode()


@pytest.mark.slow
def test_a_push_cut_off_anywhere_leaves_all_or_nothing_and_can_be_repeated(hub, folder, run_module, fresh_process):
    """The connection is dropped at the first request of the first push, the second of the second, and so on."""
    before = content(folder)
    assert run_module(hub, "training.push", "--model", folder, "--repo", "whole").returncode == 0
    requests = [(method, path) for method, path in hub.requests if "agent-harnesses" not in path]
    whole = hub.commits("alice/whole")[-1].files
    names = (
        "create",
        "preupload",
        "objects/batch",
        "uploads/",
        "verify",
        "commit/main",
        "tag/",
        "validate-yaml",
        "refs",
    )
    assert all(any(name in path for _, path in requests) for name in names)
    hub.clear()
    state = {"push": -1, "seen": 0, "dropped": set()}

    def drop(method, path, index):
        if "agent-harnesses" in path:
            return None
        if path.endswith("whoami-v2"):
            state["push"], state["seen"] = state["push"] + 1, 0
        state["seen"] += 1
        number, is_repeated = divmod(state["push"], 2)
        if not is_repeated and state["seen"] == number + 1 and number not in state["dropped"]:
            state["dropped"].add(number)
            return "drop"
        return None

    hub.fail(drop)
    code = f"""
import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from training.push import main
from vanilla_transformer.conversion.importing import import_folder
results = []
for number in range({len(requests)}):
    for _ in range(2):
        with redirect_stderr(StringIO()) as errors, redirect_stdout(StringIO()):
            results.append([main(["--model", {str(folder)!r}, "--repo", f"cut-{{number}}"]), errors.getvalue()])
print(json.dumps(results))
"""
    results = json.loads(fresh_process(hub, code, token="hf_alice", installed=True))
    assert state["dropped"] == set(range(len(requests)))
    failed = 0
    for number in range(len(requests)):
        (status, errors), (again, _) = results[2 * number : 2 * number + 2]
        assert again == 0 and "Traceback" not in errors
        if status:  # others the client has repeated by itself
            failed += 1
            assert re.match(rf"error: The push to (alice/)?cut-{number} failed: ", errors), errors
        history = hub.commits(f"alice/cut-{number}")
        assert all(set(commit.files) >= set(whole) for commit in history[1:])
        assert history[-1].oid in hub.repositories[f"models/alice/cut-{number}"].tags.values()
        for name in set(whole) - {"README.md"}:
            assert history[-1].files[name] == whole[name]
    assert failed >= 6
    assert content(folder) == before


@pytest.mark.slow
def test_saving_faster_than_pushing_loses_nothing(hub, run_module, tmp_path):
    """Every checkpoint arrives, in order, with its own weights, though a push takes longer than all the training."""
    hub.delay(0.5, lambda method, path, index: "/commit/" in path)
    recipe = write_recipe(tmp_path)
    settings = ["--hub_model_id", "fast", "--hub_strategy", "checkpoint", "--report_to", "none"]
    result = run_module(hub, "training.train", recipe, "--push_to_hub", "true", *settings)
    assert result.returncode == 0, result.stderr
    commits = hub.commits("alice/fast")[1:]
    assert [commit.title for commit in commits] == [
        *(f"Training in progress, step {step}" for step in (2, 4, 6, 8, 10, 12)),
        "Add run",
    ]
    for step, commit in zip((2, 4, 6, 8, 10, 12), commits, strict=False):
        weights = (tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors").read_bytes()
        assert commit.files["model.safetensors"] == weights
        assert commit.files["last-checkpoint/model.safetensors"] == weights
        assert "last-checkpoint/optimizer.pt" in commit.files
        assert not [name for name in commit.files if name.endswith("training_args.bin")]
        card = commit.files["README.md"].decode()
        assert f"| steps | {step} |" in card
        assert ("This model was not scored." in card) == (step not in (6, 12))  # the steps that were evaluated
    assert load(commits[-1].files["model.safetensors"]).keys() == load(commits[0].files["model.safetensors"]).keys()
    assert commits[-1].files["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert {"last-checkpoint/model.safetensors", "last-checkpoint/optimizer.pt"} <= set(commits[-1].files)
    assert list(hub.repositories["models/alice/fast"].tags) == ["v1"]
    assert not (tmp_path / "run" / "pushing").exists()


@pytest.mark.slow
def test_a_push_that_fails_during_training_does_not_end_it(hub, run_module, tmp_path):
    failures = iter([500])
    hub.fail(lambda method, path, index: next(failures, None) if "/commit/" in path else None)
    recipe = write_recipe(tmp_path)
    settings = ["--hub_model_id", "fast", "--hub_strategy", "every_save", "--save_steps", "6", "--report_to", "none"]
    result = run_module(hub, "training.train", recipe, "--push_to_hub", "true", *settings)
    assert result.returncode == 0, result.stderr
    assert "checkpoint-6 is not pushed: The Hub refused this for alice/fast." in result.stdout
    assert [commit.title for commit in hub.commits("alice/fast")[1:]] == ["Training in progress, step 12", "Add run"]


@pytest.mark.slow
def test_a_result_that_does_not_arrive_is_kept_with_the_command_that_pushes_it(hub, run_module, tmp_path):
    hub.fail(lambda method, path, index: 403 if "/commit/" in path else None)
    recipe = write_recipe(tmp_path)
    settings = ["--hub_model_id", "late", "--report_to", "none"]
    result = run_module(hub, "training.train", recipe, "--push_to_hub", "true", *settings)
    assert result.returncode == 2
    assert "The training is done. Push its result with: python -m training.push" in result.stderr
    command = result.stderr.partition("Push its result with: python -m ")[2].partition(" (")[0].split()
    hub.clear()
    again = run_module(hub, *command)
    assert again.returncode == 0, again.stderr
    assert (
        hub.commits("alice/late")[-1].files["model.safetensors"] == (tmp_path / "run/model.safetensors").read_bytes()
    )


@pytest.mark.slow
def test_an_imported_model_is_pushed_with_its_tokenizer_its_origin_and_its_licence(
    hub, tmp_path, run_module, fresh_process
):
    write_marian(tmp_path / "opus-mt-en-es")
    import_folder(tmp_path / "opus-mt-en-es", tmp_path / "model")
    names = ["--repo", "en-es", "--native", "alice/en-es-marian"]
    result = run_module(hub, "training.push", "--model", tmp_path / "model", *names)
    assert result.returncode == 0, result.stderr
    for repo in ("alice/en-es", "alice/en-es-marian"):
        files = hub.commits(repo)[-1].files
        assert {"source.spm", "target.spm", "vocab.json", "tokenizer_config.json", "model.safetensors"} <= set(files)
        card = files["README.md"].decode()
        assert "imported from `opus-mt-en-es`" in card and "license: cc-by-4.0" in card
        assert check_card(card) == ([], [])
    code = """
from transformers import AutoTokenizer, MarianMTModel, pipeline
ours = pipeline("translation", model="alice/en-es", trust_remote_code=True)
assert type(ours.tokenizer) is type(AutoTokenizer.from_pretrained("alice/en-es-marian"))
stock = MarianMTModel.from_pretrained("alice/en-es-marian")
inputs = ours.tokenizer("The house is red.", return_tensors="pt")
expected = ours.tokenizer.decode(stock.generate(**inputs, forced_eos_token_id=None)[0], skip_special_tokens=True)
assert ours("The house is red.")[0]["translation_text"] == expected
"""
    fresh_process(hub, code, token="hf_alice")

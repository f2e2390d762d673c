"""The test Hub against the clients that it is for: huggingface_hub and hf_xet, each in a process of its own."""

import http.client
import importlib.util
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.hub.cards import Json, check_card
from tests.hub.server import HubServer

README = """---
language: [en, de]
license: apache-2.0
library_name: transformers
pipeline_tag: translation
tags: [vanilla_transformer]
datasets: [alice/phrases]
model-index:
- name: model
  results:
  - task: {type: translation}
    dataset: {type: alice/phrases, name: Phrases}
    metrics: [{type: bleu, value: 30.5}]
---
# A model
"""

# Past the proxy that the environment may name.
DIRECT = build_opener(ProxyHandler({}))

PROLOGUE = """
import json, sys
from pathlib import Path
from huggingface_hub import *
from huggingface_hub import file_download
from huggingface_hub.errors import *

api = HfApi()

def refused(call, *args, **kwargs):
    "The class and the status of the error that a call ends with."
    try:
        call(*args, **kwargs)
    except Exception as error:
        response = getattr(error, "response", None)
        return [type(error).__name__, response.status_code if response is not None else None]

def show(value):
    print("RESULT", json.dumps(value))
"""


class Client(Protocol):
    """Runs code against a Hub."""

    def __call__(self, hub: HubServer, code: str, token: str | None = "hf_alice", **settings: str) -> Json: ...


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Run code against a Hub in a new process and return the last value that it shows."""

    def run(hub: HubServer, code: str, token: str | None = "hf_alice", **settings: str) -> Json:
        result = subprocess.run(
            [sys.executable, "-c", PROLOGUE + code],
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=tmp_path,
            env=hub.environment(tmp_path / "hf_home", token, **settings),
            timeout=600,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.rpartition("RESULT ")[2])

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    Files of every kind that the Hub tells apart, some with names that must be quoted in an address. One has a
    character across byte 512, where the sample ends from which the Hub guesses whether a file is text.
    """
    folder = tmp_path / "folder"
    noise = random.Random(0)
    files = {
        "README.md": README.encode(),
        "config.json": b'{"model_type": "vanilla_transformer"}',
        "empty.txt": b"",
        "model.safetensors": noise.randbytes(3_000_001),
        "long.txt": b"0123456789\n" * 100_000,
        "a folder/50% größer #1.txt": ("-----" + "größer\n" * 100).encode(),
        "a folder/deeper/noise.dat": noise.randbytes(1000),
    }
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """All files in a folder, without those that huggingface_hub notes its downloads in."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".cache/")}


@pytest.mark.slow
def test_a_folder_comes_back_as_it_was_pushed(client: Client, folder: Path, tmp_path: Path) -> None:
    """Also: what has not changed is neither uploaded nor committed again, and a change uploads only what changed."""
    local = content(folder)
    with HubServer() as hub:
        first, again, changed = client(
            hub,
            """
api.create_repo("alice/model")
url = api.create_repo("alice/model", exist_ok=True)
assert url.repo_id == "alice/model", url
push = lambda: api.upload_folder(repo_id="alice/model", folder_path="folder", commit_message="Push").oid
first, again = push(), push()
snapshot_download("alice/model", local_dir="copy")
Path("folder/config.json").write_text("{}")
show([first, again, push()])
""",
        )
        commits = hub.commits("alice/model")
        assert [commit.title for commit in commits] == ["initial commit", "Push", "Push"]
        assert [commit.oid for commit in commits[1:]] == [first, changed]
        assert again == first != changed

        attributes = commits[0].files
        assert list(attributes) == [".gitattributes"]
        assert commits[1].files == attributes | local
        assert commits[2].files == attributes | local | {"config.json": b"{}"}
        assert content(tmp_path / "copy") == attributes | local
        large = [path for path, file in commits[1].entries.items() if file.large]
        assert sorted(large) == ["a folder/deeper/noise.dat", "long.txt", "model.safetensors"]

        sent = [path for method, path in hub.requests if method in ("POST", "PUT")]
        assert sent.count("/api/models/alice/model/commit/main") == 2
        assert sum(path.startswith("/uploads/") for path in sent) == len(large)


@pytest.mark.slow
def test_a_repository_tells_its_content(client: Client, folder: Path) -> None:
    """Sizes, ids, tags and parts of files as the real client reads them. git itself gives the ids to compare with."""
    with HubServer() as hub:
        told = client(
            hub,
            """
api.create_repo("alice/model")
api.upload_folder(repo_id="alice/model", folder_path="folder")
info = api.model_info("alice/model", files_metadata=True)
tree = {entry.path: entry for entry in api.list_repo_tree("alice/model", recursive=True)}
[paths] = [{entry.path: entry for entry in api.get_paths_info("alice/model", ["a folder", "long.txt", "no"])}]
fs = HfFileSystem()
show({
    "sha": info.sha, "pipeline": info.pipeline_tag, "library": info.library_name, "tags": info.tags,
    "bleu": info.card_data.eval_results[0].metric_value, "private": info.private,
    "siblings": {s.rfilename: [s.size, s.blob_id, s.lfs and s.lfs.sha256] for s in info.siblings},
    "expand": sorted(k for k, v in vars(api.model_info("alice/model", expand=["sha"])).items() if v is not None),
    "tree": {path: getattr(entry, "blob_id", None) for path, entry in tree.items()},
    "top": sorted(entry.path for entry in api.list_repo_tree("alice/model")),
    "inside": sorted(entry.path for entry in api.list_repo_tree("alice/model", "a folder")),
    "paths": {path: type(entry).__name__ for path, entry in paths.items()},
    "part": fs.cat_file("alice/model/long.txt", start=11, end=21).decode(),
    "tail": fs.cat_file("alice/model/long.txt", start=-4).decode(),
    "commits": [commit.title for commit in api.list_repo_commits("alice/model")],
})
""",
        )
        [_, commit] = hub.commits("alice/model")
        assert told["sha"] == commit.oid
        assert (told["pipeline"], told["library"], told["bleu"]) == ("translation", "transformers", 30.5)
        assert told["private"] is False
        assert set(told["tags"]) == {
            *("transformers", "vanilla_transformer", "en", "de", "dataset:alice/phrases", "license:apache-2.0")
        }
        assert "siblings" not in told["expand"] and "sha" in told["expand"]
        for path, data in commit.files.items():
            size, blob, sha256 = told["siblings"][path]
            hashed = subprocess.run(["git", "hash-object", "--stdin"], input=data, capture_output=True, check=True)
            assert size == len(data)
            assert (blob == hashed.stdout.decode().strip()) == (sha256 is None), path
        folders = {"a folder", "a folder/deeper"}
        assert told["tree"] == {path: blob for path, (_, blob, _) in told["siblings"].items()} | dict.fromkeys(folders)
        assert told["top"] == sorted({path.partition("/")[0] for path in commit.files})
        assert told["inside"] == ["a folder/50% größer #1.txt", "a folder/deeper"]
        assert told["paths"] == {"a folder": "RepoFolder", "long.txt": "RepoFile"}
        assert (told["part"], told["tail"]) == ("0123456789", "789\n")
        assert told["commits"] == ["Upload folder using huggingface_hub", "initial commit"]

        data, address = commit.files["long.txt"], f"{hub.url}/alice/model/resolve/main/long.txt"
        size = len(data)
        for asked, start, end in (
            ("0-0", 0, 1),
            ("5-20", 5, 21),
            (f"{size - 3}-", size - 3, size),
            ("-7", size - 7, size),
        ):
            with DIRECT.open(Request(address, headers={"Range": f"bytes={asked}"})) as reply:
                assert (reply.status, reply.read()) == (206, data[start:end])
                assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        with pytest.raises(HTTPError, match="416") as refusal:
            DIRECT.open(Request(address, headers={"Range": f"bytes={size}-"}))
        refusal.value.close()


@pytest.mark.slow
def test_who_may_do_what(client: Client) -> None:
    """Each refusal is the one that the real client tells apart, and none has an effect."""
    users = {"hf_alice": "alice", "hf_bob": "bob", "hf_reader": "alice"}
    with HubServer(users=users, read_only={"hf_reader"}) as hub:
        told = client(
            hub,
            """
def upload(repo, token):
    api.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"a", token=token)

for name, private in (("open", False), ("secret", True)):
    api.create_repo(f"alice/{name}", private=private, token="hf_alice")
    upload(f"alice/{name}", "hf_alice")
download = lambda repo, path="a.txt", **more: hf_hub_download(repo, path, **{"token": False, **more})
who = lambda token: (lambda user: [user["name"], user["auth"]["accessToken"]["role"]])(api.whoami(token=token))
show({
    "users": [who(token) for token in ("hf_alice", "hf_bob", "hf_reader")],
    "open": Path(download("alice/open", token=False)).read_text(),
    "refused": {
        "unknown token, user": refused(api.whoami, token="hf_none"),
        "unknown token, create": refused(api.create_repo, "alice/new", token="hf_none"),
        "no token, create": refused(api.create_repo, "alice/new", token=False),
        "no token, upload": refused(upload, "alice/open", False),
        "reader, create": refused(api.create_repo, "alice/new", token="hf_reader"),
        "reader, upload": refused(upload, "alice/open", "hf_reader"),
        "foreign, create": refused(api.create_repo, "alice/new", token="hf_bob"),
        "foreign, upload": refused(upload, "alice/open", "hf_bob"),
        "foreign, delete": refused(api.delete_repo, "alice/open", token="hf_bob"),
        "foreign, tag": refused(api.create_tag, "alice/open", tag="v1", token="hf_bob"),
        "no repository": refused(download, "alice/none"),
        "secret without token": refused(download, "alice/secret"),
        "secret of another": refused(download, "alice/secret", token="hf_bob"),
        "upload to the secret of another": refused(upload, "alice/secret", "hf_bob"),
        "no revision": refused(download, "alice/open", revision="v9"),
        "no file": refused(download, "alice/open", "none.txt"),
        "no folder": refused(lambda: list(api.list_repo_tree("alice/open", "none", token=False))),
        "exists": refused(api.create_repo, "alice/open", token="hf_alice"),
    },
    # The last, as from then on the client takes the file from its cache when the Hub refuses it.
    "secret": Path(download("alice/secret", token="hf_reader")).read_text(),
    "remembered": repr(try_to_load_from_cache("alice/open", "none.txt")) == repr(file_download._CACHED_NO_EXIST),
})
""",
            token=None,
        )
        assert told["users"] == [["alice", "write"], ["bob", "write"], ["alice", "read"]]
        assert (told["open"], told["secret"]) == ("a", "a")
        unauthorised, forbidden = ["HfHubHTTPError", 401], ["HfHubHTTPError", 403]
        missing = ["RepositoryNotFoundError", 404]
        assert told["refused"] == {
            "unknown token, user": unauthorised,
            "unknown token, create": unauthorised,
            "no token, create": unauthorised,
            "no token, upload": unauthorised,
            "reader, create": forbidden,
            "reader, upload": forbidden,
            "foreign, create": forbidden,
            "foreign, upload": forbidden,
            "foreign, delete": forbidden,
            "foreign, tag": forbidden,
            "no repository": missing,
            "secret without token": missing,
            "secret of another": missing,
            "upload to the secret of another": missing,
            "no revision": ["RevisionNotFoundError", 404],
            "no file": ["RemoteEntryNotFoundError", 404],
            "no folder": ["RemoteEntryNotFoundError", 404],
            "exists": ["HfHubHTTPError", 409],
        }
        # By the commit in the reply, the client remembers that the file does not exist there.
        assert told["remembered"] is True
        assert sorted(hub.repositories) == ["models/alice/open", "models/alice/secret"]
        assert len(hub.commits("alice/open")) == 2 and not hub.repositories["models/alice/open"].tags


@pytest.mark.slow
def test_history(client: Client, folder: Path) -> None:
    """Pinned revisions, tags, branches, deletions, copies, and a push that did not see the last commit."""
    with HubServer() as hub:
        told = client(
            hub,
            """
repo = "alice/model"
api.create_repo(repo)
upload = lambda text, **more: api.upload_file(
    repo_id=repo, path_in_repo="a.txt", path_or_fileobj=text.encode(), **more
)
read = lambda revision: Path(hf_hub_download(repo, "a.txt", revision=revision)).read_text()
one = upload("one").oid
api.create_tag(repo, tag="v1.0/final")
two = upload("two", parent_commit=one).oid
api.create_branch(repo, branch="old", revision="v1.0/final")
upload("side", revision="old")
stale = refused(upload, "three", parent_commit=one)
twice = [refused(api.create_tag, repo, tag="v1.0/final"), refused(api.create_branch, repo, branch="old")]
refs = api.list_repo_refs(repo)
state = {
    "one": one, "two": two, "stale": stale, "twice": twice,
    "read": [read(revision) for revision in ("main", "HEAD", one, one[:8], "v1.0/final", "old")],
    "tags": {ref.name: ref.target_commit for ref in refs.tags},
    "branches": sorted(ref.ref for ref in refs.branches),
}
api.delete_tag(repo, tag="v1.0/final")
api.delete_branch(repo, branch="old")
state["deleted"] = [refused(read, "v1.0/final"), refused(api.delete_tag, repo, tag="v1.0/final")]
api.upload_folder(repo_id=repo, folder_path="folder", path_in_repo="run")
api.upload_folder(
    repo_id=repo, folder_path="folder", path_in_repo="run", allow_patterns=["*.json"], delete_patterns=["*.txt"]
)
api.create_commit(repo, [
    CommitOperationCopy("run/model.safetensors", "model.safetensors"),
    CommitOperationDelete("run/a folder/"),
    CommitOperationDelete("a.txt"),
], commit_message="Move")
state["absent"] = refused(api.delete_file, "a.txt", repo)
api.create_repo("alice/other")
api.delete_repo("alice/other")
state["gone"] = refused(api.model_info, "alice/other")
show(state)
""",
        )
        assert told["stale"] == ["HfHubHTTPError", 412]
        assert told["twice"] == [["HfHubHTTPError", 409]] * 2
        assert told["read"] == ["two", "two", "one", "one", "one", "side"]
        assert told["tags"] == {"v1.0/final": told["one"]}
        assert told["branches"] == ["refs/heads/main", "refs/heads/old"]
        assert told["deleted"] == [["RevisionNotFoundError", 404]] * 2
        assert told["absent"] == ["RemoteEntryNotFoundError", 404]
        assert told["gone"] == ["RepositoryNotFoundError", 404]
        assert sorted(hub.repositories) == ["models/alice/model"]

        local = content(folder)
        commits = hub.commits("alice/model")
        assert [commit.oid for commit in commits[1:3]] == [told["one"], told["two"]]
        first, pushed, thinned, moved = (
            {path: data for path, data in commit.files.items() if path != ".gitattributes"} for commit in commits[2:]
        )
        assert first == {"a.txt": b"two"}
        assert pushed == first | {f"run/{path}": data for path, data in local.items()}
        assert thinned == {path: data for path, data in pushed.items() if path == "a.txt" or ".txt" not in path}
        assert moved == {
            **{path: data for path, data in thinned.items() if path != "a.txt" and "a folder" not in path},
            "model.safetensors": local["model.safetensors"],
        }


@pytest.mark.slow
def test_a_large_file_that_changes_during_the_upload_is_refused(client: Client) -> None:
    with HubServer() as hub:
        told = client(
            hub,
            """
api.create_repo("alice/model")
def push(change):
    Path("model.bin").write_bytes(b"before")
    addition = CommitOperationAdd("model.bin", "model.bin")
    addition.upload_info.sha256
    Path("model.bin").write_bytes(change)
    try:
        api.create_commit("alice/model", [addition], commit_message="Add")
    except RuntimeError as error:
        return [type(error.__cause__).__name__, error.__cause__.response.status_code]
lie = CommitOperationAdd("model.bin", b"never sent")
lie._upload_mode, lie._is_uploaded = "lfs", True
told = [push(b"during"), push(b"before and after")]
show([*told, refused(api.create_commit, "alice/model", [lie], commit_message="Lie")])
""",
        )
        assert told == [["BadRequestError", 400]] * 3
        repository = hub.repositories["models/alice/model"]
        assert not repository.large and len(repository.commits) == 1


@pytest.mark.slow
def test_faults(client: Client) -> None:
    """A fault has no effect on the repository. The client repeats a failed upload, not a failed commit."""
    with HubServer() as hub:
        hub.fail(lambda method, path, index: "drop" if "/commit/" in path else None)
        uploads = []

        def fail_first_upload(method: str, path: str, index: int) -> int | None:
            if method == "PUT":
                uploads.append(index)
            return 503 if uploads == [index] else None

        hub.fail(fail_first_upload)
        push = """
api.create_repo("alice/model", exist_ok=True)
show(refused(api.upload_file, repo_id="alice/model", path_in_repo="a.bin", path_or_fileobj=b"a"))
"""
        assert client(hub, push) == ["RemoteProtocolError", None]
        assert len(uploads) == 2 and hub.requests[uploads[0]] == hub.requests[uploads[1]]
        assert [path for _, path in hub.requests].count("/api/models/alice/model/commit/main") == 1
        assert len(hub.commits("alice/model")) == 1

        hub.clear()
        assert not hub.requests
        hub.fail(lambda method, path, index: 500 if "/commit/" in path else None)
        assert client(hub, push) == ["HfHubHTTPError", 500]
        assert len(hub.commits("alice/model")) == 1

        hub.clear()
        hub.delay(1, lambda method, path, index: "/commit/" in path)
        start = time.monotonic()
        assert client(hub, push) is None
        assert time.monotonic() - start >= 1
        assert [commit.files.get("a.bin") for commit in hub.commits("alice/model")] == [None, b"a"]

        kept = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=60)
        kept.request("GET", "/api/models/alice/model")
        assert json.loads(kept.getresponse().read())["id"] == "alice/model"
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        kept.request("GET", "/api/models/alice/model")
        kept.getresponse()
    kept.close()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("language: German", '"language": German is no ISO 639 code'),
        ("language: [en, no]", '"language" must be a string or a list of strings'),
        ("license: Apache 2.0", '"license": Apache 2.0 is not one of afl-3.0, '),
        ("license: [mit]", '"license" must be a string'),
        ("pipeline_tag: translate", '"pipeline_tag": translate is not one of any-to-any, '),
        ("library_name: 5", '"library_name" must be a string'),
        ("tags: translation", '"tags" must be a list of strings'),
        ("datasets: [My own phrases]", '"datasets": My own phrases is no id of a dataset'),
        ("model-index: {}", '"model-index" must be a list'),
        ("model-index: [{results: []}]", '"model-index[0].name" is required'),
        ("model-index: [{name: m}]", '"model-index[0].results" must be a list'),
        ("language: [en", "The front matter is not YAML"),
    ],
)
def test_a_wrong_model_card_is_refused(field: str, message: str) -> None:
    name = field.partition(":")[0]
    lines = README.partition("model-index")[0].splitlines()
    errors, _ = check_card("\n".join([*(line for line in lines if not line.startswith(name)), field, "---"]))
    assert len(errors) == 1 and errors[0].startswith(message), errors


@pytest.mark.slow
def test_model_cards_at_the_client(client: Client, folder: Path) -> None:
    """The real client must stop before the upload, and must accept what it builds itself."""
    assert check_card(README) == ([], [])
    with HubServer() as hub:
        told = client(
            hub,
            """
import warnings
api.create_repo("alice/model")
result = EvalResult("translation", "alice/phrases", "Phrases", "bleu", 30.5)
data = ModelCardData(language="en", license="mit", model_name="m", eval_results=[result])
card = ModelCard(f"---\\n{data}\\n---\\n# m\\n")
card.push_to_hub("alice/model")
loaded = ModelCard.load("alice/model")
readme = Path("folder/README.md")
readme.write_text(readme.read_text().replace("name: Phrases", "split: test"))
push = lambda: api.upload_folder(repo_id="alice/model", folder_path="folder")
try:
    push()
except ValueError as error:
    message = str(error)
readme.write_text("# No front matter")
with warnings.catch_warnings(record=True) as caught:
    push()
show([loaded.data.eval_results[0].metric_value, message, refused(ModelCard("---\\nlicense: no\\n---").validate),
      [str(warning.message).splitlines()[-1] for warning in caught]])
""",
        )
        value, message, refusal, warnings = told
        assert value == 30.5
        assert message == ('Invalid metadata in README.md.\n- "model-index[0].results[0].dataset.name" is required')
        assert refusal == ["ValueError", None]
        assert warnings == ["- empty or missing yaml metadata in repo card"]
        assert len(hub.commits("alice/model")) == 3


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("hf_xet") is None, reason="hf_xet is not installed")
def test_xet(client: Client, folder: Path, tmp_path: Path) -> None:
    """Large files go through hf_xet and come back, by Xet in one process and without it in another."""
    with HubServer(xet=True) as hub:
        pushed = client(
            hub,
            """
api.create_repo("alice/model")
push = lambda: api.upload_folder(repo_id="alice/model", folder_path="folder").oid
first, again = push(), push()
[file] = api.get_paths_info("alice/model", "model.safetensors")
show([first, again, file.xet_hash])
""",
            HF_HUB_DISABLE_XET="0",
        )
        first, again, xet_hash = pushed
        [_, commit] = hub.commits("alice/model")
        assert first == again == commit.oid
        assert content(folder).items() <= commit.files.items()
        assert xet_hash == commit.entries["model.safetensors"].xet_hash and len(xet_hash) == 64
        assert not any(path.startswith("/uploads/") or ".git/" in path for _, path in hub.requests)

        for name, disabled in (("by_xet", "0"), ("without", "1")):
            hub.clear()
            client(
                hub,
                f"""
snapshot_download("alice/model", local_dir={name!r}, max_workers=2)
show(hf_hub_download("alice/model", "model.safetensors"))
""",
                HF_HUB_DISABLE_XET=disabled,
                HF_HOME=str(tmp_path / f"home_{name}"),
            )
            assert content(tmp_path / name) == commit.files
            asked = [path for _, path in hub.requests if "/xet-read-token/" in path]
            fetched = [path for method, path in hub.requests if method == "GET" and "model.safetensors" in path]
            assert bool(asked) == (disabled == "0") == (not fetched)
    assert hub.xet is not None and not hub.xet.folder.exists()

"""A Space that is pushed, to a Hub that only takes notes."""

import pytest

from tests.marian import write_marian
from training.publish import space
from training.push import main
from vanilla_transformer import demo
from vanilla_transformer.conversion.importing import import_folder


class Gradio:
    __version__ = "6.0.0"


@pytest.fixture
def calls(monkeypatch):
    """The requests to the client, and the files that a push has."""
    noted = {}

    class Api:
        def create_repo(self, repo, **settings):
            noted["created"] = (repo, settings)

        def upload_folder(self, repo_id, repo_type, folder_path, commit_message):
            root = space.Path(folder_path)
            files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
            noted["uploaded"] = (repo_id, repo_type, files)

    monkeypatch.setattr(space, "HfApi", Api)
    monkeypatch.setattr(demo, "import_gradio", Gradio)
    return noted


def test_a_space_is_made_and_filled(model_folder, calls, capsys):
    assert main(["--model", str(model_folder), "--space", "user/demo", "--private"]) == 0
    assert calls["created"] == (
        "user/demo",
        {"repo_type": "space", "space_sdk": "gradio", "private": True, "exist_ok": True},
    )
    repo, kind, files = calls["uploaded"]
    assert (repo, kind) == ("user/demo", "space")
    assert {"app.py", "README.md", "requirements.txt", "model/config.json", "vanilla_transformer/demo.py"} <= files
    assert "pushed: the demo of model, spaces/user/demo" in capsys.readouterr().out


def test_a_space_of_an_imported_model_has_its_tokenizer(calls, tmp_path):
    write_marian(tmp_path / "opus")
    import_folder(tmp_path / "opus", tmp_path / "model")
    assert main(["--model", str(tmp_path / "model"), "--space", "user/demo"]) == 0
    assert {"model/source.spm", "model/target.spm", "model/vocab.json"} <= calls["uploaded"][2]


def test_a_push_needs_a_place(model_folder, calls, capsys):
    assert main(["--model", str(model_folder)]) == 2
    assert "Give --repo, --space or both" in capsys.readouterr().err
    assert main(["--model", str(model_folder), "--space", "user/demo", "--native", "user/native"]) == 2
    assert not calls

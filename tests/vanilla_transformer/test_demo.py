"""The work of the demo, without gradio; and the files of a Space."""

import re

import pytest

from vanilla_transformer import VanillaTransformerTranslationPipeline, demo
from vanilla_transformer.cli import main
from vanilla_transformer.errors import SettingsError, TextError
from vanilla_transformer.loading import load_model
from vanilla_transformer.plots import attention_weights


@pytest.fixture
def shown(model_folder):
    return demo.Demo(*load_model(model_folder))


def test_translations_are_the_pipelines_best_first(shown):
    rows = shown.translate("  the house ", beams=3)
    translator = VanillaTransformerTranslationPipeline(shown.model, shown.tokenizer, device="cpu")
    found = translator("the house", num_beams=3, num_return_sequences=3, return_scores=True)
    assert rows == [[each["translation_text"], round(each["score"], 3)] for each in found]


def test_layers_and_heads_are_counted_from_one(shown):
    axes = shown.attention("the house", "la casa", layer=2, head="3").axes[0]
    picture = axes.images[0].get_array()
    assert axes.get_title() == "layer 2, head 3"
    weights, _, _ = attention_weights(shown.model, shown.tokenizer, "the house", "la casa")
    assert picture.tolist() == pytest.approx(weights["cross"][1, 2].numpy(), abs=1e-6)


@pytest.mark.parametrize(("text", "said"), [(" \n", "Type a sentence"), ("a" * 1001, "at most 1,000 .* has 1,001")])
def test_empty_and_long_texts_are_refused_before_the_tokenizer(shown, text, said, monkeypatch):
    monkeypatch.setattr(shown, "translator", None)
    with pytest.raises(TextError, match=said):
        shown.translate(text, beams=1)
    assert re.search(said, shown.page(text))


def test_the_page_is_framed(shown):
    assert shown.page("the house").startswith("<iframe srcdoc=")


def test_without_gradio_it_says_what_to_install(model_folder, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["demo", "--model", str(model_folder)]) == 2
    assert 'pip install "vanilla-transformer[demo]"' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--model", str(model_folder), "--port", "70000"])


def test_a_space_installs_what_the_package_needs_without_gradio(monkeypatch):
    needed = ["torch>=2.11", 'gradio>=6.0; extra == "demo"', 'matplotlib>=3.9; extra == "demo"', 'x; extra == "dev"']
    monkeypatch.setattr(demo, "requires", {"vanilla-transformer": needed}.__getitem__)
    assert demo.list_requirements() == ["torch>=2.11", "matplotlib>=3.9"]


def test_a_space_of_a_package_that_is_not_installed_says_how_to_install_it(monkeypatch):
    def requires(name):
        raise demo.PackageNotFoundError(name)

    monkeypatch.setattr(demo, "requires", requires)
    with pytest.raises(SettingsError, match="`vanilla-transformer` must be installed"):
        demo.list_requirements()


@pytest.mark.slow
def test_a_space_has_the_app_the_package_and_the_model(model_folder, tmp_path, monkeypatch, fresh_python):
    class Gradio:
        __version__ = "6.0.0"

    monkeypatch.setattr(demo, "import_gradio", Gradio)
    demo.write_space(model_folder, tmp_path / "space", "My model")
    names = {path.relative_to(tmp_path / "space").as_posix() for path in (tmp_path / "space").rglob("*")}
    assert {"app.py", "requirements.txt", "README.md", "model/model.safetensors", "model/tokenizer.json"} <= names
    assert {"vanilla_transformer/demo.py", "vanilla_transformer/explain/page.js"} <= names
    head = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    assert 'sdk: "gradio"' in head and 'sdk_version: "6.0.0"' in head and 'app_file: "app.py"' in head
    code = f"""
import os, sys; os.chdir({str(tmp_path / "space")!r}); sys.path.insert(0, os.getcwd())
from vanilla_transformer.demo import Demo
from vanilla_transformer.loading import load_model
import vanilla_transformer
assert vanilla_transformer.__file__.startswith(os.getcwd())
print(len(Demo(*load_model("model")).translate("the house", 2)))
"""
    assert fresh_python(code).strip().endswith("2")


def test_a_missing_library_is_a_line():
    try:
        import gradio  # noqa: F401
    except ImportError:
        with pytest.raises(SettingsError, match="gradio"):
            demo.import_gradio()
    else:
        assert demo.import_gradio().__name__ == "gradio"

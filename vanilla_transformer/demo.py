"""
A translation model in the browser, as a Gradio app: its best translations, where it looks, and every step inside.

    vanilla-transformer demo --model checkpoints/tiny-en-es

The same app is a Hugging Face Space: `write_space` writes all that one needs.
"""

import os
import shutil
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import SettingsError, TextError
from .explain import explain
from .loading import TOKENIZER_FILES
from .pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline
from .plots import plot_attention

if TYPE_CHECKING:
    from gradio import Blocks

MOST_CHARACTERS = 1000  # of a text, looked at before the tokenizer is
MOST_BEAMS = 8
MOST_WAITING = 32  # requests; one is worked on at a time
MEAN = "mean"
SPACE_FILES = ("config.json", "generation_config.json", "*.safetensors*", *TOKENIZER_FILES)
SPACE_APP = '''"""The demo of a translation model; `vanilla-transformer demo` runs the same on your machine."""

from vanilla_transformer.demo import build_app, launch
from vanilla_transformer.loading import load_model

app = build_app(*load_model("model"))

if __name__ == "__main__":
    launch(app, host="0.0.0.0", port=7860)
'''


class Demo:
    """
    The work of the app, without its looks.

    Args:
        model, tokenizer: of a translation model.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model, tokenizer
        self.translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device=model.device)

    def translate(self, text: str, beams: int) -> list[list[str | float]]:
        """
        Return the best translations of a text, each with its score.

        Raises:
            TextError: for an empty or a long text.
        """
        text = self.check(text)
        found = self.translator(text, num_beams=beams, num_return_sequences=beams, return_scores=True)
        return [[each["translation_text"], round(each["score"], 3)] for each in found]

    def attention(self, text: str, translation: str, layer: int, head: str) -> Any:
        """Return the figure of cross-attention; layers and heads are counted from 1, as people do."""
        chosen = None if head == MEAN else int(head) - 1
        text = self.check(text)
        figure = plot_attention(self.model, self.tokenizer, text, target=translation, layer=layer - 1, head=chosen)
        figure.axes[0].set_title(f"layer {layer}, {'mean of heads' if head == MEAN else f'head {head}'}", fontsize=10)
        return figure

    def page(self, text: str) -> str:
        """Return the page of `explain` in a frame, or a line that says why there is none."""
        try:
            return explain(self.model, self.tokenizer, self.check(text))._repr_html_()
        except TextError as error:
            return f"<p>{error}</p>"

    def check(self, text: str) -> str:
        """
        Return a text without the white space around it.

        Raises:
            TextError: for an empty or a long text.
        """
        text = text.strip()
        if not text:
            raise TextError("Type a sentence.")
        if len(text) > MOST_CHARACTERS:
            raise TextError(f"The text must have at most {MOST_CHARACTERS:,} characters, but has {len(text):,}.")
        return text


def import_gradio() -> ModuleType:
    """
    Return the library, which sends nothing anywhere.

    Raises:
        SettingsError: without it.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # an extra
    except ImportError as error:
        raise SettingsError('The demo needs gradio. Install it: pip install "vanilla-transformer[demo]"') from error
    return gradio


def build_app(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "Blocks":
    """Return the app, a `gradio.Blocks`."""
    gradio = import_gradio()
    demo, config = Demo(model, tokenizer), model.config

    def show(text: str, beams: float, layer: float, head: str) -> tuple[list[list[str | float]], Any]:
        try:
            rows = demo.translate(text, int(beams))
            return rows, demo.attention(text, str(rows[0][0]), int(layer), head)
        except TextError as error:
            raise gradio.Error(str(error)) from error

    with gradio.Blocks(title="The Transformer", analytics_enabled=False) as app:
        gradio.Markdown("# The Transformer of “Attention Is All You Need”")
        with gradio.Row():
            with gradio.Column():
                text = gradio.Textbox(label="Text", lines=3, max_length=10 * MOST_CHARACTERS, elem_id="text")
                button = gradio.Button("Translate", variant="primary", elem_id="translate")
                beams = gradio.Slider(1, MOST_BEAMS, value=4, step=1, label="Beams")
                gradio.Examples([["How are you?"], ["The red house is old."], ["Where can I buy a ticket?"]], [text])
            table = gradio.Dataframe(headers=["translation", "score"], label="Best translations", elem_id="best")
        with gradio.Tab("Where the decoder looks"):
            with gradio.Row():
                layers, heads = config.decoder_layers, map(str, range(1, config.num_attention_heads + 1))
                layer = gradio.Slider(1, layers, value=layers, step=1, label="Layer", elem_id="layer")
                head = gradio.Radio([MEAN, *heads], value=MEAN, label="Head", elem_id="head")
            picture = gradio.Plot(show_label=False, elem_id="attention")
        with gradio.Tab("Every step", elem_id="steps"):
            explain_button = gradio.Button("Explain this text", elem_id="explain")
            page = gradio.HTML(elem_id="page")
        settings = {"concurrency_limit": 1, "concurrency_id": "model"}
        triggers = [button.click, text.submit, layer.release, head.change]
        gradio.on(triggers, show, [text, beams, layer, head], [table, picture], api_name="translate", **settings)
        explain_button.click(demo.page, [text], [page], api_name="explain", **settings)
    return app.queue(max_size=MOST_WAITING)


def launch(app: "Blocks", host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve an app until Ctrl-C; only this machine reaches it unless `host` says otherwise."""
    gradio = import_gradio()
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # of the machine
    theme = gradio.themes.Default(primary_hue="indigo", **fonts)
    app.launch(server_name=host, server_port=port, share=False, theme=theme, footer_links=["api"])


def list_requirements(*extras: str) -> list[str]:
    """
    Return what the demo needs besides gradio, which a Space has: as this package was installed with.

    Args:
        extras: of this package, besides its own.

    Raises:
        SettingsError: where it is not installed.
    """
    try:
        needed = map(Requirement, requires("vanilla-transformer") or [])
    except PackageNotFoundError as error:
        raise SettingsError(
            "`vanilla-transformer` must be installed, since a Space needs the same versions. Run: pip install -e ."
        ) from error
    wanted = [{"extra": extra} for extra in ("demo", *extras)]
    of_demo = [each for each in needed if each.marker is None or any(map(each.marker.evaluate, wanted))]
    return [f"{each.name}{each.specifier}" for each in of_demo if each.name != "gradio"]


def write_space(model: Path, folder: Path, title: str) -> None:
    """
    Write the files of a Space with the demo of a model: the app, this package, the model, what to install.

    Args:
        model: its folder.
        folder: to fill.
        title: of the Space.

    Raises:
        SettingsError: without gradio, or where this package is not installed.
    """
    is_imported = not (model / "tokenizer.json").is_file()
    gradio, requirements = import_gradio(), list_requirements(*["marian"] * is_imported)
    package = Path(__file__).parent
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, folder / "vanilla_transformer", ignore=left_out, dirs_exist_ok=True)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    for pattern in SPACE_FILES:
        for file in sorted(model.glob(pattern)):
            shutil.copyfile(file, folder / "model" / file.name)
    (folder / "app.py").write_text(SPACE_APP, encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    facts = {"title": title, "sdk": "gradio", "sdk_version": gradio.__version__, "python_version": "3.11"}
    facts |= {"app_file": "app.py", "pinned": "false", "license": "apache-2.0"}
    lines = "\n".join(
        f'{name}: "{value}"' if name != "pinned" else f"{name}: {value}" for name, value in facts.items()
    )
    text = f"# {title}\n\nThe demo of a translation model of vanilla_transformer: `python app.py` runs it.\n"
    (folder / "README.md").write_text(f"---\n{lines}\n---\n\n{text}", encoding="utf-8")

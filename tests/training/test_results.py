import pytest
import torch
import yaml
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file

from training.publish.result_folder import LOSS_UNITS, drawn_score
from training.tasks import TASKS
from training.train import main
from vanilla_transformer.errors import ModelFolderError
from vanilla_transformer.loading import store_in_half
from vanilla_transformer.plots import plot_curves


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs))
    )
    return figures


@pytest.mark.parametrize(
    ("smoothed", "unit", "label"),
    [(True, "target token", "training loss (label-smoothed)"), (False, "text", "training loss")],
)
def test_the_curves_say_what_is_drawn(drawn, tmp_path, smoothed, unit, label):
    log_history = [
        {"step": 1, "loss": 2.0, "learning_rate": 0.1},
        {"step": 1, "eval_loss": 1.5, "eval_bleu": 3.0},
    ]
    plot_curves(log_history, tmp_path / "curves.png", unit, smoothed, drawn_score(log_history))
    losses = drawn[0].axes[0]
    assert losses.get_ylabel() == f"nats per {unit}"
    assert [text.get_text() for text in losses.get_legend().get_texts()] == [label, "validation NLL"]
    assert drawn[0].axes[2].get_ylabel() == "validation BLEU"


def test_every_task_has_a_unit_of_its_loss():
    assert set(LOSS_UNITS) == set(TASKS)


@pytest.mark.parametrize(
    ("label_smoothing", "label"), [(0.1, "training loss (label-smoothed)"), (0.0, "training loss")]
)
def test_the_curves_of_a_run_say_whether_its_loss_is_smoothed(recipe, drawn, label_smoothing, label):
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    settings |= {"label_smoothing": label_smoothing, "max_steps": 2, "eval_steps": 2, "predict_with_generate": False}
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main([str(recipe)]) == 0
    losses = next(figure.axes[0] for figure in drawn if figure.axes[0].get_ylabel().startswith("nats"))
    assert losses.get_ylabel() == "nats per target token"
    assert losses.get_legend().get_texts()[0].get_text() == label


def test_a_result_in_float16_is_half_the_file_and_loads_as_float32(recipe, tmp_path, fresh_python):
    arguments = [str(recipe), "--save_dtype", "float16", "--max_steps", "2", "--eval_strategy", "no"]
    assert main(arguments) == 0
    run = tmp_path / "run"
    assert {tensor.dtype for tensor in load_file(run / "model.safetensors").values()} == {torch.float16}
    assert {tensor.dtype for tensor in load_file(run / "checkpoint-2" / "model.safetensors").values()} == {
        torch.float32
    }
    code = f"""
import warnings; warnings.filterwarnings("ignore")
from transformers import AutoModelForSeq2SeqLM
model = AutoModelForSeq2SeqLM.from_pretrained({str(run)!r}, trust_remote_code=True)
parameters = list(model.parameters())
print({{each.dtype for each in parameters}}, sum(each.double().sum() for each in parameters).item())
"""
    said = [fresh_python(f"import vanilla_transformer\n{code}"), fresh_python(code, installed=False)]
    assert said[0] == said[1] and said[0].startswith("{torch.float32}")


def test_weights_that_float16_cannot_hold_are_refused(tmp_path):
    save_file({"weight": torch.tensor([1e5])}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFolderError, match="weight has weights beyond"):
        store_in_half(tmp_path)

import pytest
import yaml
from matplotlib.figure import Figure

from training.results import LOSS_UNITS, plot_curves
from training.tasks import TASKS
from training.train import main


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
    plot_curves(log_history, tmp_path / "curves.png", unit, smoothed)
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

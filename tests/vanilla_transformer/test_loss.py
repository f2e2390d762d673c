import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vanilla_transformer import kernels_vanilla_transformer
from vanilla_transformer.kernels_vanilla_transformer import label_smoothed_loss

D, V = 32, 700


def full_logits(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """The closed form: (1 - ε) of the mass on the target and ε / V on every entry."""
    log_probabilities = (hidden @ weight.T).log_softmax(-1)
    real = labels != -100
    target = log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -(((1 - smoothing) * target + smoothing * log_probabilities.mean(-1)) * real).sum()


def problem(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(3, 50, D, dtype=dtype)
    head = nn.Linear(D, V, bias=False, dtype=dtype)
    labels = torch.randint(0, V, (3, 50))
    labels[0, 40:], labels[2] = -100, -100
    return hidden, head, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("rows", [40, 90, 128])  # three chunks, exactly one, less than one
def test_value_and_every_gradient_equal_the_closed_form(smoothing, rows, monkeypatch):
    monkeypatch.setattr(kernels_vanilla_transformer, "rows_at_once", lambda device: rows)
    hidden, head, labels = problem()
    assert (labels != -100).sum() == 90
    hidden.requires_grad_()
    loss = label_smoothed_loss(hidden, head, labels, smoothing)
    loss.backward()
    hidden_64, weight_64 = hidden.detach().double().requires_grad_(), head.weight.detach().double().requires_grad_()
    expected = full_logits(hidden_64, weight_64, labels, smoothing)
    expected.backward()
    count = int((labels != -100).sum())
    assert loss.item() / count == pytest.approx(expected.item() / count, abs=1e-5)
    torch.testing.assert_close(hidden.grad.double(), hidden_64.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(head.weight.grad.double(), weight_64.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [100, 1500])  # one chunk, several
@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_is_as_close_as_full_logits(autocast, rows):
    """In bf16 each way rounds at other places; errors of loss and gradients are of the same size, or smaller."""
    torch.manual_seed(0)
    hidden_32, weight_32 = torch.randn(1, rows, 64), torch.randn(3000, 64) * 0.2
    labels = torch.randint(0, 3000, (1, rows))
    dtype = torch.float32 if autocast else torch.bfloat16
    hidden_64 = hidden_32.to(dtype).double().requires_grad_()
    weight_64 = weight_32.to(dtype).double().requires_grad_()
    expected = full_logits(hidden_64, weight_64, labels, 0.1)
    expected.backward()

    def errors(function):
        hidden = hidden_32.to(dtype, copy=True).requires_grad_()
        head = nn.Linear(64, 3000, bias=False, dtype=dtype)
        head.weight.data.copy_(weight_32)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = function(hidden, head)
        loss.backward()
        return [
            abs(loss.item() - expected.item()) / expected.item(),
            ((hidden.grad.double() - hidden_64.grad).norm() / hidden_64.grad.norm()).item(),
            ((head.weight.grad.double() - weight_64.grad).norm() / weight_64.grad.norm()).item(),
        ]

    ours = errors(lambda hidden, head: label_smoothed_loss(hidden, head, labels, 0.1))
    full = errors(
        lambda hidden, head: F.cross_entropy(
            head(hidden).flatten(0, 1), labels.flatten(), reduction="sum", label_smoothing=0.1
        )
    )
    assert ours[0] < max(full[0], 2e-4)
    assert ours[1] < 1.05 * full[1]
    # One rounding more than full logits: the gradients of cross-entropy and of smoothing are added after it.
    assert ours[2] < 1.3 * full[2]


def test_autocast_reaches_the_loss():
    hidden, head, labels = problem()
    expected = label_smoothed_loss(hidden, head, labels, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = label_smoothed_loss(hidden, head, labels, 0.1)
    assert loss.dtype == torch.float32
    assert loss != expected
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("change", ["hook", "subclass"])
def test_a_projection_that_is_not_plain_is_called_as_it_is(change):
    hidden, head, labels = problem()
    if change == "hook":
        head.register_forward_hook(lambda module, inputs, output: output * 2)
    else:

        class Doubled(nn.Linear):
            def forward(self, states):
                return super().forward(states) * 2

        doubled = Doubled(D, V, bias=False)
        doubled.load_state_dict(head.state_dict())
        head = doubled
    loss = label_smoothed_loss(hidden, head, labels, 0.1)
    torch.testing.assert_close(loss, full_logits(hidden, head.weight * 2, labels, 0.1))


def test_training_returns_no_logits_and_evaluation_no_smoothing(model, batch):
    real = batch["labels"] != -100
    evaluated = model(**batch)
    plain = F.cross_entropy(evaluated.logits[real], batch["labels"][real])
    torch.testing.assert_close(evaluated.loss, plain)
    model.config.dropout = model.model.encoder.dropout.p = model.model.decoder.dropout.p = 0.0
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        layer.dropout.p = 0.0
    trained = model.train()(**batch)
    assert trained.logits is None
    smoothed = F.cross_entropy(evaluated.logits[real], batch["labels"][real], label_smoothing=0.1)
    torch.testing.assert_close(trained.loss, smoothed)


def test_labels_padded_on_the_left_are_refused(model, batch):
    labels = torch.tensor([[-100, -100, 5, 6, 2], [7, 8, 9, 4, 2], [-100] * 5])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="`labels` has a row that begins with -100"):
        model(**inputs, labels=labels)
    labels[0] = torch.tensor([5, 6, 2, -100, -100])
    assert torch.isfinite(model(**inputs, labels=labels).loss)


def test_transforms_of_functions_train(model, batch):
    """`torch.func`, for gradients of each example and the like."""
    model.config.dropout = model.model.encoder.dropout.p = model.model.decoder.dropout.p = 0.0
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        layer.dropout.p = 0.0
    model.train()
    parameters = dict(model.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(model, parameters, kwargs=batch, tie_weights=True).loss

    gradients = torch.func.grad(loss)(parameters)
    model(**batch).loss.backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    model.model.encoder.layers[0].dropout.p = 0.3  # its own kernel is not used
    assert torch.isfinite(torch.func.grad(loss)(parameters)["model.encoder.layers.0.fc1.weight"]).all()


@pytest.mark.parametrize("training", [True, False])
def test_num_items_in_batch_makes_parts_add_up_to_the_whole(model, batch, training):
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        layer.dropout.p = 0.0
    model.config.dropout = model.model.encoder.dropout.p = model.model.decoder.dropout.p = 0.0
    model.train(training)
    count = (batch["labels"] != -100).sum()
    whole = model(**batch).loss
    parts = [model(**{k: v[i : i + 1] for k, v in batch.items()}, num_items_in_batch=count).loss for i in range(3)]
    torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", [{}, {"num_items_in_batch": 0}, {"num_items_in_batch": torch.tensor([0])}])
def test_labels_that_are_all_ignored_give_zero(model, batch, number):
    batch["labels"][:] = -100
    loss = model.train()(**batch, **number).loss
    assert loss == 0
    loss.backward()


def test_a_bias_of_the_projection_is_in_the_loss_and_gets_its_gradient():
    hidden, head, labels = problem()
    biased = nn.Linear(D, V)
    with torch.no_grad():
        biased.weight.copy_(head.weight)
        biased.bias.normal_()
    hidden.requires_grad_()
    label_smoothed_loss(hidden, biased, labels, 0.1).backward()
    found = hidden.grad.clone(), biased.weight.grad.clone(), biased.bias.grad.clone()
    hidden.grad = biased.weight.grad = biased.bias.grad = None
    logits = biased(hidden).flatten(0, 1)
    F.cross_entropy(logits, labels.flatten(), reduction="sum", label_smoothing=0.1).backward()
    for ours, theirs in zip(found, (hidden.grad, biased.weight.grad, biased.bias.grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)

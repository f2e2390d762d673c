import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vanilla_transformer import kernels_vanilla_transformer as kernels
from vanilla_transformer.kernels_vanilla_transformer import Dropout, add_matmul, linear, matmul


def dropout(states, p, training):
    return Dropout(p).train(training)(states)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(p, dtype):
    torch.manual_seed(0)
    count = 400_001  # no multiple of the four elements that share a draw
    output = dropout(torch.ones(count, dtype=dtype), p, True)
    assert output.dtype == dtype
    kept = output != 0
    assert torch.allclose(
        output[kept].float(), torch.tensor(1 / (1 - p)), rtol=1e-2 if dtype == torch.bfloat16 else 1e-4
    )
    for part in (slice(None), *(slice(lane, None, 4) for lane in range(4))):
        share, n = kept[part].double().mean().item(), len(kept[part])
        assert abs(share - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    neighbours = (kept[1:] & kept[:-1]).double().mean().item()  # independent of each other
    assert abs(neighbours - (1 - p) ** 2) < 5 * math.sqrt(0.25 / count)


def test_dropout_is_the_same_backwards():
    torch.manual_seed(0)
    states = torch.randn(7, 5, 3, requires_grad=True)
    output = dropout(states.transpose(0, 1), 0.4, True)
    (gradient,) = torch.autograd.grad(output.sum(), states)
    torch.testing.assert_close(states.transpose(0, 1) * gradient.transpose(0, 1), output)
    assert 0 < (gradient == 0).sum() < gradient.numel()


def test_dropout_follows_the_seed():
    states = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(states, 0.5, True), dropout(states, 0.5, True)
    torch.manual_seed(3)
    assert torch.equal(dropout(states, 0.5, True), first) and not torch.equal(first, second)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.3, False), (1.0, True)])
def test_where_nothing_is_drawn_dropout_is_torchs(p, training):
    states = torch.randn(100)
    assert torch.equal(dropout(states, p, training), F.dropout(states, p, training))


@pytest.fixture
def products(monkeypatch):
    """Multiplies by oneDNN whatever the CPU is, and counts the products."""
    if not kernels.HAS_ONEDNN:
        pytest.skip("torch is built without oneDNN")
    monkeypatch.setattr(kernels, "is_amd_with_avx512", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    counted, plain = [], kernels.onednn_product

    def product(left, right, bias=None):
        counted.append((tuple(left.shape), tuple(right.shape)))
        return plain(left, right, bias)

    monkeypatch.setattr(kernels, "onednn_product", product)
    return counted


def strided(rows, columns, layout):
    """A random matrix, laid out in some way."""
    torch.manual_seed(rows * columns)
    if layout == "rows":
        return torch.randn(rows, columns)
    if layout == "columns":
        return torch.randn(columns, rows).T
    return torch.randn(2 * rows, 3 * columns)[::2, ::3]


@pytest.mark.parametrize("left", ["rows", "columns", "gaps"])
@pytest.mark.parametrize("right", ["rows", "columns", "gaps"])
def test_products_are_those_of_torch(products, left, right):
    left, right = strided(7, 33, left), strided(33, 5, right)
    expected = left.double() @ right.double()
    torch.testing.assert_close(matmul(left, right).double(), expected, rtol=1e-5, atol=1e-5)
    total = torch.ones(7, 5)
    add_matmul(total, left, right)
    torch.testing.assert_close(total.double(), 1 + expected, rtol=1e-5, atol=1e-5)
    assert len(products) == 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 11), (2, 3, 11), (2, 3, 4, 11)])
def test_linear_layers_have_the_values_and_gradients_of_torch(products, bias, shape):
    torch.manual_seed(0)
    layer, states = nn.Linear(11, 5, bias=bias), torch.randn(shape).transpose(0, 1)
    states = states if states.shape[-1] == 11 else states.T
    states.requires_grad_()
    wanted = [states, *layer.parameters()]

    def first_and_second(output):
        """Gradients, and those of the square of their sum."""
        first = torch.autograd.grad(output.pow(3).sum(), wanted, create_graph=True)
        return [output, *first, *torch.autograd.grad(sum(each.pow(2).sum() for each in first), wanted)]

    for found, expected in zip(first_and_second(linear(layer, states)), first_and_second(layer(states)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(products) > 3


def test_nothing_is_computed_that_needs_no_gradient(products):
    layer, states = nn.Linear(11, 5).requires_grad_(False), torch.randn(6, 11, requires_grad=True)
    linear(layer, states).sum().backward()
    assert len(products) == 2 and layer.weight.grad is None
    with torch.no_grad():
        assert not linear(layer, states).requires_grad


def hooked(layer):
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


def patched(layer):
    layer.forward = lambda states: 2 * F.linear(states, layer.weight, layer.bias)
    return layer


class Doubled(nn.Linear):
    def forward(self, states):
        return 2 * super().forward(states)


@pytest.mark.parametrize("change", [hooked, patched, lambda layer: Doubled(11, 5)])
def test_layers_that_do_something_else_do_it(products, change):
    layer, states = change(nn.Linear(11, 5)), torch.randn(6, 11)
    torch.testing.assert_close(linear(layer, states), 2 * F.linear(states, layer.weight, layer.bias))
    assert not products


def test_products_of_other_types_than_float32_go_to_torch(products):
    layer, states = nn.Linear(11, 5), torch.randn(6, 11)
    assert linear(layer.double(), states.double()).dtype == torch.float64
    layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(layer, states).dtype == torch.bfloat16
    assert linear(layer, states[:0]).shape == (0, 5)
    with FlopCounterMode(display=False) as counter:
        linear(layer, states)
    assert counter.get_total_flops() == 2 * 6 * 11 * 5
    each = torch.func.vmap(lambda row: linear(layer, row))(states)
    torch.testing.assert_close(each, layer(states))
    traced = torch.jit.trace(lambda given: linear(layer.requires_grad_(False), given), states, check_trace=False)
    torch.testing.assert_close(traced(states), layer(states))
    assert not products
    linear(layer, states)
    assert len(products) == 1


def test_a_gradient_in_batches_is_that_of_torch(products):
    layer, states = nn.Linear(11, 5), torch.randn(6, 11, requires_grad=True)
    found = [
        torch.autograd.grad(output, states, torch.eye(30).view(30, 6, 5), is_grads_batched=True)[0]
        for output in (linear(layer, states), layer(states))
    ]
    torch.testing.assert_close(*found)
    assert products


def test_forward_mode_goes_to_torch(products):
    layer, states = nn.Linear(11, 5), torch.randn(6, 11)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(states, torch.ones(6, 11))
        tangent = torch.autograd.forward_ad.unpack_dual(linear(layer, dual)).tangent
    torch.testing.assert_close(tangent, torch.ones(6, 11) @ layer.weight.T)
    assert not products


@pytest.mark.parametrize("frozen", ["weight", "states"])
def test_nothing_is_kept_that_no_gradient_needs(products, frozen):
    layer, states = nn.Linear(11, 5, bias=False), torch.randn(6, 11, requires_grad=frozen != "states")
    layer.requires_grad_(frozen != "weight")
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.shape) or each, lambda each: each):
        linear(layer, states)
    assert kept == [states.shape if frozen == "states" else layer.weight.shape]


def test_sums_are_those_of_the_whole_product(products, monkeypatch):
    monkeypatch.setattr(kernels, "ADDED_ROWS", 3)
    left, right, total = torch.randn(4, 8).T, torch.randn(4, 5), torch.randn(8, 5)
    expected = total + left @ right
    add_matmul(total, left, right)
    torch.testing.assert_close(total, expected)
    assert len(products) == 3


@pytest.mark.parametrize("shape", [(6, 11), (2, 3, 11), (11,)])
def test_outputs_can_be_written_into(products, shape):
    output = linear(nn.Linear(11, 5), torch.randn(shape))
    output[..., 2] = 0.0
    output.sum().backward()
    assert output.shape == (*shape[:-1], 5) and len(products) > 0

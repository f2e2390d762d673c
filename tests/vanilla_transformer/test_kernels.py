import math

import pytest
import torch
import torch.nn.functional as F

from vanilla_transformer.kernels_vanilla_transformer import dropout


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

import pytest
import torch

from benchmarks.architectures.models import ARCHITECTURES, build_equal, count_parameters
from benchmarks.architectures.run import main


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_no_token_sees_a_later_one_or_padding(name):
    torch.manual_seed(0)
    model = build_equal(name, 40, 32, 2).eval()
    source, target = torch.randint(4, 40, (2, 6)), torch.randint(4, 40, (2, 5))
    source[1, 4:] = 1
    logits = model(source, target)
    assert logits.shape == (2, 5, 40)
    changed = target.clone()
    changed[:, 3] = (changed[:, 3] - 4 + 1) % 36 + 4
    torch.testing.assert_close(model(source, changed)[:, :3], logits[:, :3])
    assert (model(source, changed)[:, 3:] - logits[:, 3:]).abs().max() > 1e-4
    torch.testing.assert_close(model(source[1:, :4], target[1:]), logits[1:], atol=1e-4, rtol=1e-4)
    other = source.clone()
    other[:, 0] = (other[:, 0] - 4 + 1) % 36 + 4
    assert (model(other, target) - logits).abs().max() > 1e-4


def test_all_have_as_many_parameters():
    sizes = [count_parameters(build_equal(name, 40, 64, 2)) for name in ARCHITECTURES]
    assert max(sizes) / min(sizes) < 1.03


@pytest.mark.parametrize("task", ["copy", "recall", "cost"])
def test_a_table_of_each_task(task, tmp_path, capsys):
    small = ["--steps", "2", "--seeds", "2", "--width", "16", "--batch_size", "2", "--longest", "6"]
    output = tmp_path / "table.md"
    assert main(["--task", task, *small, "--test_lengths", "5", "--output", str(output)]) == 0
    text = output.read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in ARCHITECTURES)

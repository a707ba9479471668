from pathlib import Path

import torch

from vaebench.training.collectives import gather_rows, mean_with_graph


def loss(rows: torch.Tensor, everything: torch.Tensor, start: int) -> torch.Tensor:
    """A mean over rows in which every row meets every row of the batch and its own place."""
    places = torch.arange(start, start + len(rows))
    return ((rows @ everything.T).exp().sum(1) * (1 + places)).mean()


def batch() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def test_one_process_is_left_alone() -> None:
    x = batch()
    assert mean_with_graph(x) is x
    assert gather_rows(x) == (x, 0)


PROCESS = """
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, {here!r})
from test_collectives import batch, loss
from vaebench.training.collectives import gather_rows, mean_with_graph
rank = dist.get_rank()
rows = batch()[3 * rank : 3 * rank + 3].clone().requires_grad_()
everything, start = gather_rows(rows)
first = loss(rows, everything, start)
first.backward()
gathered, rows.grad = rows.grad, None
second = mean_with_graph(rows.mean()).abs() * 3
second.backward()
torch.save([everything.detach(), first.detach(), gathered, second.detach(), rows.grad], {path!r} + str(rank))
"""


def test_two_processes_have_the_losses_and_gradients_of_one(tmp_path, in_two_processes) -> None:
    in_two_processes(PROCESS.format(here=str(Path(__file__).parent), path=str(tmp_path / "found")))
    found = [torch.load(tmp_path / f"found{rank}") for rank in range(2)]

    whole = batch().requires_grad_()
    expected = loss(whole, whole, 0)
    expected.backward()
    for everything, *_ in found:
        assert torch.equal(everything, batch())
    torch.testing.assert_close((found[0][1] + found[1][1]) / 2, expected.detach())
    # What the loop does with gradients is to average them: a row's, which one process alone has, is halved.
    torch.testing.assert_close(torch.cat([found[0][2], found[1][2]]) / 2, whole.grad)
    mean = batch().mean().abs() * 3
    for *_, second, gradient in found:
        torch.testing.assert_close(second, mean)
        torch.testing.assert_close(gradient / 2, torch.full((3, 3), 3 / 18) * batch().mean().sign())

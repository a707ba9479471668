from pathlib import Path

import pytest
import torch
from torch import nn

from vaebench.tokenizers.base import LatentNormalisation
from vaebench.training.batch_norm import LatentBatchNorm


def batches(n=3):
    generator = torch.Generator().manual_seed(0)
    return [5 + 3 * torch.randn(4, 6, 3, 2, generator=generator) for _ in range(n)]


def test_agrees_with_torch_in_training_and_evaluation():
    ours, theirs = LatentBatchNorm(6), nn.BatchNorm2d(6, eps=1e-4, momentum=0.1, affine=False)
    for batch in batches():
        one, two = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        found, expected = ours(one), theirs(two)
        torch.testing.assert_close(found, expected)
        weights = torch.linspace(-1, 1, found.numel()).view_as(found)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(one.grad, two.grad)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    assert ours.batches == 3
    before = ours.mean.clone()
    torch.testing.assert_close(ours.eval()(batches()[0]), theirs.eval()(batches()[0]))
    assert torch.equal(ours.mean, before)


def test_what_the_running_statistics_begin_with():
    known = LatentNormalisation(shift=(5.0,) * 6, scale=(1 / 3,) * 6, source="known")
    norm = LatentBatchNorm(6, initial=known)
    torch.testing.assert_close(norm.by_running(batches()[0]), (batches()[0] - 5) / (9 + 1e-4) ** 0.5)
    assert norm.normalisation("again").shift == pytest.approx(known.shift)
    assert norm.normalisation("again").scale == pytest.approx(known.scale)
    norm, (first, second, _) = LatentBatchNorm(6), batches()
    norm.begin(*norm.statistics(first))
    torch.testing.assert_close(norm.mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(norm.variance, first.var((0, 2, 3), correction=0))
    norm.update(*norm.statistics(first), first)
    moved = norm.mean.clone()
    norm.begin(*norm.statistics(second))
    assert torch.equal(norm.mean, moved)


PROCESS = """
import sys
sys.path.insert(0, {here!r})
import torch
import torch.distributed as dist
from test_batch_norm import batches
from vaebench.training.batch_norm import LatentBatchNorm
rank = dist.get_rank()
norm, found = LatentBatchNorm(6), []
for batch in batches():
    part = batch[2 * rank : 2 * rank + 2].clone().requires_grad_()
    out = norm(part)
    weights = torch.linspace(-1, 1, batch.numel()).view_as(batch)[2 * rank : 2 * rank + 2]
    (out * weights).sum().backward()
    found += [out.detach(), part.grad]
torch.save([*found, norm.mean, norm.variance], {path!r} + str(rank))
"""


def test_two_processes_have_the_statistics_and_gradients_of_one(tmp_path, in_two_processes):
    in_two_processes(PROCESS.format(here=str(Path(__file__).parent), path=str(tmp_path / "found")))
    *first, mean, variance = torch.load(tmp_path / "found0")
    *second, _, _ = torch.load(tmp_path / "found1")
    norm, expected = LatentBatchNorm(6), []
    for batch in batches():
        whole = batch.clone().requires_grad_()
        out = norm(whole)
        (out * torch.linspace(-1, 1, batch.numel()).view_as(batch)).sum().backward()
        expected += [out.detach(), whole.grad]
    for one, two, whole in zip(first, second, expected, strict=True):
        torch.testing.assert_close(torch.cat([one, two]), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean, norm.mean)
    torch.testing.assert_close(variance, norm.variance)

import numpy as np
import pytest
import torch

from vaebench.training.step import make_accelerator, to_device

PATIENT = """
import datetime, torch
from vaebench.training.step import make_accelerator
first, second = make_accelerator("cpu"), make_accelerator("cpu", "bf16")
assert first.num_processes == second.num_processes == 2
backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
assert backend.options._timeout == datetime.timedelta(hours=24), backend.options._timeout
second.wait_for_everyone()
"""


def test_processes_wait_for_each_other_for_a_day(in_two_processes):
    in_two_processes(PATIENT, grouped=False)


def test_without_a_launcher_there_is_no_group():
    assert make_accelerator("cpu").num_processes == 1
    assert make_accelerator("cpu", "bf16").num_processes == 1
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("values", [np.arange(6.0).reshape(2, 3).T, torch.arange(6).view(2, 3).T])
def test_arrays_and_tensors_come_as_they_are(values):
    moved = to_device(values, torch.device("cpu"))
    assert torch.equal(moved, torch.as_tensor(values))
    assert moved.dtype == torch.as_tensor(values).dtype

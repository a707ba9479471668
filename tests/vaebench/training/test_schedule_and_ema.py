import copy
import itertools
import math

import pytest
import torch
from torch import nn

from vaebench.training.ema import Ema, ema_decay
from vaebench.training.schedule import learning_rate_factor


def test_constant_schedule_warms_up_then_stays():
    factors = [learning_rate_factor(step, 100, "constant", warmup=4) for step in range(8)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_cosine_schedule_falls_to_its_end_and_stays_there():
    factors = [learning_rate_factor(step, 101, "cosine", final=0.1) for step in range(101)]
    assert factors[0] == 1.0
    assert factors[50] == pytest.approx(0.55)
    assert factors[25] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert factors[100] == pytest.approx(0.1)
    assert learning_rate_factor(500, 101, "cosine", final=0.1) == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(factors))


def test_schedule_of_one_step_is_defined():
    assert learning_rate_factor(0, 1, "cosine") == 1.0
    assert learning_rate_factor(0, 1, "cosine", warmup=1) == 1.0


def test_decay_warms_up():
    assert ema_decay(0, 0.9999) == pytest.approx(0.1)
    assert ema_decay(90, 0.9999) == pytest.approx(0.91)
    assert ema_decay(10**6, 0.9999) == 0.9999
    assert ema_decay(0, 0.9999, warmup=False) == 0.9999


def test_average_of_a_ramp_without_warmup():
    # Weights w_t = t for t = 1..n from a_0 = 0: a_n = n - d (1 - d^n) / (1 - d).
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(module, decay=0.9, warmup=False)
    for t in range(1, 31):
        nn.init.constant_(module.weight, t)
        ema.update(module, t - 1)
    assert ema.averaged.weight.item() == pytest.approx(30 - 0.9 * (1 - 0.9**30) / 0.1, rel=1e-6)


def test_average_with_zero_decay_is_the_module_and_leaves_it_alone():
    module = nn.BatchNorm1d(3)
    ema = Ema(module, decay=0.0)
    module(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    before = copy.deepcopy(module.state_dict())
    ema.update(module, 0)
    for name, value in ema.averaged.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert not ema.averaged.training
    assert not any(p.requires_grad for p in ema.averaged.parameters())
    assert all(p.requires_grad for p in module.parameters())

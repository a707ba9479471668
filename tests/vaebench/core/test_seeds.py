import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vaebench.core.seeds import batch_indices, sample_normal, sample_uniform, seed_of


def test_seed_tells_types_and_boundaries_apart():
    seeds = {seed_of(1, 23), seed_of(12, 3), seed_of("1", 23), seed_of("ab", "c"), seed_of("a", "bc")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_noise_depends_on_the_sample_alone():
    whole = sample_normal(np.arange(10), (3, 2), 0, "noise")
    parts = sample_normal(np.array([7, 2]), (3, 2), 0, "noise")
    assert (whole[[7, 2]] == parts).all()
    assert not (whole == sample_normal(np.arange(10), (3, 2), 1, "noise")).any()


def test_noise_is_standard_normal_and_uncorrelated():
    noise = sample_normal(np.arange(4000), (8,), 5, "law").numpy()
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(noise.T)
    assert np.abs(correlation - np.eye(8)).max() < 0.08


@given(n=st.integers(1, 40), batch=st.integers(1, 25))
def test_every_epoch_visits_each_row_once(n, batch):
    steps = -(-3 * n // batch)
    stream = np.concatenate([batch_indices(n, batch, step, 0) for step in range(steps)])
    for epoch in range(3):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_epochs_differ_and_steps_are_stateless():
    first, second = batch_indices(50, 50, 0, 3), batch_indices(50, 50, 1, 3)
    assert (first != second).any()
    assert (batch_indices(50, 50, 1, 3) == second).all()


def test_uniform_draws_of_a_sample_are_its_own_and_uniform():
    whole = sample_uniform(np.arange(4000), (), 5, "law")
    assert whole.shape == (4000,)
    assert stats.kstest(whole.numpy(), "uniform").pvalue > 1e-3
    assert (sample_uniform(np.array([7, 2]), (), 5, "law") == whole[[7, 2]]).all()

"""Batches: each row once, the right values, an order that depends on seed and epoch only, bounded buffers."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import spearmanr

from vaebench.core.errors import LatentFileError
from vaebench.latents import reading
from vaebench.latents.reading import batches, block_order


def collect(latents, batch_size=32, **settings):
    found = list(batches(latents, batch_size, **settings))
    return np.concatenate([b.rows for b in found]), np.concatenate([b.mean for b in found]), found


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 7 * 80)


ORDERS = [
    {"order": "full"},
    {"order": "auto"},
    {"order": "auto", "ram_budget": 0},
    {"order": "blocks"},
    {"order": "blocks", "buffer_bytes": 1},
    {"order": "blocks", "buffer_bytes": 50 * 80},
]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("settings", ORDERS)
def test_each_row_once_with_its_values(random_file, settings, dtype):
    latents = random_file(dtype=dtype)
    rows, mean, found = collect(latents, **settings)
    assert np.array_equal(np.sort(rows), np.arange(300))
    assert mean.dtype == np.float32
    assert np.array_equal(mean, latents.mean()[rows])
    assert np.array_equal(np.concatenate([b.std for b in found]), latents.std()[rows])
    assert [len(b.rows) for b in found] == [32] * 9 + [12]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("settings", ORDERS)
def test_order_is_a_function_of_seed_and_epoch(random_file, settings):
    latents = random_file()
    first, *_ = collect(latents, seed=1, epoch=2, **settings)
    assert np.array_equal(first, collect(latents, seed=1, epoch=2, **settings)[0])
    assert not np.array_equal(first, collect(latents, seed=1, epoch=3, **settings)[0])
    assert not np.array_equal(first, collect(latents, seed=2, epoch=2, **settings)[0])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("order", ["full", "blocks"])
def test_options(random_file, order):
    latents = random_file()
    found = list(batches(latents, 32, order=order, std=False, drop_last=True))
    assert [len(b.rows) for b in found] == [32] * 9
    assert all(b.std is None for b in found)
    assert [len(b.rows) for b in batches(latents, 1000, order=order)] == [300]
    with pytest.raises(ValueError, match="batch_size"):
        batches(latents, 0)


def test_blocks_are_shuffled_and_start_elsewhere_each_epoch():
    starts = set()
    for epoch in range(20):
        groups = block_order(1000, 16, 64, seed=0, epoch=epoch)
        spans = sorted(span for group, _ in groups for span in group)
        assert [first for first, _ in spans] == [0, *(last for _, last in spans[:-1])]
        assert spans[-1][1] == 1000
        assert max(last - first for first, last in spans) <= 16
        assert all(len(group) <= 4 and len(order) == sum(b - a for a, b in group) for group, order in groups)
        starts.add(spans[0][1])
        order = np.concatenate([np.concatenate([np.arange(*s) for s in group])[p] for group, p in groups])
        assert abs(spearmanr(order, np.arange(1000)).statistic) < 0.3
    assert len(starts) > 5
    assert [np.sort(order).tolist() for _, order in block_order(3, 16, 64, 0, 0)]


def test_blocks_keep_to_their_buffer(random_file):
    latents = random_file(n=4000, shape=(32, 8, 8))  # 8 KiB a row, 31 MiB of means
    buffer = 4 * 2**20
    tracemalloc.start()
    for _ in batches(latents, 64, order="blocks", std=False, buffer_bytes=buffer):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < buffer + 5 * 64 * 8192 + 2**20


def test_file_that_shrinks_while_it_is_read(random_file):
    latents = random_file(n=4000, shape=(32, 8, 8))
    latents.require_sound("mean")  # else its checksum would say it first
    found = batches(latents, 64, order="blocks", std=False, buffer_bytes=2**20)
    next(found)
    with latents.path.open("r+b") as handle:
        handle.truncate(2**20)
    with pytest.raises(LatentFileError, match="shorter"):
        list(found)

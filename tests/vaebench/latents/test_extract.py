"""Extraction: values, resumption, processes, settings."""

import shutil
import threading
import warnings

import h5py
import numpy as np
import pytest
import torch

from vaebench.core.errors import ConfigError, DataError, LatentFileError, MismatchError, NoSpace, NumericalError
from vaebench.latents import LatentFile, estimated_bytes, extract_latents, verify
from vaebench.tokenizers.base import LatentNormalisation, Posterior, TokenizerSpec


def independent(tokenizer, split, flip=False):
    """Mean and std by the plainest route, in float64."""
    images = split.pixels[..., ::-1] if flip else split.pixels
    x = torch.from_numpy(images.astype(np.float64) / 127.5 - 1)
    mean = torch.nn.functional.conv2d(x, tokenizer.weight.double(), stride=tokenizer.spec.f)
    return mean.numpy(), (torch.sigmoid(mean) + 0.1).numpy()


def test_values_columns_and_provenance(tokenizer, split, path, kit):
    latents = extract_latents(tokenizer, split, path, data_info=kit.info(), batch_size=16)
    mean, std = independent(tokenizer, split)
    assert np.allclose(latents.mean(), mean, atol=1e-4)
    assert np.allclose(latents.std(), std, atol=1e-5)
    assert latents.mean().dtype == np.float32
    assert latents.shape == (5, 2, 2)
    assert len(latents) == 50
    for name in ("ids", "labels", "attributes", "factors"):
        assert np.array_equal(getattr(latents, name), getattr(split, name)), name
    assert latents.nuisance is None
    assert not latents.flipped.any()
    assert latents.info.tokenizer == tokenizer.spec
    assert latents.data == kit.info()
    assert latents.info.split == "train"
    assert verify(path) == []
    assert not path.with_name("train.h5.partial").exists()


def test_split_without_any_labels(tokenizer, split, path, kit):
    split.labels = split.factors = None
    split.attributes = np.empty((50, 0), np.uint8)
    latents = extract_latents(tokenizer, split, path, data_info=kit.info())
    assert latents.labels is latents.attributes is latents.factors is None
    assert verify(path) == []


def test_statistics_are_those_of_sampled_latents(tokenizer, path, kit):
    split = kit.Split(400)
    latents = extract_latents(tokenizer, split, path, data_info=kit.info(), shard_rows=64)
    mean, std = latents.mean().astype(np.float64), latents.std().astype(np.float64)
    found = latents.info.statistics
    variance = mean.var(axis=(0, 2, 3)) + np.square(std).mean(axis=(0, 2, 3))
    assert np.allclose(found.mean, mean.mean(axis=(0, 2, 3)), rtol=1e-10)
    assert np.allclose(found.std, np.sqrt(variance), rtol=1e-10)
    assert np.allclose(found.std_of_means, mean.std(axis=(0, 2, 3)), rtol=1e-10)
    noise = np.random.default_rng(0).standard_normal((200, *mean.shape))
    sampled = (mean + std * noise).transpose(2, 0, 1, 3, 4).reshape(5, -1)
    assert np.allclose(found.std, sampled.std(1), rtol=0.01)


def test_flip_both_appends_mirrored_rows(tokenizer, split, path, kit):
    latents = extract_latents(tokenizer, split, path, data_info=kit.info(), flip="both", batch_size=7, shard_rows=16)
    plain, _ = independent(tokenizer, split)
    mirrored, _ = independent(tokenizer, split, flip=True)
    assert len(latents) == 100
    assert np.allclose(latents.mean(slice(0, 50)), plain, atol=1e-4)
    assert np.allclose(latents.mean(slice(50, 100)), mirrored, atol=1e-4)
    assert latents.flipped.tolist() == [False] * 50 + [True] * 50
    assert np.array_equal(latents.ids, np.tile(split.ids, 2))
    assert np.array_equal(latents.attributes[50:], split.attributes)
    assert verify(path) == []


@pytest.mark.parametrize("batch_size", [1, 13, 50, 200])
def test_batch_size_moves_values_by_rounding_only(tokenizer, split, tmp_path, kit, batch_size):
    one = extract_latents(tokenizer, split, tmp_path / "a.h5", data_info=kit.info(), batch_size=8)
    other = extract_latents(tokenizer, split, tmp_path / "b.h5", data_info=kit.info(), batch_size=batch_size)
    assert np.allclose(one.mean(), other.mean(), atol=1e-5)
    assert np.allclose(one.std(), other.std(), atol=1e-5)


def test_float16_is_half_as_large_and_read_as_float32(tokenizer, split, tmp_path, kit):
    single = extract_latents(tokenizer, split, tmp_path / "a.h5", data_info=kit.info())
    half = extract_latents(tokenizer, split, tmp_path / "b.h5", data_info=kit.info(), dtype="float16")
    assert half.nbytes == single.nbytes // 2 == estimated_bytes(50, tokenizer.spec, kit.size, dtype="float16")
    assert half.mean(np.arange(3)).dtype == half.mean(slice(3)).dtype == np.float32
    assert np.array_equal(half.mean(), single.mean().astype(np.float16).astype(np.float32))
    assert half.id != single.id
    assert verify(half.path) == []


def test_float16_overflow_is_an_error(kit, split, path):
    with pytest.raises(NumericalError, match=r"float16.*float32"):
        extract_latents(kit.Tokenizer(gain=1e5), split, path, data_info=kit.info(), dtype="float16")
    assert not path.exists()


# 100 rows in shards of 16, batches of 8: two calls a shard, but three where rows 48 .. 63 turn from plain to mirrored,
# and one for the last four rows; 14 in all.
@pytest.mark.parametrize(
    ("kill_at_call", "shards", "calls_left"), [(1, 0, 14), (3, 1, 12), (5, 2, 10), (9, 3, 8), (13, 5, 3), (14, 6, 1)]
)
def test_killed_and_resumed_equals_uninterrupted(kit, split, tmp_path, kill_at_call, shards, calls_left):
    settings = {"data_info": kit.info(), "batch_size": 8, "flip": "both", "shard_rows": 16}
    whole = extract_latents(kit.Tokenizer(), split, tmp_path / "whole.h5", **settings)
    killed = kit.Tokenizer()
    killed.kill_at_call = kill_at_call
    with pytest.raises(kit.Killed):
        extract_latents(killed, split, tmp_path / "cut.h5", **settings)
    assert not (tmp_path / "cut.h5").exists()
    assert len(list((tmp_path / "cut.h5.partial").glob("shard-*.npy"))) == shards
    again = kit.Tokenizer()
    resumed = extract_latents(again, split, tmp_path / "cut.h5", **settings)
    assert again.calls == calls_left
    assert resumed.id == whole.id
    assert (tmp_path / "cut.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_killed_while_joining(kit, tokenizer, split, tmp_path, monkeypatch):
    settings = {"data_info": kit.info(), "shard_rows": 16}
    whole = extract_latents(tokenizer, split, tmp_path / "whole.h5", **settings)

    class DiesInTheMerge:
        process_index, num_processes, waits = 0, 1, 0

        def wait_for_everyone(self) -> None:
            self.waits += 1
            if self.waits == 5:
                raise kit.Killed

    with pytest.raises(kit.Killed):
        extract_latents(tokenizer, split, tmp_path / "cut.h5", processes=DiesInTheMerge(), **settings)
    assert not (tmp_path / "cut.h5").exists()
    partial = tmp_path / "cut.h5.partial"
    assert (partial / "merged.h5").exists()
    (partial / ".shard-000001.npy.1.tmp").write_bytes(b"half")
    calls = tokenizer.calls
    assert extract_latents(tokenizer, split, tmp_path / "cut.h5", **settings).id == whole.id
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cut.h5", "whole.h5"]
    assert tokenizer.calls == calls


def test_damaged_shard_is_named_and_made_again(kit, tokenizer, split, path):
    settings = {"data_info": kit.info(), "batch_size": 8, "shard_rows": 16}
    killed = kit.Tokenizer()
    killed.kill_at_call = 5
    with pytest.raises(kit.Killed):
        extract_latents(killed, split, path, **settings)
    shard = path.with_name("train.h5.partial") / "shard-000001.npy"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(LatentFileError, match=r"shard-000001.*damaged"):
        extract_latents(tokenizer, split, path, **settings)
    extract_latents(tokenizer, split, path, **settings)
    assert verify(path) == []


def test_finished_file_is_returned_without_work(kit, split, path):
    first = extract_latents(kit.Tokenizer(), split, path, data_info=kit.info())
    path.with_name("train.h5.partial").mkdir()
    tokenizer = kit.Tokenizer()
    assert extract_latents(tokenizer, split, path, data_info=kit.info()).id == first.id
    assert tokenizer.calls == 0


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tokenizer": 2.0}, "tokenizer.checkpoint_hash: hash-of-1 and hash-of-2"),
        ({"flip": "both"}, "transform.flip: none and both"),
        ({"dtype": "float16"}, "dtype: float32 and float16"),
        ({"data_info": "beef"}, "data.fingerprint: f00d and beef"),
    ],
)
def test_other_settings_are_refused_and_replaced_only_when_told(kit, split, path, finished, change, named):
    killed = kit.Tokenizer()
    killed.kill_at_call = None if finished else 3
    settings = {"data_info": kit.info(), "batch_size": 8, "shard_rows": 16}
    try:
        extract_latents(killed, split, path, **settings)
    except kit.Killed:
        assert not finished
    tokenizer = kit.Tokenizer(change.get("tokenizer", 1.0))
    settings |= {key: value for key, value in change.items() if key in ("flip", "dtype")}
    if "data_info" in change:
        settings["data_info"] = kit.info(change["data_info"])
    with pytest.raises(MismatchError, match=named):
        extract_latents(tokenizer, split, path, **settings)
    replaced = extract_latents(tokenizer, split, path, overwrite=True, **settings)
    assert replaced.info.tokenizer == tokenizer.spec
    assert verify(path) == []


def test_overwrite_takes_up_its_own_partial_work(kit, split, path):
    settings = {"data_info": kit.info(), "batch_size": 8, "shard_rows": 16, "overwrite": True}
    killed, again = kit.Tokenizer(), kit.Tokenizer()
    killed.kill_at_call = 5
    with pytest.raises(kit.Killed):
        extract_latents(killed, split, path, **settings)
    extract_latents(again, split, path, **settings)
    assert again.calls == 3


class Together:
    """Threads in place of processes."""

    def __init__(self, index: int, barrier: threading.Barrier) -> None:
        self.process_index, self.num_processes, self.barrier = index, barrier.parties, barrier

    def wait_for_everyone(self) -> None:
        self.barrier.wait(30)


@pytest.mark.parametrize("world", [2, 3])
def test_number_of_processes_does_not_matter(kit, split, tmp_path, world):
    settings = {"data_info": kit.info(), "batch_size": 8, "flip": "both", "shard_rows": 16}
    alone = extract_latents(kit.Tokenizer(), split, tmp_path / "alone.h5", **settings)
    barrier = threading.Barrier(world)
    tokenizers = [kit.Tokenizer() for _ in range(world)]
    found = [None] * world

    def work(index: int) -> None:
        found[index] = extract_latents(
            tokenizers[index], split, tmp_path / "many.h5", processes=Together(index, barrier), **settings
        )

    threads = [threading.Thread(target=work, args=(index,)) for index in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [latents.id for latents in found] == [alone.id] * world
    assert (tmp_path / "many.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()
    assert all(tokenizer.calls for tokenizer in tokenizers)


def test_empty_split_and_indivisible_images(kit, tokenizer, path):
    with pytest.raises(DataError, match="no images"):
        extract_latents(tokenizer, kit.Split(0), path, data_info=kit.info())
    with pytest.raises(DataError, match=r"10 x 10.*f=4"):
        extract_latents(tokenizer, kit.Split(4, size=10), path, data_info=kit.info())


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_hold_images(tokenizer, split, path, kit, batch_size):
    with pytest.raises(ConfigError, match=f"batch_size must be positive, got {batch_size}"):
        extract_latents(tokenizer, split, path, data_info=kit.info(), batch_size=batch_size)
    assert not list(path.parent.iterdir())


def test_spec_that_does_not_hold(kit, split, path):
    class Liar(kit.Tokenizer):
        @property
        def spec(self) -> TokenizerSpec:
            return super().spec.model_copy(update={"d": 6})

    with pytest.raises(MismatchError, match="f4d6"):
        extract_latents(Liar(), split, path, data_info=kit.info())


def test_diverged_tokenizer_is_named_and_work_is_kept(kit, split, path):
    class Diverges(kit.Tokenizer):
        def encode(self, images: torch.Tensor) -> Posterior:
            posterior = super().encode(images)
            if self.calls == 4:
                posterior.mean[2, 0, 0, 0] = torch.nan
            return posterior

    with pytest.raises(NumericalError, match="row 26 with the value nan"):
        extract_latents(Diverges(), split, path, data_info=kit.info(), batch_size=8, shard_rows=16)
    assert not path.exists()
    assert len(list(path.with_name("train.h5.partial").glob("shard-*"))) == 1


def test_space_is_asked_for_before_the_first_image(kit, tokenizer, split, path, monkeypatch):
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(NoSpace):
        extract_latents(tokenizer, split, path, data_info=kit.info())
    assert tokenizer.calls == 0


@pytest.mark.parametrize("when", ["shard", "merge"])
def test_full_disk_keeps_the_work(kit, split, path, monkeypatch, when):
    full = OSError(28, "No space left on device")
    settings = {"data_info": kit.info(), "batch_size": 8, "shard_rows": 16}
    with monkeypatch.context() as patch:
        if when == "shard":
            real = np.lib.format.write_array_header_1_0
            count = iter(range(100))

            def header(handle, fields):
                if next(count) == 2:
                    raise full
                real(handle, fields)

            patch.setattr(np.lib.format, "write_array_header_1_0", header)
        else:

            def create(*args, **kwargs):
                # As HDF5 words it: the errno stands in the text only.
                raise OSError("Can't write data (errno = 28, error message = 'No space left on device')")

            patch.setattr(h5py.File, "create_dataset", create)
        with pytest.raises(NoSpace, match="full"):
            extract_latents(kit.Tokenizer(), split, path, **settings)
    assert not path.exists()
    again = kit.Tokenizer()
    extract_latents(again, split, path, **settings)
    assert again.calls == (3 if when == "shard" else 0)
    assert verify(path) == []


def test_published_normalisation_that_does_not_fit_is_a_warning(kit, split, tmp_path):
    wrong = LatentNormalisation(shift=(0.0,) * 5, scale=(1.0,) * 5, source="a paper")
    with pytest.warns(UserWarning, match="a paper"):
        latents = extract_latents(kit.Tokenizer(10, wrong), split, tmp_path / "a.h5", data_info=kit.info())
    right = latents.normalisation("file").model_copy(update={"source": "another paper"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract_latents(kit.Tokenizer(10, right), split, tmp_path / "b.h5", data_info=kit.info())
    assert LatentFile(tmp_path / "b.h5").normalisation("tokenizer") == right


def test_a_plain_tensor_is_no_posterior(kit, split, path):
    class Plain(kit.Tokenizer):
        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return super().encode(images).mean

    with pytest.raises(DataError, match=r"'blocks' encodes to a Tensor, no Posterior.*vaebench tokenizers check"):
        extract_latents(Plain(), split, path, data_info=kit.info())
    assert not path.exists()


def test_half_precision_is_taken(kit, tokenizer, split, tmp_path):
    class Half(kit.Tokenizer):
        def encode(self, images: torch.Tensor) -> Posterior:
            posterior = super().encode(images)
            return Posterior(posterior.mean.half(), posterior.std.half())

    single = extract_latents(tokenizer, split, tmp_path / "single.h5", data_info=kit.info())
    half = extract_latents(Half(), split, tmp_path / "half.h5", data_info=kit.info())
    assert np.array_equal(half.mean(), single.mean().astype(np.float16).astype(np.float32))

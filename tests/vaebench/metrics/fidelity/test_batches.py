from pathlib import Path

import numpy as np
import pytest

from vaebench.core.errors import DataError, MissingPath
from vaebench.metrics.fidelity.batches import read_batch, write_batch
from vaebench.metrics.fidelity.frechet import frechet_distance, frechet_from_samples
from vaebench.metrics.fidelity.report import fidelity
from vaebench.metrics.fidelity.statistics import statistics
from vaebench.metrics.fidelity.uncertainty import frechet_interval, influence, influence_given

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (600, 3, 4, 5), dtype=np.uint8)
POOLED = RNG.standard_normal((200, 6))
SPATIAL = RNG.standard_normal((200, 4))


def test_there_and_back(tmp_path: Path) -> None:
    pooled, spatial = statistics(POOLED), statistics(SPATIAL)
    write_batch(tmp_path / "all.npz", IMAGES, pooled, spatial)
    found = read_batch(tmp_path / "all.npz")
    assert found.images is not None
    np.testing.assert_array_equal(found.images, IMAGES)
    for ours, theirs in ((pooled, found.pooled), (spatial, found.spatial)):
        assert theirs is not None
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        np.testing.assert_array_equal(ours.covariance, theirs.covariance)
        assert theirs.n == 200


def test_files_are_as_numpy_writes_and_reads_them(tmp_path: Path) -> None:
    write_batch(tmp_path / "own.npz", IMAGES)
    with np.load(tmp_path / "own.npz") as file:
        assert file.files == ["arr_0"]
        np.testing.assert_array_equal(file["arr_0"], IMAGES.transpose(0, 2, 3, 1))
    moments = statistics(POOLED)
    np.savez(tmp_path / "adm.npz", mu=moments.mean.astype(np.float32), sigma=moments.covariance, labels=np.arange(3))
    found = read_batch(tmp_path / "adm.npz")
    assert found.images is None
    assert found.spatial is None
    assert found.pooled is not None
    assert found.pooled.n is None
    assert found.pooled.mean.dtype == np.float64


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    moments = statistics(POOLED)
    wrong: dict[str, tuple[dict[str, np.ndarray], str]] = {
        "first": ({"arr_0": IMAGES}, r"arr_0 is uint8 \(600, 3, 4, 5\).*channels come last"),
        "floats": ({"arr_0": IMAGES.transpose(0, 2, 3, 1) / 255}, "arr_0 is float64"),
        "none": ({"arr_0": IMAGES[:0].transpose(0, 2, 3, 1)}, r"\(0, 4, 5, 3\)"),
        "foreign": ({"images": IMAGES}, "neither images nor moments, but images"),
        "half": ({"mu": moments.mean}, "only one of mu and sigma"),
        "torn": ({"mu": moments.mean[:3], "sigma": moments.covariance}, "do not belong together"),
        "spatial": ({"mu": moments.mean, "sigma": moments.covariance, "mu_s": moments.mean}, "mu_s and sigma_s"),
        "nan": ({"mu": moments.mean * np.nan, "sigma": moments.covariance}, "NaN"),
        "pickled": ({"arr_0": np.array([{}, None], object)}, "no readable"),
    }
    for name, (arrays, message) in wrong.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=message):
            read_batch(tmp_path / f"{name}.npz")
    (tmp_path / "text.npz").write_text("text")
    np.save(tmp_path / "single.npy", POOLED)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "first.npz").read_bytes()[:500])
    for name in ("text.npz", "single.npy", "cut.npz"):
        with pytest.raises(DataError, match="no readable"):
            read_batch(tmp_path / name)
    with pytest.raises(MissingPath, match="does not exist"):
        read_batch(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match="needs images or moments"):
        write_batch(tmp_path / "empty.npz")
    with pytest.raises(ValueError, match="uint8 images"):
        write_batch(tmp_path / "empty.npz", IMAGES.transpose(0, 2, 3, 1))
    assert not (tmp_path / "empty.npz").exists()


def test_fid_to_moments_is_fid_to_their_samples() -> None:
    samples = RNG.standard_normal((150, 6)) + 0.3
    value = frechet_from_samples(samples, POOLED)
    (result,) = fidelity(samples, statistics(POOLED), generator=np.random.default_rng(0), metrics=("fid",))
    assert result.value == pytest.approx(value, rel=1e-9)
    assert (result.n, result.n_reference) == (150, 200)
    assert "reference as given" in str(result.interval)
    assert result.low is not None
    assert result.high is not None
    assert result.low < value < result.high


def test_interval_to_moments_is_that_of_a_reference_held_fixed() -> None:
    samples = RNG.standard_normal((150, 6)) + 0.3
    value = frechet_distance(statistics(samples), statistics(POOLED))
    fixed = frechet_interval(samples, POOLED, value, generator=np.random.default_rng(1), resample_reference=False)
    given = frechet_interval(samples, statistics(POOLED), value, generator=np.random.default_rng(1))
    np.testing.assert_allclose(given, fixed, rtol=1e-9)
    full = frechet_interval(
        samples, statistics(POOLED), value, generator=np.random.default_rng(1), method="full", resamples=400
    )
    assert (full[1] - full[0]) / (given[1] - given[0]) == pytest.approx(1, abs=0.3)
    of_samples, _ = influence(samples, POOLED, statistics(samples), statistics(POOLED))
    np.testing.assert_allclose(influence_given(samples, statistics(samples), statistics(POOLED)), of_samples)


def test_moments_alone_are_not_enough_for_neighbours() -> None:
    with pytest.raises(ValueError, match="moments alone"):
        fidelity(POOLED, statistics(POOLED), generator=RNG, metrics=("kid",))
    with pytest.raises(ValueError, match="cannot be compared"):
        fidelity(SPATIAL, statistics(POOLED), generator=RNG, metrics=("fid",))

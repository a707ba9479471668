"""Family and latent shape of tokenizers, from study files and latent files."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from reports.analysis import analyse
from reports.collect import collect
from reports.comparison import compare
from reports.statistics import partial_correlation
from reports.tokenizers import tokenizer_facts


def latent_file(folder: Path, shape: tuple[int, int, int], f: int = 16, name: str = "test.h5") -> None:
    with h5py.File(folder / name, "w") as file:
        file.attrs["shape"] = json.dumps(shape)
        file.attrs["tokenizer"] = json.dumps({"name": "x", "f": f})


def test_shape_comes_from_the_latent_file_and_family_from_the_study(new_study: Callable) -> None:
    writer = new_study()
    latent_file(writer.stage("extract", "a"), (32, 4, 4))
    latent_file(writer.stage("extract", "b", None), (4, 8, 8), f=8)
    writer.stage("extract", "c", complete=False)
    entries = [{"name": "a", "method": "va-vae"}, {"name": "b", "load": "stabilityai/sd-vae"}]
    facts = tokenizer_facts(collect([writer.finish(config={"tokenizers": entries})])).set_index("label")
    assert facts.loc["a", ["family", "f", "d", "height", "width", "latent_dim"]].tolist() == [
        "va-vae",
        16,
        32,
        4,
        4,
        512,
    ]
    assert facts.loc["b", ["family", "f", "latent_dim"]].tolist() == ["stabilityai/sd-vae", 8, 256]
    assert facts.loc["c", "family"] == "c"
    assert pd.isna(facts.loc["c", "latent_dim"])


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all"])
def test_a_broken_latent_file_leaves_the_shape_unknown(new_study: Callable, content: bytes) -> None:
    writer = new_study()
    (writer.stage("extract", "a") / "test.h5").write_bytes(content)
    with h5py.File(writer.stage("extract", "b") / "test.h5", "w") as file:
        file.attrs["shape"] = "[1, 2"
    facts = tokenizer_facts(collect([writer.finish()]))
    assert facts["latent_dim"].isna().all()


def test_latent_dimension_is_held_fixed(new_study: Callable) -> None:
    writer = new_study()
    rng = np.random.default_rng(0)
    sizes, f1 = [128, 256, 512, 128, 1024, 512], rng.uniform(0.4, 0.7, 6)
    gfid = 90 - 60 * f1 + rng.normal(size=6)
    for place, size in enumerate(sizes):
        writer.tokenizer(f"t{place}", (22, 30, f1[place], gfid[place], 20), grids=False)
        latent_file(writer.stage("extract", f"t{place}"), (size // 16, 4, 4))
    results = collect([writer.finish()])
    table = analyse(results, compare(results.scores)).partial
    row = table[(table["confounders"] == "latent dimension") & (table["target"] == "gfid")].iloc[0]
    assert row["partial"] == pytest.approx(partial_correlation(f1, gfid, sizes).value)

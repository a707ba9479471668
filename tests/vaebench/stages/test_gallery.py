"""Stages `gallery` and `nearest` on a trained study, against what can be computed by hand from its folders."""

import json

import numpy as np
import pytest
from PIL import Image

from vaebench.data import open_data
from vaebench.latents import LatentFile
from vaebench.stages import STAGES
from vaebench.stages.arrays import load_array
from vaebench.stages.base import Context, execute
from vaebench.stages.fidelity import references
from vaebench.tokenizers import load_tokenizer
from vaebench.vision import extract
from vaebench.vision.transforms import to_uint8


def folder(run, pattern):
    return next(path for path in (run / "stages").glob(pattern) if (path / "stage.json").is_file())


@pytest.fixture(scope="module")
def gallery(smoke_run, tmp_path_factory):
    """Folder of a gallery of the smoke study's first tokenizer, and its inputs."""
    inputs = {
        "latents": folder(smoke_run, "extract-kl-vae-*"), "data": folder(smoke_run, "data-*"),
        "reference": folder(smoke_run, "reference-*"), "tokenizer": folder(smoke_run, "train-kl-vae-*"),
    }  # fmt: skip
    config = {"attributes": 2, "images": 8, "points": 20, "thumbnail": 8, "steps": [0, 1, 2], "components": 8}
    place = tmp_path_factory.mktemp("gallery") / "out"
    execute(STAGES.get("gallery")(), config, inputs, place, Context("cpu"))
    return place, inputs


def test_a_traversal_goes_by_the_difference_of_class_means(gallery):
    place, inputs = gallery
    record = json.loads((place / "traversals.json").read_text())
    train, test = (LatentFile(inputs["latents"] / f"{name}.h5") for name in ("train", "test"))
    names = list(open_data(inputs["data"] / "data.h5").info.attributes)
    entry = record["attributes"][0]
    column = names.index(entry["name"])
    has = np.asarray(train.attributes)[:, column] == 1
    means = train.mean(np.arange(len(train)))
    step = means[has].mean(0) - means[~has].mean(0)
    start = test.mean(np.flatnonzero(np.asarray(test.attributes)[:, column] == 0)[:1])
    import torch

    tokenizer = load_tokenizer(str(inputs["tokenizer"]))
    with torch.inference_mode():
        latents = torch.from_numpy(np.concatenate([start + t * step for t in (0, 1, 2)]).astype(np.float32))
        expected = to_uint8(tokenizer.decode(latents)).numpy()
    sheet, side = np.asarray(Image.open(place / "traversals.png")), record["tile"][1]
    for i, image in enumerate(expected):
        tile = sheet[:side, i * (side + 2) :][:, :side].astype(int)
        assert np.abs(tile - image.transpose(1, 2, 0)).max() <= 1
    assert sum(record["faces"]) * (side + 2) - 2 == sheet.shape[0]


def test_the_map_is_of_the_first_test_images(gallery):
    place, inputs = gallery
    record = json.loads((place / "map.json").read_text())
    split = open_data(inputs["data"] / "data.h5").splits["test"]
    assert record["ids"] == split.ids[:20].tolist()
    for name, bits in record["attributes"].items():
        column = list(open_data(inputs["data"] / "data.h5").info.attributes).index(name)
        assert bits == split.attributes[:20, column].tolist()
    assert min(record["x"]) == min(record["y"]) == 0
    assert max(record["x"]) == max(record["y"]) == 1
    with Image.open(place / "map.png") as picture:
        assert picture.size == (20 * 8, 8)


def test_the_nearest_are_the_nearest(smoke_run, tmp_path):
    generate, reference = folder(smoke_run, "generate-kl-vae-*"), folder(smoke_run, "reference-*")
    inputs = {"generate": generate, "reference": reference, "data": folder(smoke_run, "data-*")}
    execute(STAGES.get("nearest")(), {"shown": 2, "neighbours": 3}, inputs, tmp_path / "out", Context("cpu"))
    record = json.loads((tmp_path / "out" / "nearest.json").read_text())
    real, samples = next(references(reference)), load_array(generate / "samples.npy")
    chosen = np.asarray(samples[np.array(record["shown"])])
    network = real.network("cpu")
    features = extract(network, chosen.__getitem__, len(chosen), want=("pooled",))["pooled"]
    distances = np.linalg.norm(features[:, None].astype(float) - np.asarray(real.samples("train")), axis=2)
    np.testing.assert_allclose(np.sort(distances, axis=1)[:, :3], record["distances"], rtol=1e-3, atol=1e-3)
    rows = load_array(reference / "train_rows.npy")
    first = open_data(inputs["data"] / "data.h5").splits["train"].images(rows[distances[0].argsort()[:1]])[0]
    sheet, side = np.asarray(Image.open(tmp_path / "out" / "nearest.png")), chosen.shape[-1]
    assert (sheet[:side, :side] == chosen[0].transpose(1, 2, 0)).all()
    assert (sheet[:side, side + 2 : 2 * side + 2] == first.transpose(1, 2, 0)).all()

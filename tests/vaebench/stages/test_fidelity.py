"""Companion networks, files of ADM's suite, and the scores that need more than pooled features."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vaebench
from vaebench.core.config import Config, build
from vaebench.core.errors import ConfigError, DataError, MismatchError, MissingPath
from vaebench.core.scores import Score
from vaebench.metrics.fidelity.batches import read_batch, write_batch
from vaebench.metrics.fidelity.frechet import frechet_distance, frechet_from_samples
from vaebench.metrics.fidelity.inception_score import inception_score
from vaebench.metrics.fidelity.statistics import statistics
from vaebench.stages import STAGES
from vaebench.stages.base import Context, execute, stage_hash
from vaebench.stages.reference import ReferenceConfig, reference_parts
from vaebench.study.graph import build_graph
from vaebench.study.spec import StudySpec
from vaebench.vision import NETWORKS, extract, load_network
from vaebench.vision.base import Features, FrozenNetwork

CPU = Context(device="cpu")
DATA = {"image_size": 16, "train": 40, "validation": 8, "test": 16}


class Projection(FrozenNetwork):
    """Fixed random projections of the image at 4 x 4: a stand-in for Inception's three outputs."""

    Config = Config
    name = "stand-in"
    input_size = 4
    weights_hash = "of-the-stand-in"
    complete = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        weights = np.random.default_rng(0).standard_normal((48, 6 + 5 + 4)).astype(np.float32)
        self.weight = nn.Parameter(torch.from_numpy(weights))
        self.settle()

    def features(self, images: Tensor) -> Features:
        found = nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) @ self.weight
        pooled, spatial, logits = found.split((6, 5, 4), 1)
        rest = (spatial, logits) if self.complete else (None, None)
        return Features(pooled[:, :, None, None], pooled, *rest)


class Other(Projection):
    name = "other-stand-in"
    complete = False


NETWORKS.register("stand-in", Projection, package="tests")
NETWORKS.register("other-stand-in", Other, package="tests")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fidelity")


@pytest.fixture(scope="module")
def data(root: Path) -> Path:
    return vaebench.prepare_data("avatars", root / "data", DATA, CPU)


@pytest.fixture(scope="module")
def latents(root: Path, data: Path) -> Path:
    return vaebench.extract("pixels?f=8", data, root / "latents", context=CPU)


@pytest.fixture(scope="module")
def batch(root: Path, data: Path) -> Path:
    """A reference as ADM publishes them: moments of more images than it holds."""
    network = load_network("stand-in")
    images = vaebench.open_data(data / "data.h5").splits["train"].images(slice(0, 40))
    found = extract(network, images.__getitem__, 40, want=("pooled", "spatial"))
    path = root / "batch.npz"
    write_batch(path, images[:12], statistics(found["pooled"]), statistics(found["spatial"]))
    return path


def generate(latents: Path, folder: Path, reference: dict, **settings: int) -> dict[str, Score]:
    scores = vaebench.generate(
        latents, folder, steps=[2], nfe=[2], reference=reference, context=CPU,
        sit={"network": {"width": 16, "depth": 1, "heads": 1}, "batch_size": 8, "tensorboard": False},
        settings={"samples": 20, "bootstrap": 10, "per_class": 1, **settings},
    )  # fmt: skip
    return {score.metric: score for score in scores}


Both = tuple[Path, dict]


def stage(folder: Path, kind: str) -> Path:
    return next((folder / "stages").glob(f"{kind}-*"))


@pytest.fixture(scope="module")
def both(root: Path, latents: Path) -> tuple[Path, dict]:
    folder = root / "both"
    return folder, generate(latents, folder, {"networks": ["stand-in", "other-stand-in"]})


def test_scores_are_those_of_their_features(both: Both, data: Path) -> None:
    folder, scores = both
    real = vaebench.open_data(data / "data.h5").splits["train"].images(slice(0, 40))
    samples = np.load(stage(folder, "generate") / "samples.npy")
    kinds = ("pooled", "spatial", "logits")
    of_real, of_samples = (
        extract(load_network("stand-in"), images.__getitem__, len(images), want=kinds) for images in (real, samples)
    )
    assert scores["gfid"].value == pytest.approx(
        frechet_from_samples(of_samples["pooled"], of_real["pooled"]), rel=1e-6
    )
    assert scores["sfid"].value == pytest.approx(
        frechet_from_samples(of_samples["spatial"], of_real["spatial"]), rel=1e-6
    )
    assert scores["inception_score"].value == pytest.approx(inception_score(of_samples["logits"]).value, rel=1e-9)
    for name in ("sfid", "inception_score"):
        assert scores[name].low <= scores[name].value <= scores[name].high
        assert scores[name].protocol["network"]["name"] == "stand-in"
    assert scores["sfid"].protocol["dimension"] == 5
    assert scores["inception_score"].protocol["splits"] == 1


def test_companions_add_distances_under_their_names(both: Both) -> None:
    folder, scores = both
    own = {name for name in scores if "other_stand_in" in name}
    assert own == {"gfid_other_stand_in", "gfid_vs_reconstructions_other_stand_in"}
    assert scores["gfid_other_stand_in"].protocol["network"]["name"] == "other-stand-in"
    assert scores["gfid_other_stand_in"].value == pytest.approx(scores["gfid"].value)  # the same projection
    rfid = {s["metric"]: s for s in json.loads((stage(folder, "reconstruct") / "scores.json").read_text())}
    assert rfid["rfid_other_stand_in"]["value"] == pytest.approx(rfid["rfid"]["value"])
    assert rfid["rfid"]["protocol"]["network"]["name"] == "stand-in"
    assert "pairs" in rfid["rfid"]["interval"]
    assert (stage(folder, "reference") / "companions" / "other-stand-in" / "train.npy").is_file()


def test_a_companion_may_be_a_class_in_a_file(root: Path, latents: Path) -> None:
    (root / "lib").mkdir()
    code = "\n".join(Path(__file__).read_text().partition("import vaebench\n")[0].splitlines()[2:])
    imports = "from vaebench.core.config import Config\nfrom vaebench.vision.base import Features, FrozenNetwork\n"
    (root / "lib" / "nets.py").write_text(f"{code}\n{imports}{inspect.getsource(Projection)}")
    name = f"{root}/lib/nets.py:Projection"
    scores = generate(latents, root / "file", {"networks": ["stand-in", name]})
    assert scores["gfid_nets.py:Projection"].value == pytest.approx(scores["gfid"].value)
    assert scores["gfid_nets.py:Projection"].protocol["network"]["name"] == name
    assert "gfid_vs_reconstructions_nets.py:Projection" in scores
    assert sorted(path.name for path in (root / "lib").iterdir() if path.name[0] != "_") == ["nets.py"]
    with pytest.raises(ConfigError, match="must differ"):
        build(ReferenceConfig, {"networks": ["stand-in", "a/nets.py:Net", "b/nets.py:Net"]})


def test_a_companion_leaves_the_first_networks_scores_alone(both: Both, root: Path, latents: Path) -> None:
    alone = generate(latents, root / "alone", {"network": "stand-in"})
    _, scores = both
    assert set(scores) - set(alone) == {"gfid_other_stand_in", "gfid_vs_reconstructions_other_stand_in"}
    for name, score in alone.items():
        assert (score.value, score.protocol_hash) == (scores[name].value, scores[name].protocol_hash)


def test_a_batch_stands_for_the_training_images(
    root: Path, latents: Path, batch: Path, both: tuple[Path, dict]
) -> None:
    folder = root / "batched"
    scores = generate(latents, folder, {"network": "stand-in", "npz": str(batch)})
    stored = read_batch(batch)
    assert stored.pooled is not None
    assert stored.spatial is not None
    assert stored.images is not None
    samples = np.load(stage(folder, "generate") / "samples.npy")
    found = extract(load_network("stand-in"), samples.__getitem__, 20, want=("pooled", "spatial"))
    # Moments are those stored, of 40 images, and not of the 12 that the file holds.
    assert scores["gfid"].value == pytest.approx(frechet_distance(statistics(found["pooled"]), stored.pooled))
    assert scores["gfid"].value == pytest.approx(both[1]["gfid"].value, rel=1e-5)
    assert scores["sfid"].value == pytest.approx(both[1]["sfid"].value, rel=1e-5)
    assert scores["gfid"].protocol["reference_samples"] == 40
    assert scores["gfid"].protocol["reference"].startswith("stored moments of the batch ")
    assert scores["precision"].protocol["reference_samples"] == 12
    assert scores["precision"].protocol["reference"].startswith("images of the batch ")
    assert scores["gfid"].protocol_hash != both[1]["gfid"].protocol_hash
    assert json.loads((stage(folder, "reference") / "source.json").read_text())["train"]["images"] == 12


def test_neighbours_may_be_looked_for_among_some_images(root: Path, latents: Path, both: Both) -> None:
    folder = root / "some"
    found = generate(latents, folder, {"network": "stand-in"}, neighbours=15)
    assert found["recall"].protocol["reference_samples"] == 15
    assert found["kid"].protocol["reference_samples"] == found["gfid"].protocol["reference_samples"] == 40
    assert found["gfid"].value == both[1]["gfid"].value
    assert found["recall"].value * 15 == pytest.approx(round(found["recall"].value * 15), abs=1e-9)


def test_moments_alone_give_no_neighbours(root: Path, latents: Path, batch: Path) -> None:
    stored = read_batch(batch)
    write_batch(root / "moments.npz", None, stored.pooled)
    scores = generate(latents, root / "moments", {"network": "stand-in", "npz": str(root / "moments.npz")})
    assert set(scores) == {"gfid", "gfid_vs_reconstructions", "inception_score"}


def test_reconstructions_compare_to_a_batch(root: Path, data: Path, batch: Path) -> None:
    scores = vaebench.reconstruct(
        "pixels?f=8",
        data,
        reference={"network": "stand-in", "test_npz": batch},
        settings={"bootstrap": 10},
        context=CPU,
    )
    (rfid,) = (score for score in scores if score.metric == "rfid")
    assert rfid.protocol["reference"].startswith("stored moments of the batch ")
    assert rfid.protocol["reference_samples"] == 40
    assert "pairs" not in rfid.interval  # the batch may be of other images


def test_batches_that_do_not_fit(root: Path, data: Path, batch: Path) -> None:
    def reference(config: dict, path: Path | str) -> None:
        execute(STAGES.get("reference")(), config, {"data": data, "npz": path}, root / "never", CPU)

    with pytest.raises(MismatchError, match=r"6 pooled features.*mobilenetv2.*1280.*network.name=inception"):
        reference({}, batch)
    stored = read_batch(batch)
    assert stored.images is not None
    write_batch(root / "large.npz", np.repeat(stored.images, 2, 2))
    with pytest.raises(MismatchError, match="32 x 16, those of the data 16 x 16"):
        reference({"network": "stand-in"}, root / "large.npz")
    np.savez(root / "wrong.npz", arr_0=stored.images)
    with pytest.raises(DataError, match="channels come last"):
        reference({"network": "stand-in"}, root / "wrong.npz")
    with pytest.raises(MissingPath, match=r"absent.npz"):
        reference({"network": "stand-in"}, root / "absent.npz")


def test_samples_and_references_as_files(both: Both, root: Path, data: Path) -> None:
    folder, _ = both
    samples = vaebench.export_npz(stage(folder, "generate"), root / "samples.npz")
    expected = np.load(stage(folder, "generate") / "samples.npy")
    with np.load(samples) as file:
        assert file.files == ["arr_0"]
        np.testing.assert_array_equal(file["arr_0"], expected.transpose(0, 2, 3, 1))
    found = read_batch(vaebench.export_npz(stage(folder, "reference"), root / "reference.npz", images=7))
    features = np.load(stage(folder, "reference") / "train.npy")
    assert found.pooled is not None
    assert found.spatial is not None
    assert found.images is not None
    np.testing.assert_allclose(found.pooled.covariance, np.cov(features.T), rtol=1e-6)
    assert len(found.images) == 7
    every = vaebench.open_data(data / "data.h5").splits["train"].images(slice(0, 40))
    assert all((every == image).all((1, 2, 3)).any() for image in found.images)
    with pytest.raises(ConfigError, match=r"ends in \.npz"):
        vaebench.export_npz(stage(folder, "generate"), root / "samples.npy")
    with pytest.raises(DataError, match="generate or reference"):
        vaebench.export_npz(data, root / "data.npz")


def test_studies_of_old_keep_their_hashes(batch: Path) -> None:
    """Hashes of reference stages as they were before companions and batches: the configuration has nothing new."""
    config = STAGES.get("reference")().resolve(ReferenceConfig())
    assert set(config.model_dump(mode="json")) == {"network", "train", "test", "batch_size", "seed"}
    spec = {"study": "s", "tokenizers": [{"name": "a", "load": "pixels?f=8"}], "probe": None}
    plain = build_graph(build(StudySpec, spec))
    assert plain.nodes["reference"].given == {}
    given = build_graph(build(StudySpec, {**spec, "reference": {"npz": str(batch)}}))
    assert given.nodes["reference"].given == {"npz": str(batch)}
    changed = {name for name, node in plain.nodes.items() if node.hash != given.nodes[name].hash}
    assert all(name.startswith(("reference", "reconstruct", "generate")) for name in changed)
    assert "reference" in changed
    identity = stage_hash(STAGES.get("reference")(), config, {"data": "d"})
    assert identity != stage_hash(STAGES.get("reference")(), config, {"data": "d", "npz": "n"})


def test_networks_are_listed_once() -> None:
    config = build(ReferenceConfig, {"networks": ["mobilenetv2", {"name": "dinov2", "options": {"input_size": 112}}]})
    assert (config.network.name, [c.name for c in config.companions]) == ("mobilenetv2", ["dinov2"])
    assert config.companions[0].options == {"input_size": 112}
    with pytest.raises(ConfigError, match="must differ"):
        build(ReferenceConfig, {"networks": ["mobilenetv2", "mobilenetv2"]})
    with pytest.raises(ConfigError, match="takes the place of"):
        build(ReferenceConfig, {"networks": ["mobilenetv2"], "network": "mobilenetv2"})
    assert reference_parts({"train": 5, "npz": Path("a.npz"), "test_npz": None}) == ({"train": 5}, {"npz": "a.npz"})


def test_command_writes_files(both: Both, root: Path) -> None:
    from typer.testing import CliRunner

    from vaebench.cli.app import app

    folder, _ = both
    arguments = ["npz", str(stage(folder, "reference")), str(root / "command.npz"), "--images", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = read_batch(root / "command.npz")
    assert found.images is not None
    assert len(found.images) == 3
    assert CliRunner().invoke(app, ["npz", str(root / "absent"), str(root / "command.npz")]).exit_code == 2

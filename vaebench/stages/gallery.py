"""Stage ``gallery``: a latent space to look at. Attributes turned up along their probes' directions; a map of images.

What a traversal does to the image is judged by the reader of attributes on the reference network's features, which
knows no tokenizer; what it does to the latents, by their own linear probes (`vaebench.metrics.readability.traversal`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.files import write_json
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.data import open_data
from vaebench.data.base import ImageDataset
from vaebench.latents import LatentFile
from vaebench.metrics.fidelity.attributes import READABLE, AttributeReader
from vaebench.metrics.intervals import resample_counts
from vaebench.metrics.probing.features import fit_features
from vaebench.metrics.readability.traversal import Moves, least_squares_reader, moves
from vaebench.stages.arrays import load_array, save_grid
from vaebench.stages.attributes import load_reader
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.fidelity import Reference, references
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.checked import Checked
from vaebench.vision import extract
from vaebench.vision.transforms import rounded

# Two attributes that go together more closely than this are not both shown: the second would add little.
ALIKE = 0.5
RESAMPLES = 1000


class GalleryConfig(Config):
    """What is shown.

    Attributes:
        prefer: attributes to traverse before others, where the data have them and a reader can tell them.
        attributes: how many are traversed; the best read ones after the preferred.
        steps: positions along a direction; 0 is the reconstruction, 1 the distance between the means of images without
            and with the attribute.
        faces: images drawn per attribute, of those that lack it.
        images: images that lack it, over which changes are measured; at the last step.
        samples: training images from which directions come (0: all).
        components: of the whitening behind the probes.
        points: test images on the map. thumbnail: side of their pictures in pixels.
        tile: largest side of a decoded picture.
        batch_size: images at a time.
        seed: of the map and of resampling.
    """

    prefer: tuple[str, ...] = ()
    attributes: int = Field(5, ge=0)
    steps: tuple[float, ...] = (-1.0, 0.0, 1.0, 2.0)
    faces: int = Field(2, ge=1)
    images: int = Field(64, ge=2)
    samples: int = Field(20_000, ge=0)
    components: int = Field(64, ge=1)
    points: int = Field(400, ge=0)
    thumbnail: int = Field(32, ge=8)
    tile: int = Field(96, ge=16)
    batch_size: int = Field(64, gt=0)
    seed: int = 0


class GalleryStage(Stage[GalleryConfig]):
    """Leaves ``traversals.json`` and ``traversals.png`` (one row per attribute and image, one column per step), where
    there are attributes; ``map.json`` and ``map.png`` (thumbnails, row by row), where there are test images.

    Inputs: ``tokenizer``, ``latents``, ``data``, ``reference``.
    """

    kind = "gallery"
    Config = GalleryConfig

    def run(self, config: GalleryConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        latents = require_kind(inputs["latents"], ["extract"], "latents")
        dataset = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5")
        reference = require_kind(inputs["reference"], ["reference"], "reference")
        files = {name: LatentFile(latents / f"{name}.h5") for name in ("train", "test")}
        if config.points:
            _write_map(config, files["test"], dataset, folder)
        if config.attributes and all(file.attributes is not None for file in files.values()):
            shown = _Traversals(config, files, dataset, reference, inputs["tokenizer"], context.torch_device())
            shown.write(folder)
        return []

    def estimate(self, config: GalleryConfig, facts: Mapping[str, Any]) -> Estimate:
        decoded = config.attributes * (len(config.steps) * config.faces + 2 * config.images)
        return Estimate(seconds=5 + decoded / 100, disk_bytes=decoded * 3 * config.tile**2 + 2e6)


class _Traversals:
    """Directions from training latents; decoded moves of test images that lack the attribute."""

    def __init__(
        self,
        config: GalleryConfig,
        files: Mapping[str, LatentFile],
        dataset: ImageDataset,
        reference: Path,
        tokenizer: str,
        device: str,
    ) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        self.real = next(references(reference))
        self.tokenizer = Checked(load_tokenizer(tokenizer, device=device))
        self.test, self.y_test = files["test"], np.asarray(files["test"].attributes)
        self.reader = _reader(reference, self.real, dataset)
        train = files["train"]
        rows = np.arange(len(train))
        if 0 < config.samples < len(rows):
            rows = np.sort(numpy_generator(config.seed, "gallery rows").permutation(len(rows))[: config.samples])
        latents, attributes = train.mean(rows), np.asarray(train.attributes)[rows]
        every = list(dataset.info.attributes)
        usable = (attributes.min(0) < attributes.max(0)) & (self.y_test.min(0) < self.y_test.max(0))
        self.kept = np.flatnonzero(usable)
        self.names = [every[a] for a in self.kept]
        components = min(config.components, len(rows) - 1)
        whitened = fit_features(latents, "pca", components).rows(latents, "cpu").to_tensor(torch.float32).numpy()
        self.moves: Moves = moves(latents.reshape(len(latents), -1), whitened, attributes[:, self.kept])
        self.shown = self._choose(attributes[:, self.kept])

    def write(self, folder: Path) -> None:
        pictures, entries = [], []
        network = self.real.network(self.device) if self.reader is not None else None
        with progress("traverse", len(self.shown), "attributes") as bar:
            for a in self.shown:
                lacking = np.flatnonzero(self.y_test[:, self.kept[a]] == 0)[: self.config.images]
                start = self.test.mean(lacking)
                step = self.moves.steps[a].reshape(start.shape[1:])
                for face in start[: self.config.faces]:
                    pictures.append(self._decode(np.stack([face + t * step for t in self.config.steps])))
                entry: dict[str, Any] = {
                    "name": self.names[a],
                    "probe": self._by_name(self.moves.probes[a]),
                    "cooccurrence": self._by_name(self.moves.cooccurrence[a]),
                    "images": len(lacking),
                }
                if network is not None and self.reader is not None:
                    ends = (self._decode(start), self._decode(start + self.config.steps[-1] * step))
                    read = [self.reader.read(self._features(network, images)).astype(np.float64) for images in ends]
                    entry["read"] = self._changes(read[1] - read[0])
                    entry["before"] = dict(zip(self.reader.names, read[0].mean(0).round(4).tolist(), strict=True))
                entries.append(entry)
                bar.update(1)
        if not entries:
            return
        save_grid(folder / "traversals.png", np.concatenate([self._small(p) for p in pictures]), len(self.config.steps))
        shape = self._small(pictures[0]).shape
        write_json(folder / "traversals.json", {
            "steps": list(self.config.steps), "faces": [min(self.config.faces, e["images"]) for e in entries],
            "tile": list(shape[2:]), "gap": 2, "attributes": entries, "reader": self._about_reader(),
        })  # fmt: skip

    def _choose(self, attributes: np.ndarray) -> list[int]:
        """Preferred ones that can be read, then the best read; never two that nearly always go together."""
        if self.reader is None:
            share = attributes.mean(0)
            quality = {name: -abs(p - 0.5) for name, p in zip(self.names, share, strict=True)}
        else:
            quality = dict(zip(self.reader.names, self.reader.balanced_accuracy, strict=True))
        best = sorted((name for name in quality if name in self.names), key=lambda name: -quality[name])
        wanted = [name for name in self.config.prefer if name in best]
        phi = np.corrcoef(attributes.T) if len(self.names) > 1 else np.ones((1, 1))
        chosen: list[int] = []
        for name in dict.fromkeys([*wanted, *best]):
            a = self.names.index(name)
            if len(chosen) < self.config.attributes and all(abs(phi[a, other]) < ALIKE for other in chosen):
                chosen.append(a)
        return chosen

    def _decode(self, latents: np.ndarray) -> np.ndarray:
        """uint8 images (n, 3, H, W)."""
        parts = []
        with torch.inference_mode():
            for part in torch.from_numpy(latents.astype(np.float32)).split(self.config.batch_size):
                parts.append(rounded(self.tokenizer.decode(part.to(self.device))).cpu().numpy())
        return np.concatenate(parts)

    def _features(self, network: Any, images: np.ndarray) -> np.ndarray:
        found = extract(
            network, images.__getitem__, len(images), batch_size=self.config.batch_size, want=("pooled",),
            title="features of traversals",
        )  # fmt: skip
        return found["pooled"]

    def _changes(self, difference: np.ndarray) -> dict[str, list[float]]:
        """Attribute -> mean change of the share of images that show it, with a 95% bootstrap over images."""
        assert self.reader is not None
        counts = resample_counts(len(difference), RESAMPLES, numpy_generator(self.config.seed, "gallery bootstrap"))
        drawn = counts @ difference / len(difference)
        bounds = np.quantile(drawn, [0.025, 0.975], axis=0)
        table = np.column_stack([difference.mean(0), *bounds]).round(4)
        return {name: row.tolist() for name, row in zip(self.reader.names, table, strict=True)}

    def _by_name(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.names, values.round(4).tolist(), strict=True))

    def _about_reader(self) -> dict[str, Any] | None:
        if self.reader is None:
            return None
        accuracy = dict(zip(self.reader.names, self.reader.balanced_accuracy.round(4).tolist(), strict=True))
        return {"network": self.real.record["name"], "least": READABLE, "balanced_accuracy": accuracy}

    def _small(self, images: np.ndarray) -> np.ndarray:
        side = self.config.tile
        return images if max(images.shape[2:]) <= side else _resized(images, side)


def _reader(reference: Path, real: Reference, dataset: ImageDataset) -> AttributeReader | None:
    """The reference's reader of attributes, or one trained here, of those that it can tell; None where none can be."""
    if dataset.info.attribute_level == "class" or any(real.samples(name) is None for name in ("train", "test")):
        return None
    reader = load_reader(reference)
    if reader is None:
        given = []
        for name in ("train", "test"):
            rows = load_array(reference / f"{name}_rows.npy")
            given += [np.asarray(real.samples(name)), np.asarray(dataset.split(name).attributes)[rows]]
        reader = least_squares_reader(given[0], given[1], given[2], given[3], tuple(dataset.info.attributes))
    reader = reader.readable()
    return reader if reader.names else None


def _write_map(config: GalleryConfig, file: LatentFile, dataset: ImageDataset, folder: Path) -> None:
    """A t-SNE of the first test latents, each with the picture, the label and the attributes of its image."""
    from sklearn.manifold import TSNE  # slow to import

    rows = np.arange(min(config.points, len(file)))
    if len(rows) < 10:
        return
    values = file.mean(rows).reshape(len(rows), -1).astype(np.float64)
    left, scale, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    leading = (left * scale)[:, :50]
    # t-SNE wants distances of order one: latents may be of any scale.
    leading /= leading[:, 0].std() or 1.0
    embedding = TSNE(perplexity=min(30.0, len(rows) / 4), init="pca", random_state=config.seed).fit_transform(leading)
    low, high = embedding.min(0), embedding.max(0)
    places = (embedding - low) / np.maximum(high - low, 1e-12)
    split = dataset.split("test")
    columns = 20
    save_grid(folder / "map.png", _resized(split.images(rows), config.thumbnail), columns=columns, gap=0)
    write_json(folder / "map.json", {
        "x": places[:, 0].round(4).tolist(), "y": places[:, 1].round(4).tolist(), "ids": split.ids[rows].tolist(),
        "thumbnail": config.thumbnail, "columns": columns,
        "labels": None if split.labels is None else split.labels[rows].tolist(),
        "attributes": _columns(dataset.info.attributes, split.attributes, rows),
        "method": f"t-SNE of the {leading.shape[1]} leading principal components of {len(rows)} test latents",
    })  # fmt: skip


def _columns(names: Sequence[str] | None, values: np.ndarray | None, rows: np.ndarray) -> dict[str, list[int]]:
    """Attribute -> 0 or 1 per row, of the attributes that vary among these."""
    if values is None or not names:
        return {}
    table = np.asarray(values)[rows]
    return {name: column.tolist() for name, column in zip(names, table.T, strict=True) if column.min() < column.max()}


def _resized(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 (n, 3, H, W) so that the longer side has ``side`` pixels."""
    height, width = images.shape[2:]
    scale = side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    made = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize(size, Image.Resampling.LANCZOS)) for image in images
    ]
    return np.stack(made).transpose(0, 3, 1, 2)

"""Stage ``score``: every latent score that its inputs allow."""

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import DataError, MismatchError, VaebenchError
from vaebench.core.files import write_json
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.data import open_data
from vaebench.data.base import SPLITS, ImageDataset, ImageSplit
from vaebench.latents import LatentFile, require_match
from vaebench.latents.memory import available_memory
from vaebench.metrics import METRICS
from vaebench.metrics.base import LatentSplit, Metric, MetricInputs
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.features import NetworkConfig
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.checked import Checked
from vaebench.vision import extract, load_network
from vaebench.vision.transforms import to_signed

# Latents of a split that are larger stay on the disk and are read in blocks, however much memory there is.
LOADED_BYTES = 2 * 2**30


class ScoreConfig(Config):
    """Which scores, and how.

    Attributes:
        metrics: registered names; empty for all of them.
        options: metric -> its settings, where they differ from the defaults.
        network: the feature network of scores that end in a Fréchet distance.
        batch_size: images at a time through tokenizer and network.
        seed: of everything that is drawn.
    """

    metrics: tuple[str, ...] = ()
    options: dict[str, dict[str, Any]] = {}
    network: NetworkConfig = NetworkConfig(name="mobilenetv2")
    batch_size: int = Field(64, gt=0)
    seed: int = 0


class ScoreStage(Stage[ScoreConfig]):
    """Leaves the scores and ``notes.json``: what was not available and why, and the seconds of each metric.

    Inputs: ``latents``; ``data`` for images and masks; ``tokenizer`` for scores that encode or decode.
    """

    kind = "score"
    Config = ScoreConfig

    def resolve(self, config: ScoreConfig) -> ScoreConfig:
        names = config.metrics or tuple(METRICS.names())
        strangers = [name for name in config.options if name not in names]
        for name in strangers:
            METRICS.get(name)  # a misspelt one is said to be so
        if strangers:
            raise DataError(f"Options are given for {', '.join(strangers)}, which is not among the metrics asked for.")
        metrics = {name: _metric(name, config) for name in names}
        options = {
            name: {**metric.config.model_dump(mode="json"), "version": metric.version, **_code(name)}
            for name, metric in metrics.items()
        }
        return config.model_copy(update={"metrics": names, "options": options, "network": config.network.resolved()})

    def outside(self, config: ScoreConfig) -> list[str]:
        return config.network.paths

    def run(self, config: ScoreConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        prepared = metric_inputs(config, inputs, context)
        found: list[Score] = []
        missing: dict[str, str] = {}
        seconds: dict[str, float] = {}
        with progress("score", len(config.metrics), "metrics") as bar:
            for name in config.metrics:
                metric = _metric(name, config)
                why = metric.missing(prepared)
                if why is None:
                    began = time.monotonic()
                    try:
                        ran = metric.run(prepared, config.seed)
                        if code := _code(name):
                            ran = [score.model_copy(update={"protocol": {**score.protocol, **code}}) for score in ran]
                        defined, undefined = _defined(ran)
                        found += defined
                        why = f"undefined for these latents: {', '.join(undefined)}" if undefined else None
                    except VaebenchError as error:  # one score that these latents cannot have must not cost the others
                        why = str(error)
                    except (ValueError, FloatingPointError) as error:  # nor one that a library refuses to compute
                        why = f"{type(error).__name__}: {error}"
                    seconds[name] = round(time.monotonic() - began, 3)
                if why is not None:
                    missing[name] = why
                bar.update(1)
        write_json(folder / "notes.json", {"not_available": missing, "seconds": seconds})
        return found

    def estimate(self, config: ScoreConfig, facts: Mapping[str, Any]) -> Estimate:
        return Estimate(seconds=30 + 0.015 * facts["splits"]["train"])


def _defined(scores: list[Score]) -> tuple[list[Score], list[str]]:
    """Scores with a finite value, and the names of the others; an interval that is not finite goes."""
    kept, undefined = [], []
    for score in scores:
        if not math.isfinite(score.value):
            undefined.append(score.metric)
        elif all(bound is None or math.isfinite(bound) for bound in (score.low, score.high)):
            kept.append(score)
        else:
            kept.append(score.model_copy(update={"low": None, "high": None, "interval": None}))
    return kept, sorted(set(undefined))


def _metric(name: str, config: ScoreConfig) -> Metric:
    options = {key: value for key, value in config.options.get(name, {}).items() if key not in {"version", "code"}}
    metric: Metric = METRICS.get(name)(options)
    return metric


def _code(name: str) -> dict[str, str]:
    """The hash of a metric that comes from outside, part of its protocol; nothing for one that ships."""
    code = METRICS.code(name)
    return {"code": code} if code else {}


def metric_inputs(config: ScoreConfig, inputs: Mapping[str, str], context: Context) -> MetricInputs:
    """What metrics may look at, from a folder of latents and what else is given.

    Raises:
        MismatchError: the latents are not of one tokenizer and data set, or the data or tokenizer is another.
    """
    folder = require_kind(inputs["latents"], ["extract"], "latents")
    files = {name: LatentFile(folder / f"{name}.h5") for name in SPLITS}
    for file in files.values():
        require_match(files["train"], file)
    info = files["train"].info
    device = context.torch_device()
    dataset = _dataset(inputs["data"], files["train"]) if "data" in inputs else None
    splits = {name: _split(file, dataset, name) for name, file in files.items()}
    codec = _Codec(inputs["tokenizer"], files["train"], config, device) if "tokenizer" in inputs else None
    mean, std = np.asarray(info.statistics.mean), np.asarray(info.statistics.std)
    return MetricInputs(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        info=files["train"].data,
        shift=mean,
        # A channel that never varies has nothing to be scaled: it becomes 0.
        scale=np.divide(1.0, std, out=np.zeros_like(std, dtype=np.float64), where=std > 0),
        encode=codec.encode if codec else None,
        decode=codec.decode if codec else None,
        fid_features=_fid_features(config, device) if codec and dataset else None,
        f=info.tokenizer.f,
        device=device,
    )


def _dataset(reference: str, train: LatentFile) -> ImageDataset:
    dataset = open_data(require_kind(reference, ["data"], "data") / "data.h5")
    if dataset.info.fingerprint != train.data.fingerprint:
        raise MismatchError(
            f"The latents are of data {train.data.name} {train.data.fingerprint[:10]}, "
            f"and '{reference}' holds {dataset.info.name} {dataset.info.fingerprint[:10]}.",
            "Give the data that the latents were extracted from.",
        )
    return dataset


def _split(file: LatentFile, dataset: ImageDataset | None, name: str) -> LatentSplit:
    """A split without mirrored copies, with images and masks where the data are at hand."""
    file.load(min(available_memory() // 2, LOADED_BYTES))
    n = int(np.sum(~file.flipped))
    images = masks = None
    if dataset is not None:
        source = dataset.split(name)
        images = source.images
        if source.masks(np.zeros(1, np.int64)) is not None:
            masks = partial(_masks, source)
    columns = {
        key: None if (values := getattr(file, key)) is None else values[:n]
        for key in ("labels", "attributes", "factors", "nuisance")
    }
    return LatentSplit(file.stored("mean")[:n], file.stored("std")[:n], **columns, images=images, masks=masks)


def _masks(source: ImageSplit, rows: np.ndarray) -> np.ndarray:
    found = source.masks(rows)
    assert found is not None  # `_split` has looked
    return found


class _Codec:
    """The tokenizer as functions on arrays, loaded when it is first needed."""

    def __init__(self, reference: str, train: LatentFile, config: ScoreConfig, device: str) -> None:
        self.reference, self.train, self.config, self.device = reference, train, config, device
        self._tokenizer: Checked | None = None

    @property
    def tokenizer(self) -> Checked:
        if self._tokenizer is None:
            tokenizer = Checked(load_tokenizer(self.reference, device=self.device))
            wanted, found = self.train.info.tokenizer.checkpoint_hash, tokenizer.spec.checkpoint_hash
            if wanted != found:
                raise MismatchError(
                    f"The latents were made with weights {wanted[:10]}; tokenizer '{self.reference}' has {found[:10]}.",
                    "Give the tokenizer that the latents were extracted with.",
                )
            self._tokenizer = tokenizer
        return self._tokenizer

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(np.ascontiguousarray(images)).split(self.config.batch_size)
        means = [self.tokenizer.encode(to_signed(part.to(self.device))).mean.float().cpu() for part in parts]
        return torch.cat(means).numpy()

    @torch.inference_mode()
    def decode(self, latents: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(np.ascontiguousarray(latents, np.float32)).split(self.config.batch_size)
        return torch.cat([self.tokenizer.decode(part.to(self.device)).float().cpu() for part in parts]).numpy()


def _fid_features(config: ScoreConfig, device: str) -> Any:
    network: list[Any] = []

    def features(images: np.ndarray) -> np.ndarray:
        if not network:
            network.append(load_network(config.network.name, device=device, **config.network.options))
        found = extract(
            network[0], images.__getitem__, len(images), batch_size=config.batch_size, want=("pooled",),
            title="features of decoded latents",
        )  # fmt: skip
        return found["pooled"]

    return features

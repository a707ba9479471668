"""The attribute probe as a latent score: a thin adapter of `vaebench.metrics.probing`.

The same numbers as `vaebench probe` by the same code, on a coarser and wider grid of C, without a score per attribute:
those are in the detail. Named apart (`attribute_...`), so that a study with both does not mix two protocols.
"""

from typing import Literal

from pydantic import Field

from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import SPLITS, SplitName
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.probing.features import Vectorisation
from vaebench.metrics.probing.probe import ProbeConfig, ProbeResult, probe
from vaebench.metrics.readability.vectors import LATENTS, AttributeMetric, ReadabilityConfig, device_of, usable


class AttributeProbeConfig(ReadabilityConfig):
    """As `ReadabilityConfig`, and for the probe.

    Attributes:
        samples: images of each split at most; latents are read in blocks, so that they may be larger than memory.
        threshold: ``half`` (probability 0.5, as published F1 implies), or ``validation``: the best one there.
        top_k: attributes named per image for the recall of DeepFashion.
        resamples: of the bootstrap.
    """

    vectorisations: tuple[Vectorisation, ...] = ("flattened", "pooled", "pca")
    samples: int = Field(1_000_000, ge=2)
    threshold: Literal["half", "validation"] = "half"
    tolerance: float = Field(5e-5, gt=0)
    top_k: int = Field(5, ge=1)
    resamples: int = Field(200, ge=20)


class AttributeProbe(Metric):
    """Macro-F1, average precision, balanced accuracy and top-k recall of linear probes, by vectorisation."""

    name = "attribute-probe"
    version = 2
    summary = "linear probes of attributes on latents (Send-VAE): F1, AP, balanced accuracy, top-5 recall"
    needs = frozenset({"attributes"})
    Config = AttributeProbeConfig
    choices = AttributeMetric.choices

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg = self.config
        usable(inputs, cfg.samples)  # says what is wrong with the attributes before anything is fitted
        train, validation, test = (_rows(inputs, split, cfg.samples) for split in SPLITS)
        found: list[Score] = []
        for how in cfg.vectorisations:
            settings = ProbeConfig(
                vectorisation=how, components=cfg.components, cs=cfg.cs, threshold=cfg.threshold, top_k=cfg.top_k,
                resamples=cfg.resamples, tolerance=cfg.tolerance,
            )  # fmt: skip
            result = probe(
                train, validation, test, settings, numpy_generator(seed, self.name, how, "bootstrap"),
                attributes=inputs.info.attributes, attribute_level=inputs.info.attribute_level or "image",
                device=device_of(inputs),
            )  # fmt: skip
            found += self._scores(result, how, seed, inputs.drawn(cfg.samples, *SPLITS))
        return found

    def _scores(self, result: ProbeResult, how: str, seed: int, drawn: dict[str, str]) -> list[Score]:
        protocol = {
            "latents": LATENTS,
            "vectorisation": how,
            **({"components": self.config.components} if how == "pca" else {}),
            "classifier": "logistic regression, L2 penalty, unpenalised intercept",
            "select": "validation log-loss, per attribute",
            "attributes": list(result.attributes),
            "attribute_level": result.attribute_level,
            **dict(zip(("train_samples", "validation_samples", "test_samples"), result.samples, strict=True)),
            **drawn,
        }
        scores = []
        for metric, outcome in result.metrics.items():
            detail = {
                "vectorisation": how, "baseline": outcome.mean.baseline, "width": result.width,
                "excluded": result.excluded, "excluded_count": len(result.excluded), "notes": list(result.notes),
                "per_attribute": {name: round(each.value, 6) for name, each in outcome.per_attribute.items()},
            }  # fmt: skip
            scores.append(
                self.score(
                    f"attribute_{metric}", outcome.mean.value, "higher", result.samples[2], seed=seed,
                    low=outcome.mean.low, high=outcome.mean.high,
                    interval="95% bias-centred bootstrap over test images, classifiers fixed",
                    protocol=protocol, detail=detail,
                )
            )  # fmt: skip
        return scores


def _rows(inputs: MetricInputs, split: SplitName, samples: int) -> tuple:
    return inputs.means(split, samples), getattr(inputs, split).attributes[inputs.rows(split, samples)]

"""What all metrics of the room share: the attribute probe, what is left out and said, bad input."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from vaebench.core.errors import ConfigError, DataError, NumericalError, TooFewSamples
from vaebench.metrics import METRICS
from vaebench.metrics.base import LatentSplit
from vaebench.metrics.probing.metrics import top_k_recall
from vaebench.metrics.probing.probe import ProbeConfig, probe
from vaebench.metrics.readability.vectors import (
    ReadabilityConfig,
    half_width,
    linear_probe,
    margins,
    usable,
    vectors,
    without_groups,
)

NAMES = ("attribute-probe", "sample-efficiency", "nonlinear-gap", "attribute-directions", "leakage")
QUICK = {
    "attribute-probe": {"vectorisations": ["flattened"], "resamples": 20},
    "sample-efficiency": {"vectorisations": ["flattened"]},
    "nonlinear-gap": {"epochs": 2},
    "attribute-directions": {"vectorisations": ["flattened"]},
    "leakage": {},
}


def run(name, inputs, **options):
    return METRICS.get(name)({**QUICK[name], **options}).run(inputs, 0)


def toy(made, n=600, attributes=3, **info):
    rng = np.random.default_rng(0)
    y = (rng.random((n, attributes)) < 0.5).astype(np.uint8)
    latents = np.concatenate([2.0 * y - 1, rng.standard_normal((n, 2))], 1) + rng.standard_normal((n, attributes + 2))
    return made(latents, y, **info)


def test_the_probe_is_that_of_vaebench_probe(made):
    rng = np.random.default_rng(1)
    y = (rng.random((900, 3)) < 0.4).astype(np.uint8)
    latents = rng.standard_normal((900, 4, 2, 2)) + (2.0 * y @ rng.standard_normal((3, 4)))[:, :, None, None]
    inputs = made(latents, y)
    found = {
        (s.metric, s.detail["vectorisation"]): s
        for s in METRICS.get("attribute-probe")({"components": 5, "cs": [0.01, 1.0]}).run(inputs, 0)
    }
    assert len(found) == 12
    splits = [(split.mean, split.attributes) for split in (inputs.train, inputs.validation, inputs.test)]
    for how in ("flattened", "pooled", "pca"):
        expected = probe(*splits, ProbeConfig(vectorisation=how, components=5, cs=(0.01, 1.0)), rng)
        for metric, outcome in expected.metrics.items():
            score = found[f"attribute_{metric}", how]
            assert score.value == pytest.approx(outcome.mean.value)
            assert score.detail["baseline"] == pytest.approx(outcome.mean.baseline)
            assert score.low <= score.value <= score.high
            assert score.protocol["vectorisation"] == how
            assert {name: pytest.approx(each.value, abs=1e-6) for name, each in zip(
                ("a0", "a1", "a2"), outcome.per_attribute.values(), strict=False
            )} == score.detail["per_attribute"]  # fmt: skip


def test_probe_is_at_chance_on_exclusive_or_and_perfect_on_what_is_linear(made):
    rng = np.random.default_rng(2)
    bits = rng.random((6000, 6)) < 0.5
    y = np.stack([bits.sum(1) % 2 == 1, bits[:, 0]], 1).astype(np.uint8)
    latents = 2.0 * bits - 1 + 0.1 * rng.standard_normal(bits.shape)
    per = {s.metric: s.detail["per_attribute"] for s in run("attribute-probe", made(latents, y))}
    assert per["attribute_balanced_accuracy"]["a1"] > 0.99
    assert per["attribute_average_precision"]["a1"] > 0.999
    assert per["attribute_balanced_accuracy"]["a0"] == pytest.approx(0.5, abs=0.04)
    assert per["attribute_average_precision"]["a0"] == pytest.approx(0.5, abs=0.05)


def test_linear_probe_is_scikit_learns_of_the_best_c(made):
    inputs = toy(made)
    y, x = usable(inputs, 1000), vectors(inputs, "flattened", 2, 1000)
    found = linear_probe(x, y, ReadabilityConfig(cs=(0.01, 1.0), tolerance=1e-9), "cpu")
    for a in range(3):
        models = [LogisticRegression(C=c, tol=1e-9, max_iter=5000).fit(x.train, y.train[:, a]) for c in (0.01, 1.0)]
        losses = [-np.log(m.predict_proba(x.validation)[np.arange(200), y.validation[:, a]]).mean() for m in models]
        best = models[int(np.argmin(losses))]
        assert found.c[a] == best.C
        np.testing.assert_allclose(found.margins(x.test)[:, a], best.decision_function(x.test), rtol=5e-4, atol=1e-3)


def test_margins_of_one_and_of_several_probes():
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((5, 3)), rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4))
    several = margins(x, w, b)
    assert several.shape == (2, 5, 4)
    np.testing.assert_allclose(several[1], margins(x, w[1], b[1]), rtol=1e-6)
    np.testing.assert_allclose(several[1, 2, 3], x[2] @ w[1, 3] + b[1, 3], rtol=1e-5)


def test_groups_partition_the_images():
    weights = without_groups(10, 3, np.random.default_rng(0))
    assert (weights == 0).sum(1).tolist() == [1] * 10
    assert sorted((weights == 0).sum(0)) == [3, 3, 4]
    with pytest.raises(TooFewSamples, match="11 groups"):
        without_groups(10, 11, np.random.default_rng(0))


def test_half_width_of_a_mean_is_that_of_its_t_interval():
    values = np.random.default_rng(4).standard_normal(12)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    without = np.array([np.delete(values, i).mean() for i in range(12)])
    assert half_width(without) == pytest.approx((high - low) / 2)
    assert half_width(without, 1.0) == pytest.approx(np.hypot((high - low) / 2, t.ppf(0.975, 11)))


@pytest.mark.parametrize("name", NAMES)
def test_attributes_of_one_class_are_left_out_and_counted(made, name):
    inputs = toy(made, attributes=4)
    inputs.validation.attributes[:, 3] = 1
    for score in run(name, inputs):
        assert score.detail["excluded"] == {"a3": "has one class only in the validation split"}
        assert score.detail["excluded_count"] == 1
        assert score.protocol["attributes"] == ["a0", "a1", "a2"]
    for part in (inputs.train, inputs.validation, inputs.test):
        part.attributes[:] = 0
    with pytest.raises(DataError, match="No attribute can be read: 'a0' has one class only in the train split"):
        run(name, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_class_level_attributes_are_labelled(made, name):
    for level in ("image", "class"):
        for score in run(name, toy(made, attribute_level=level)):
            assert score.protocol["attribute_level"] == level
            said = any("class recognition" in note for note in score.detail.get("notes", []))
            assert said == (level == "class")


@pytest.mark.parametrize("name", NAMES)
def test_bad_latents_are_refused(made, name):
    for split in ("train", "validation", "test"):
        inputs = toy(made)
        if name == "attribute-directions" and split != "train":
            continue  # it looks at no other, and yet refuses them, as `vectors` does
        getattr(inputs, split).mean[5, 0] = np.nan
        with pytest.raises(NumericalError, match="NaN"):
            run(name, inputs)
    inputs = toy(made)
    inputs.train.mean[:] = 1
    with pytest.raises(NumericalError, match="constant"):
        run(name, inputs)
    with pytest.raises(TooFewSamples):
        run(name, toy(made, n=45), vectorisations=["pca"], components=20)


@pytest.mark.parametrize("name", NAMES)
def test_missing_or_wrong_attributes_are_said(made, name):
    inputs = toy(made)
    bare = {split: LatentSplit(getattr(inputs, split).mean) for split in ("train", "validation", "test")}
    assert METRICS.get(name)({}).missing(dataclasses.replace(inputs, **bare)) == "needs attributes"
    with pytest.raises(DataError, match="train split has no attributes"):
        run(name, dataclasses.replace(inputs, train=bare["train"]))
    inputs.test.attributes[0, 0] = 2
    with pytest.raises(DataError, match="must be 0 or 1"):
        run(name, inputs)
    with pytest.raises(ConfigError):
        METRICS.get(name)({"components": 0})
    if name != "attribute-directions":
        with pytest.raises(ConfigError, match="positive"):
            METRICS.get(name)({"cs": [0.0]})


def test_at_most_so_many_samples_are_read(made):
    inputs = toy(made)
    for score in run("leakage", inputs, samples=150):
        assert (score.n, score.protocol["train_samples"]) == (150, 150)
    few = run("attribute-probe", inputs, samples=150)
    assert {score.n for score in few} == {150}


def test_top_k_recall_and_average_precision_of_the_probe_follow_their_definitions(made):
    inputs = toy(made)
    scores = {s.metric: s for s in run("attribute-probe", inputs, top_k=1)}
    y, x = usable(inputs, 1000), vectors(inputs, "flattened", 2, 1000)
    logits = linear_probe(x, y, ReadabilityConfig(tolerance=5e-5), "cpu").margins(x.test)
    expected = np.mean([average_precision_score(y.test[:, a], logits[:, a]) for a in range(3)])
    assert scores["attribute_average_precision"].value == pytest.approx(expected, abs=1e-3)
    recall = top_k_recall(logits, y.test, np.ones((200, 1), np.float32), 1)[0]
    assert scores["attribute_top1_recall"].value == pytest.approx(recall, abs=0.01)

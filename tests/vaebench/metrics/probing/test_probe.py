"""The probe as a whole: choices, baselines, notes, invariances and bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.preprocessing import StandardScaler

from vaebench.core.config import build
from vaebench.core.errors import ConfigError, DataError, NumericalError, TooFewSamples, VaebenchError
from vaebench.metrics.probing.features import fit_features
from vaebench.metrics.probing.probe import ProbeConfig, probe
from vaebench.metrics.probing.report import scores

NAMES = ("hat", "beard", "glasses", "rare")


def splits(seed=0, sizes=(400, 200, 250), shape=(3, 2, 2)):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((int(np.prod(shape)), len(NAMES)))
    found = []
    for n in sizes:
        x = rng.standard_normal((n, *shape)).astype(np.float32) * 3 + 5
        signal = (x.reshape(n, -1) - 5) @ weights / 6 + rng.logistic(size=(n, len(NAMES)))
        found.append((x, (signal > [0, 0.5, 1, 3]).astype(np.uint8)))
    return found


def run(data, config=None, seed=0, **options):
    config = config or ProbeConfig(resamples=50)
    return probe(*data, config, np.random.default_rng(seed), attributes=NAMES, **options)


def test_matches_a_scikit_learn_pipeline():
    data = splits()
    result = run(data, ProbeConfig(cs=(0.01, 0.1), resamples=20, tolerance=1e-9))
    scaler = StandardScaler().fit(data[0][0].reshape(400, -1))
    x_train, x_validation, x_test = (scaler.transform(x.reshape(len(x), -1)) for x, _ in data)
    for a, name in enumerate(NAMES):
        models = [LogisticRegression(C=c, tol=1e-9, max_iter=5000).fit(x_train, data[0][1][:, a]) for c in (0.01, 0.1)]
        validation = data[1][1][:, a]
        losses = [
            np.mean(np.logaddexp(0, m) - validation * m) for m in (m.decision_function(x_validation) for m in models)
        ]
        np.testing.assert_allclose(result.validation_losses[:, a], losses, rtol=1e-4)
        best = models[int(np.argmin(losses))]
        assert result.chosen_c[a] == best.C
        margins, truth = best.decision_function(x_test), data[2][1][:, a]
        np.testing.assert_allclose(result.logits[:, a], margins, atol=1e-3)
        assert result.metrics["macro_f1"].per_attribute[name].value == pytest.approx(f1_score(truth, margins > 0))
        precision = result.metrics["average_precision"].per_attribute[name].value
        assert precision == pytest.approx(average_precision_score(truth, margins), abs=1e-3)
    mean = np.mean([e.value for e in result.metrics["macro_f1"].per_attribute.values()])
    assert result.metrics["macro_f1"].mean.value == pytest.approx(mean)


def test_baselines():
    data = splits()
    result = run(data)
    y = data[2][1]
    everyone = np.ones(len(y), np.uint8)
    for a, name in enumerate(NAMES):
        assert result.metrics["macro_f1"].per_attribute[name].baseline == pytest.approx(f1_score(y[:, a], everyone))
        assert result.metrics["average_precision"].per_attribute[name].baseline == pytest.approx(y[:, a].mean())
        assert result.metrics["balanced_accuracy"].per_attribute[name].baseline == 0.5
    recall = run(data, ProbeConfig(top_k=1, resamples=20)).metrics["top1_recall"]
    commonest = int(data[0][1].mean(0).argmax())
    some = y.any(1)
    assert recall.mean.baseline == pytest.approx((y[some, commonest] / y[some].sum(1)).mean())
    assert recall.per_attribute == {}
    for outcome in result.metrics.values():
        assert outcome.mean.low <= outcome.mean.value <= outcome.mean.high


def test_interval_of_the_mean_holds_its_value_where_resampling_is_biased():
    rng = np.random.default_rng(0)
    prevalence = np.full(40, 0.05)
    data = [(rng.standard_normal((n, 3)), (rng.random((n, 40)) < prevalence).astype(np.uint8)) for n in (300, 300, 300)]
    mean = probe(*data, ProbeConfig(resamples=200), rng).metrics["average_precision"].mean
    assert mean.low < mean.value < mean.high


def test_random_latents_reach_no_more_than_the_baselines():
    rng = np.random.default_rng(0)
    data = [
        (rng.standard_normal((n, 8)), (rng.random((n, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(np.uint8))
        for n in (800, 400, 800)
    ]
    result = run(data)
    precision, balanced = result.metrics["average_precision"].mean, result.metrics["balanced_accuracy"].mean
    assert precision.value == pytest.approx(precision.baseline, abs=0.05)
    assert balanced.value == pytest.approx(0.5, abs=0.03)


def test_test_split_never_moves_a_choice():
    data, other = splits(), splits(seed=5)
    config = ProbeConfig(threshold="validation", resamples=20)
    first, second = run(data, config), run([data[0], data[1], other[2]], config)
    np.testing.assert_array_equal(first.chosen_c, second.chosen_c)
    np.testing.assert_array_equal(first.validation_losses, second.validation_losses)
    same = run([data[0], data[1], (data[2][0], 1 - data[2][1])], config)
    np.testing.assert_array_equal(first.logits, same.logits)


@given(st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_order_of_samples_and_affine_scale_of_features_do_not_matter(seed):
    data = splits()
    rng = np.random.default_rng(seed)
    scale, shift = rng.uniform(0.1, 10, (3, 2, 2)), rng.normal(0, 5, (3, 2, 2))
    order = rng.permutation(400)
    moved = [((x * scale + shift), y) for x, y in data]
    moved[0] = (moved[0][0][order], moved[0][1][order])
    config = ProbeConfig(resamples=20, tolerance=1e-8)
    first, second = run(data, config), run(moved, config)
    np.testing.assert_array_equal(first.chosen_c, second.chosen_c)
    np.testing.assert_allclose(first.logits, second.logits, atol=2e-3)


def test_selection_by_average_precision():
    data = splits()
    config = ProbeConfig(select="average-precision", cs=(1e-4, 1e-2, 1.0), resamples=20)
    chosen = run(data, config).chosen_c
    for a in range(len(NAMES)):
        scored = []
        for c in config.cs:
            single = run([data[0], data[1], data[1]], ProbeConfig(cs=(c,), resamples=20))
            scored.append(single.metrics["average_precision"].per_attribute[NAMES[a]].value)
        assert chosen[a] == config.cs[int(np.argmax(scored))]


def test_tuned_threshold_serves_rare_attributes():
    data = splits()
    half = run(data).metrics["balanced_accuracy"].per_attribute["rare"].value
    tuned = run(data, ProbeConfig(threshold="validation", resamples=20))
    assert tuned.metrics["balanced_accuracy"].per_attribute["rare"].value > half


def test_pooled_is_the_probe_of_position_means():
    data = splits()
    pooled = run(data, ProbeConfig(vectorisation="pooled", resamples=20))
    means = run([(x.mean((2, 3)), y) for x, y in data])
    assert pooled.width == 3
    np.testing.assert_allclose(pooled.logits, means.logits, atol=1e-4)


@pytest.mark.parametrize("n", [400, 20])
def test_principal_components_agree_with_scikit_learn(n):
    x = np.random.default_rng(0).standard_normal((n, 40)) @ np.random.default_rng(1).standard_normal((40, 40))
    fitted = fit_features(x, "pca", 5)
    ours = np.concatenate([b.numpy() for _, b in fitted.rows(x, "cpu").blocks()])
    expected = PCA(5, svd_solver="full").fit_transform(StandardScaler().fit_transform(x))
    expected /= expected.std(0)
    np.testing.assert_allclose(np.abs((ours * expected).mean(0)), 1, atol=1e-3)


def test_components_beyond_the_rank_are_left_out_and_said():
    data = [(np.concatenate([x, x], axis=1), y) for x, y in splits()]
    result = run(data, ProbeConfig(vectorisation="pca", components=20, resamples=20))
    assert result.width == 12
    assert any("12 principal components only" in note for note in result.notes)


def test_notes():
    data = splits(shape=(3, 2, 2))
    for x, _ in data:
        x[:, 0, 0, 0] = 7.0
    for _, y in data:
        y[:, 3] = 0
        y[:5, 3] = 1
    result = run(data, ProbeConfig(cs=(1e-6, 1e6), resamples=20), attribute_level="class")
    text = " ".join(result.notes)
    assert "1 latent features do not vary" in text
    assert "smallest C" in text or "largest C" in text
    assert "'rare'; their intervals are unreliable" in text
    assert "class recognition" in text


def test_one_class_attributes_are_left_out_by_name():
    data = splits()
    data[1][1][:, 1] = 0
    result = run(data)
    assert result.attributes == ("hat", "glasses", "rare")
    assert result.excluded == {"beard": "has one class only in the validation split"}
    assert "'beard'" in result.notes[0]
    means = [score for score in scores(result) if score.detail["attribute"] is None]
    assert means
    assert all(score.detail["excluded"] == result.excluded for score in means)
    for _, y in data:
        y[:] = 1
    with pytest.raises(DataError, match="No attribute can be probed: 'hat' has one class only in the train split"):
        run(data)


@pytest.mark.parametrize("vectorisation", ["flattened", "pooled", "pca"])
@pytest.mark.parametrize(("split", "value"), [(0, np.nan), (0, np.inf), (1, np.nan), (2, np.inf)])
def test_unusable_numbers_are_refused(vectorisation, split, value):
    data = splits()
    data[split][0][3, 1] = value
    with pytest.raises(NumericalError, match="NaN or infinity"):
        run(data, ProbeConfig(vectorisation=vectorisation, components=4))


def test_constant_latents_are_refused():
    data = [(np.full_like(x, 3.7), y) for x, y in splits()]
    with pytest.raises(NumericalError, match="constant"):
        run(data)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: [d[0], d[1], (d[2][0], d[2][1][:-1])], DataError, "test split has 250 latents"),
        (lambda d: [d[0], d[1], (d[2][0][:, :2], d[2][1])], DataError, "differ in latent shape"),
        (lambda d: [d[0], d[1], (d[2][0], d[2][1] * 3)], DataError, "must be 0 or 1"),
        (lambda d: [(d[0][0][:1], d[0][1][:1]), d[1], d[2]], VaebenchError, "one class only in the train"),
    ],
)
def test_bad_splits(change, error, message):
    with pytest.raises(error, match=message):
        run(change(splits()))


def test_bad_vectorisations():
    with pytest.raises(DataError, match="no positions"):
        run([(x.reshape(len(x), -1), y) for x, y in splits()], ProbeConfig(vectorisation="pooled"))
    with pytest.raises(TooFewSamples, match="components"):
        run(splits(sizes=(60, 50, 50)), ProbeConfig(vectorisation="pca", components=64))
    with pytest.raises(ConfigError, match="positive"):
        build(ProbeConfig, {"cs": [0.1, -1]})


def test_scores_carry_protocol_and_uncertainty():
    found = scores(run(splits()), seed=3, protocol={"data": "stand-in"})
    assert len(found) == 4 + 3 * len(NAMES)
    by_key = {(s.metric, s.detail["attribute"]): s for s in found}
    mean = by_key["probe_macro_f1", None]
    assert mean.n == 250
    assert mean.seed == 3
    assert mean.protocol["data"] == "stand-in"
    assert mean.protocol["train_samples"] == 400
    assert mean.low < mean.value < mean.high
    assert {score.interval for score in found} == {
        "95% bias-centred bootstrap over test samples, classifiers fixed"
    }  # as reports say of every interval
    with pytest.raises(ConfigError, match="confidence"):
        build(ProbeConfig, {"confidence": 0.9})
    assert {"probe_average_precision", "probe_balanced_accuracy", "probe_top5_recall"} <= {s.metric for s in found}
    assert by_key["probe_macro_f1", "hat"].detail["c"] in ProbeConfig().cs
    other = scores(
        run(splits(), ProbeConfig(threshold="validation", resamples=50)), seed=3, protocol={"data": "stand-in"}
    )
    assert other[0].protocol_hash != found[0].protocol_hash

"""DCI, explicitness and the interventional scores: known answers, scikit-learn, and plain loops."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from vaebench.core.errors import ConfigError, DataError, TooFewSamples
from vaebench.data.base import DataInfo, Factor
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.disentanglement import codes as vectorisation
from vaebench.metrics.disentanglement.codes import exclusions, principal_directions, targets, vectorise
from vaebench.metrics.disentanglement.dci import DCI, boosted, concentration, sparse_linear
from vaebench.metrics.disentanglement.explicitness import Explicitness, areas, weighted_areas
from vaebench.metrics.disentanglement.interventional import (
    IRS,
    BetaVAE,
    FactorVAE,
    Pool,
    complete_grid,
    factor_vae_votes,
    pair_differences,
    robustness,
    robustness_without,
)
from vaebench.metrics.disentanglement.scores import MIG, SAP, InfoMECMetric, Modularity
from vaebench.metrics.separability.softmax import fit_softmax

SIZES = (4, 3, 5)
EVERY = (MIG, Modularity, InfoMECMetric, SAP, DCI, Explicitness, FactorVAE, BetaVAE, IRS)


def grid(repeats: int = 20, sizes: tuple[int, ...] = SIZES) -> np.ndarray:
    return np.tile(np.array(list(itertools.product(*map(range, sizes)))), (repeats, 1))


def inputs(codes: np.ndarray, truth: np.ndarray, factors: bool = True) -> MetricInputs:
    """Latents whose channels are the codes, the same at each of four positions."""
    latents = np.repeat(codes.astype(np.float32)[:, :, None], 4, 2).reshape(*codes.shape, 2, 2)
    columns = {"factors": truth} if factors else {"attributes": (truth > 0).astype(np.uint8)}
    names = [f"f{k}" for k in range(truth.shape[1])]
    info = DataInfo(
        "toy", 8, attributes=() if factors else tuple(names),
        factors=tuple(Factor(n, tuple("abcdefghij")) for n in names) if factors else (),
    )  # fmt: skip
    rows = np.random.default_rng(0).permutation(len(codes))
    split = [
        LatentSplit(latents[part], **{key: value[part] for key, value in columns.items()})
        for part in (rows, rows[::3], rows[::2])
    ]
    d = codes.shape[1]
    return MetricInputs(*split, info, np.zeros(d), np.ones(d))


def perfect(truth: np.ndarray) -> np.ndarray:
    return truth + np.random.default_rng(1).uniform(-0.05, 0.05, truth.shape)


def rotated(codes: np.ndarray) -> np.ndarray:
    rotation, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((codes.shape[1],) * 2))
    return (codes - codes.mean(0)) / codes.std(0) @ rotation


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_perfect_codes_score_high_rotated_ones_less_and_the_interval_holds_the_value(metric):
    truth = grid()
    values = {}
    for name, codes in (("perfect", perfect(truth)), ("rotated", rotated(perfect(truth)))):
        scores = metric({"vectorisations": ["pooled"]}).run(inputs(codes, truth), 0)
        for score in scores:
            if score.low is not None:
                assert score.low - 1e-9 <= score.value <= score.high + 1e-9
        values[name] = scores[0].value
    floor = {"sap": 0.4, "mig": 0.9, "dci": 0.9, "irs": 0.85, "explicitness": 0.999}.get(metric.name, 0.95)
    assert values["perfect"] > floor
    assert values["rotated"] < values["perfect"] - (
        0.02 if metric.name in ("explicitness", "modularity", "beta-vae") else 0.1
    ) or (
        metric.name in ("explicitness", "beta-vae")  # these two do not mind rotations much: linear models undo them
    )


@pytest.mark.parametrize("metric", [MIG, SAP, DCI, FactorVAE], ids=lambda metric: metric.name)
def test_attributes_stand_in_for_factors_and_resampling_has_another_name(metric):
    truth = grid(5)
    scores = metric({"vectorisations": ["pooled"]}).run(inputs(perfect(truth), truth, factors=False), 0)
    assert all(score.protocol["targets"] == "attributes" for score in scores)
    if metric is FactorVAE:
        assert scores[0].metric == "factor_vae_resampled"
        assert FactorVAE({"vectorisations": ["pooled"]}).run(inputs(perfect(truth), truth), 0)[0].metric == "factor_vae"


def test_what_is_not_as_published_or_not_on_a_grid_has_another_name():
    truth = grid(8)
    small, whole = {"vectorisations": ["pooled"]}, inputs(perfect(truth), truth)
    part = inputs(perfect(truth)[truth[:, 0] != truth[:, 1]], truth[truth[:, 0] != truth[:, 1]])
    assert [IRS(small).run(data, 0)[0].metric for data in (whole, part)] == ["irs", "irs_observed"]
    noise = inputs(np.random.default_rng(0).standard_normal((len(truth), 3)), truth)
    held, fitted = (InfoMECMetric({**small, "held_out": held}).run(noise, 0)[2] for held in (True, False))
    assert (held.metric, fitted.metric) == ("infoe", "infoe_in_sample")
    assert held.protocol_hash != fitted.protocol_hash
    assert fitted.protocol["split"].startswith("train (in sample")


def test_importances_have_an_interval_or_a_reason():
    truth = grid(8)
    found = DCI({"vectorisations": ["pooled"], "rounds": 5}).run(inputs(perfect(truth), truth), 0)
    assert [score.metric for score in found][:2] == ["dci_disentanglement", "dci_completeness"]
    assert all(score.low < score.value < score.high for score in found[:2])
    rare = truth.copy()
    rare[:, 0] = 0
    rare[:3, 0] = 1  # in three of five groups at most
    *two, informative = DCI({"vectorisations": ["pooled"], "rounds": 5}).run(inputs(perfect(truth), rare), 0)
    for score in two:
        assert score.low is None
        assert "constant in one of 5 groups" in score.detail["note"]
    assert informative.low <= informative.value <= informative.high
    assert "note" not in informative.detail


def test_one_rare_attribute_costs_no_more_than_an_interval():
    """It is constant without one group of samples, in most groups, and in the test split."""
    rng = np.random.default_rng(0)
    truth = np.concatenate([rng.integers(0, 2, (600, 2)), np.zeros((600, 1), int)], 1)
    truth[5, 2] = 1
    split = LatentSplit(perfect(truth).astype(np.float32)[:, :, None, None], attributes=truth.astype(np.uint8))
    test = LatentSplit(split.mean[100:], attributes=split.attributes[100:])
    info = DataInfo("toy", 8, attributes=("a", "b", "rare"))
    prepared = MetricInputs(split, test, test, info, np.zeros(3), np.ones(3))
    (gap,) = MIG({"vectorisations": ["pooled"]}).run(prepared, 0)
    assert (gap.low, gap.high, gap.interval) == (None, None, None)
    assert gap.detail["note"].startswith("no interval: a factor is constant without one of 10 groups")
    assert gap.detail["per_factor"]["a"] > 0.9
    (modular,) = Modularity({"vectorisations": ["pooled"]}).run(prepared, 0)
    assert modular.low < modular.value < modular.high
    infom, infoc, infoe = InfoMECMetric({"vectorisations": ["pooled"]}).run(prepared, 0)
    for score in (infom, infoc):
        assert np.isfinite(score.value)
        assert score.low is None
        assert score.detail["note"].startswith("no interval: a factor is constant in one of 5 groups")
    assert infoe.low < infoe.value < infoe.high
    (explicit,) = Explicitness({"vectorisations": ["pooled"]}).run(prepared, 0)
    assert explicit.low <= explicit.value <= explicit.high
    assert set(explicit.detail["per_factor"]) == {"a", "b"}
    assert explicit.detail["factors_of_one_test_value"] == 1
    assert explicit.value > 0.99
    every = MIG({"vectorisations": ["position"]}).run(
        inputs(perfect(truth), truth, factors=False), 0
    )  # one score of several positions
    assert every[0].detail["note"].startswith("no interval")


def test_a_value_that_resamples_lack_costs_them_only():
    """Two of 200 test images have it, and a resample in seven has neither."""
    truth = np.stack([np.arange(400) % 2, np.zeros(400, int)], 1)
    truth[[200, 201, 0, 1, 2, 3], 1] = 1
    mean = perfect(truth).astype(np.float32)[:, :, None, None]
    train, test = (LatentSplit(mean[part], factors=truth[part]) for part in (slice(0, 200), slice(200, 400)))
    names = tuple(Factor(name, ("0", "1")) for name in "fg")
    prepared = MetricInputs(train, test, test, DataInfo("toy", 8, factors=names), np.zeros(2), np.ones(2))
    (score,) = Explicitness({"vectorisations": ["pooled"]}).run(prepared, 0)
    assert score.low <= score.value <= score.high
    alone = LatentSplit(mean[202::2], factors=truth[202::2])
    with pytest.raises(DataError, match="No factor has two values"):
        Explicitness({"vectorisations": ["pooled"]}).run(dataclasses.replace(prepared, test=alone), 0)


def test_every_vectorisation_is_declared():
    truth = grid(5)
    prepared = inputs(rotated(perfect(truth)), truth)
    config = {"vectorisations": ["pooled", "flattened", "pca", "position"], "components": 2}
    scores = MIG(config).run(prepared, 0)
    assert [score.detail["vectorisation"] for score in scores] == config["vectorisations"]
    assert len({score.protocol_hash for score in scores}) == 4
    # channels are the same at all positions: the mean over positions is the value of any
    assert scores[3].value == pytest.approx(scores[0].value, abs=0.02)
    assert "best_position" in scores[3].detail
    (pca,) = vectorise(prepared, "pca", 10_000, 2)
    assert pca.width == 2
    assert np.cov(pca.train.T)[0, 1] == pytest.approx(0, abs=1e-4)
    mean, directions, explained = principal_directions(prepared, 10_000, 2)
    np.testing.assert_allclose(directions.T @ directions, np.eye(2), atol=1e-9)
    assert mean.shape == (12,)
    eigenvalues = np.linalg.eigvalsh(np.cov(prepared.train.mean.reshape(-1, 12).T))
    assert explained == pytest.approx(eigenvalues[-2:].sum() / eigenvalues.sum())


def test_a_few_of_many_principal_directions_are_those_of_all(monkeypatch):
    x = np.random.default_rng(0).standard_normal((400, 60)) * 0.9 ** np.arange(60)
    covariance = np.cov(x.T)
    everything = vectorisation.leading_vectors(covariance, 4)
    monkeypatch.setattr(vectorisation, "MANY_DIMENSIONS", 20)
    few = vectorisation.leading_vectors(covariance, 4)
    np.testing.assert_allclose(np.abs((few * everything).sum(0)), 1, atol=1e-9)
    np.testing.assert_array_equal(few, vectorisation.leading_vectors(covariance, 4))


def test_principal_directions_are_computed_once():
    prepared = inputs(perfect(grid(5)), grid(5))
    first, again = (principal_directions(prepared, 100, 2) for _ in range(2))
    np.testing.assert_array_equal(first.directions, again.directions)
    assert len(prepared.kept) == 1
    principal_directions(prepared, 100, 3)
    assert len(prepared.kept) == 2


def test_constant_and_continuous_factors_are_left_out_and_said():
    rng = np.random.default_rng(0)
    values = np.stack([np.zeros(500, int), np.arange(500), rng.integers(0, 3, 500)], 1)
    reasons = exclusions(values, ["dead", "angle", "shape"])
    assert reasons["dead"] == "is constant"
    assert "continuous" in reasons["angle"]
    assert "shape" not in reasons
    found = targets(inputs(rng.standard_normal((500, 3)), values), 10_000)
    assert found.names == ("f2",)
    assert set(found.excluded) == {"f0", "f1"}
    with pytest.raises(DataError, match="None of the 1 factors"):
        targets(inputs(rng.standard_normal((50, 2)), np.zeros((50, 1), int)), 100)


def test_concentration_of_known_importances():
    assert concentration(np.eye(4)) == pytest.approx(1)
    assert concentration(np.ones((3, 4))) == pytest.approx(0)
    assert concentration(np.array([[2.0, 0], [1, 1]])) == pytest.approx(0.5)
    assert concentration(np.zeros((3, 2))) == 0
    assert concentration(np.array([[1.0], [2.0]])) == pytest.approx(1)  # one factor: every code is of it
    assert concentration(np.array([[1.0, 1], [0, 0]])) == pytest.approx(0)  # a dead code has no weight


def test_boosting_predicts_as_well_as_scikit_learns():
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((1500, 6))
    factor = (codes[:, 0] > 0).astype(int) + (codes[:, 1] * codes[:, 2] > 0)
    importances, predicted = boosted(codes[:1000], factor[:1000], codes[1000:], 100, 8, 0)
    reference = GradientBoostingClassifier(random_state=0).fit(codes[:1000], factor[:1000])
    assert np.mean(predicted == factor[1000:]) >= reference.score(codes[1000:], factor[1000:]) - 0.01
    assert set(np.argsort(importances)[-3:]) == {0, 1, 2}
    weights, _ = sparse_linear(codes[:1000], (codes[:1000, 3] > 0).astype(int), codes[1000:], 0.1, 0)
    assert weights.argmax() == 3
    assert weights[3] > 0.9 * weights.sum()


def test_areas_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    margins = rng.standard_normal((300, 3)) + np.eye(3)[labels]
    expected = [roc_auc_score(labels == v, margins[:, v]) for v in range(3)]
    np.testing.assert_allclose(areas(margins, labels), expected)
    counts = rng.integers(0, 3, (2, 300))
    weighted = [[roc_auc_score(labels == v, margins[:, v], sample_weight=row) for v in range(3)] for row in counts]
    np.testing.assert_allclose(weighted_areas(margins, labels, counts), weighted, atol=1e-12)
    assert np.isnan(areas(margins, np.zeros(300, int))[1])


def test_explicitness_ranks_by_scikit_learns_probabilities():
    """Of ordered factors, where a margin cannot single out a value in the middle and a probability can."""
    rng = np.random.default_rng(0)
    truth = np.stack([rng.integers(0, size, 1500) for size in (6, 3, 2)], 1)
    codes = (truth + 0.4 * rng.standard_normal(truth.shape)).astype(np.float32)
    latents = np.repeat(codes[:, :, None, None], 4, 3)
    train, test = (LatentSplit(latents[part], factors=truth[part]) for part in (slice(0, 1000), slice(1000, None)))
    info = DataInfo(
        "toy", 8, factors=(Factor("f", tuple("abcdef")), Factor("g", tuple("abc")), Factor("h", tuple("ab")))
    )
    (score,) = Explicitness({"vectorisations": ["pooled"]}).run(
        MetricInputs(train, test, test, info, np.zeros(3), np.ones(3)), 0
    )
    x = (codes - codes[:1000].mean(0)) / codes[:1000].std(0)
    expected, by_margin = {}, []
    for k, name in enumerate("fgh"):
        model = LogisticRegression(tol=1e-8, max_iter=5000).fit(x[:1000], truth[:1000, k])
        margins = model.decision_function(x[1000:])
        margins = np.stack([-margins, margins], 1) if margins.ndim == 1 else margins
        scores = {"p": model.predict_proba(x[1000:]), "margin": margins}
        areas_of = {
            how: np.mean([roc_auc_score(truth[1000:, k] == value, found[:, value]) for value in model.classes_])
            for how, found in scores.items()
        }
        expected[name] = areas_of["p"]
        by_margin.append(areas_of["margin"])
    assert score.detail["per_factor"] == pytest.approx(expected, abs=1e-4)
    assert score.value == pytest.approx(np.mean(list(expected.values())), abs=1e-4)
    assert score.value > np.mean(by_margin) + 0.05
    assert score.low < score.value < score.high


@pytest.mark.parametrize(("classes", "width"), [(2, 4), (5, 4), (6, 300)])
def test_softmax_finds_scikit_learns_optimum(classes, width):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, width)).astype(np.float32)
    labels = (x[:, 0] * 2 + rng.standard_normal(400)).argsort().argsort() * classes // 400
    weights = fit_softmax(x, labels, classes, 0.5)
    # two classes: twice our C is the same model, see the function
    model = LogisticRegression(C=1.0 if classes == 2 else 0.5, tol=1e-8, max_iter=5000).fit(x.astype(float), labels)
    ours = x @ weights[:-1] + weights[-1]
    probabilities = np.exp(ours - ours.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, model.predict_proba(x.astype(float)), atol=0.01)


def test_draws_share_the_value_of_their_factor_and_cover_the_rest():
    truth = grid(3)
    chosen, rows = Pool(truth).draw(600, 16, np.random.default_rng(0))
    for k, part in zip(chosen, rows, strict=True):
        assert len(np.unique(truth[part, k])) == 1
        assert any(len(np.unique(truth[part, other])) > 1 for other in range(3) if other != k)
    assert set(chosen) == {0, 1, 2}
    values = [truth[part[0], 0] for k, part in zip(chosen, rows, strict=True) if k == 0]
    assert np.bincount(values).min() > 20
    with pytest.raises(TooFewSamples, match="Fewer than two factors"):
        Pool(truth[:1])


def test_pairs_share_a_value_of_their_own_and_are_two_images():
    truth = np.concatenate([grid(3), [[0, 0, 7], [1, 1, 7]]])  # a value that two images have
    chosen, rows = Pool(truth).pairs(900, 16, np.random.default_rng(0))
    first, second = rows[:, :16], rows[:, 16:]
    for k, one, two in zip(chosen, first, second, strict=True):
        np.testing.assert_array_equal(truth[one, k], truth[two, k])
        assert len(np.unique(truth[one, k])) > 1
    assert (first != second).all()
    for side in (first, second):  # values are drawn alike, however few images they have
        values = np.bincount(truth[side[chosen == 2], 2].ravel())
        assert values[values > 0] / values.sum() == pytest.approx(1 / 6, abs=0.02)
        rare = side[chosen == 2][truth[side[chosen == 2], 2] == 7]
        assert np.mean(rare == len(truth) - 1) == pytest.approx(0.5, abs=0.06)


def test_beta_vae_score_of_products_of_factors():
    """Against sampling as published: two draws of all factors for every pair, one factor of the second copied.

    One value for all pairs of a batch would scale two codes by it, and tell a classifier little: 0.7.
    """
    truth = grid(1, (8, 8, 8))
    f = np.linspace(0, 1, 8)[truth]
    codes = f * np.roll(f, -1, axis=1)
    (score,) = BetaVAE({"vectorisations": ["pooled"]}).run(inputs(codes, truth), 0)
    assert score.metric == "beta_vae"
    rng = np.random.default_rng(1)
    fixed, (one, two) = rng.integers(3, size=4000), rng.integers(0, 8, (2, 4000, 64, 3))
    for k in range(3):
        two[fixed == k, :, k] = one[fixed == k, :, k]
    first, second = (codes[np.ravel_multi_index(tuple(np.moveaxis(part, 2, 0)), (8, 8, 8))] for part in (one, two))
    differences = np.abs(first - second).mean(1)
    model = LogisticRegression().fit(differences[:2000], fixed[:2000])
    reference = model.score(differences[2000:], fixed[2000:])
    assert reference > 0.97
    assert score.value == pytest.approx(reference, abs=0.02)


def test_votes_and_differences_agree_with_loops():
    rng = np.random.default_rng(0)
    codes, rows = rng.standard_normal((200, 4)), rng.integers(0, 200, (30, 10))
    scale = codes.var(0, ddof=1)
    expected = [int(np.argmin([np.var(codes[part, j], ddof=1) / scale[j] for j in range(4)])) for part in rows]
    assert factor_vae_votes(codes, rows, scale, at_once=7).tolist() == expected
    loops = [np.mean([np.abs(codes[part[i]] - codes[part[i + 5]]) for i in range(5)], 0) for part in rows]
    np.testing.assert_allclose(pair_differences(codes, rows, at_once=7), loops)


def test_dead_codes_are_pruned_and_all_dead_score_nothing():
    truth = grid(5)
    codes = np.concatenate([perfect(truth), 1e-3 * np.random.default_rng(0).standard_normal((len(truth), 2))], 1)
    (score,) = FactorVAE({"vectorisations": ["pooled"]}).run(inputs(codes, truth), 0)
    assert score.detail["active"] == 3
    assert score.value > 0.95
    (score,) = FactorVAE({"vectorisations": ["pooled"]}).run(inputs(1e-4 * codes, truth), 0)
    assert score.value == 0
    assert score.detail["active"] == 0


def test_irs_agrees_with_a_loop_and_leaves_small_values_out():
    rng = np.random.default_rng(0)
    truth = np.stack([rng.integers(0, 3, 400), rng.integers(0, 2, 400)], 1)
    codes = rng.standard_normal((400, 3)) * 0.3 + truth[:, [0]] * [1, 0, 0.5]
    largest = np.abs(codes - codes.mean(0)).max(0)
    best = np.full(3, np.inf)
    for k in range(2):
        parts = [codes[truth[:, k] == v] for v in np.unique(truth[:, k])]
        best = np.minimum(best, np.mean([np.quantile(np.abs(p - p.mean(0)), 0.99, axis=0) for p in parts], 0) / largest)
    assert robustness(codes, truth) == pytest.approx(np.average(1 - best, weights=largest))
    rare = truth.copy()
    rare[:3, 0] = 9
    assert np.isfinite(robustness(codes, rare))
    with pytest.raises(DataError, match="constant"):
        robustness(np.ones((400, 2)), truth)


def test_a_setting_is_in_the_protocol_of_what_it_moves_only():
    truth = grid(5)
    prepared = inputs(rotated(perfect(truth)), truth)
    pooled, pca = zip(
        *(MIG({"vectorisations": ["pooled", "pca"], "components": count}).run(prepared, 0) for count in (2, 3)),
        strict=True,
    )
    assert pooled[0].protocol_hash == pooled[1].protocol_hash
    assert pca[0].protocol_hash != pca[1].protocol_hash
    assert [score.protocol["components"] for score in pca] == [2, 3]
    kinds = {"vectorisations": ["pooled"], "importances": ["boosting", "l1"], "samples": 100}
    first, second = (DCI({**kinds, "rounds": rounds}).run(prepared, 0) for rounds in (2, 3))
    same = [one.protocol_hash == other.protocol_hash for one, other in zip(first, second, strict=True)]
    assert same == [False] * 3 + [True] * 3
    assert [score.value for score in first[3:]] == [score.value for score in second[3:]]


def test_pruning_is_a_setting_of_the_factor_vae_score_alone():
    truth = grid(5)
    draws = {"vectorisations": ["pooled"], "train_points": 50, "test_points": 50}
    with pytest.raises(ConfigError, match="prune"):
        BetaVAE({**draws, "prune": 0.1})
    assert "prune" not in BetaVAE(draws).run(inputs(perfect(truth), truth), 0)[0].protocol
    assert FactorVAE({**draws, "prune": 0.1}).run(inputs(perfect(truth), truth), 0)[0].protocol["prune"] == 0.1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_order_of_codes_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    truth = grid(4, (3, 3))
    codes = rng.standard_normal((len(truth), 4)) + truth[:, [0]]
    order = rng.permutation(4)
    assert robustness(codes, truth, minimum=2) == pytest.approx(robustness(codes[:, order], truth, minimum=2))
    importances = rng.random((4, 2))
    assert concentration(importances) == pytest.approx(concentration(importances[order]))
    assert complete_grid(truth)
    assert not complete_grid(truth[truth.sum(1) > 0])


@pytest.mark.parametrize("quantile", [0.5, 0.99, 1.0])
def test_irs_without_each_group_is_that_of_the_rest(quantile):
    rng = np.random.default_rng(7)
    truth = np.stack([rng.integers(0, size, 300) for size in (4, 3, 25)], 1)
    codes = rng.standard_normal((300, 6)) + truth @ rng.standard_normal((3, 6))
    codes[:, 5] = 0
    member = rng.permutation(300) % 5
    value, without = robustness_without(codes, truth, member, quantile)
    assert value == pytest.approx(robustness(codes, truth, quantile), rel=1e-12)
    rest = [robustness(codes[member != group], truth[member != group], quantile) for group in range(5)]
    np.testing.assert_allclose(without, rest, rtol=1e-12)

"""Moving latents along a probe's direction, and what of other attributes moves with it.

The direction of an attribute is that of its least-squares linear probe in the space where the latents x are white, as
in `vaebench.metrics.readability.directions`. Of all moves that change the probe's output by so much it is the one that
is least unusual (shortest by Mahalanobis), and back in latent space it is the difference of the class means,

    v_a = mean(x | a) - mean(x | not a),

so a step of 1 takes an image without the attribute to where images with it are on average. With z the whitened latents,
the output of the probe of attribute b (which is the label, 0 or 1, as closely as a linear map can give it) changes per
step by

    m_ab = Cov(z, y_b) . (mean(z | a) - mean(z | not a)).

If the latents gave the labels exactly, m_ab would be the regression of b on a, mean(y_b | a) - mean(y_b | not a): what
co-occurrence alone moves, and 1 on the diagonal.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from vaebench.core.errors import DataError
from vaebench.metrics.fidelity.attributes import AttributeReader


@dataclass(frozen=True)
class Moves:
    """Steps along the directions of A attributes.

    Attributes:
        steps: (A, D), the latent step of each attribute.
        probes: (A, A), change of the output of column b's probe by one step along row a.
        cooccurrence: (A, A), what it would be if the latents gave every label exactly.
    """

    steps: np.ndarray
    probes: np.ndarray
    cooccurrence: np.ndarray


def moves(latents: np.ndarray, whitened: np.ndarray, attributes: np.ndarray) -> Moves:
    """Steps from latents (n, D), the same latents whitened (n, k) and attributes (n, A) of 0 and 1.

    Raises:
        DataError: an attribute has one value only.
    """
    y = attributes.astype(np.float64)
    share = y.mean(0)
    if len(y) == 0 or (share == 0).any() or (share == 1).any():
        raise DataError("An attribute that every image has, or none, has no direction.", "Leave it out.")
    spread = (share * (1 - share))[:, None]
    centred = y - share
    z = whitened.astype(np.float64)
    # The difference of class means is the covariance with the label over the label's variance.
    covariance = centred.T @ (z - z.mean(0)) / len(y)
    return Moves(
        steps=(centred.T @ (latents - latents.mean(0, dtype=np.float64)) / len(y) / spread).astype(np.float32),
        probes=covariance @ covariance.T / spread,
        cooccurrence=centred.T @ centred / len(y) / spread,
    )


def least_squares_reader(
    features: np.ndarray,
    attributes: np.ndarray,
    held_out: np.ndarray,
    held_out_attributes: np.ndarray,
    names: tuple[str, ...],
    penalties: tuple[float, ...] = (0.03, 0.3, 3.0),
) -> AttributeReader:
    """Ridge regressions on standardised features (n, P) for attributes (n, A) of 0 and 1, read at a threshold.

    One factorisation a penalty serves every attribute, so it takes seconds where `fit_reader`'s logistic regressions
    take minutes. The penalty (in parts of n) and the threshold of each attribute are chosen by balanced accuracy on the
    even rows of the held-out images, which is stated on the odd ones. Attributes with one value only, in either set or
    half, are left out.
    """
    halves = [held_out_attributes[start::2] for start in (0, 1)]
    kept = np.flatnonzero(np.all([part.min(0) < part.max(0) for part in (attributes, *halves)], axis=0))
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 1e-6 * np.abs(mean))
    x, unseen = (features - mean) * scale, (held_out - mean) * scale
    y = attributes[:, kept].astype(np.float64)
    gram, moments = x.T @ x, x.T @ (y - y.mean(0))
    best = np.full(len(kept), -1.0)
    weights, thresholds = np.zeros((x.shape[1], len(kept))), np.zeros(len(kept))
    for penalty in penalties:
        own = scipy.linalg.solve(gram + penalty * len(x) * np.eye(len(gram)), moments, assume_a="pos")
        for a, outputs in enumerate((unseen[::2] @ own).T):
            accuracy, threshold = _best_threshold(outputs, halves[0][:, kept[a]])
            if accuracy > best[a]:
                best[a], weights[:, a], thresholds[a] = accuracy, own[:, a], threshold
    shown, truth = unseen[1::2] @ weights > thresholds, halves[1][:, kept].astype(bool)
    accuracies = ((shown & truth).sum(0) / truth.sum(0) + (~shown & ~truth).sum(0) / (~truth).sum(0)) / 2
    weights *= scale[:, None]
    return AttributeReader(
        tuple(names[a] for a in kept),
        weights.astype(np.float32),
        (-thresholds - mean @ weights).astype(np.float32),
        np.asarray(accuracies),
    )


def _best_threshold(outputs: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The highest balanced accuracy of outputs (n,) above a threshold, and that threshold, between two outputs."""
    order = np.argsort(outputs)
    positive = truth[order].astype(np.float64)
    # Cutting above the i-th smallest: negatives below it are right, and positives above it.
    below = np.concatenate([[0.0], np.cumsum(1 - positive)]) / (1 - positive).sum()
    above = 1 - np.concatenate([[0.0], np.cumsum(positive)]) / positive.sum()
    cut = int(((below + above) / 2)[1:-1].argmax()) + 1
    sorted_outputs = outputs[order]
    return float((below[cut] + above[cut]) / 2), float((sorted_outputs[cut - 1] + sorted_outputs[cut]) / 2)

"""Multinomial logistic regression with an L2 penalty: by Newton's method where the Hessian is small, else by L-BFGS."""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

NEWTON_SIZE = 1200


def fit_softmax(
    x: np.ndarray, labels: np.ndarray, classes: int, c: float, start: np.ndarray | None = None
) -> np.ndarray:
    """Weights (D + 1, K) of multinomial logistic regression, the last row unpenalised intercepts.

    Minimises sum of cross-entropies + |W|^2 / (2 C), as scikit-learn does, to a gradient of 1e-5 per sample.

    Args:
        x: features (n, D). labels: int (n,), every one of 0 .. classes - 1 among them. c: inverse penalty.
        start: weights to begin from.
    """
    if (x.shape[1] + 1) * classes <= NEWTON_SIZE:
        return _by_newton(x, labels, classes, c)
    features = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    targets = torch.from_numpy(labels)
    size, shape = len(x), (x.shape[1] + 1, classes)
    one_hot = F.one_hot(targets, classes).float()

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        logits = torch.addmm(torch.from_numpy(weights[-1]).float(), features, torch.from_numpy(weights[:-1]).float())
        rest = torch.softmax(logits, 1) - one_hot
        gradient = torch.cat([features.T @ rest, rest.sum(0, keepdim=True)]).double().numpy()
        gradient[:-1] += weights[:-1] / c
        loss = F.cross_entropy(logits, targets, reduction="sum").item() + np.sum(weights[:-1] ** 2) / (2 * c)
        return loss / size, gradient.ravel() / size

    first = np.zeros(shape) if start is None else start
    options = {"maxiter": 1000, "maxfun": 2000, "gtol": 1e-5, "ftol": 1e-8}
    found = minimize(loss_and_gradient, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(shape))


def _by_newton(x: np.ndarray, labels: np.ndarray, classes: int, c: float) -> np.ndarray:
    # Of two classes scikit-learn fits one vector w, ours are -w/2 and w/2: the same model where its C is twice ours.
    model = LogisticRegression(C=2 * c if classes == 2 else c, solver="newton-cholesky", tol=1e-5, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a singular Hessian: it goes on with L-BFGS by itself
        model.fit(np.asarray(x, np.float64), labels)
    weights = np.concatenate([model.coef_, model.intercept_[:, None]], 1).T
    return np.asarray(weights if classes > 2 else np.concatenate([-weights / 2, weights / 2], 1))


def log_loss(weights: np.ndarray, x: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of labels (n,) in nats."""
    logits = torch.from_numpy(x @ weights[:-1] + weights[-1])
    return float(F.cross_entropy(logits, torch.from_numpy(labels)))

"""A small rule that predicts the signal of a node from what is known without any rollout, fitted out of fold.

    signal_u ~ b_0 + sum_k b_k z_uk,    z = outcome, sqrt KL(student||teacher), student entropy, depth, log position
    b = argmin sum_u W (signal_u - b.z)^2 + ridge sum_k b_k^2    (z standardised, the intercept is not shrunk)
    Cov b = H^-1 (sum over questions of s_q s_q') H^-1,   s_q = sum over its nodes of W z (signal - b.z)

The signal g.d / |d| is linear in the success rates, so that their noise does not bias the rule. A node's prediction
comes from the questions of the other folds only: what is said of it was not learnt from it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

FEATURES = ("path_correct", "sqrt_reverse_kl", "student_entropy_nats", "depth_frac", "log_position")
FOLDS = 10
RIDGE = 0.05
"""Times the total weight: a feature that explains nothing more is shrunk by 5 %, a doubtful one by more."""


class Nodes(NamedTuple):
    """What a rule learns from."""

    features: Float[np.ndarray, "node feature"]
    """Columns `FEATURES`."""
    signal: Float[np.ndarray, " node"]
    weight: Float[np.ndarray, " node"]
    question: Int[np.ndarray, " node"]


class Rule(NamedTuple):
    """A fitted rule; applies to any node with these features."""

    mean: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    coefficients: Float[np.ndarray, " term"]
    """The intercept, then one per standardised feature."""
    covariance: Float[np.ndarray, "term term"]


class Prediction(NamedTuple):
    """Expected signal and its standard error (of the rule, not of the node)."""

    signal: Float[np.ndarray, " node"]
    error: Float[np.ndarray, " node"]


def fit_rule(nodes: Nodes) -> Rule:
    """Weighted ridge regression with a covariance that allows for dependence within questions."""
    total = nodes.weight.sum()
    mean = (nodes.weight @ nodes.features) / total
    spread = np.sqrt((nodes.weight @ (nodes.features - mean) ** 2) / total)
    scale = np.where(spread > 1e-12, spread, np.inf)
    design = _design(nodes.features, mean, scale)
    penalty = np.diag([0.0, *([RIDGE * total] * nodes.features.shape[1])])
    weighted = design * nodes.weight[:, None]
    inverse = np.linalg.inv(weighted.T @ design + penalty)
    coefficients = inverse @ (weighted.T @ nodes.signal)
    residual = nodes.signal - design @ coefficients
    scores = np.zeros((int(nodes.question.max()) + 1, design.shape[1]))
    np.add.at(scores, nodes.question, weighted * residual[:, None])
    count = max(len(np.unique(nodes.question)), 2)
    return Rule(mean, scale, coefficients, count / (count - 1) * inverse @ (scores.T @ scores) @ inverse)


def apply_rule(rule: Rule, features: Float[np.ndarray, "node feature"]) -> Prediction:
    """The rule's expectation at nodes that may be new."""
    design = _design(features, rule.mean, rule.scale)
    variance = np.einsum("nt,tu,nu->n", design, rule.covariance, design)
    return Prediction(design @ rule.coefficients, np.sqrt(np.maximum(variance, 0.0)))


def predict_out_of_fold(nodes: Nodes) -> Prediction:
    """Each node's expectation by a rule that saw none of the questions in its fold (question number modulo folds)."""
    fold = nodes.question % min(FOLDS, int(nodes.question.max()) + 1)
    signal, error = np.full(len(fold), np.nan), np.full(len(fold), np.nan)
    for number in np.unique(fold):
        held = fold == number
        learnt = fit_rule(Nodes(*(column[~held] for column in nodes)))
        signal[held], error[held] = apply_rule(learnt, nodes.features[held])
    return Prediction(signal, error)


def _design(
    features: Float[np.ndarray, "node feature"],
    mean: Float[np.ndarray, " feature"],
    scale: Float[np.ndarray, " feature"],
) -> Float[np.ndarray, "node term"]:
    return np.concatenate([np.ones((len(features), 1)), (features - mean) / scale], axis=1)

"""Correlations over nodes with their copies without each question, ranks redone in every copy.

    Pearson  = sum (x - mean x)(y - mean y) / sqrt(...)     over nodes, every node counting once
    Spearman = the same of mid-ranks
    between  = Pearson correlation of the groups' means of x and y (of their mid-ranks among all nodes)

Nodes of one question are not independent, so intervals come from deleting whole questions. Ranks are those of the
nodes that are left: keeping the ranks of the full sample would leave out part of what a question changes.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from hydrometer.alignment.intervals import CORRELATION, Jackknife, jackknife_of_copies

Method = Literal["spearman", "pearson"]
METHODS: tuple[Method, ...] = ("spearman", "pearson")
MIN_GROUPS = 3
"""Two means always correlate perfectly."""
_ROUNDING = 1e-12
"""Relative to the size of a column, a deviation below this is rounding."""


class Nodes(NamedTuple):
    """Columns to correlate and where each node belongs."""

    columns: Float[np.ndarray, "column node"]
    """The response first, then the predictors; finite."""
    question: Int[np.ndarray, " node"]
    n_questions: int
    group: Int[np.ndarray, " node"]
    """For `between`; zeros where there is one group."""


class Copies(NamedTuple):
    """Correlation of the response with every predictor: the full sample first, then without each question."""

    overall: Float[np.ndarray, "copy predictor"]
    between: Float[np.ndarray, "copy predictor"]
    """NaN below three groups."""


def correlation_copies(nodes: Nodes, method: Method) -> Copies:
    """Correlate the first column with the others, in the full sample and without each question in turn."""
    overall, between = [], []
    for columns, is_left in _copies(nodes, method):
        overall.append(_correlate(columns))
        between.append(_correlate(_group_means(columns, nodes.group[is_left])))
    return Copies(np.stack(overall), np.stack(between))


def jackknife_correlation(copies: Float[np.ndarray, "copy predictor"], nodes: Nodes) -> Jackknife:
    """Interval over questions from the copies."""
    has_node = np.bincount(nodes.question, minlength=nodes.n_questions) > 0
    contributes = np.broadcast_to(has_node[:, None], copies[1:].shape)
    return jackknife_of_copies(copies[0], copies[1:], contributes, limits=CORRELATION)


def _copies(
    nodes: Nodes, method: Method
) -> Iterator[tuple[Float[np.ndarray, "column left"], Bool[np.ndarray, " node"]]]:
    """The columns of each copy, over the nodes that are left."""
    columns = _standardised(nodes.columns)
    levels = [_levels(column) for column in nodes.columns] if method == "spearman" else []
    for copy in range(-1, nodes.n_questions):
        is_left = nodes.question != copy
        if method == "pearson":
            yield columns[:, is_left], is_left
        else:
            yield np.stack([_midranks(level[is_left]) for level in levels]) / max(int(is_left.sum()), 1), is_left


def _standardised(columns: Float[np.ndarray, "column node"]) -> Float[np.ndarray, "column node"]:
    """Each column centred and of unit spread; zeros where it does not vary."""
    if not columns.shape[1]:
        return columns
    centred = columns - columns.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    size = np.abs(columns).max(1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > _ROUNDING * size)


def _levels(column: Float[np.ndarray, " node"]) -> Int[np.ndarray, " node"]:
    """Number of each node's distinct value, to twelve digits: a cosine of +-1 up to rounding is a tie."""
    mantissa, exponent = np.frexp(column)
    return np.unique(np.ldexp(np.round(mantissa, 12), exponent), return_inverse=True)[1]


def _midranks(level: Int[np.ndarray, " left"]) -> Float[np.ndarray, " left"]:
    """Mid-ranks from the number of the distinct value: counting instead of sorting."""
    counts = np.bincount(level)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[level]


def _group_means(
    columns: Float[np.ndarray, "column left"], group: Int[np.ndarray, " left"]
) -> Float[np.ndarray, "column group"]:
    """Means of the groups that have a node; no column at all below three of them."""
    counts = np.bincount(group)
    sums = np.stack([np.bincount(group, column, minlength=len(counts)) for column in columns])
    means = sums[:, counts > 0] / counts[counts > 0]
    return means if means.shape[1] >= MIN_GROUPS else means[:, :0]


def _correlate(columns: Float[np.ndarray, "column point"]) -> Float[np.ndarray, " predictor"]:
    """Pearson correlation of the first column with each other one; NaN where one does not vary."""
    if not columns.shape[1]:
        return np.full(len(columns) - 1, np.nan)
    centred = columns - columns.mean(1, keepdims=True)
    square = (centred**2).sum(1)
    is_defined = (square[0] > _ROUNDING) & (square[1:] > _ROUNDING)
    length = np.sqrt(np.where(is_defined, square[0] * square[1:], 1.0))
    return np.where(is_defined, np.clip(centred[1:] @ centred[0] / length, -1.0, 1.0), np.nan)

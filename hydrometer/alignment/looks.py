"""When a run looks at its ranking, and how sure every look has to be, so that all of them together err no more often.

    looks after n_1 < ... < n_K questions, a geometric grid
    Z_k = W(n_k / n_K) / sqrt(n_k / n_K), W Brownian motion
    needed level = P(|N(0, 1)| < c), the same at every look, with 2 P(max_k Z_k > c) = 0.05

Between two equally good arms the standardised difference after n_k questions is about Z_k, and either may lead, so that
a run that stops at the first look with |Z_k| > c prefers one of them wrongly in 5 % of all runs at most. Intervals at
this level hold at all looks together in 95 % of runs, and so at the one that a run stops at. Looking less often than
planned (a budget that ends early) only makes errors rarer.

Reference: Pocock (1977), Group sequential methods in the design and analysis of clinical trials; the probability is
found by the recursion of Armitage, McPherson and Rowe (1969).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from scipy import optimize, stats

FIRST_LOOK = 8
"""Questions; with fewer than five there is no probability at all, and with five it is a rough one."""
MOST_LOOKS = 8
_LEAST_GROWTH = 1.3
"""Between two looks; closer ones cost certainty and tell little."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_FARTHEST = 9.0
"""Standard deviations below 0 that are integrated over."""


def look_schedule(most_questions: int) -> tuple[int, ...]:
    """After how many questions to look: a geometric grid of at most `MOST_LOOKS`, the last after all of them."""
    if most_questions <= FIRST_LOOK:
        return (most_questions,)
    ratio = most_questions / FIRST_LOOK
    steps = min(MOST_LOOKS - 1, max(1, int(np.log(ratio) / np.log(_LEAST_GROWTH))))
    return tuple(round(FIRST_LOOK * ratio ** (step / steps)) for step in range(steps + 1))


def needed_probability(looks: Sequence[int], certainty: float) -> float:
    """Two-sided level of each of these looks, for `certainty` over all of them.

    Args:
        looks: questions at each look, increasing.
        certainty: the level that one single look would have.
    """
    if len(looks) == 1:
        return certainty
    times = np.asarray(looks, dtype=np.float64) / looks[-1]
    low, high = float(stats.norm.ppf((1.0 + certainty) / 2.0)), 5.0
    bound = optimize.brentq(lambda c: 2.0 * _crossing_probability(times, c) - (1.0 - certainty), low, high, xtol=1e-6)
    return float(2.0 * stats.norm.cdf(bound) - 1.0)


def _crossing_probability(times: Float64[np.ndarray, " look"], bound: float) -> float:
    """P(W(t_k) > bound sqrt(t_k) for some k), integrating the density of the paths that have not crossed yet."""
    grid, weights = _below(bound, times[0])
    density = np.exp(-(grid**2) / (2.0 * times[0])) / np.sqrt(2.0 * np.pi * times[0])
    for before, now in pairwise(times):
        onward, onward_weights = _below(bound, now)
        variance = now - before
        step = np.exp(-((onward[:, None] - grid) ** 2) / (2.0 * variance)) / np.sqrt(2.0 * np.pi * variance)
        density = step @ (density * weights)
        grid, weights = onward, onward_weights
    return 1.0 - float(density @ weights)


def _below(bound: float, time: float) -> tuple[Float64[np.ndarray, " node"], Float64[np.ndarray, " node"]]:
    """Nodes and weights of an integral over everything that has not crossed at this time."""
    low, high = -_FARTHEST * np.sqrt(time), bound * np.sqrt(time)
    return low + (high - low) * (_NODES + 1.0) / 2.0, _WEIGHTS * (high - low) / 2.0

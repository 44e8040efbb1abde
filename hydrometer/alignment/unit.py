"""A score whose unit, the length of the ideal direction, was measured by itself at other nodes than its inner products.

    u = sum W g.d / sqrt(sum W |d|^2),   l = sqrt(sum W |g|^2 - noise),   score = u / l

`u` orders the arms without any unit: `l` is the same for all. The interval of the ratio inverts the test of u = c l for
every c (Fieller): with jackknife variances v and covariance over questions,

    { c in [-1, 1] : (u - c l)^2 <= t^2 (v_u - 2 c v_ul + c^2 v_l) }

with t of the wanted confidence for u, and of 95 % for l, on which no run decides to stop. A score near 0 is as sure as
u, however rough the unit is, and a large one can reach up to 1 where l may be near 0. An interval of [-1, 1] says that
the unit is not known. Reference: Fieller (1954), Some problems in interval estimation.
"""

import numpy as np
from jaxtyping import Float

from hydrometer.alignment.intervals import CONFIDENCE, CORRELATION, Jackknife, joint_variances, student_quantile


def fieller_interval(
    top: Jackknife, bottom: Jackknife, *, confidence: float = CONFIDENCE
) -> tuple[Float[np.ndarray, "*arms"], Float[np.ndarray, "*arms"]]:
    """Low and high end of top / bottom within [-1, 1]; NaN where a copy of either is undefined or bottom is not > 0."""
    reach, own = (student_quantile(top.left_out, level) for level in (confidence, CONFIDENCE))
    v_top, v_both, v_bottom = joint_variances(top.left_out, bottom.left_out)
    a, b = bottom.value**2 - own**2 * v_bottom, top.value * bottom.value - own * reach * v_both
    c = top.value**2 - reach**2 * v_top
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    near, far = (np.divide(b + sign * root, a, out=np.zeros_like(a), where=a != 0.0) for sign in (-1.0, 1.0))
    is_bounded, is_signed = a > 0.0, c > 0.0
    low, high = (np.where(is_bounded, end, limit) for end, limit in zip((near, far), CORRELATION, strict=True))
    # an unbounded set that leaves out 0 has a piece on either side; a unit is positive, so the sign is that of u
    edge = np.where(top.value > 0.0, np.maximum(near, far), np.minimum(near, far))
    low = np.where(~is_bounded & is_signed & (top.value > 0.0), edge, low)
    high = np.where(~is_bounded & is_signed & (top.value < 0.0), edge, high)
    is_known = np.isfinite(a + b + c) & (bottom.value > 0.0)
    low, high = np.clip(low, *CORRELATION), np.clip(high, *CORRELATION)
    return np.where(is_known, low, np.nan), np.where(is_known, high, np.nan)

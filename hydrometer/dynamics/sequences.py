"""What whole responses show: repeats, the teacher's reward, how much of a gap was closed, talk of a reference.

    repeat mask[i]     the n-gram that ENDS at i occurred earlier in the response         arXiv:2605.11182 (its code)
    sequence reward    r(y) = (1 / T) sum_t (log q(y_t) - log p(y_t)), nats per token     arXiv:2604.13016
    AUROC              P(r(correct) > r(incorrect)) + P(equal) / 2
    gap recovery       (after - before) / (teacher - before)                              arXiv:2604.13016

What does not exist is None (NaN inside arrays), never 0.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import rankdata

REPEAT_N = 3
"""Length of the n-grams whose return counts as a repeat (arXiv:2605.11182)."""
_SOURCE = r"(?:reference|provided|given|supplied|expected|sample|model)"
_THING = r"(?:solution|answer|demonstration|response|derivation)(?!\s+(?:choices?|options?))"
REFERRING_PHRASES: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bthe\s+{_SOURCE}\s+{_THING}",
        r"\b(?:as|like|what)\s+(?:the|a|your)\s+(?:reference|solution|demonstration|hint)\s+"
        r"(?:says?|states?|shows?|gives?|does|did|suggests?|claims?|has|uses?)\b",
        r"\b(?:according\s+to|following|based\s+on|consistent\s+with|agrees\s+with|matche?s)\s+the\s+"
        r"(?:reference|solution|demonstration|hint)\b",
        r"\bthe\s+(?:solution|answer|demonstration|hint)\s+(?:above|provided|(?:I|we)\s+(?:was|were|am|are)\s+(?:given|shown))\b",
    )
)
"""English phrases of someone who looks at a reference. A word list: it measures change, not how often it is meant."""


def compute_repeat_mask(token_ids: Sequence[int], n: int = REPEAT_N) -> Bool[np.ndarray, " token"]:
    """Where the n-gram ending at a token already occurred in this response; occurrences may overlap."""
    is_repeat = np.zeros(len(token_ids), dtype=bool)
    seen: set[tuple[int, ...]] = set()
    for end in range(n - 1, len(token_ids)):
        ngram = tuple(token_ids[end - n + 1 : end + 1])
        is_repeat[end] = ngram in seen
        seen.add(ngram)
    return is_repeat


def compute_sequence_rewards(
    log_ratio: Float64[np.ndarray, " token"], rollout: Int64[np.ndarray, " token"], rollouts: int
) -> Float64[np.ndarray, " rollout"]:
    """Mean of log q - log p over the tokens of each rollout, nats; NaN where it has no token with a known ratio.

    Args:
        log_ratio: teacher minus student log-probability of the sampled token; NaN where unknown.
        rollout: whose token it is, from 0.
        rollouts: how many there are.
    """
    is_known = ~np.isnan(log_ratio)
    sums = np.bincount(rollout[is_known], weights=log_ratio[is_known], minlength=rollouts)
    counts = np.bincount(rollout[is_known], minlength=rollouts)
    return np.divide(sums, counts, out=np.full(rollouts, np.nan), where=counts > 0)


def compute_auroc(values: Float64[np.ndarray, " item"], is_positive: Bool[np.ndarray, " item"]) -> float | None:
    """Probability that a positive item has the larger value (ties count one half); None where a class is empty.

    Items with a NaN are left out.
    """
    is_known = ~np.isnan(values)
    values, is_positive = values[is_known], is_positive[is_known]
    positives = int(is_positive.sum())
    negatives = len(values) - positives
    if not positives or not negatives:
        return None
    wins = rankdata(values)[is_positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def compute_gap_recovery(before: float, after: float, teacher: float) -> float | None:
    """Share of the accuracy gap to the teacher that training closed; None where there was no gap.

    Negative where training did harm, above 1 where the student passed its teacher. For a teacher that is worse than the
    student, the share of the way down to it.
    """
    return None if math.isclose(teacher, before, abs_tol=1e-12) else (after - before) / (teacher - before)


def refers_to_reference(text: str) -> bool:
    """Whether a response speaks as if it saw a reference (arXiv:2605.11182 reports such students)."""
    return any(pattern.search(text) for pattern in REFERRING_PHRASES)


def compute_referring_share(texts: Sequence[str]) -> float | None:
    """Share of responses that speak of a reference; None for no responses."""
    return sum(map(refers_to_reference, texts)) / len(texts) if texts else None

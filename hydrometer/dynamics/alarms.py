"""The papers' signs of failure as rules over the metrics so far.

A rule compares the mean of the newest `WINDOW_STEPS` steps with that of the first `WINDOW_STEPS`. A change smaller than
`NOISE_ERRORS` standard errors counts as none, so that the noise of single steps fires nothing:

    standard error = s sqrt(1 / n_first + 1 / n_newest),   s^2 = mean of (x_(t+1) - x_t)^2 / 2 over `NOISE_STEPS`

(successive differences see the noise and not the trend). An alarm is given when its sign shows at the newest step and
showed at none of the `WINDOW_STEPS` steps before: once per onset, as a function of the history alone, so that a resumed
run gives the same alarms.

A threshold "ours" is a choice made here, not taken from a paper.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

WINDOW_STEPS = 10
NOISE_ERRORS = 4.0
NOISE_STEPS = 50
STAGNATION_STEPS = 50
"""Steps before the absence of progress means anything (ours)."""
TOPK_MASS_FALL = 0.05
"""Of the student's mass on its own top-k (ours). Without any bias it does not fall (arXiv:2605.11182)."""
ENTROPY_RISE_NATS = 0.1
"""Half the entropy of a choice between probabilities 0.05 and 0.95, which a fall of `TOPK_MASS_FALL` can add (ours)."""
REPEAT_RISE = 0.14
"""Half the rise of the 3-gram repeat ratio, 0.51 to 0.79, at which arXiv:2605.11182 (figure 4) calls a run verbose."""
LENGTH_FACTOR = 1.5
"""Of the mean response length (ours)."""
TRUNCATION_RISE = 0.2
"""Of the share of truncated responses (ours)."""
LOW_OVERLAP = 0.8
"""About halfway between start (0.72) and end (0.91) of the successful run of arXiv:2604.13016."""
OVERLAP_GROWTH = 0.01
"""A twentieth of the growth in that run, which took some 200 steps."""
ONSET_NATS = 0.2
"""By how much entropy has left its start level (ours; arXiv:2604.13016 shows the order of onsets, no margin)."""
SMALL_KL_NATS = 0.01
"""Mean reverse KL at which p and q differ by about 7 % in total variation at most, by Pinsker's inequality (ours)."""
GRADIENT_FACTOR = 0.1
"""Of the gradient norm at the start (ours)."""
ACCURACY_MOVE = 0.02
"""A smaller change of accuracy is no change (ours)."""
USELESS_AUROC = 0.55
"""arXiv:2604.13016 finds 0.73 and 0.75, in a good and in a bad run; 0.5 is a coin (ours)."""

_ENTROPY_BINS = r"student_entropy_bin_\d+"

History = Sequence[Mapping[str, float | int | None]]


class Alarm(NamedTuple):
    """A sign of failure that began to show at `step`."""

    name: str
    step: int
    value: float
    """What was seen, in the terms of the rule's `sign`."""
    threshold: float
    metrics: tuple[str, ...]
    """Names of the metrics that the rule read, where the sign is to be seen."""
    mechanism: str
    cure: str


class Rule(NamedTuple):
    """One sign of failure."""

    name: str
    sign: str
    """What `value` is and how it compares with the threshold."""
    threshold: float
    metrics: tuple[str, ...]
    """What it reads: names, or patterns of names."""
    find: Callable[[History], float | None]
    """The value if the sign shows at the end of a history, else None."""
    mechanism: str
    cure: str


def check_alarms(history: History) -> list[Alarm]:
    """The alarms that begin at the newest step.

    Args:
        history: the metrics of every step so far, oldest first, with `step`; a missing metric counts as None.
    """
    alarms = []
    for rule in RULES:
        value = rule.find(history)
        if value is not None and not _showed_before(rule, history):
            step = history[-1]["step"]
            assert step is not None
            read = _matching(history, rule.metrics)
            alarms.append(Alarm(rule.name, int(step), value, rule.threshold, read, rule.mechanism, rule.cure))
    return alarms


def _matching(history: History, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the newest step's metrics, in the order of the patterns."""
    return tuple(name for pattern in patterns for name in history[-1] if re.fullmatch(pattern, name))


def _showed_before(rule: Rule, history: History) -> bool:
    earlier = range(len(history) - 1, max(0, len(history) - 1 - WINDOW_STEPS), -1)
    return any(rule.find(history[:steps]) is not None for steps in earlier)


class _Change(NamedTuple):
    start: float
    now: float
    is_noise: bool
    """The difference is within `NOISE_ERRORS` standard errors."""

    @property
    def rise(self) -> float:
        return 0.0 if self.is_noise else self.now - self.start

    @property
    def factor(self) -> float:
        return 1.0 if self.is_noise or self.start <= 0.0 else self.now / self.start


def _change(history: History, name: str) -> _Change | None:
    """First window against newest; None while they overlap or if either has fewer than half its values."""
    if len(history) < 2 * WINDOW_STEPS:
        return None
    start, now = _values(history[:WINDOW_STEPS], name), _values(history[-WINDOW_STEPS:], name)
    if 2 * min(len(start), len(now)) < WINDOW_STEPS:
        return None
    steps = np.diff(_values(history[-NOISE_STEPS:], name))
    error = np.sqrt(np.square(steps).mean() / 2 * (1 / len(start) + 1 / len(now)))
    difference = now.mean() - start.mean()
    return _Change(float(start.mean()), float(now.mean()), bool(abs(difference) <= NOISE_ERRORS * error))


def _values(window: History, name: str) -> np.ndarray:
    known = [record.get(name) for record in window]
    return np.array([value for value in known if value is not None], dtype=np.float64)


def _find_mass_suppression(history: History) -> float | None:
    mass, entropy = _change(history, "student_topk_mass"), _change(history, "student_entropy")
    if mass is None or entropy is None or entropy.rise < ENTROPY_RISE_NATS:
        return None
    return -mass.rise if -mass.rise >= TOPK_MASS_FALL else None


def _find_rise(name: str, threshold: float) -> Callable[[History], float | None]:
    def find(history: History) -> float | None:
        change = _change(history, name)
        return change.rise if change is not None and change.rise >= threshold else None

    return find


def _find_inflation(history: History) -> float | None:
    length = _change(history, "response_tokens_mean")
    return length.factor if length is not None and length.factor >= LENGTH_FACTOR else None


def _find_stagnant_overlap(history: History) -> float | None:
    overlap = _change(history, "overlap_ratio")
    if overlap is None or len(history) < STAGNATION_STEPS or overlap.now >= LOW_OVERLAP:
        return None
    accuracy = _change(history, "accuracy")
    if accuracy is not None and accuracy.rise >= ACCURACY_MOVE:
        return None  # the student learns what it is to learn, whatever the rest of its distribution does
    # Not `rise`: a slow growth that noise hides is no proof that nothing grows.
    growth = overlap.now - overlap.start
    return growth if growth < OVERLAP_GROWTH else None


def _find_tail_onset(history: History) -> float | None:
    changes = [_change(history, name) for name in _entropy_bins(history)]
    known = [change for change in changes if change is not None]
    if len(known) < 2 or known[0].rise >= ONSET_NATS:
        return None
    return known[-1].rise if known[-1].rise >= ONSET_NATS else None


def _entropy_bins(history: History) -> list[str]:
    """Names of the student's entropy by position, the first bin first."""
    names = [name for name in (history[0] if history else {}) if re.fullmatch(_ENTROPY_BINS, name)]
    return sorted(names, key=lambda name: int(name.rsplit("_", 1)[1]))


def _find_vanishing_kl(history: History) -> float | None:
    divergence = _change(history, "reverse_kl")
    if divergence is None or not _accuracy_stands(history):
        return None
    return divergence.now if divergence.now < SMALL_KL_NATS else None


def _find_vanishing_gradient(history: History) -> float | None:
    gradient = _change(history, "gradient_norm")
    if gradient is None or not _accuracy_stands(history):
        return None
    return gradient.factor if gradient.factor < GRADIENT_FACTOR else None


def _accuracy_stands(history: History) -> bool:
    """Whether accuracy is known and did not move in enough steps."""
    accuracy = _change(history, "accuracy")
    return accuracy is not None and len(history) >= STAGNATION_STEPS and abs(accuracy.rise) < ACCURACY_MOVE


def _find_useless_reward(history: History) -> float | None:
    auroc = _change(history, "sequence_reward_auroc")
    return auroc.now if auroc is not None and auroc.now < USELESS_AUROC else None


_NO_SIGNAL = (
    "The teacher hardly disagrees with the student on its own responses, so there is little left to learn from it."
)
_OTHER_TEACHER = (
    "Take a teacher that knows what the student does not, such as the student itself after outcome reward (recipe "
    "rlvr_teacher), or add outcome reward (objective dr_grpo)."
)
RULES: tuple[Rule, ...] = (
    Rule(
        "mass_suppression",
        "fall of student_topk_mass while student_entropy rises",
        TOPK_MASS_FALL,
        ("student_topk_mass", "student_entropy"),
        _find_mass_suppression,
        "A truncated KL without its normalising term pushes probability out of the student's own top-k, the faster the "
        "more has left, whatever the teacher says.",
        "Train with topk_reverse_kl:form=stop_gradient (or renormalised, or tail_bin) in place of form=unnormalised.",
    ),
    Rule(
        "repetition",
        "rise of repeat_ratio",
        REPEAT_RISE,
        ("repeat_ratio",),
        _find_rise("repeat_ratio", REPEAT_RISE),
        "The student falls into loops, where repeated tokens are easy to predict and a per-token loss rewards them.",
        "Use form=stop_gradient or renormalised, lower --max-response-tokens, or begin with the recipe cold_start.",
    ),
    Rule(
        "length_inflation",
        "response_tokens_mean as a multiple of its start",
        LENGTH_FACTOR,
        ("response_tokens_mean",),
        _find_inflation,
        "Responses grow into depths where the teacher must continue what it would not have written, and guides badly.",
        "Lower --max-response-tokens; use form=stop_gradient or renormalised if the objective is unnormalised.",
    ),
    Rule(
        "truncation",
        "rise of truncated_share",
        TRUNCATION_RISE,
        ("truncated_share",),
        _find_rise("truncated_share", TRUNCATION_RISE),
        "More responses run into the length limit and end without an answer: the student unlearns how to stop.",
        "Begin with the recipe cold_start, or mix in answers of the teacher that end (recipe stabilised_student).",
    ),
    Rule(
        "stagnant_overlap",
        "growth of overlap_ratio, below the threshold at a low level",
        OVERLAP_GROWTH,
        ("overlap_ratio", "accuracy"),
        _find_stagnant_overlap,
        "Student and teacher prefer different tokens where the student goes, and training does not bring them closer.",
        "Begin with the recipe cold_start, use prompts that the teacher knows (recipe teacher_aligned_prompts), or "
        "take a teacher that writes like the student.",
    ),
    Rule(
        "tail_entropy",
        "rise of student_entropy in the last position bin (nats) while the first bin stands",
        ONSET_NATS,
        (_ENTROPY_BINS,),
        _find_tail_onset,
        "Late positions, where the teacher guides least, lose their shape first, and the loss moves towards the start.",
        "Lower --max-response-tokens to below the position where the rise begins.",
    ),
    Rule(
        "vanishing_kl",
        "reverse_kl (nats) while accuracy stands",
        SMALL_KL_NATS,
        ("reverse_kl", "accuracy"),
        _find_vanishing_kl,
        _NO_SIGNAL,
        _OTHER_TEACHER,
    ),
    Rule(
        "vanishing_gradient",
        "gradient_norm as a multiple of its start while accuracy stands",
        GRADIENT_FACTOR,
        ("gradient_norm", "accuracy"),
        _find_vanishing_gradient,
        _NO_SIGNAL,
        _OTHER_TEACHER,
    ),
    Rule(
        "useless_reward",
        "sequence_reward_auroc, below the threshold",
        USELESS_AUROC,
        ("sequence_reward_auroc",),
        _find_useless_reward,
        "The teacher rewards correct responses no more than incorrect ones, so what it rewards is not correctness.",
        "Train on outcome reward (objective dr_grpo), alone or beside the teacher, or choose a teacher by a diagnosis.",
    ),
)
"""Every rule that `check_alarms` applies."""

"""The one table of metric names: unit, which way is good, what it means, where it is from.

python -c "from hydrometer import dynamics; print(dynamics.describe_metrics(), end='')"   makes docs/metrics.md
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

MANY_FACES = "arXiv:2605.11182"
RETHINKING = "arXiv:2604.13016"
OURS = "ours"
Direction = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What one name in metrics.jsonl stands for."""

    unit: str
    better: Direction | None
    """Which way a healthy run goes; None where that depends."""
    meaning: str
    source: str


_TOKEN_METRICS: Mapping[str, Metric] = {
    "overlap_ratio": Metric(
        "share", "up", "Share of the k most probable tokens that both models have.", f"{RETHINKING} eq 6"
    ),
    "overlap_token_advantage": Metric(
        "nats",
        "up",
        "Mean over the shared top-k tokens of p~ (log q~ - log p~), both renormalised on them; at most 0. Read "
        "it with the overlap masses: it says nothing of what is not shared.",
        f"{RETHINKING} eq 7",
    ),
    "overlap_token_advantage_verl": Metric(
        "nats",
        None,
        "Mean over the shared top-k tokens of -q (log q - log p), not renormalised: what verl calls "
        "overlap_token_advantage, save that positions without a shared token are left out here.",
        "verl",
    ),
    "student_overlap_mass": Metric(
        "share", "up", "Student probability of the shared top-k tokens.", f"{RETHINKING} eq 9"
    ),
    "teacher_overlap_mass": Metric(
        "share", "up", "Teacher probability of the shared top-k tokens.", f"{RETHINKING} eq 10"
    ),
    "student_topk_mass": Metric(
        "share",
        None,
        "Student probability of its own k most probable tokens; falling with rising entropy it shows a biased loss.",
        MANY_FACES,
    ),
    "teacher_topk_mass": Metric("share", None, "Teacher probability of its own k most probable tokens.", MANY_FACES),
    "student_entropy": Metric("nats", None, "Entropy of the student, full vocabulary.", RETHINKING),
    "teacher_entropy": Metric("nats", None, "Entropy of the teacher, full vocabulary.", RETHINKING),
    "entropy_gap": Metric(
        "nats",
        "down",
        "Mean absolute difference of the two entropies at the same token, full vocabulary.",
        f"{RETHINKING} eq 8",
    ),
    "reverse_kl": Metric("nats", "down", "KL(student‖teacher), full vocabulary.", f"{RETHINKING} eq 4"),
    "forward_kl": Metric(
        "nats", "down", "KL(teacher‖student), full vocabulary; null if the student excludes tokens.", OURS
    ),
    "student_logprob": Metric("nats", None, "Student log-probability of the sampled token.", MANY_FACES),
    "teacher_logprob": Metric("nats", "up", "Teacher log-probability of the sampled token.", MANY_FACES),
    "teacher_minus_student_logprob": Metric(
        "nats",
        "up",
        "The teacher's log-probability of the sampled token minus the student's: its reward under sampled reverse KL.",
        MANY_FACES,
    ),
    "teacher_rank": Metric(
        "rank", "down", "Place of the sampled token among the teacher's 50 most probable, 51 beyond them.", MANY_FACES
    ),
}
SPLIT_BY_REPEAT = ("student_logprob", "teacher_logprob", "teacher_minus_student_logprob", "teacher_rank")
"""Token metrics that are also given for repeated and for other tokens apart."""


def _split_by_repeat() -> dict[str, Metric]:
    split = {}
    for name in SPLIT_BY_REPEAT:
        whole = _TOKEN_METRICS[name]
        for suffix, where in (("repeated", "where a 3-gram returns"), ("other", "where no 3-gram returns")):
            split[f"{name}_{suffix}"] = Metric(whole.unit, None, f"`{name}` over the tokens {where}.", MANY_FACES)
    return split


_RESPONSE_METRICS: Mapping[str, Metric] = {
    "repeat_ratio": Metric(
        "share", "down", "Share of tokens at which a 3-gram ends that occurred earlier in the response.", MANY_FACES
    ),
    **_split_by_repeat(),
    "response_tokens_mean": Metric("tokens", None, "Mean length of a response.", RETHINKING),
    "truncated_share": Metric("share", "down", "Share of responses that the length limit ended.", RETHINKING),
    "accuracy": Metric("share", "up", "Share of the step's rollouts that are correct.", RETHINKING),
    "sequence_reward_correct_mean": Metric(
        "nats", "up", "Mean over correct responses of r(y), the mean over tokens of log q - log p.", RETHINKING
    ),
    "sequence_reward_incorrect_mean": Metric("nats", None, "The same over incorrect responses.", RETHINKING),
    "sequence_reward_auroc": Metric(
        "probability",
        "up",
        "Chance that a correct response has the larger r(y) than an incorrect one; 0.5 is no guide.",
        RETHINKING,
    ),
    "referring_share": Metric(
        "share",
        "down",
        "Share of responses that speak as if they saw a reference (a list of English phrases).",
        MANY_FACES,
    ),
}
STEP_METRICS: tuple[str, ...] = (*_TOKEN_METRICS, *_RESPONSE_METRICS)
"""What `aggregate` gives for every step, besides the position bins."""
BIN_PATTERNS: Mapping[str, Metric] = MappingProxyType(
    {
        "teacher_nll_bin_*": Metric(
            "nats", "down", "Mean of -log q of the sampled token in position bin *.", MANY_FACES
        ),
        "reverse_kl_bin_*": Metric("nats", "down", "`reverse_kl` in position bin *.", RETHINKING),
        "student_entropy_bin_*": Metric("nats", None, "`student_entropy` in position bin *.", RETHINKING),
        "teacher_entropy_bin_*": Metric("nats", None, "`teacher_entropy` in position bin *.", RETHINKING),
    }
)
"""Metrics by absolute position in the response; * is the number of the bin, from 0."""
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "loss": Metric(
            "nats", "down", "Loss of the step, summed over its terms (nats unless a term is an outcome's).", OURS
        ),
        "loss_*": Metric("nats", None, "The term of objective * before its coefficient.", OURS),
        "gradient_norm": Metric("norm", None, "Norm of the gradient before clipping.", RETHINKING),
        "learning_rate": Metric("1", None, "Of the step.", OURS),
        "taught_share": Metric("share", "up", "Share of the responses that some teacher could score.", OURS),
        "weighted_share": Metric("share", None, "Mean weight of a response token under --weights.", OURS),
        "rule_share": Metric("share", None, "The same of RULE before RULE@SHARE takes a random part.", OURS),
        "advice_matched_share": Metric(
            "share",
            None,
            "Share of the response tokens whose weight comes from a prefix that the diagnosis measured; the others "
            "follow its rule.",
            OURS,
        ),
        **_TOKEN_METRICS,
        **_RESPONSE_METRICS,
        "gap_recovery": Metric(
            "share", "up", "(accuracy after - before) / (teacher's - before), on evaluation questions.", RETHINKING
        ),
        **BIN_PATTERNS,
    }
)
"""Every metric by name; of the bins, the pattern."""


def find_metric(name: str) -> Metric:
    """The metric behind a name in metrics.jsonl, bins and terms of the loss included.

    Raises:
        KeyError: no metric has this name.
    """
    return METRICS[re.sub(r"_bin_\d+$", "_bin_*", re.sub(r"^loss_.+$", "loss_*", name))]


def describe_metrics() -> str:
    """The page docs/metrics.md."""
    rows = [
        f"| `{name}` | {metric.unit} | {metric.better or ''} | {metric.meaning} | {metric.source} |"
        for name, metric in METRICS.items()
    ]
    return "\n".join([_HEAD, "| name | unit | good | meaning | source |", "|---|---|---|---|---|", *rows, ""])


_HEAD = """\
# Metrics

One line of `metrics.jsonl` is one optimiser step: `step`, `wall_s`, `tokens` and the metrics below. p is the student's
and q the teacher's next-token distribution at the same prefix; logs are natural. Unless the meaning says otherwise a
metric is the mean over all response tokens of the step. What is not defined in a step (no teacher, no incorrect
response, no token in a bin) is `null`, never 0. "good" is where a healthy run goes; empty where that depends.

Position bins are absolute: bin 0 holds the first 16 tokens of each response, bin 1 the next 16, and from there every
bin is twice as long as the one before. The last one is open.
"""

"""The questions of the study: which arms answer each, what is compared with what, what is shown."""

from collections.abc import Mapping
from typing import NamedTuple


class Part(NamedTuple):
    """One part of the study."""

    title: str
    arms: Mapping[str, str]
    """Each arm and the one it is compared with, if any."""
    shown: tuple[str, ...]
    """Metrics of the table."""
    drawn: tuple[str, str, str]
    """Metrics of the figure, over the steps."""
    aggregated: tuple[str, ...] = ()
    """Arms whose contexts the probe `aggregation` looks at."""


PARTS: Mapping[str, Part] = {
    "i": Part(
        "Distilling from a stronger model",
        {"full": "", "expert_rl": "full"},
        ("gap_recovery", "overlap_ratio", "student_overlap_mass", "entropy_gap", "overlap_token_advantage"),
        ("accuracy", "overlap_ratio", "entropy_gap"),
    ),
    "ii": Part(
        "A teacher that writes another way, and a cold start",
        {"full": "", "other": "full", "imitated": "", "other_after_cold_start": "other"},
        ("gap_recovery", "overlap_ratio", "student_overlap_mass", "response_tokens_mean", "alarms"),
        ("accuracy", "student_overlap_mass", "response_tokens_mean"),
    ),
    "iii": Part(
        "Truncated losses",
        {
            "stop_gradient_5": "",
            "unnormalised_5": "stop_gradient_5",
            "unnormalised_2": "stop_gradient_5",
            "unnormalised_20": "stop_gradient_5",
            "renormalised_5": "stop_gradient_5",
            "tail_bin_5": "stop_gradient_5",
            "stop_gradient_1": "stop_gradient_5",
            "k1_loss": "stop_gradient_5",
        },
        ("student_topk_mass", "student_entropy", "repeat_ratio", "response_tokens_mean", "alarms"),
        ("accuracy", "student_topk_mass", "student_entropy"),
    ),
    "iv": Part(
        "A weaker teacher from the student's own past",
        {"full": "", "early": "full"},
        ("gap_recovery", "overlap_ratio", "student_overlap_mass", "reverse_kl", "gradient_norm"),
        ("accuracy", "overlap_ratio", "reverse_kl"),
    ),
    "v": Part(
        "Self-distillation: a shared rule against what only one question has",
        {"rule": "", "answer": "rule", "solution": "rule"},
        ("checked_steps", "says_reference", "reverse_kl", "response_tokens_mean"),
        ("accuracy", "reverse_kl", "student_entropy"),
        aggregated=("rule", "answer", "solution"),
    ),
    "vi": Part(
        "Which tokens: overlap or not",
        {"student_support": "", "overlap": "student_support", "non_overlap": "student_support"},
        ("overlap_ratio", "student_overlap_mass", "reverse_kl", "gradient_norm"),
        ("accuracy", "overlap_ratio", "reverse_kl"),
    ),
    "vii": Part(
        "The teacher's own words in the prompt",
        {"full": "", "unseen_words": "", "own_words": "unseen_words"},
        ("overlap_ratio", "student_overlap_mass", "teacher_overlap_mass", "reverse_kl"),
        ("accuracy", "overlap_ratio", "student_overlap_mass"),
    ),
    "viii": Part(
        "How much of the distribution",
        {
            "full": "",
            "sampled_token": "full",
            "topk_16": "full",
            "stop_gradient_5": "full",
            "stop_gradient_1": "full",
            "stop_gradient_1_norm": "full",
        },
        ("reverse_kl", "student_entropy", "gradient_norm"),
        ("accuracy", "reverse_kl", "gradient_norm"),
    ),
    "ix": Part(
        "Outcome reward at equal samples",
        {"full": "", "dr_grpo": "full"},
        ("checked_steps", "student_entropy", "response_tokens_mean", "gradient_norm"),
        ("accuracy", "student_entropy", "response_tokens_mean"),
    ),
    "x": Part(
        "Limit of the response",
        {"full": "", **dict.fromkeys(("length_16", "length_32", "length_64", "length_192"), "full")},
        ("truncated_share", "overlap_ratio", "student_entropy", "response_tokens_mean"),
        ("accuracy", "truncated_share", "reverse_kl"),
    ),
}

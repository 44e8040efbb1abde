"""What a training run shows of itself: statistics of tokens and responses, the metrics of a step, and alarms.

    stats = join_stats([compute_token_stats(student_logprobs, teacher_logprobs, tokens, k=16), ...])   chunk by chunk
    metrics = aggregate(stats, rollouts, bin_starts=build_bin_starts(max_response_tokens))             once a step
    alarms = check_alarms(history)                                                                     the steps so far

Pure functions: nothing here reads a file, a configuration or a clock.
"""

from hydrometer.artifacts.metrics import METRICS, Metric, describe_metrics, find_metric
from hydrometer.dynamics.aggregation import aggregate, build_bin_starts
from hydrometer.dynamics.alarms import RULES, Alarm, Rule, check_alarms
from hydrometer.dynamics.positions import (
    StudentStats,
    TokenStats,
    compute_overlap,
    compute_student_stats,
    compute_token_stats,
    join_stats,
)
from hydrometer.dynamics.sequences import (
    compute_auroc,
    compute_gap_recovery,
    compute_referring_share,
    compute_repeat_mask,
    compute_sequence_rewards,
    refers_to_reference,
)

__all__ = [
    "METRICS",
    "RULES",
    "Alarm",
    "Metric",
    "Rule",
    "StudentStats",
    "TokenStats",
    "aggregate",
    "build_bin_starts",
    "check_alarms",
    "compute_auroc",
    "compute_gap_recovery",
    "compute_overlap",
    "compute_referring_share",
    "compute_repeat_mask",
    "compute_sequence_rewards",
    "compute_student_stats",
    "compute_token_stats",
    "describe_metrics",
    "find_metric",
    "join_stats",
    "refers_to_reference",
]

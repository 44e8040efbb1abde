"""The entries of `analyses` in summary.json as compact tables: what was computed, with intervals or why there is none.

Every table is {title, note, columns, rows, left_out, open}. A cell is text, a number, or an estimate {value, unit,
interval, note}; the template prints the three kinds. What a run does not hold gives no table.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydrometer.report.arms import arm_key, arm_label
from hydrometer.report.words import METRICS, reason_in_words
from hydrometer.types import STUDENT

Json = dict[str, Any]
MAX_ROWS = 150
"""Of a table; the rest is counted, so that many arms do not make the page large."""
Row = Mapping[str, Any]
_BINS = {None: "all questions", 0: "hardest third", 1: "middle third", 2: "easiest third"}
_PREDICTORS = {
    "reverse_kl_nats": "KL(student ‖ teacher)",
    "l2": "L2 distance",
    "distribution_cosine": "cosine of p and q",
}
_UNITS = {metric.key: metric.unit for metric in METRICS}


def build_analyses(summary: Mapping[str, Any]) -> list[Json]:
    """A table per analysis that the run holds."""
    found = summary.get("analyses") or {}
    return [
        {
            "title": title,
            "note": note,
            "columns": columns,
            "rows": rows[:MAX_ROWS],
            "left_out": max(0, len(rows) - MAX_ROWS),
            "open": read is _in_context_overall,
        }
        for key, title, note, columns, read in _TABLES
        if (rows := [row for entry in found.get(key) or [] if (row := read(entry))])
    ]


def build_advice(summary: Mapping[str, Any]) -> Json | None:
    """What the advice says and the signals it rests on; None where the run holds none."""
    entry = (summary.get("analyses") or {}).get("advice")
    if not entry:
        return None
    labels = {
        "mean_signal": "mean signal of all measured nodes",
        "mean_signal_train": "of those the rule would train on",
        "mean_signal_skip": "of those it would skip",
        "gain": "gain of the rule",
        "mean_signal_oracle": "of those a filter that knew the cosine would keep",
    }
    signals = [[label, estimate(entry[key], "rate")] for key, label in labels.items() if entry.get(key)]
    return {"sentence": entry["sentence"], "signals": signals}


def estimate(entry: Row | None, unit: str) -> Json:
    """A cell from an estimate of summary.json."""
    entry = entry or {"reason": "not_computed"}
    value, interval = entry.get("value"), entry.get("interval")
    note = None
    if value is None:
        note = reason_in_words(entry.get("reason"))
    elif interval is None:
        note = f"no interval: {reason_in_words(entry.get('interval_reason'))}"
    return {"value": value, "unit": unit, "interval": interval, "note": note}


def _in_context_overall(row: Row) -> list[Any] | None:
    return _in_context(row) if row["bin"] is None else None


def _in_context_by_third(row: Row) -> list[Any] | None:
    return None if row["bin"] is None else _in_context(row)


def _in_context(row: Row) -> list[Any]:
    name = f"{STUDENT}, no context (baseline)" if row["teacher"] == STUDENT else row["teacher"]
    span = f"{row['success_rate_from']:.2f} to {row['success_rate_to']:.2f}"
    counted = f"{row['n_correct']} of {row['n_rollouts']}"
    here = {"value": row["accuracy"]["value"], "unit": "share", "interval": row["these_questions"], "note": None}
    gain = estimate(row["gain"] or {"reason": row["gain_reason"]}, "percent_points")
    return [name, _BINS[row["bin"]], span, counted, here, estimate(row["accuracy"], "share"), gain]


def _outcomes(row: Row) -> list[Any]:
    unit = _UNITS[row["metric"]]
    clustered, paired = row["clustered"], row["paired"]
    cells = [estimate(entry, unit) for entry in (row["correct"], row["incorrect"], clustered)]
    pairs = f"{paired['n_questions']} (least p {paired['least_attainable_p']:.2g})"
    return [_arm(row), row["metric"].replace("_", " "), *cells, clustered["p_holm"], pairs, paired["p_holm"]]


def _across(row: Row) -> list[Any]:
    against = " and ".join(row["contradicted_by"])
    turns = f"{against}: the other way{', clearly' if row['clear'] else ''}" if against else "no"
    names = [
        _with_objective(row),
        row["response"],
        _PREDICTORS.get(row["predictor"], row["predictor"].replace("_", " ")),
    ]
    cells = [estimate(row[name], "cosine") for name in ("within", "pooled", "between")]
    return [*names, row["method"], *cells, f"{row['n_teachers_positive']} of {row['n_teachers']}", turns]


def _oracle(row: Row) -> list[Any]:
    naive, split = row["naive"], row["split"]
    cells = [estimate(naive["gain"], "rate"), estimate(split["gain"], "rate")]
    cells += [estimate(split[name], "rate") for name in ("mean_signal", "mean_signal_kept")]
    return [_arm(row), *cells, estimate(split["kept_share"], "share")]


def _agreement(row: Row) -> list[Any]:
    same, split = row["same_rollouts"], row["split"]
    cells = [estimate(part["spearman"], "cosine") for part in (split, same)]
    cells += [estimate(split[name], "share") for name in ("sign_agreement", "by_chance")]
    return [_arm(row), *cells, estimate(split["excess"], "percent_points")]


def _noise(row: Row) -> list[Any]:
    ratio = estimate(row["ratio"], "number")
    bound = "at most" if row["is_upper_bound"] else ""
    return [_with_teacher(row), row["estimator"], bound, ratio, row["rollouts_for_unit_ratio"], row["n_nodes"]]


def _group_size(row: Row) -> list[Any]:
    cells = [estimate(row[name], "cosine") for name in ("dr_grpo", "length_normalised")]
    return [row["group_size"], row["n_groups"], row["n_nodes"], *cells]


def _tilt(row: Row) -> list[Any]:
    scored = f"{row['n_rollouts']}" + (f" ({row['n_unknown']} without a sum)" if row["n_unknown"] else "")
    return [row["teacher"], estimate(row["derivative"], "rate"), estimate(row["auroc"], "rate"), scored]


def _arm(row: Row) -> str:
    return arm_label(arm_key(row))


def _with_teacher(row: Row) -> str:
    return _continued(row["teacher"], row)


def _with_objective(row: Row) -> str:
    return _continued(row["objective"], row)


def _continued(name: str, row: Row) -> str:
    return name if row["continuation"] == STUDENT else f"{name}, continued by {row['continuation']}"


_ACCURACY = [
    "Teacher",
    "Questions",
    "Base success",
    "Correct",
    "Accuracy here",
    "Over questions",
    "Gain over the student",
]
_Entry = tuple[str, str, str, Sequence[str], Callable[[Row], list[Any] | None]]
_TABLES: tuple[_Entry, ...] = (
    (
        "in_context",
        "In-context accuracy",
        "How often each teacher is right when it answers by itself from its own prompt, beside fresh rollouts of the "
        "student without a context. Accuracy here: 95 % for exactly these questions (Jeffreys). The gain compares the "
        "same questions.",
        _ACCURACY,
        _in_context_overall,
    ),
    (
        "in_context",
        "In-context accuracy by difficulty",
        "The same in thirds of the questions by the student's base success rate; equal rates share a third.",
        _ACCURACY,
        _in_context_by_third,
    ),
    (
        "outcomes",
        "Correct against incorrect responses",
        "The difference compares all nodes, so with one response per question it may be one of questions; the paired "
        "test uses questions with both outcomes. p after Holm's correction within a metric.",
        ["Arm", "Metric", "Correct", "Incorrect", "Difference", "p, clustered", "Pairs", "p, paired"],
        _outcomes,
    ),
    (
        "across_teachers",
        "What goes with alignment",
        "Correlation over nodes with the cosine or signal: the mean within teachers, over all nodes pooled, and "
        "between the teachers' means. Where pooled or between has the other sign than most teachers (Simpson's "
        "paradox), do not choose teachers by that predictor. Per arm: correlations in summary.json.",
        ["Objective", "Of", "With", "Method", "Within", "Pooled", "Between", "Teachers > 0", "Sign turns"],
        _across,
    ),
    (
        "oracle_filter",
        "Training only where the cosine is positive",
        "What a filter that knew the cosine would gain in signal. Naive selects and measures with the same rollouts "
        "and gains from noise alone; split selects with one half and measures with the other.",
        ["Arm", "Gain, naive", "Gain, split", "Signal of all", "Signal of kept", "Share kept"],
        _oracle,
    ),
    (
        "advantage_against_cosine",
        "Advantage against cosine",
        "Do both tell the same story? Separate halves share no noise; with the same rollouts the noise agrees too.",
        ["Arm", "Spearman, halves", "Spearman, same rollouts", "Same sign, halves", "By chance", "Excess"],
        _agreement,
    ),
    (
        "estimator_noise",
        "Noise of sampled directions",
        "Squared length of the mean direction over the variance of one sampled rollout, and how many rollouts make "
        "both equal.",
        ["Teacher", "Estimator", "Bound", "Mean² / variance", "Rollouts for 1", "Nodes"],
        _noise,
    ),
    (
        "group_size",
        "Group size of Dr. GRPO",
        "Pooled cosine with the ideal direction of groups of G base rollouts, and with length normalisation.",
        ["G", "Groups", "Nodes", "Dr. GRPO", "Length-normalised"],
        _group_size,
    ),
    (
        "sequence_tilt",
        "Tilting whole responses",
        "Change of the success rate per unit of tilt of the student's whole responses towards a teacher: their "
        "covariance with the summed log-ratio log q - log p. AUROC: how often a correct response has the higher "
        "log-ratio per token than an incorrect one of the same question.",
        ["Teacher", "Change of success", "AUROC of the log-ratio", "Responses"],
        _tilt,
    ),
)

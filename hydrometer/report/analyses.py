"""The entries of `analyses` in summary.json as figures with their tables: what was computed, with intervals or why not.

A cell is text, a number, or an estimate {value, unit, interval, note}. The estimates of some columns are drawn, one row
of the table being one line of the figure; the table beside it has them all. What a run does not hold gives no figure.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hydrometer.report.arms import arm_key, arm_label
from hydrometer.report.figures import Figure, Table
from hydrometer.report.numbers import format_interval, format_number, format_unit
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
    "student_entropy_nats": "student's entropy",
    "depth_frac": "share of the response",
}
_UNITS = {metric.key: metric.unit for metric in METRICS}


class Analysis(NamedTuple):
    """One entry of `analyses` and how it is shown."""

    key: str
    name: str
    """Of the figure; several may come from one entry."""
    title: str
    note: str
    columns: Sequence[str]
    read: Callable[[Row], list[Any] | None]
    """A row of the table from one of the summary."""
    label: str
    """The column that names a line of the figure."""
    drawn: Sequence[str]
    """Columns of estimates in one unit, drawn beside each other."""
    filters: Sequence[str] = ()
    """Columns by which a reader chooses the rows that are drawn."""
    series: str | None = None
    """A column that tells the lines of a label apart, where only one column is drawn."""


def build_analyses(summary: Mapping[str, Any]) -> tuple[list[Figure], list[str]]:
    """A figure per analysis that the run holds, and the titles of those that another version wrote in another form."""
    found = summary.get("analyses") or {}
    figures, foreign = [], []
    for analysis in ANALYSES:
        try:
            rows = [row for entry in found.get(analysis.key) or [] if (row := analysis.read(entry))]
        except KeyError:
            foreign.append(analysis.title)
            continue
        if rows:
            figures.append(_figure(analysis, rows))
    return figures, foreign


def _figure(analysis: Analysis, rows: Sequence[Sequence[Any]]) -> Figure:
    left_out = max(0, len(rows) - MAX_ROWS)
    note = f"{analysis.note} {left_out:,} more rows are in summary.json." if left_out else analysis.note
    places = {name: place for place, name in enumerate(analysis.columns)}
    drawn = [place for name, place in places.items() if name in analysis.drawn]
    long = []
    for row in rows[:MAX_ROWS]:
        for place in drawn:
            cell = row[place]
            series = row[places[analysis.series]] if analysis.series else analysis.columns[place]
            chosen = [str(row[places[name]]) for name in analysis.filters]
            ends = cell["interval"] or [None, None]
            long.append([str(row[places[analysis.label]]), *chosen, series, cell["value"], *ends, cell["note"]])
    place = len(analysis.filters) + 1
    known = {row[place] for row in long if row[place + 1] is not None}
    long = [row for row in long if row[place] in known or not known]
    unit = rows[0][drawn[0]]["unit"]
    return Figure(
        key=analysis.name,
        title=analysis.title,
        note=note,
        chart={
            "kind": "intervals",
            "y": analysis.label,
            "x": "value",
            "low": "low",
            "high": "high",
            "series": "series",
            "tick": unit,
            "empty": "note",
        },
        columns=[analysis.label, *analysis.filters, "series", "value", "low", "high", "note"],
        rows=long,
        filters=analysis.filters,
        table=Table(analysis.columns, [[_text(cell) for cell in row] for row in rows[:MAX_ROWS]]),
    )


def _text(cell: Any) -> str:
    """A cell as it is read."""
    if not isinstance(cell, Mapping):
        return format_number(cell)
    if cell["value"] is None:
        return f"no value: {cell['note']}"
    tail = format_interval(cell["interval"], cell["unit"]) or (f"({cell['note']})" if cell["note"] else "")
    return f"{format_unit(cell['value'], cell['unit'])} {tail}".rstrip()


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
    signals = [[label, _text(estimate(entry[key], "rate"))] for key, label in labels.items() if entry.get(key)]
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


_ACCURACY = (
    *("Teacher", "Questions", "Base success", "Correct", "Accuracy here", "Over questions"),
    "Gain over the student",
)
ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        "in_context",
        "in-context",
        "In-context accuracy",
        "How often each teacher is right when it answers by itself from its own prompt, beside fresh rollouts of the "
        "student without a context. Accuracy here: 95 % for exactly these questions (Jeffreys). The gain compares the "
        "same questions.",
        _ACCURACY,
        _in_context_overall,
        label="Teacher",
        drawn=("Accuracy here", "Over questions"),
    ),
    Analysis(
        "in_context",
        "in-context-by-difficulty",
        "In-context accuracy by difficulty",
        "The same in thirds of the questions by the student's base success rate; equal rates share a third.",
        _ACCURACY,
        _in_context_by_third,
        label="Teacher",
        drawn=("Accuracy here",),
        series="Questions",
    ),
    Analysis(
        "outcomes",
        "outcomes",
        "Correct against incorrect responses",
        "The difference compares all nodes, so with one response per question it may be one of questions; the paired "
        "test uses questions with both outcomes. p after Holm's correction within a metric.",
        ("Arm", "Metric", "Correct", "Incorrect", "Difference", "p, clustered", "Pairs", "p, paired"),
        _outcomes,
        label="Arm",
        drawn=("Correct", "Incorrect"),
        filters=("Metric",),
    ),
    Analysis(
        "across_teachers",
        "predictors",
        "What goes with alignment",
        "Correlation over nodes with the cosine or signal: the mean within teachers, over all nodes pooled, and "
        "between the teachers' means. Where pooled or between has the other sign than most teachers (Simpson's "
        "paradox), do not choose teachers by that predictor. Per arm: correlations in summary.json.",
        (
            *("Objective", "Of", "With", "Method", "Within", "Pooled", "Between"),
            *("Teachers > 0", "Sign turns"),
        ),
        _across,
        label="With",
        drawn=("Within", "Pooled", "Between"),
        filters=("Objective", "Of", "Method"),
    ),
    Analysis(
        "oracle_filter",
        "oracle-filter",
        "Training only where the cosine is positive",
        "What a filter that knew the cosine would gain in signal. Naive selects and measures with the same rollouts "
        "and gains from noise alone; split selects with one half and measures with the other.",
        ("Arm", "Gain, naive", "Gain, split", "Signal of all", "Signal of kept", "Share kept"),
        _oracle,
        label="Arm",
        drawn=("Gain, naive", "Gain, split"),
    ),
    Analysis(
        "advantage_against_cosine",
        "advantage-and-cosine",
        "Advantage against cosine",
        "Do both tell the same story? Rank correlation over nodes. Separate halves share no noise; with the same "
        "rollouts the noise agrees too.",
        ("Arm", "Spearman, halves", "Spearman, same rollouts", "Same sign, halves", "By chance", "Excess"),
        _agreement,
        label="Arm",
        drawn=("Spearman, halves", "Spearman, same rollouts"),
    ),
    Analysis(
        "estimator_noise",
        "estimator-noise",
        "Noise of sampled directions",
        "Squared length of the mean direction over the variance of one sampled rollout, and how many rollouts make "
        "both equal.",
        ("Teacher", "Estimator", "Bound", "Mean² / variance", "Rollouts for 1", "Nodes"),
        _noise,
        label="Teacher",
        drawn=("Mean² / variance",),
        series="Estimator",
    ),
    Analysis(
        "group_size",
        "group-size",
        "Group size of Dr. GRPO",
        "Pooled cosine with the ideal direction of groups of G base rollouts, and with length normalisation.",
        ("G", "Groups", "Nodes", "Dr. GRPO", "Length-normalised"),
        _group_size,
        label="G",
        drawn=("Dr. GRPO", "Length-normalised"),
    ),
    Analysis(
        "sequence_tilt",
        "sequence-tilt",
        "Tilting whole responses",
        "Change of the success rate per unit of tilt of the student's whole responses towards a teacher: their "
        "covariance with the summed log-ratio log q - log p. AUROC: how often a correct response has the higher "
        "log-ratio per token than an incorrect one of the same question.",
        ("Teacher", "Change of success", "AUROC of the log-ratio", "Responses"),
        _tilt,
        label="Teacher",
        drawn=("Change of success",),
    ),
)

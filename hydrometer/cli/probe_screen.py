"""What a probe found, on one screen: a line per quantity, a column per teacher, and a sentence for each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.cli.closing import print_report, told_of_cache
from hydrometer.cli.printable import printable

if TYPE_CHECKING:
    from hydrometer.probes.run import Probe

Found = Mapping[str, Any]
Lines = list[tuple[str, str]]


def print_probe(result: "Probe", screen: Console) -> None:
    """Table, verdicts, warnings and cost."""
    summary = result.summary

    def say(text: str, style: str = "") -> None:
        screen.print(Text(printable(text), style=style), soft_wrap=True)

    say(
        f"\n{summary['student']} on {summary['task']}, split {summary['split']}: {summary['questions']:,} questions, "
        f"{summary['grading']} grading. Intervals: 95 % over questions."
    )
    if "student_accuracy" in summary:
        say(f"The student is right on {_share(summary['student_accuracy'])}.")
    say("")
    screen.print(_build_table(summary))
    say("")
    for found in summary["teachers"].values():
        say(found["verdict"])
    for warning in summary["warnings"]:
        say(f"- {warning}", "yellow")
    cost = summary["cost"]
    say(
        f"\nCost: {cost['rollouts']:,} responses, {cost['generated_tokens']:,} generated and {cost['scored_tokens']:,} "
        f"scored tokens{told_of_cache(cost)}, {cost['wall_s']:.0f} s."
    )
    if result.folder is not None:
        print_report(result.folder, screen)


def _build_table(summary: Found) -> Table:
    describe = {
        "prefix": _tell_prefix,
        "continuation": _tell_continuation,
        "aggregation": _tell_aggregation,
        "pattern": _tell_pattern,
    }[summary["probe"]]
    columns = {name: describe(found) for name, found in summary["teachers"].items()}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(Text(printable(name)), justify="right", overflow="fold")
    for number, (title, _) in enumerate(next(iter(columns.values()))):
        table.add_row(Text(title), *(Text(lines[number][1]) for lines in columns.values()))
    return table


def _tell_prefix(found: Found) -> Lines:
    return [
        ("questions", f"{found['questions']:,}"),
        ("right from its own start", _share(found["own_accuracy"])),
        ("right after the student's prefix", _share(found["continued_accuracy"])),
        ("own minus after, points", _points(found["difference"])),
        ("right to wrong / wrong to right", f"{found['right_to_wrong']} / {found['wrong_to_right']}"),
        ("McNemar", _p(found["mcnemar_p"])),
        ("answer could be read, own start", _share(found["own_parsed"])),
        ("answer could be read, after", _share(found["continued_parsed"])),
        ("McNemar", _p(found["parsed_mcnemar_p"])),
    ]


def _tell_continuation(found: Found) -> Lines:
    lines = []
    for at in found["depths"]:
        title = f"advantage at depth {at['depth']}, points"
        lines.append((title, "no response is longer" if at["advantage"] is None else _points(at["advantage"])))
        lines.append(("  teacher, student, questions", _tell_depth(at)))
    for kind, trend in found["trends"].items():
        if trend is not None:
            lines.append((f"Spearman with depth in {_KINDS[kind]}", _number(trend["spearman"])))
    text = found["text"]
    return [
        *lines,
        ("teacher NLL of student tokens, nats", _number(text["teacher_nll"])),
        *((f"  quarter {at['quarter']} of the response", _number(at["teacher_nll"])) for at in text["by_quarter"]),
        ("tokens likelier to the teacher", _share(text["is_preferred"])),
        ("prefixes of low density", _share(text["is_low_density"])),
    ]


_KINDS = {"tokens": "tokens", "share": "shares"}


def _tell_depth(at: Found) -> str:
    if at["advantage"] is None:
        return ""
    shares = (100 * at[f"{who}_accuracy"]["value"] for who in ("teacher", "student"))
    return "{:.1f} %, {:.1f} %, {:,}".format(*shares, at["questions"])


def _tell_aggregation(found: Found) -> Lines:
    lost = found["share_lost"]
    return [
        ("questions", f"{found['questions']:,}"),
        ("contexts a question, mean", f"{found['contexts']:.1f}"),
        ("questions with one context", f"{found['one_context']:,}"),
        ("-log Z, nats per token", _number(found["disagreement"])),
        ("mean KL of the student", _number(found["student_kl"])),
        ("  of it can be learnt", _number(found["learnable"])),
        ("  of it cannot", "none" if lost is None else f"{100 * lost:.0f} %"),
    ]


def _tell_pattern(found: Found) -> Lines:
    pattern = found["pattern"]
    names = ("overlap_ratio", "student_overlap_mass", "teacher_overlap_mass", "entropy_gap", "reverse_kl")
    lines = [(name.replace("_", " "), _number(pattern[name])) for name in names]
    lines += [
        ("accuracy", _share(found["teacher_accuracy"])),
        ("minus the student's, points", _points(found["accuracy_difference"])),
    ]
    for size, at in found["pass_at"].items():
        if size != "1":  # the accuracy
            lines.append((f"pass@{size} minus the student's, points", _points(at["difference"])))
    solved = f"{found['only_teacher_solves']} / {found['only_student_solves']}"
    return [*lines, ("solved by it alone / the student alone", solved)]


def _share(entry: Found) -> str:
    return f"{100 * entry['value']:.1f} %{_interval(entry, '{:.1f}', 100.0)}"


def _points(entry: Found) -> str:
    return f"{100 * entry['value']:+.1f}{_interval(entry, '{:+.1f}', 100.0)}"


def _number(entry: Found) -> str:
    return "undefined" if entry["value"] is None else f"{entry['value']:.3f}{_interval(entry, '{:.3f}', 1.0)}"


def _interval(entry: Found, form: str, factor: float) -> str:
    if entry["low"] is None:
        return ""
    return f" [{form.format(factor * entry['low'])}, {form.format(factor * entry['high'])}]"


def _p(value: float | None) -> str:
    return "no question differs" if value is None else f"p = {value:.2g}"

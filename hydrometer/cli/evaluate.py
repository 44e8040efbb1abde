"""`hydrometer evaluate`: the options, the evaluation, and what it found on one screen."""

import json as json_format
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from hydrometer.cli.closing import count_of, fitting, lines_left, print_report, warning_texts
from hydrometer.cli.printable import printable
from hydrometer.evaluation.config import EvaluateConfig

if TYPE_CHECKING:
    from hydrometer.evaluation.run import Evaluation

_SHARES = {
    "strict_accuracy": "strict grading",
    "relaxed_accuracy": "relaxed grading",
    "parsed_share": "answer could be read",
    "truncated_share": "hit the length limit",
}
_NO_INTERVAL = {"fewer_than_5_questions": "fewer than 5 questions", "all_differences_zero": "no question differs"}


def evaluate(
    *,
    settings: Annotated[EvaluateConfig, Parameter(name="*")] = EvaluateConfig(),  # noqa: B008 - frozen
    out: Path | None = None,
    resume: bool = False,
    config: Path | None = None,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Measure how often a model is right, with intervals over questions; compare it with another.

    Accuracy is avg@k: the mean over questions of the share of correct responses. How everything is computed stands in
    docs/evaluation.md.

    Args:
        settings: Who is asked what.
        out: Run folder; has to be new or empty. Default: nothing is written.
        resume: Go on with the evaluation in --out.
        config: TOML file with any of these options; flags win over it.
        json: Print one object on stdout; everything else goes to stderr.
        quiet: Plain lines without a progress display.
    """
    del config  # read before parsing, see cli.main
    from hydrometer.cli.progress import build_progress
    from hydrometer.cli.quiet_loading import silence_loading_bars
    from hydrometer.evaluation.run import run_evaluation
    from hydrometer.evaluation.setup import build_examination

    screen = Console(stderr=json, highlight=False, emoji=False, markup=False)
    silence_loading_bars()
    examination = build_examination(settings)
    with build_progress(quiet=quiet) as progress:
        result = run_evaluation(examination, out, resume=resume, progress=progress)
    print_evaluation(result, screen)
    if json:
        sys.stdout.write(json_format.dumps(result.summary, allow_nan=False) + "\n")


def print_evaluation(result: "Evaluation", screen: Console) -> None:
    """A line per quantity, a column per model, and the difference of two."""
    summary, cost = result.summary, result.summary["cost"]
    drawn = "1 greedy response" if summary["greedy"] else f"{summary['samples']} responses"
    asked = (
        f"\n{summary['task']}, split {summary['split']}: {summary['questions']:,} questions, {drawn} each, "
        f"{summary['grading']} grading. Intervals: 95 % over questions.\n"
    )
    found: list[RenderableType] = [Text(printable(asked)), _build_table(summary)]
    if summary["comparison"] is not None:
        found.append(Text(printable(_describe_difference(summary))))
    spent = Text(
        f"\nCost: {cost['rollouts']:,} responses, {cost['generated_tokens']:,} tokens, {cost['wall_s']:.0f} s."
    )
    warnings = warning_texts(summary["warnings"])
    told = fitting(screen, warnings, lines_left(screen, [*found, spent, Text("")]))
    for part in (*found, *told):
        screen.print(part)
    if len(told) < len(warnings):
        rest = count_of(len(warnings) - len(told), "more warning")
        where = "--json prints them" if result.folder is None else "they are in the report"
        screen.print(Text(f"{rest}: {where}.", style="yellow"))
    screen.print(spent)
    if result.folder is not None:
        print_report(result.folder, screen)


def _build_table(summary: Mapping[str, Any]) -> Table:
    models = [summary] if summary["against"] is None else [summary, summary["against"]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for model in models:
        table.add_column(Text(printable(model["model"])), justify="right", overflow="fold")
    table.add_row("accuracy", *(_share(model["accuracy"]) for model in models))
    for k in summary["pass_at"]:
        if k != "1":  # the accuracy
            table.add_row(f"pass@{k}", *(_share(model["pass_at"][k]) for model in models))
    for name, title in _SHARES.items():
        table.add_row(title, *(_share(model[name]) for model in models))
    table.add_row("tokens a response", *(f"{model['response_tokens']['value']:.1f}" for model in models))
    return table


def _describe_difference(summary: Mapping[str, Any]) -> str:
    """The paired difference in points, and what the tests say."""
    comparison = summary["comparison"]
    found = comparison["difference"]
    wilcoxon, mcnemar = comparison["wilcoxon"], comparison["mcnemar"]
    lines = [
        f"\n{summary['model']} minus {summary['against']['model']}, paired by question: {_points(found)}",
        f"Wilcoxon signed-rank over questions: p = {_p(wilcoxon['p'])} ({wilcoxon['n_questions']} of "
        f"{summary['questions']} questions differ)",
    ]
    if mcnemar is not None:
        lines.append(
            f"McNemar: p = {_p(mcnemar['p'])} (right only by {summary['model']}: {mcnemar['only_first']}, only by "
            f"{summary['against']['model']}: {mcnemar['only_second']})"
        )
    return "\n".join(lines)


def _share(estimate: Mapping[str, Any]) -> str:
    return f"{100 * estimate['value']:.1f} % {_interval(estimate, '{:.1f}')}"


def _points(estimate: Mapping[str, Any]) -> str:
    return f"{100 * estimate['value']:+.1f} points {_interval(estimate, '{:+.1f}')}"


def _interval(estimate: Mapping[str, Any], form: str) -> str:
    if estimate["low"] is None:
        return f"(no interval: {_NO_INTERVAL[estimate['reason']]})"
    return f"[{form.format(100 * estimate['low'])}, {form.format(100 * estimate['high'])}]"


def _p(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"

"""`hydrometer advice`: what a run advises, and the same as files that trainers read."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from hydrometer.errors import RunFolderError, SpecError

_SHOWN_REASONS = 8


def advice(run: Path, *, trl: Path | None = None, parquet: Path | None = None, overwrite: bool = False) -> None:
    """Print which tokens and teachers a finished diagnosis advises to train with, and write them to files.

    Args:
        run: Folder of a finished diagnosis.
        trl: Write one JSON line per question with TRL's columns prompt, teacher_id, privileged_context.
        parquet: Write one row per advised node: question_id, prefix_ids, token_id, advice, weight.
        overwrite: Replace files that exist.
    """
    from hydrometer.artifacts import read_json, read_run_json

    screen = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    _refuse_targets({"--trl": trl, "--parquet": parquet}, overwrite=overwrite)
    read_run_json(run, "diagnosis")
    summary = read_json(run / "summary.json")
    entry = summary["analyses"].get("advice")
    if entry is None:
        raise RunFolderError(
            f"{run / 'summary.json'} holds no advice: an older version wrote it. Run the diagnosis again."
        )
    _say(screen, f"{summary['verdict']}\n{entry['sentence']}")
    if trl is not None:
        _export_trl(run, trl, screen)
    if parquet is not None:
        _export_parquet(run, parquet, screen)
    if trl is None and parquet is None:
        _say(screen, f"Nothing was written. As files: hydrometer advice {run} --trl FILE.jsonl --parquet FILE.parquet")


def _say(screen: Console, text: str) -> None:
    from hydrometer.cli.printable import printable

    screen.print(printable(text))


def _refuse_targets(targets: Mapping[str, Path | None], *, overwrite: bool) -> None:
    """Look at every file before the first is written.

    Raises:
        SpecError: a file that is there already, a folder, or one name for both.
    """
    given = {option: path for option, path in targets.items() if path is not None}
    if len({path.resolve() for path in given.values()}) < len(given):
        raise SpecError(f"{' and '.join(given)} name the same file, {next(iter(given.values()))}; give each its own.")
    for option, path in given.items():
        if path.is_dir():
            raise SpecError(f"{option} {path} is a folder; name a file in it.")
        if path.exists() and not overwrite:
            raise SpecError(f"{option} {path} exists already. Choose another name, or replace it with --overwrite.")
        if not path.parent.is_dir():
            raise SpecError(f"{option} {path}: there is no folder {path.parent}. Make it first, or choose another.")


def _export_trl(run: Path, target: Path, screen: Console) -> None:
    from hydrometer.alignment.advice import write_trl_rows

    export = write_trl_rows(run, target)
    by_teacher: Counter[tuple[str, str]] = Counter((row["teacher_id"], row["choice"]) for row in export.rows)
    _say(
        screen,
        f"\n{target}: {_count(len(export.rows), 'question')}, {_count(len(export.left_out), 'question')} left out.",
    )
    for (teacher, choice), count in by_teacher.most_common():
        _say(screen, f"  {count} with {teacher} ({choice})")
    _say_left_out(screen, Counter(export.left_out.values()))


def _export_parquet(run: Path, target: Path, screen: Console) -> None:
    from hydrometer.alignment.advice import write_advice
    from hydrometer.artifacts import read_table

    rows = write_advice(run, target)
    judged: dict[str, Any] = dict(read_table(run / "advice.parquet").group_by("advice").len().iter_rows())
    nodes = sum(judged.values())
    undecided = judged.get("undecided", 0)
    doubled = nodes - undecided - rows.height
    _say(screen, f"\n{target}: {_count(rows.height, 'row')} of {_count(nodes, 'measured node')}.")
    left_out = Counter(
        {"undecided": undecided, "the same prefix on another path, or paths that disagree there": doubled}
    )
    _say_left_out(screen, +left_out)


def _say_left_out(screen: Console, reasons: Counter[str]) -> None:
    for reason, count in reasons.most_common(_SHOWN_REASONS):
        _say(screen, f"  {count} left out: {reason}")
    if len(reasons) > _SHOWN_REASONS:
        rest = sum(reasons.values()) - sum(count for _, count in reasons.most_common(_SHOWN_REASONS))
        _say(screen, f"  {rest} left out for other reasons")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

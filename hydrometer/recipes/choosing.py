"""Under which prompt template, or on which set of prompts, do student and teacher write most alike: measured, chosen.

Every candidate is one `hydrometer probe pattern`; all of them differ in one option alone. A candidate's measure m is a
mean over all tokens of the student's responses (and all teachers). Its interval deletes one question at a time, and so
does that of a difference: candidates that ask the same questions are paired, others are independent.

    chosen = of the candidates with m - m_first > 0 and p < 0.05 (t over questions, Holm over all differences) the one
             with the largest m; the first candidate where there is none

Source: arXiv:2604.13016, section 5.2, where the template and the prompts of the teacher's own training helped.
Departure: the paper looks at the overlap ratio first; the default here is the probability that the student puts on the
shared tokens. The ratio counts tokens without probability like all others (docs/probes.md), and on the teacher's own
prompts it was that probability which rose, while the ratio fell.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from hydrometer.alignment.hypotheses import holm
from hydrometer.alignment.intervals import SHARE, Jackknife, difference, jackknife
from hydrometer.artifacts import write_json
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.probes.config import PatternConfig
from hydrometer.probes.estimates import describe_estimate, mean_over_tokens, sum_by_question
from hydrometer.probes.run import run_probe
from hydrometer.probes.setup import build_bench
from hydrometer.runs.progress import Progress

Measure = Literal["student_overlap_mass", "teacher_overlap_mass", "overlap_ratio"]
OPTIONS = ("prompt_template", "system_prompt", "chat_template", "chat_template_kwargs", "task")
"""What candidates may differ in: options of the probe that say which prompts there are, or how they are written."""
SIGNIFICANCE = 0.05
Sums = Mapping[tuple[str, str], Float[np.ndarray, " 2"]]
"""Sum and number of the tokens of a question, by task and id."""


class Standing(NamedTuple):
    """A candidate's measure, and how it differs from that of the first."""

    estimate: dict[str, Any]
    minus_first: dict[str, Any] | None
    """None for the first one itself."""
    p: float | None
    """Two-sided, after Holm; None where no interval can be given."""

    @property
    def is_above(self) -> bool:
        """Whether it can be told to be above the first."""
        return self.p is not None and self.p < SIGNIFICANCE and self.minus_first is not None and self.gap > 0.0

    @property
    def gap(self) -> float:
        """Its value minus the first one's."""
        return 0.0 if self.minus_first is None else self.minus_first["value"]


def choose_option(
    out: Path,
    options: Mapping[str, Any],
    *,
    option: str,
    among: Sequence[Any],
    measure: str = "student_overlap_mass",
    progress: Progress,
) -> dict[str, Any]:
    """Probe every candidate in a folder of its own (1, 2, ...) and choose one.

    Args:
        out: folder to write to; probes that are finished in it are not made again.
        options: further fields of `PatternConfig`, the same for all candidates.
        option: what they differ in (`OPTIONS`).
        among: its values; the first is the one to stay with where no difference can be told.
        measure: what has to be large.
        progress: told what happens.

    Returns:
        `choice` (a value of `among`), why, and every candidate with its estimates.

    Raises:
        SpecError: fewer than two candidates, or two that are equal.
        UserError: an unknown option or measure; see `probe`.
    """
    _check(option, among, measure)
    candidates, sums = [], []
    for number, value in enumerate(among, start=1):
        progress.note(f"Candidate {number} of {len(among)}: {option} {value!r}")
        folder = out / str(number)
        bench = build_bench(PatternConfig(**{**options, option: value}))
        found = run_probe(bench, folder, resume=folder.exists(), progress=progress)
        ids, rows = sum_by_question(found.tables["tokens"], pl.col(measure))
        sums.append({(bench.task.name, one): row for one, row in zip(ids, rows, strict=True)})
        candidates.append({"value": value, **_describe(found.summary)})
    standings = compare_candidates(sums)
    place = choose(standings)
    for candidate, standing in zip(candidates, standings, strict=True):
        candidate |= {measure: standing.estimate, "minus_first": standing.minus_first, "p": standing.p}
    told = {
        "option": option,
        "measure": measure,
        "choice": among[place],
        "chosen": place + 1,
        "sentence": _explain(standings, place, measure.replace("_", " ")),
        "candidates": candidates,
    }
    write_json(out / "choice.json", told)
    return told


def _check(option: str, among: Sequence[Any], measure: str) -> None:
    if option not in OPTIONS:
        raise UnknownNameError("option to choose", option, OPTIONS)
    if measure not in get_args(Measure):
        raise UnknownNameError("measure", measure, get_args(Measure))
    if isinstance(among, str) or len(among) < 2:
        raise SpecError(f"A choice needs a list of two or more candidates; found among = {among!r}.")
    if doubled := [value for number, value in enumerate(among) if value in among[:number]]:
        raise SpecError(f"The candidate {doubled[0]!r} is given twice.")


def _describe(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What else the probe found: who was right how often, and all measures by teacher."""
    return {
        "student_accuracy": summary["student_accuracy"],
        "teachers": {
            name: {"accuracy": found["teacher_accuracy"], **{one: found["pattern"][one] for one in get_args(Measure)}}
            for name, found in summary["teachers"].items()
        },
    }


def compare_candidates(sums: Sequence[Sums]) -> list[Standing]:
    """The standing of every candidate from its questions' sums and numbers of tokens."""
    questions = sorted({question for one in sums for question in one})
    nothing = np.zeros(2)  # a question that a candidate was not asked
    parts = [_estimate(np.stack([one.get(question, nothing) for question in questions])) for one in sums]
    gaps = [difference(part, parts[0]) for part in parts[1:]]
    adjusted = [None if np.isnan(p) else p for p in holm([_p_value(gap) for gap in gaps])]
    others = [
        Standing(describe_estimate(part), describe_estimate(gap), p)
        for part, gap, p in zip(parts[1:], gaps, adjusted, strict=True)
    ]
    return [Standing(describe_estimate(parts[0]), None, None), *others]


def _estimate(sums: Float[np.ndarray, "question 2"]) -> Jackknife:
    return jackknife(mean_over_tokens, sums, sums[:, 1] > 0, limits=SHARE)


def _p_value(gap: Jackknife) -> float:
    """Two-sided; NaN where nothing can be said."""
    error, value = float(gap.standard_error), float(gap.value)
    if error == 0.0:
        return float(value == 0.0)
    return float(2.0 * stats.t.sf(abs(value) / error, int(gap.n_questions) - 1))


def choose(standings: Sequence[Standing]) -> int:
    """The place of the best one that can be told to be above the first; 0 where there is none."""
    above = [place for place, one in enumerate(standings) if one.is_above]
    return max(above, key=lambda place: standings[place].gap, default=0)


def _explain(standings: Sequence[Standing], place: int, measure: str) -> str:
    if place:
        return f"Candidate {place + 1} is chosen: its {measure} minus that of the first is {_gap(standings[place])}."
    nearest = max(range(1, len(standings)), key=lambda other: standings[other].gap)
    why = "no larger one can be told from it" if standings[nearest].gap > 0.0 else "none is larger"
    return f"Candidate 1 stays: of {measure}, {why} (candidate {nearest + 1}: {_gap(standings[nearest])})."


def _gap(standing: Standing) -> str:
    found = standing.minus_first
    assert found is not None
    if found["low"] is None:
        return f"{standing.gap:+.3f}, without an interval: {found['reason']}"
    return f"{standing.gap:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}], p = {standing.p:.2g}"

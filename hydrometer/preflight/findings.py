"""What a check says: one line with a level, what was found, what follows from it, and what to do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hydrometer.errors import PreflightError

Level = Literal["green", "note", "red"]
"""green: as it should be. note: worth knowing, no number is wrong. red: a number would be wrong."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check of one model (or pair of models)."""

    level: Level
    check: str
    """Name of the check, as in docs/check.md."""
    model: str
    """Whom it is about: `student` or a teacher's name."""
    found: str
    consequence: str | None = None
    """What follows, where it is not green."""
    cure: str | None = None
    """What to do, in one sentence."""

    @property
    def advice(self) -> str:
        """Consequence and cure as one text."""
        return " ".join(part for part in (self.consequence, self.cure) if part)


@dataclass(frozen=True, slots=True)
class Preflight:
    """All findings, and what it cost to make them (never counted in a run's tables)."""

    findings: tuple[Finding, ...]
    rollouts: int
    """Short probe samples that were drawn."""
    generated_tokens: int

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        """Findings of one level, in the order of the checks."""
        return tuple(finding for finding in self.findings if finding.level == level)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each level."""
        return {level: len(self.of_level(level)) for level in ("green", "note", "red")}

    def as_json(self) -> dict[str, Any]:
        """The object that `hydrometer check --json` prints and `run.json` keeps."""
        return {
            "ok": not self.of_level("red"),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
            "cost": {"rollouts": self.rollouts, "generated_tokens": self.generated_tokens},
        }


def refuse_red(findings: Sequence[Finding], closing: str) -> None:
    """Raise one message that lists the red findings and ends with `closing`.

    Raises:
        PreflightError: at least one finding is red.
    """
    red = [finding for finding in findings if finding.level == "red"]
    if not red:
        return
    lines = [f"The check of the models found {_faults(len(red))} that would make numbers wrong:"]
    for finding in red[:_SHOWN]:
        lines.append(f"  {finding.check} ({finding.model}): {' '.join(finding.found.split())}")
        if finding.cure:
            lines.append(f"    {finding.cure}")
    if len(red) > _SHOWN:
        rest = dict.fromkeys(f"{finding.check} ({finding.model})" for finding in red[_SHOWN:])
        lines.append(f"  and: {', '.join(rest)}")
    raise PreflightError("\n".join([*lines, closing]))


def _faults(count: int) -> str:
    return "one fault" if count == 1 else f"{count} faults"

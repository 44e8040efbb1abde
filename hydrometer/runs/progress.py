"""How a long run tells what it is doing; the command line supplies the talkative version."""

from typing import NamedTuple, Protocol, runtime_checkable


class Standing(NamedTuple):
    """One line of a running answer."""

    name: str
    value: float | None
    """None where there is none yet."""
    interval: tuple[float, float] | None = None
    """95 %."""
    probability: float | None = None
    """Of being the right choice."""
    history: tuple[float, ...] = ()
    """The values before, the present one last."""


class Answer(NamedTuple):
    """What a run would say if it ended now."""

    title: str
    lines: tuple[Standing, ...]


@runtime_checkable
class Progress(Protocol):
    """Receives what a run has to say. Totals are estimates and may be corrected by the next call."""

    def stage(self, name: str, total: int) -> None:
        """A stage of about `total` steps begins."""
        ...

    def advance(self, steps: int, *, total: int | None = None) -> None:
        """`steps` more are done, of `total` where that changed."""
        ...

    def spent(self, rollouts: int, generated_tokens: int) -> None:
        """What the run has cost so far."""
        ...

    def caught_up(self) -> None:
        """What went before was replayed from the journal; from here on work takes its time."""
        ...

    def note(self, text: str) -> None:
        """One line worth reading."""
        ...

    def wants_answer(self) -> bool:
        """Whether a running answer is worth its price now."""
        ...

    def answer(self, answer: Answer) -> None:
        """What would be said if the run ended now."""
        ...


class Silent:
    """Says nothing."""

    def stage(self, name: str, total: int) -> None:
        """Ignored."""

    def advance(self, steps: int, *, total: int | None = None) -> None:
        """Ignored."""

    def spent(self, rollouts: int, generated_tokens: int) -> None:
        """Ignored."""

    def caught_up(self) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""

    def wants_answer(self) -> bool:
        """Never."""
        return False

    def answer(self, answer: Answer) -> None:
        """Ignored."""

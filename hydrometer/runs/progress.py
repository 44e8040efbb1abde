"""How a long run tells what it is doing; the command line supplies the talkative version."""

from typing import Protocol, runtime_checkable


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

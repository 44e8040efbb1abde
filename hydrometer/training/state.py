"""How far a training run is."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Totals:
    """What has been spent so far, by all processes."""

    rollouts: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    """By teachers."""
    cached_tokens: int = 0
    """Of those, the ones whose hidden states were in the score cache."""
    wall_s: float = 0.0


@dataclass(slots=True)
class TrainState:
    """How far the run is."""

    step: int = 0
    """Optimiser steps that were made."""
    totals: Totals = field(default_factory=Totals)
    is_whole: bool = True
    """False while a step is being made: the weights may be of neither step then."""

"""Who is in the family, and how each is trained. A run yields one member, or several as it goes on.

A run with a `Plan` begins with random weights; one with a `RewardPlan` begins with a member of a run named before it.
"""

from typing import NamedTuple

from family.corpus import Mixture
from family.reward import RewardPlan
from family.training import Plan, Size

SEED = 20
SMALL = Size(hidden=128, layers=3, heads=4, feed_forward=384)
MIDDLE = Size(hidden=144, layers=3, heads=4, feed_forward=432)
LARGE = Size(hidden=160, layers=3, heads=5, feed_forward=480)


class Run(NamedTuple):
    """One training run and the members that are saved from it, by step."""

    plan: Plan | RewardPlan
    members: dict[int, str]


LONG_STUDENT = "student-long"
"""The student's size trained to the end of its run: measured, not bundled."""

RUNS: dict[str, Run] = {
    "student": Run(
        Plan(SMALL, steps=1600, seed=SEED, snapshots=(700, 950)),
        {700: "early", 950: "student", 1600: LONG_STUDENT},
    ),
    "expert": Run(
        Plan(LARGE, steps=1700, seed=SEED + 1, mixture=Mixture(second_prompt_share=0.2, error_share=0.4)),
        {1700: "expert"},
    ),
    "other-pattern": Run(
        Plan(LARGE, steps=3200, seed=SEED + 2, mixture=Mixture(pattern="prose", error_share=0.4)),
        {3200: "other-pattern"},
    ),
    "student-large": Run(
        Plan(MIDDLE, steps=1000, seed=SEED + 3),
        {1000: "student-large"},
    ),
    "expert-rl": Run(
        RewardPlan(start="student", steps=150, num_generations=8, seed=0),
        {150: "expert-rl"},
    ),
}
"""In an order that lets two processes end at about the same time."""


def run_of(member: str) -> str:
    """The name of the run that makes a member."""
    return next(name for name, run in RUNS.items() if member in run.members.values())

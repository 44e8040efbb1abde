"""How often advice is given where there is nothing to advise, and where something is planted.

signal = level + slope x (entropy - 0.7) + a question's own share + noise (t, 4 degrees)

python -m benchmarks.advice
"""

import numpy as np

from hydrometer.alignment.advice.judge import UNDECIDED, Judgement, judge
from hydrometer.alignment.advice.rule import Nodes, predict_out_of_fold

RUNS = 300


def draw(
    rng: np.random.Generator,
    *,
    questions: int = 24,
    nodes: int = 25,
    slope: float = 0.0,
    level: float = 0.0,
    grows: bool = False,
) -> Nodes:
    """One run's measured nodes; with `grows` everything is multiplied by the squared entropy."""
    question = np.repeat(np.arange(questions), nodes)
    features = np.stack(
        [
            np.repeat(rng.random(questions) < 0.5, nodes).astype(float),
            rng.gamma(1.0, 0.3, len(question)),
            rng.uniform(0.0, 1.4, len(question)),
            np.tile(np.linspace(0, 1, nodes), questions),
            np.log1p(np.tile(np.arange(nodes), questions)),
        ],
        axis=1,
    )
    signal = level + slope * (features[:, 2] - 0.7) + 0.01 * rng.standard_normal(questions)[question]
    signal = signal + 0.02 * rng.standard_t(4, len(question))
    if grows:
        signal = signal * features[:, 2] ** 2
    return Nodes(features, signal, np.where(rng.random(len(question)) < 0.2, 1.5, 1.0), question)


def verdict_of(nodes: Nodes) -> Judgement:
    """What the tool would say."""
    return judge(nodes, predict_out_of_fold(nodes))


def main() -> None:
    """Print the share of runs in which any token is singled out."""
    rng = np.random.default_rng(11)
    worlds = {
        "nothing, level 0": {},
        "nothing, level 0.01": {"level": 0.01},
        "nothing, noise grows with entropy": {"grows": True},
        "planted, slope 0.01": {"slope": 0.01},
        "planted, slope 0.03": {"slope": 0.03},
    }
    print("| world | 10 questions | 24 questions | 60 questions |\n|---|---|---|---|")
    for name, options in worlds.items():
        shares = []
        for questions in (10, 24, 60):
            verdicts = (verdict_of(draw(rng, questions=questions, **options)) for _ in range(RUNS))
            shares.append(sum(bool((verdict.advice != UNDECIDED).any()) for verdict in verdicts) / RUNS)
        print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


if __name__ == "__main__":
    main()

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the simulations live in benchmarks/, which is not installed

KEYS = ("question_id", "rollout_id", "position")


class Tables(NamedTuple):
    """What a diagnosis hands to the statistics (only the columns they use)."""

    nodes: pl.DataFrame
    candidates: pl.DataFrame
    teacher_scores: pl.DataFrame
    token_scores: pl.DataFrame
    questions: pl.DataFrame


def build_tables(
    *,
    questions: int = 6,
    paths: int = 2,
    positions: int = 5,
    candidates: int = 4,
    teachers: Sequence[str] = ("sage", "fool"),
    objectives: Sequence[str] = ("reverse_kl", "forward_kl"),
    visits: int = 12,
    gains: Sequence[float] = (2.0, -1.0),
    noise: float = 0.5,
    seed: int = 0,
) -> Tables:
    """Random tables: unequal visits, unmeasured positions, single kept candidates, tilted teachers with noise."""
    rng = np.random.default_rng(seed)
    node_rows, candidate_rows, teacher_rows, token_rows = [], [], [], []
    for q in range(questions):
        for path in range(paths):
            outcome = bool(rng.random() < 0.5)
            for position in range(positions):
                key = dict(zip(KEYS, (f"q{q:02d}", 100 + path, position), strict=True))
                node_rows.append(
                    key
                    | {
                        "continuation": "student",
                        "path_correct": outcome,
                        "path_weight": 1.0 + 0.5 * outcome,
                        "node_weight": 1.0 + 0.25 * (position % 2),
                        "student_entropy_nats": float(rng.random()),
                    }
                )
                width = int(rng.integers(1, candidates + 1))
                p = rng.dirichlet(np.ones(width + 1))  # the last one is the unseen rest of the vocabulary
                truth = rng.random(width + 1)
                for k in range(width):
                    n = int(rng.integers(2, visits + 1))
                    outcomes = rng.random(n) < truth[k]
                    s = outcomes.sum() / n
                    candidate_rows.append(
                        key
                        | {
                            "token_id": 10 * k + 3,
                            "continuation": "student",
                            "student_logprob": float(np.log(p[k])),
                            "visits": n,
                            "successes": int(outcomes.sum()),
                            "visits_a": len(outcomes[::2]),
                            "successes_a": int(outcomes[::2].sum()),
                            "visits_b": len(outcomes[1::2]),
                            "successes_b": int(outcomes[1::2].sum()),
                            "success_rate": s,
                            "success_variance": s * (1 - s) / (n - 1),
                            "kept": bool(rng.random() < 0.85),
                        }
                    )
                for teacher, gain in zip(teachers, gains, strict=True):
                    log_ratio = gain * truth + noise * rng.standard_normal(width + 1)
                    q_all = p * np.exp(log_ratio)
                    q_all /= q_all.sum()
                    fields = {
                        name: np.log(q_all / p) if index == 0 else q_all / p for index, name in enumerate(objectives)
                    }
                    for k in range(width):
                        teacher_rows.append(
                            key
                            | {"token_id": 10 * k + 3, "teacher": teacher, "teacher_logprob": float(np.log(q_all[k]))}
                            | {f"field:{name}": float(f[k]) for name, f in fields.items()}
                        )
                    for name, f in fields.items():
                        d = p * (f - (p * f).sum())
                        token_rows.append(
                            key
                            | {
                                "teacher": teacher,
                                "objective": name,
                                "full_norm_squared": float((d**2).sum()),
                                "field_mean": float((p * f).sum()),
                                "reverse_kl_nats": float((p * np.log(p / q_all)).sum()),
                                "l2": float(np.sqrt(((p - q_all) ** 2).sum())),
                                "distribution_cosine": float(
                                    (p * q_all).sum() / np.sqrt((p**2).sum() * (q_all**2).sum())
                                ),
                                "total_variation": float(np.maximum(q_all - p, 0.0).sum()),
                                "teacher_entropy_nats": float(-(q_all * np.log(q_all)).sum()),
                                "overlap_ratio": 1.0,
                                "student_overlap_mass": 1.0,
                                "teacher_overlap_mass": 1.0,
                                "student_topk_mass": None,
                                "teacher_topk_mass": None,
                            }
                        )
    topk = {"student_topk_mass": pl.Float64, "teacher_topk_mass": pl.Float64}
    return Tables(
        nodes=pl.DataFrame(node_rows),
        candidates=pl.DataFrame(candidate_rows),
        teacher_scores=pl.DataFrame(teacher_rows).with_columns(reward_to_go=pl.lit(None, dtype=pl.Float64)),
        token_scores=pl.DataFrame(token_rows, schema_overrides=topk),
        # a student that is never right has nothing to lose: what is not measured does no teacher harm
        questions=pl.DataFrame(
            {"question_id": [f"q{q:02d}" for q in range(questions)], "success_rate": [0.0] * questions}
        ),
    )


@pytest.fixture(scope="session")
def make_tables() -> Callable[..., Tables]:
    return build_tables

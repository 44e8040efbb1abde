"""Two models on the same questions: difference of their accuracies, paired, with tests; and the same over seeds.

    d_q = m_q(first) - m_q(second),   difference = mean over questions of d_q, t on Q - 1 degrees of freedom

Pairing takes the difficulty of a question out of the noise (arXiv 2411.00640). Beside it stand the exact Wilcoxon
signed-rank test over questions and, with one response per question (as greedy evaluations have), McNemar's exact test:
of the n questions that only one model gets right, k fall to the first; p = 2 P(Binomial(n, 1/2) <= min(k, n - k)).

Over seeds (of a training run, or of sampling) the values d[s, q] have two crossed sources of chance:

    V_questions = var over q of mean_s d / Q,   V_seeds = var over s of mean_q d / S,   V_rest = residual MS / (Q S)
    V = V_questions + V_seeds - V_rest  (never below the larger of the first two)

with Satterthwaite's degrees of freedom. `questions` takes the seeds as given, `seeds` the questions, `both` neither.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from hydrometer.alignment.hypotheses import SignedRank, signed_rank
from hydrometer.alignment.intervals import MIN_QUESTIONS
from hydrometer.errors import SpecError
from hydrometer.evaluation.statistics import Estimate, estimate_difference, t_quantile

ONE_SEED = "fewer_than_2_seeds"


class McNemar(NamedTuple):
    """Questions that one model gets right and the other wrong, one response each."""

    only_first: int
    only_second: int
    p: float | None
    """Two-sided, exact; None where the models never differ."""


class Comparison(NamedTuple):
    """First minus second."""

    difference: Estimate
    wilcoxon: SignedRank
    mcnemar: McNemar | None
    """None unless each question has one response by each model."""

    def describe(self) -> dict[str, Any]:
        """As it stands in `summary.json`."""
        wilcoxon = {name: _finite(value) for name, value in self.wilcoxon._asdict().items()}
        mcnemar = None if self.mcnemar is None else self.mcnemar._asdict()
        return {"difference": self.difference.describe(), "wilcoxon": wilcoxon, "mcnemar": mcnemar}


def compare(first: pl.DataFrame, second: pl.DataFrame) -> Comparison:
    """Compare two evaluations (`question_id`, `correct`, a row per response) of the same questions.

    Raises:
        SpecError: they are not of the same questions.
    """
    paired = _pair(first, second)
    differences = paired["difference"].to_numpy()
    is_single = bool((paired["n_first"] == 1).all() and (paired["n_second"] == 1).all())
    return Comparison(
        estimate_difference(differences), signed_rank(differences), mcnemar(differences) if is_single else None
    )


def mcnemar(differences: Float[np.ndarray, " question"]) -> McNemar:
    """McNemar's exact test on differences of outcomes, each -1, 0 or 1."""
    only_first, only_second = int((differences > 0).sum()), int((differences < 0).sum())
    moved = only_first + only_second
    p = float(stats.binomtest(only_first, moved, 0.5).pvalue) if moved else None
    return McNemar(only_first, only_second, p)


class Pooled(NamedTuple):
    """A mean difference over seeds and questions, with one interval per answer to "what is drawn anew?"."""

    questions: Estimate
    """Other questions, these seeds."""
    seeds: Estimate
    """Other seeds, these questions."""
    both: Estimate
    n_seeds: int

    def describe(self) -> dict[str, Any]:
        """As it stands in files."""
        parts = {"questions": self.questions, "seeds": self.seeds, "both": self.both}
        return {"n_seeds": self.n_seeds, **{name: estimate.describe() for name, estimate in parts.items()}}


def pool_evaluations(pairs: Sequence[tuple[pl.DataFrame, pl.DataFrame]]) -> Pooled:
    """Pool comparisons of two arms, one (first, second) pair of evaluations per seed (see `compare`).

    Raises:
        SpecError: the evaluations are not all of the same questions.
    """
    tables = [_pair(first, second) for first, second in pairs]
    if any(not table["question_id"].equals(tables[0]["question_id"]) for table in tables):
        raise SpecError("Evaluations of different questions cannot be pooled; evaluate every seed on the same ones.")
    return pool_seeds(np.stack([table["difference"].to_numpy() for table in tables]))


def pool_seeds(differences: Float[np.ndarray, "seed question"]) -> Pooled:
    """Pool paired differences; `seeds` and `both` need two seeds, `questions` and `both` five questions."""
    n_seeds, n_questions = differences.shape
    questions = estimate_difference(differences.mean(0))
    if n_seeds < 2:
        nothing = Estimate(questions.value, None, None, n_questions, ONE_SEED)
        return Pooled(questions, nothing, nothing, n_seeds)
    if not differences.any():
        return Pooled(questions, questions, questions, n_seeds)
    variances = _variances(differences)
    over_seeds = _around(questions.value, variances[1], n_seeds - 1, n_questions)
    if n_questions < MIN_QUESTIONS:
        both = questions
    else:
        both = _around(questions.value, *_total_variance(variances, n_seeds, n_questions), n_questions)
    return Pooled(questions, over_seeds, both, n_seeds)


def _variances(differences: Float[np.ndarray, "seed question"]) -> tuple[float, float, float]:
    """Of the grand mean: from questions, from seeds, and the part that both of these hold."""
    n_seeds, n_questions = differences.shape
    by_question, by_seed = differences.mean(0), differences.mean(1)
    rest = differences - by_question - by_seed[:, None] + differences.mean()
    residual = float((rest**2).sum()) / max((n_seeds - 1) * (n_questions - 1), 1)
    over_questions = float(by_question.var(ddof=1)) / n_questions if n_questions > 1 else 0.0
    return over_questions, float(by_seed.var(ddof=1)) / n_seeds, residual / (n_seeds * n_questions)


def _total_variance(variances: tuple[float, float, float], n_seeds: int, n_questions: int) -> tuple[float, float]:
    """Variance of the grand mean under fresh seeds and questions, and its degrees of freedom."""
    over_questions, over_seeds, rest = variances
    total = max(over_questions + over_seeds - rest, over_questions, over_seeds)
    spread = over_questions**2 / (n_questions - 1) + over_seeds**2 / (n_seeds - 1)
    spread += rest**2 / ((n_questions - 1) * (n_seeds - 1))
    return total, max(1.0, total**2 / spread) if spread else 1.0


def _around(value: float, variance: float, degrees: int | float, n_questions: int) -> Estimate:
    reach = t_quantile(degrees) * math.sqrt(variance)
    return Estimate(value, value - reach, value + reach, n_questions)


def _pair(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Both models' question means side by side, sorted by question."""
    means = [_question_means(table) for table in (first, second)]
    ids = [set(table["question_id"]) for table in means]
    if ids[0] != ids[1]:
        odd = sorted(ids[0] ^ ids[1])[0]
        raise SpecError(
            f"The evaluations are not of the same questions: {len(ids[0] ^ ids[1])} are in only one of them, the first "
            f"is '{odd}'. Evaluate both models with the same task, split and number of questions."
        )
    joined = means[0].join(means[1], on="question_id", suffix="_second").sort("question_id")
    return joined.select(
        "question_id",
        pl.col("n").alias("n_first"),
        pl.col("n_second"),
        (pl.col("mean") - pl.col("mean_second")).alias("difference"),
    )


def _question_means(table: pl.DataFrame) -> pl.DataFrame:
    outcome = pl.col("correct").cast(pl.Float64)
    return table.group_by("question_id").agg(pl.len().alias("n"), outcome.mean().alias("mean")).sort("question_id")


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None

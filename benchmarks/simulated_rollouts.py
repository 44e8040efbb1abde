"""Rollouts one by one in a simulated world, and the tables that a diagnosis would make of them.

The counterpart of `simulated_worlds.count_rollouts` for what needs to know which rollout was counted where: intervals
for the questions at hand. The tables go through the same functions as those of a real run.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.simulated_worlds import Chains
from hydrometer.success.candidates import add_success


class ChainTables:
    """The tables of fixed questions and paths; `visit_log` draws new rollouts for them."""

    def __init__(self, chains: Chains):
        self.chains = chains
        at = np.argwhere(chains.is_node[..., None] & chains.is_candidate)
        question, path, position, token = at.T
        names = np.array([f"q{index:03d}" for index in range(len(chains.is_node))])
        keys = {"question_id": names[question], "rollout_id": path, "position": position, "token_id": token}
        self.keys = pl.DataFrame(keys)
        p = chains.probabilities[question, path, position, token]
        field = chains.field[question, path, position, token]
        self.student = self.keys.with_columns(
            pl.Series("student_logprob", np.log(p)), continuation=pl.lit("student"), kept=pl.lit(value=True)
        )
        self.teacher_scores = self.keys.with_columns(
            pl.Series("teacher_logprob", np.log(p) + field), pl.Series("field:reverse_kl", field), teacher=pl.lit("t")
        )
        node = self.keys.select("question_id", "rollout_id", "position").unique(maintain_order=True)
        where = np.argwhere(chains.is_node)
        self.nodes = node.with_columns(
            pl.Series("path_correct", chains.outcome[where[:, 0], where[:, 1]]),
            continuation=pl.lit("student"),
            path_weight=pl.lit(1.0),
            node_weight=pl.lit(1.0),
        )

    def candidates(self, visit_log: pl.DataFrame) -> pl.DataFrame:
        """`candidates.parquet` of one set of rollouts."""
        return add_success(self.student, visit_log)

    def exact_candidates(self) -> pl.DataFrame:
        """The same at infinite visits: true rates, no variance."""
        chains = self.chains
        at = np.argwhere(chains.is_node[..., None] & chains.is_candidate)
        rates = pl.Series("success_rate", chains.rates[tuple(at.T)])
        ones = {name: pl.lit(1) for name in ("visits", "visits_a", "visits_b", "successes_a", "successes_b")}
        return self.student.with_columns(rates, success_variance=pl.lit(0.0), **ones)

    def visit_log(self, visits: int, rng: np.random.Generator) -> pl.DataFrame:
        """Sample base rollouts and top every candidate up to `visits`; one row per rollout and candidate."""
        chains = self.chains
        flat = {name: getattr(chains, name).reshape(-1, *getattr(chains, name).shape[2:]) for name in chains._fields}
        n_chains = len(flat["is_node"])
        alive = np.repeat(np.arange(n_chains), visits)
        ids = np.arange(len(alive))
        next_id = len(ids)
        rows: list[NDArray[np.int64]] = []
        outcomes: list[NDArray[np.int64]] = []
        for position in range(flat["is_node"].shape[1]):
            cumulative = np.cumsum(flat["probabilities"][alive, position], axis=-1)
            token = (cumulative < rng.random((len(alive), 1))).sum(-1).clip(0, cumulative.shape[-1] - 1)
            here = np.zeros(flat["probabilities"].shape[::2], dtype=np.int64)
            np.add.at(here, (alive, token), 1)
            is_open = flat["is_candidate"][:, position] & flat["is_node"][:, position, None]
            short = np.where(is_open, np.maximum(visits - here[:, :-1], 0), 0)
            chain, forced = (index.repeat(short[short > 0]) for index in np.nonzero(short > 0))
            alive, token = np.concatenate([alive, chain]), np.concatenate([token, forced])
            ids = np.concatenate([ids, next_id + np.arange(len(chain))])
            next_id += len(chain)
            rows.append(np.stack([alive, np.full(len(alive), position), token, ids]))
            ends = (token != flat["token"][alive, position]) | (position + 1 == flat["is_node"][alive].sum(-1))
            won = rng.random(len(alive)) < flat["rates"][alive, position, token]
            outcomes.append(np.stack([ids[ends], won[ends]]))
            alive, ids = alive[~ends], ids[~ends]
        return self._as_log(np.concatenate(rows, axis=1), np.concatenate(outcomes, axis=1))

    def _as_log(self, rows: NDArray[np.int64], outcomes: NDArray[np.int64]) -> pl.DataFrame:
        paths = self.chains.is_node.shape[1]
        correct = np.zeros(outcomes[0].max() + 1, dtype=bool)
        correct[outcomes[0]] = outcomes[1].astype(bool)
        chain, position, token, ids = rows
        names = np.array([f"q{index:03d}" for index in range(len(self.chains.is_node))])
        columns = {"question_id": names[chain // paths], "rollout_id": chain % paths, "position": position}
        columns |= {"token_id": token, "counted_rollout_id": ids, "correct": correct[ids]}
        return pl.DataFrame(columns)

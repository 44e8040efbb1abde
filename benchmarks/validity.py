"""Do the intervals cover, and does a world without differences show none? Prints the tables of docs/validity.md.

python -m benchmarks.validity            everything, about ten minutes of one core
python -m benchmarks.validity --quick    fewer runs, half a minute
python -m benchmarks.validity null coverage conditional choice     only some of the parts
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.simulated_rollouts import ChainTables
from benchmarks.simulated_worlds import World, draw_chains, population_sums, simulate_runs
from hydrometer.alignment.choice import ObjectiveInfo
from hydrometer.alignment.contributions import SPLITS
from hydrometer.alignment.intervals import Jackknife, difference, jackknife
from hydrometer.alignment.metrics import METRICS, TERMS
from hydrometer.alignment.resampling import these_questions_intervals
from hydrometer.alignment.study import build_study

COVERED = ("pooled_cosine", "mean_advantage", "mean_signal")
WORLDS = {
    "weak teacher": World(gain=0.15, gain_sd=0.3),
    "good teacher": World(gain=1.0, gain_sd=0.6),
    "harmful teacher": World(gain=-0.3, gain_sd=0.3),
    "faint differences": World(gain=0.6, gain_sd=0.6, stakes=(0.005, 0.06, 0.3)),
}


class Coverage(NamedTuple):
    """How often an interval held the truth, among the runs that gave one."""

    given: int
    runs: int
    held: int

    @property
    def rate(self) -> float:
        """Coverage; NaN if no run gave an interval."""
        return self.held / self.given if self.given else float("nan")

    @property
    def without(self) -> float:
        """Share of runs that gave no interval."""
        return 1.0 - self.given / self.runs

    def plausible(self) -> tuple[float, float]:
        """95 % Clopper-Pearson bounds of the coverage: the simulation's own error."""
        low = stats.beta.ppf(0.025, self.held, self.given - self.held + 1) if self.held else 0.0
        high = stats.beta.ppf(0.975, self.held + 1, self.given - self.held) if self.held < self.given else 1.0
        return float(low), float(high)


def coverage_of(low: NDArray[np.float64], high: NDArray[np.float64], truth: float | NDArray[np.float64]) -> Coverage:
    """Count the runs whose interval holds the truth."""
    given = np.isfinite(low) & np.isfinite(high)
    return Coverage(int(given.sum()), low.size, int((given & (low <= truth) & (truth <= high)).sum()))


def metric_jackknife(name: str, sums: NDArray[np.float64], *, plain: bool = False) -> Jackknife:
    """The tool's interval over questions of one metric; axes of `sums`: question, anything, term."""
    metric = METRICS[name]
    contributes = sums[..., TERMS.index(metric.counted)] > 0.0
    statistic = metric.plain if plain else metric.value
    return jackknife(statistic, sums, contributes, limits=metric.limits, is_ratio=metric.is_ratio)


class NullResult(NamedTuple):
    """Correct minus incorrect in a world where nothing depends on the token."""

    coverage: dict[str, Coverage]
    mean: dict[str, float]
    """Average difference over runs; should be 0."""
    corrected_null_share: float
    """Share of runs in which the corrected pooled cosine of all nodes is null."""


def null_world(
    *, temperature: float, runs: int, visits: int, count_path: bool, seed: int, questions: int = 20
) -> NullResult:
    """All success rates equal within a question, the teacher flatter (temperature > 1) or sharper than the student."""
    world = World(temperature=temperature).without_differences()
    rng = np.random.default_rng(seed)
    sums = simulate_runs(world, runs=runs, questions=questions, visits=visits, rng=rng, count_path=count_path)
    coverage, mean = {}, {}
    for name in ("mean_cosine", "weighted_cosine", "pooled_cosine"):
        parts = [
            metric_jackknife(name, sums[:, :, SPLITS.index(split)], plain=name == "pooled_cosine")
            for split in ("correct", "incorrect")
        ]
        result = difference(*parts)
        label = "plain pooled_cosine" if name == "pooled_cosine" else name
        coverage[label] = coverage_of(result.low, result.high, 0.0)
        mean[label] = float(np.nanmean(result.value))
    corrected = METRICS["pooled_cosine"].value(sums[:, :, 0].sum(0))
    return NullResult(coverage, mean, float(np.isnan(corrected).mean()))


def question_coverage(
    world: World, *, questions: int, visits: int, runs: int, truth: NDArray[np.float64], seed: int
) -> dict[str, Coverage]:
    """Coverage of the intervals over questions for the population value at infinite visits."""
    rng = np.random.default_rng(seed)
    sums = simulate_runs(world, runs=runs, questions=questions, visits=visits, rng=rng)[:, :, 0]
    results = {}
    for name in COVERED:
        interval = metric_jackknife(name, sums)
        results[name] = coverage_of(interval.low, interval.high, float(METRICS[name].value(truth[0])))
    return results


def conditional_coverage(
    world: World, *, questions: int, visits: int, runs: int, replicates: int, seed: int
) -> dict[str, Coverage]:
    """Coverage of `these_questions`: questions and paths fixed, rollouts drawn anew.

    The truth is the value at infinite visits for pooled cosine, advantage and signal, and the average over all runs
    (their expectation at these visits) for the attenuated ones.
    """
    rng = np.random.default_rng(seed)
    tables = ChainTables(draw_chains(world, questions, rng))
    objectives = {"reverse_kl": ObjectiveInfo("reverse_kl")}
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    ends: dict[str, list[NDArray[np.float64]]] = {name: [] for name in METRICS}
    for _ in range(runs):
        log = tables.visit_log(visits, rng)
        study = build_study("student", tables.nodes, tables.candidates(log), tables.teacher_scores, objectives)
        intervals = these_questions_intervals(study, log, rng, replicates=replicates)
        total = study.sums.sums.sum(0)[0, 0, 0]
        for name, metric in METRICS.items():
            values[name].append(float(metric.value(total)))
            ends[name].append(intervals[name][:, 0, 0, 0])
    exact = build_study("student", tables.nodes, tables.exact_candidates(), tables.teacher_scores, objectives)
    results = {}
    for name, metric in METRICS.items():
        truth = (
            float(metric.value(exact.sums.sums.sum(0)[0, 0, 0])) if name in COVERED else float(np.mean(values[name]))
        )
        low, high = np.array(ends[name]).T
        results[name] = coverage_of(low, high, truth)
    return results


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "parts", nargs="*", default=["null", "coverage", "conditional"], help="null coverage conditional"
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    arguments = parser.parse_args()
    printers = {"null": print_null, "coverage": print_coverage, "plain": print_plain, "conditional": print_conditional}
    for part in arguments.parts:
        start = time.perf_counter()
        printers[part](quick=arguments.quick)
        print(f"\n({part}: {time.perf_counter() - start:.0f} s)\n", flush=True)


def print_null(*, quick: bool) -> None:
    """The null world, counted rightly and wrongly."""
    runs = 200 if quick else 1000
    print(f"Null world: {runs} runs of 20 questions, 20 visits. Correct minus incorrect (average; interval holds 0):\n")
    print("| teacher | path counted | mean cosine | weighted cosine | plain pooled | corrected pooled null |")
    print("|---|---|---|---|---|---|")
    for count_path in (False, True):
        for seed, (label, temperature) in enumerate((("flatter", 1.5), ("sharper", 0.7))):
            result = null_world(temperature=temperature, runs=runs, visits=20, count_path=count_path, seed=seed)
            cells = [f"{result.mean[n]:+.3f}; {result.coverage[n].rate:.1%}" for n in result.coverage]
            counted = "yes (wrong)" if count_path else "no"
            print(f"| {label} | {counted} | {' | '.join(cells)} | {result.corrected_null_share:.1%} |", flush=True)


def print_coverage(*, quick: bool) -> None:
    """Intervals over questions."""
    runs = 200 if quick else 500
    worlds = {"good teacher": WORLDS["good teacher"]} if quick else WORLDS
    print(f"Coverage of 95 % intervals over questions, {runs} runs each (share of runs without an interval):\n")
    for label, world in worlds.items():
        truth = population_sums(world, np.random.default_rng(1), 20_000 if quick else 80_000)
        facts = ", ".join(f"{name} {float(METRICS[name].value(truth[0])):+.4f}" for name in COVERED)
        print(f"{label}: true {facts}\n\n| questions | visits | {' | '.join(COVERED)} |\n|---|---|---|---|---|")
        for questions in (8, 20, 50):
            for visits in (4, 20, 100):
                seed = 1000 * questions + visits
                row = question_coverage(world, questions=questions, visits=visits, runs=runs, truth=truth, seed=seed)
                cells = [f"{row[name].rate:.1%} ({row[name].without:.1%})" for name in COVERED]
                print(f"| {questions} | {visits} | {' | '.join(cells)} |", flush=True)
        print()


def print_plain(*, quick: bool) -> None:
    """What the textbook interval would do: plain jackknife, t on Q - 1 degrees of freedom."""
    runs, questions, visits = 400 if quick else 4000, 8, 100
    world = WORLDS["faint differences"]
    truth = population_sums(world, np.random.default_rng(1), 20_000 if quick else 80_000)
    sums = simulate_runs(world, runs=runs, questions=questions, visits=visits, rng=np.random.default_rng(2))[:, :, 0]
    print(f"Faint differences, {questions} questions, {visits} visits, {runs} runs:\n")
    print(f"| interval | {' | '.join(COVERED)} |\n|---|---|---|---|")
    plain, used = [], []
    for name in COVERED:
        result, true = metric_jackknife(name, sums), float(METRICS[name].value(truth[0]))
        reach = stats.t.ppf(0.975, questions - 1) * result.standard_error
        plain.append(f"{coverage_of(result.value - reach, result.value + reach, true).rate:.1%}")
        used.append(f"{coverage_of(result.low, result.high, true).rate:.1%}")
    print(f"| plain | {' | '.join(plain)} |\n| used | {' | '.join(used)} |", flush=True)


def print_conditional(*, quick: bool) -> None:
    """Intervals for the questions at hand."""
    runs, replicates = (60, 100) if quick else (300, 100)
    print(f"Coverage of 95 % intervals for these questions, {runs} runs with new rollouts, good teacher:\n")
    print(f"| questions | visits | {' | '.join(METRICS)} |\n|---|---|{'---|' * len(METRICS)}")
    for questions, visits in ((8, 4), (8, 20)) if quick else ((8, 4), (8, 20), (20, 20)):
        row = conditional_coverage(
            WORLDS["good teacher"], questions=questions, visits=visits, runs=runs, replicates=replicates, seed=5
        )
        print(f"| {questions} | {visits} | {' | '.join(f'{row[name].rate:.1%}' for name in METRICS)} |", flush=True)


if __name__ == "__main__":
    main()

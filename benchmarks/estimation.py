"""What does an answer cost? Error against generated tokens, for every way of spending them (docs/estimation.md).

python benchmarks/estimation.py                         everything, about half an hour of one core
python benchmarks/estimation.py --quick --json          a few minutes; one JSON object on standard output
python benchmarks/estimation.py choose map coverage     only some of the parts
python benchmarks/estimation.py bundled --cache DIR     the bundled family, from a large sample that is made once
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, the package is one folder up

from benchmarks.estimation_bundled import bundled_choice
from benchmarks.estimation_coverage import (
    CHOOSE,
    LARGE,
    QUESTIONS,
    SMALL,
    TEACHERS,
    VISITS,
    coverage_tables,
    decide,
    outcome_tables,
    tell_equals,
)
from benchmarks.estimation_curves import Point, curve_of, measure_population, token_ratios
from benchmarks.estimation_map import MapPoint, map_counts, map_point, matters, tokens_at, windowed_counts
from benchmarks.estimation_problems import Population
from benchmarks.estimation_strategies import ChosenNodes, OnPolicy, Outcomes, Strategy, Windowed
from hydrometer.success.allocation import Map

PUBLISHED = Windowed(100, 200)
OWN_SETTINGS = (5, 10, 20, 50, 100)
GAPS = (0.1, 0.03, 0.01)
"""Of the best teacher to the second, in true pooled cosine."""
RUNS = 500
"""Of every setting of coverage."""
PARTS = ("choose", "map", "coverage", "bundled")


def choose(*, quick: bool) -> dict[str, float]:
    """Regret of the choice; geometric means of the ratios of tokens at equal regret."""
    own = [Windowed(n, n) for n in (OWN_SETTINGS[:3] if quick else OWN_SETTINGS)]
    on_policy = [OnPolicy(n) for n in ((16, 64) if quick else (16, 64, 200))]
    most = CHOOSE.paths
    ideas: list[Strategy] = [CHOOSE, Outcomes(most), Outcomes(most, baseline="true value")]
    if not quick:
        ideas += [Outcomes(8, 1, 4, base=2), Outcomes(most, 1, 4, base=2), Outcomes(1), Outcomes(4)]
        ideas += [Outcomes(4, 2, 2), Outcomes(4, baseline="half"), Outcomes(4, baseline="true value")]
        ideas += [ChosenNodes(4, 2), ChosenNodes(8, 2), ChosenNodes(8, 4)]
    strategies: list[Strategy] = [PUBLISHED, *own, *on_policy, *ideas]
    ratios: dict[str, list[float]] = {}
    for gap in GAPS:
        for seed in (0,) if quick else (0, 1):
            population = Population(
                (0.02 + gap, 0.02, 0.01, 0.0), 100 * seed + round(1000 * gap), 5 if quick else 8, paths=most
            )
            truth, measured, offsets = measure_population(population, strategies, 7)
            curves = [curve_of(sums, truth, 2000 if quick else 6000, 1) for sums in measured]
            _print_curves(f"Gap {gap:g}, population {seed}", strategies, curves, offsets)
            baselines = {"published": curves[:1], "windowed": curves[: 1 + len(own)]}
            baselines["on_policy"] = curves[1 + len(own) : 1 + len(own) + len(on_policy)]
            for idea, curve in list(zip(strategies, curves, strict=True))[-len(ideas) :]:
                for name, others in baselines.items():
                    found = token_ratios(curves[0], others, curve)
                    known = found[np.isfinite(found)]
                    print(f"{idea.name}, tokens of {name} over its own: {_range(known)}")
                    ratios.setdefault(f"{idea.name}/{name}/{gap:g}", []).extend(known.tolist())
    print()

    def mean(name: str) -> float:
        """Over regrets of a gap, then over gaps; where a baseline never gets there is left out, in its favour."""
        gaps = [ratios[f"{ideas[0].name}/{name}/{gap:g}"] for gap in GAPS]
        return float(np.exp(np.mean([np.mean(np.log(found)) for found in gaps if found])))

    return {
        "choose_ratio": mean("published"),
        "choose_ratio_windowed_at_its_best": mean("windowed"),
        "choose_ratio_on_policy": mean("on_policy"),
    }


def _print_curves(
    title: str, strategies: Sequence[Strategy], curves: Sequence[Sequence[Point]], offsets: np.ndarray
) -> None:
    print(f"\n{title}: thousand tokens: regret x 1000 (error of pooled cosine, of advantage x 1000; undefined)\n")
    for strategy, curve, offset in zip(strategies, curves, offsets, strict=True):
        cells = [
            f"{p.tokens / 1e3:.0f}: {1e3 * p.regret:.1f} ({p.cosine_error:.2f}, {1e3 * p.advantage_error:.1f}; "
            f"{p.undefined:.0%})"
            for p in curve[1::2]
        ]
        print(f"{strategy.name} [largest bias {np.abs(offset).max():.1f} standard errors] {' | '.join(cells)}")


def _range(ratios: np.ndarray) -> str:
    if not len(ratios):
        return "never reached"
    return f"{np.exp(np.log(ratios).mean()):.1f} ({ratios.min():.1f} to {ratios.max():.1f})"


def advice_map(*, quick: bool) -> dict[str, float]:
    """Error of success rates on candidates that matter; ratios of tokens at equal error."""
    ratios: dict[str, list[float]] = {"map_ratio": [], "map_ratio_windowed_by_priority": []}
    for seed in (21,) if quick else (21, 22, 23):
        population = Population((0.05, 0.02), seed, 1, block=400 if quick else 1000, paths=1)
        chains = population.draw_block(0, population.calibrate())
        mattering, rng = matters(chains), np.random.default_rng(seed)
        curves: dict[str, list[MapPoint]] = {}
        for share in (1.0, 0.5, 0.25):
            found = [map_point(chains, windowed_counts(chains, n, share, rng), mattering) for n in OWN_SETTINGS]
            curves[f"windowed, {share:.0%} of the pairs"] = found
        found = [map_point(chains, map_counts(chains, Map(n), rng), mattering) for n in (10, 20, 40, 80, 160)]
        curves["map"] = found
        print(f"\nMap, {len(mattering)} paths, {mattering.sum() / len(mattering):.1f} mattering candidates each")
        print("(in brackets: with path tokens estimated from the next node too)\n")
        for name, curve in curves.items():
            cells = (f"{p.tokens:.0f} tokens: {p.error:.3f} ({p.backed_up:.3f})" for p in curve)
            print(f"{name}: " + " | ".join(cells))
        *windowed, own = curves.values()
        for point in own[1:]:
            costs = [tokens_at(curve, point.error) for curve in windowed]
            ratios["map_ratio"].append(costs[0] / point.tokens)
            ratios["map_ratio_windowed_by_priority"].append(float(np.nanmin(costs)) / point.tokens)
    for name, values in ratios.items():
        print(f"{name}: {_range(np.array(values))}")
    return {name: float(np.exp(np.nanmean(np.log(values)))) for name, values in ratios.items()}


def coverage(*, quick: bool) -> dict[str, dict[str, list[int]]]:
    """Share of intervals of pooled cosine that hold the truth, among those that are given, and who is told apart."""
    print("\n| setting | covered | given | width (median) | stopped early | width over a fixed one's |")
    print("|---|---|---|---|---|---|")
    table = {}
    effects = (SMALL,) if quick else (SMALL, LARGE)
    settings = (coverage_tables(3 if quick else 12, RUNS, effects), outcome_tables(10, RUNS, effects))
    for setting, found in itertools.chain.from_iterable(settings):
        share = found.held / found.given if found.given else float("nan")
        cells = (f"{share:.1%}", f"{found.given} of {found.runs}", f"{found.width:.2f}", f"{found.stopped}")
        print(f"| {setting} | {' | '.join(cells)} | {found.widening:.2f} |", flush=True)
        table[setting] = [found.held, found.given]
    if not quick:
        _print_equals()
        _print_decisions()
    return {"coverage": table}


def _print_equals() -> None:
    print("\n| teachers | visits | questions | stopping | equal arms told apart |\n|---|---|---|---|---|")
    for teachers, visits, questions, stops in itertools.product(TEACHERS, VISITS, QUESTIONS, (False, True)):
        found = tell_equals(teachers, visits, questions, RUNS, stops=stops)
        cells = f"{teachers} | {visits} | {questions} | {'on' if stops else 'off'}"
        print(f"| {cells} | {found.told_apart} of {found.runs} |", flush=True)


def _print_decisions() -> None:
    print("\n| true pooled cosines | most questions | tokens | runs that recommend | wrongly |\n|---|---|---|---|---|")
    for cosines in ((0.12, 0.02, 0.01, 0.0), (0.05, 0.05, 0.01, 0.0), (0.0, 0.0, 0.0, 0.0)):
        for questions, made in decide(cosines, (128, 512), 100, 10):
            name = ", ".join(f"{value:g}" for value in cosines)
            cells = (f"{made.tokens:.0f}", f"{made.recommended} of {made.runs}", f"{made.wrong}")
            print(f"| {name} | {questions} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables, or one JSON object (the tables then go to standard error)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", default=["choose", "map", "coverage"], help=" ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--cache", type=Path, default=Path("runs/estimation"), help="where the bundled sample is kept")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"unknown part '{unknown[0]}' (there are {', '.join(PARTS)})")
    out, result = sys.stdout, {}
    if arguments.json:
        sys.stdout = sys.stderr
    for part in arguments.parts:
        start = time.perf_counter()
        match part:
            case "choose":
                result |= choose(quick=arguments.quick)
            case "map":
                result |= advice_map(quick=arguments.quick)
            case "coverage":
                result |= coverage(quick=arguments.quick)
            case _:
                result |= bundled_choice(arguments.cache)
        print(f"\n({part}: {time.perf_counter() - start:.0f} s)", flush=True)
    print(json.dumps(result, indent=None if arguments.json else 2), file=out)


if __name__ == "__main__":
    main()

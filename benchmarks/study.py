"""Training on the bundled family: what the papers say happens, looked for with paired seeds and questions.

    python -m benchmarks.study --out runs/study                 # every arm and seed; goes on where it stopped
    python -m benchmarks.study --out runs/study --only i iii    # some parts
    python -m benchmarks.study --out runs/study --tables        # runs nothing, prints the tables of what is there
    python -m benchmarks.study --out runs/study --tables --figures docs/images --document docs/training-study.md

Each run is `hydrometer train` with 50 steps of 64 rollouts, under a minute on a quiet core (`study_arms`). Arms that
several parts need are run once. What came out is told in docs/training-study.md.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.study_arms import ARMS, probe_aggregation, run_arm
from benchmarks.study_parts import PARTS
from benchmarks.study_tables import describe_costs, describe_part, fill_document


def run_part(out: Path, name: str) -> None:
    """Every arm of a part, seed by seed, so that a study that is cut off still has pairs."""
    part = PARTS[name]
    for seed in range(max(ARMS[arm].seeds for arm in part.arms)):
        for arm in part.arms:
            if seed < ARMS[arm].seeds:
                print(f"({name}) {arm}, seed {seed}", flush=True)
                run_arm(out, arm, seed)
    if part.aggregated:
        probe_aggregation(out, part.aggregated)


def draw_parts(out: Path, names: Sequence[str], folder: Path) -> None:
    """A file for each part."""
    from benchmarks.study_figures import draw_part  # the only part that needs matplotlib

    for name in names:
        draw_part(out, name, folder)


def main() -> None:
    """Run the study, or part of it, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--tables", action="store_true", help="run nothing")
    parser.add_argument("--document", type=Path, help="Markdown file whose tables are made anew")
    parser.add_argument("--figures", type=Path, help="folder to draw into (needs matplotlib)")
    options = parser.parse_args()
    for name in () if options.tables else options.only:
        run_part(options.out, name)
    for name in options.only:
        print(f"({name}) {PARTS[name].title}\n\n{describe_part(options.out, name)}\n")
    if options.figures is not None:
        draw_parts(options.out, options.only, options.figures)
    print(describe_costs(options.out))
    if options.document is not None:
        text = options.document.read_text(encoding="utf-8")
        options.document.write_text(fill_document(text, options.out), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Which score foretells training: every score of a diagnosis against the gain of training runs.

    python -m benchmarks.predictive_validity --out runs/predictive                  # goes on where it stopped
    python -m benchmarks.predictive_validity --out runs/predictive --blocks small --seeds 0     # a part
    python -m benchmarks.predictive_validity --out runs/predictive --tables         # runs nothing
    python -m benchmarks.predictive_validity --tables --figures docs/images --document docs/predictive-validity.md

Small tables of what was run are kept in benchmarks/results/predictive_validity, and everything that is told is computed
from them: without --out nothing but them is read. The design is in `predictive_cells` and docs/predictive-validity.md.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.predictive_cells import BLOCKS, CELLS, SEEDS
from benchmarks.predictive_gather import gather
from benchmarks.predictive_results import read_results
from benchmarks.predictive_runs import diagnose_aggregates, diagnose_block, examine_untrained, train_cell
from benchmarks.predictive_tables import describe_all, fill_document, weigh_evidence
from benchmarks.predictive_tokens import TEACHERS, run_tokens

RESULTS = Path(__file__).parent / "results" / "predictive_validity"


def run_cells(out: Path, blocks: Sequence[str], seeds: Sequence[int]) -> None:
    """The diagnoses, then every cell seed by seed, so that a study that is cut off holds whole seeds."""
    out.mkdir(parents=True, exist_ok=True)
    for name in blocks:
        print(f"diagnosis of {name}", flush=True)
        diagnose_block(out, name)
        examine_untrained(out, name)
    for seed in seeds:
        for cell in CELLS:
            if cell.block in blocks:
                print(f"{cell.name}, seed {seed}", flush=True)
                train_cell(out, cell, seed)


def main() -> None:
    """Run the study, or part of it, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--blocks", nargs="*", choices=list(BLOCKS), default=list(BLOCKS))
    parser.add_argument("--token-teachers", nargs="*", choices=TEACHERS, default=list(TEACHERS))
    parser.add_argument("--seeds", nargs="*", type=int, choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--tables", action="store_true", help="run nothing")
    parser.add_argument("--document", type=Path, help="Markdown file whose tables are made anew")
    parser.add_argument("--figures", type=Path, help="folder to draw into (needs matplotlib)")
    options = parser.parse_args()
    if not options.tables:
        if options.out is None:
            parser.error("--out is needed to run anything")
        run_cells(options.out, options.blocks, options.seeds)
        for name in options.blocks:
            diagnose_aggregates(options.out, name)
        for seed in options.seeds:
            for teacher in options.token_teachers:
                run_tokens(options.out, teacher, seed)
    if options.out is not None:
        gather(options.out, RESULTS)
    tell(options.document, options.figures)


def tell(document: Path | None, figures: Path | None) -> None:
    """Print the tables of what is there; fill the document and draw, where asked to."""
    tables = describe_all(RESULTS)
    for name, table in tables.items():
        print(f"{name}\n\n{table}\n")
    if figures is not None:
        from benchmarks.predictive_figures import draw_gains, draw_scores  # the only part that needs matplotlib

        evidence = weigh_evidence(read_results(RESULTS))
        draw_gains(evidence, figures)
        draw_scores(evidence, figures)
    if document is not None:
        document.write_text(fill_document(document.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()

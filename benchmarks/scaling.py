"""What a diagnosis of the bundled family costs at 1, 4 and 16 times as many questions.

    python -m benchmarks.scaling [--json] [--questions 8 32 128]

One process for each number of questions: generated tokens, seconds of processor time per thousand of them (of the
whole process, start and report included), and its highest resident size. Cost is linear where the seconds per thousand
tokens stay the same, memory is flat where the last column, the growth per hundred questions from the line above, is 0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_FLAGS = "--teacher expert=bundled:expert --teacher self+answer --teacher self+empty:answer --rollouts 16 --visits 8"
_FLAGS += " --min-visits 8 --no-check --quiet"

_WRITING = "tables, summary and report"
"""A line of what `--profile` prints."""


class Cost(NamedTuple):
    """Of one run."""

    questions: int
    rollouts: int
    generated_tokens: int
    seconds: float
    """Of processor time."""
    writing_s: float
    """Of the clock: tables, statistics and report."""
    peak_mib: float


def main() -> None:
    """Print the table, or one object of plain numbers for each number of questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--questions", type=int, nargs="+", default=[8, 32, 128])
    options = parser.parse_args()
    costs = [_run(count) for count in options.questions]
    if options.json:
        print(json.dumps({str(cost.questions): _numbers(costs, i) for i, cost in enumerate(costs)}))
        return
    print("questions  rollouts   tokens   CPU s  s per 1,000 tokens  writing s  peak MiB  MiB per 100 questions more")
    for number, cost in enumerate(costs):
        row = _numbers(costs, number)
        growth = f"{row['mib_per_100_questions']:.0f}" if number else ""
        print(
            f"{cost.questions:>9} {cost.rollouts:>9,} {cost.generated_tokens:>8,} {cost.seconds:>7.1f} "
            f"{row['seconds_per_1000_tokens']:>19.3f} {cost.writing_s:>10.1f} {cost.peak_mib:>9.0f} {growth:>27}"
        )


def _numbers(costs: Sequence[Cost], number: int) -> dict[str, float]:
    cost = costs[number]
    found = cost._asdict() | {"seconds_per_1000_tokens": 1000.0 * cost.seconds / cost.generated_tokens}
    if number:
        before = costs[number - 1]
        more = (cost.questions - before.questions) / 100.0
        found["mib_per_100_questions"] = (cost.peak_mib - before.peak_mib) / more
    return found


def _run(questions: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "hydrometer", "diagnose", "--questions", str(questions), "--profile"]
        command += [*_FLAGS.split(), "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with open(Path(folder) / "said", "w+") as said:
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
            _, status, used = os.wait4(process.pid, 0)
            said.seek(0)
            told = said.read()
        if status:
            raise RuntimeError(told[-2000:])
        cost = json.loads((out / "summary.json").read_text())["cost"]
    line = next(line for line in told.splitlines() if line.startswith(_WRITING + "  "))
    writing = float(line.removeprefix(_WRITING).split()[0])
    return Cost(
        questions,
        cost["rollouts"],
        cost["generated_tokens"],
        used.ru_utime + used.ru_stime,
        writing,
        used.ru_maxrss / 1024,
    )


if __name__ == "__main__":
    main()

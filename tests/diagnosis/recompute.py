"""Recompute visits, alignment and aggregates of a run from its tables, without a line of the package.

    python tests/diagnosis/recompute.py RUN_FOLDER

Visits and successes have to agree exactly, everything else to 1e-6. Reverse and forward KL are formed from the stored
log-probabilities, other objectives from the stored field at each candidate.
"""

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

Row = dict[str, Any]
TOLERANCE = 1e-6


def recount(rollouts: list[Row], model: str) -> tuple[Counter[tuple], Counter[tuple]]:
    """Visits and successes by (question, path, position, token), from base and branch rollouts that `model` wrote."""
    visits: Counter[tuple] = Counter()
    successes: Counter[tuple] = Counter()
    by_question: dict[str, list[Row]] = defaultdict(list)
    for row in rollouts:
        by_question[row["question_id"]].append(row)
    for question, rows in by_question.items():
        counted = [row for row in rows if row["kind"] in ("base", "branch") and row["model"] == model]
        for path in (row for row in rows if row["kind"] == "path"):
            for row in counted:
                ids = row["token_ids"]
                for position in range(min(len(ids), len(path["token_ids"]))):
                    if row["forced_tokens"] <= position + 1:
                        key = (question, path["rollout_id"], position, ids[position])
                        visits[key] += 1
                        successes[key] += row["correct"]
                    if ids[position] != path["token_ids"][position]:
                        break
    return visits, successes


def direction(weights: list[float], mass: float, field: list[float]) -> list[float]:
    mean = sum(w * f for w, f in zip(weights, field, strict=True))
    return [mass * w * (f - mean) for w, f in zip(weights, field, strict=True)]


def dot(a: Iterable[float], b: Iterable[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(g: list[float], d: list[float], rates: list[float]) -> float | None:
    length = math.sqrt(dot(g, g) * dot(d, d))
    if max(rates) == min(rates) or math.sqrt(dot(d, d)) < 1e-6:
        return None
    return dot(g, d) / length


def field_of(objective: str, rows: list[Row], scores: list[Row]) -> list[float]:
    if objective == "reverse_kl":
        return [s["teacher_logprob"] - r["student_logprob"] for r, s in zip(rows, scores, strict=True)]
    if objective == "forward_kl":
        return [math.exp(s["teacher_logprob"] - r["student_logprob"]) for r, s in zip(rows, scores, strict=True)]
    return [s[f"field:{objective}"] for s in scores]


def measure_nodes(nodes: list[Row], candidates: list[Row], scores: list[Row], arms: Iterable[tuple]) -> Iterator[Row]:
    """One row per node with two kept candidates and arm: everything alignment.parquet and the aggregates need."""
    kept: dict[tuple, list[Row]] = defaultdict(list)
    for row in candidates:
        if row["kept"]:
            kept[row["question_id"], row["rollout_id"], row["position"]].append(row)
    said = {(s["question_id"], s["rollout_id"], s["position"], s["token_id"], s["teacher"]): s for s in scores}
    arms = list(arms)
    for node in nodes:
        key = (node["question_id"], node["rollout_id"], node["position"])
        rows = kept.get(key, [])
        if len(rows) < 2:
            continue
        p = [math.exp(row["student_logprob"]) for row in rows]
        mass = sum(p)
        w = [value / mass for value in p]
        rates = [row["successes"] / row["visits"] for row in rows]
        a, b = ([row[f"successes_{half}"] / row[f"visits_{half}"] for row in rows] for half in "ab")
        g, g_a, g_b = (direction(w, mass, values) for values in (rates, a, b))
        noise = mass**2 * sum(
            w_k**2 * (1 - 2 * w_k + dot(w, w)) * s * (1 - s) / (row["visits"] - 1)
            for w_k, s, row in zip(w, rates, rows, strict=True)
        )
        for teacher, objective in arms:
            own = [said.get((*key, row["token_id"], teacher)) for row in rows]
            if None in own:
                continue
            d = direction(w, mass, field_of(objective, rows, own))
            norm = math.sqrt(dot(d, d))
            q = [math.exp(s["teacher_logprob"]) for s in own]
            yield {
                "key": (*key, teacher, objective),
                "arm": (teacher, objective),
                "split": "correct" if node["path_correct"] else "incorrect",
                "weight": node["path_weight"] * node["node_weight"],
                "cosine": cosine(g, d, rates),
                "inner_product": dot(g, d),
                "signal": dot(g, d) / norm if norm >= 1e-6 else 0.0,
                "ideal_norm": math.sqrt(dot(g, g)),
                "direction_norm": norm,
                "advantage": dot((value / sum(q) for value in q), rates) - dot(w, rates),
                "noise": noise,
                "gap": max(rates) - min(rates),
                "halves": [
                    (max(x) - min(x), cosine(h, d, y)) for x, h, y in ((a, g_b, b), (b, g_a, a))
                ],  # weight from one half, cosine from the other
            }


def mean(pairs: Iterable[tuple[float, float]]) -> float | None:
    pairs = list(pairs)
    total = sum(weight for weight, _ in pairs)
    return sum(weight * value for weight, value in pairs) / total if total > 0 else None


def aggregate(rows: list[Row]) -> dict[str, tuple[float | None, float | None]]:
    """Metric -> (value, plain)."""
    defined = [row for row in rows if row["cosine"] is not None]
    crossed = [
        mean((row["weight"] * row["halves"][i][0], c) for row in defined if (c := row["halves"][i][1]) is not None)
        for i in (0, 1)
    ]
    weighted = None if None in crossed else sum(crossed) / 2
    moving = [row for row in rows if row["direction_norm"] >= 1e-6]
    inner, d_square = (
        sum(row["weight"] * value(row) for row in moving)
        for value in (lambda r: r["inner_product"], lambda r: r["direction_norm"] ** 2)
    )
    g_square = sum(row["weight"] * row["ideal_norm"] ** 2 for row in rows)
    corrected = g_square - sum(row["weight"] * row["noise"] for row in rows)
    plain, value = (inner / math.sqrt(s * d_square) if s > 0 and d_square > 0 else None for s in (g_square, corrected))
    simple = {
        "mean_cosine": mean((row["weight"], row["cosine"]) for row in defined),
        "fraction_positive": mean((row["weight"], row["cosine"] > 0) for row in defined),
        "mean_advantage": mean((row["weight"], row["advantage"]) for row in rows),
        "mean_signal": mean((row["weight"], row["signal"]) for row in rows),
    }
    gaps = mean((row["weight"] * row["gap"], row["cosine"]) for row in defined)
    both = {name: (found, found) for name, found in simple.items()}
    return both | {"weighted_cosine": (weighted, gaps), "pooled_cosine": (value, plain)}


def differ(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is not theirs
    return abs(ours - theirs) > TOLERANCE


def check_run(folder: Path) -> tuple[dict[str, int], list[str]]:
    """How many values of each kind were compared, and every disagreement."""
    names = ("rollouts", "nodes", "candidates", "teacher_scores", "alignment")
    table = {name: pl.read_parquet(folder / f"{name}.parquet").to_dicts() for name in names}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    compared: Counter[str] = Counter()
    wrong: list[str] = []

    ours: dict[tuple, Row] = {}
    for who in sorted({row["continuation"] for row in table["nodes"]}):
        nodes, candidates = ([row for row in table[n] if row["continuation"] == who] for n in ("nodes", "candidates"))
        visits, successes = recount(table["rollouts"], who)
        for row in candidates:
            key = (row["question_id"], row["rollout_id"], row["position"], row["token_id"])
            compared["visits and successes"] += 1
            if (visits[key], successes[key]) != (row["visits"], row["successes"]):
                found = f"{row['visits']} visits, {row['successes']} successes"
                wrong.append(f"candidate {key} {who}: {found}, recounted {visits[key]}, {successes[key]}")
        arms = sorted(
            {(row["teacher"], row["objective"]) for row in table["alignment"] if who in ("student", row["teacher"])}
        )
        rows = measure_nodes(nodes, candidates, table["teacher_scores"], arms)
        ours |= {(*row["key"], who): row for row in rows}

    theirs = {tuple(row[k] for k in KEY): row for row in table["alignment"]}
    wrong += [f"alignment row {key} is on one side only" for key in ours.keys() ^ theirs.keys()]
    for key in ours.keys() & theirs.keys():
        for name in ("cosine", "inner_product", "signal", "ideal_norm", "direction_norm", "advantage"):
            compared["alignment"] += 1
            if differ(ours[key][name], theirs[key][name]):
                wrong.append(f"alignment {key} {name}: {theirs[key][name]}, recomputed {ours[key][name]}")

    for arm in summary["arms"]:
        named = (arm["teacher"], arm["objective"], arm["continuation"])
        rows = [row for key, row in ours.items() if key[3:] == named]
        for split in ("all", "correct", "incorrect"):
            found = aggregate([row for row in rows if split in ("all", row["split"])])
            for metric, values in found.items():
                entry = arm["scores"][split][metric]
                for kind, value in zip(("value", "plain"), values, strict=True):
                    compared["aggregates"] += 1
                    if differ(value, entry[kind]):
                        place = f"{' '.join(named)} {split} {metric} {kind}"
                        wrong.append(f"summary {place}: {entry[kind]}, recomputed {value}")
    return dict(compared), wrong


KEY = ("question_id", "rollout_id", "position", "teacher", "objective", "continuation")


def main() -> int:
    compared, wrong = check_run(Path(sys.argv[1]))
    for name, count in compared.items():
        print(f"{count:,} compared: {name}")  # noqa: T201
    print("\n".join(wrong[:20]) or "all agree")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

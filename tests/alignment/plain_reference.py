"""Every node quantity and aggregate again in plain python loops; shares no code with the package."""

import math
from collections import defaultdict
from typing import Any


def group(rows, *names):
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    return found


def node_quantities(tables, objective: str, teacher: str) -> dict[tuple, dict[str, Any]]:
    """Per node key: everything an aggregate needs, or no entry below two kept candidates."""
    nodes = {(r["question_id"], r["rollout_id"], r["position"]): r for r in tables.nodes.to_dicts()}
    scored = {
        (r["question_id"], r["rollout_id"], r["position"], r["token_id"]): r
        for r in tables.teacher_scores.to_dicts()
        if r["teacher"] == teacher
    }
    kept = [row for row in tables.candidates.to_dicts() if row["kept"]]
    out = {}
    for key, rows in group(kept, "question_id", "rollout_id", "position").items():
        if len(rows) < 2:
            continue
        p = [math.exp(r["student_logprob"]) for r in rows]
        q = [math.exp(scored[(*key, r["token_id"])]["teacher_logprob"]) for r in rows]
        f = [scored[(*key, r["token_id"])][f"field:{objective}"] for r in rows]
        mass = sum(p)
        w = [x / mass for x in p]

        def centred(x, w=w, mass=mass):
            mean = sum(a * b for a, b in zip(w, x, strict=True))
            return [mass * a * (b - mean) for a, b in zip(w, x, strict=True)]

        def cosine(g, d, rates):
            if len(set(rates)) == 1:
                return None
            return dot(g, d) / math.sqrt(dot(g, g) * dot(d, d))

        full = [r["successes"] / r["visits"] for r in rows]
        half_a = [r["successes_a"] / r["visits_a"] for r in rows]
        half_b = [r["successes_b"] / r["visits_b"] for r in rows]
        d = centred(f)
        g = centred(full)
        noise = 0.0
        for k, r in enumerate(rows):
            length = sum(((1.0 if j == k else 0.0) - w[k]) ** 2 * w[j] ** 2 for j in range(len(w)) if j == k)
            length += sum((w[j] * w[k]) ** 2 for j in range(len(w)) if j != k)
            noise += mass**2 * length * full[k] * (1 - full[k]) / (r["visits"] - 1)
        node = nodes[key]
        out[key] = {
            "weight": node["path_weight"] * node["node_weight"],
            "correct": node["path_correct"],
            "cosine": cosine(g, d, full),
            "cosine_a": cosine(centred(half_a), d, half_a),
            "cosine_b": cosine(centred(half_b), d, half_b),
            "gap": max(full) - min(full),
            "gap_a": max(half_a) - min(half_a),
            "gap_b": max(half_b) - min(half_b),
            "inner": dot(g, d),
            "signal": dot(g, d) / math.sqrt(dot(d, d)),
            "g2": dot(g, g),
            "d2": dot(d, d),
            "noise": noise,
            "advantage": sum((b / sum(q) - a) * s for a, b, s in zip(w, q, full, strict=True)),
        }
    return out


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def aggregate(nodes: list[dict[str, Any]]) -> dict[str, float]:
    """All metrics over a list of node quantities, corrected and (suffix `plain`) plain."""

    def mean(pairs):
        return sum(w * x for w, x in pairs) / sum(w for w, _ in pairs)

    eligible = [n for n in nodes if n["cosine"] is not None]
    ways = []
    for own, other in (("a", "b"), ("b", "a")):
        usable = [n for n in eligible if n[f"cosine_{other}"] is not None]
        ways.append(mean([(n["weight"] * n[f"gap_{own}"], n[f"cosine_{other}"]) for n in usable]))
    inner = sum(n["weight"] * n["inner"] for n in nodes)
    g2 = sum(n["weight"] * n["g2"] for n in nodes)
    d2 = sum(n["weight"] * n["d2"] for n in nodes)
    noise = sum(n["weight"] * n["noise"] for n in nodes)
    return {
        "mean_cosine": mean([(n["weight"], n["cosine"]) for n in eligible]),
        "fraction_positive": mean([(n["weight"], float(n["cosine"] > 0)) for n in eligible]),
        "weighted_cosine": sum(ways) / 2,
        "weighted_cosine plain": mean([(n["weight"] * n["gap"], n["cosine"]) for n in eligible]),
        "mean_advantage": mean([(n["weight"], n["advantage"]) for n in nodes]),
        "mean_signal": mean([(n["weight"], n["signal"]) for n in nodes]),
        "pooled_cosine": inner / math.sqrt((g2 - noise) * d2),
        "pooled_cosine plain": inner / math.sqrt(g2 * d2),
    }

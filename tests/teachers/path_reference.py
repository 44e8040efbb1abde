"""The scores of a path by plain loops: one forward pass per prefix and model, one Python float per token."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from reference_loops import Model, next_probs

from hydrometer.models import Warp
from hydrometer.teachers import PathScores, TeacherView
from hydrometer.teachers.scoring import OVERLAP_K

Field = Callable[[list[float], list[float]], list[float]]


def ranked(probs: Sequence[float]) -> list[int]:
    return sorted(range(len(probs)), key=lambda token: (-probs[token], token))


def reverse_kl(p: list[float], q: list[float]) -> list[float]:
    return [math.log(b / a) if a else 0.0 for a, b in zip(p, q, strict=True)]


def forward_kl(p: list[float], q: list[float]) -> list[float]:
    return [b / a if a else 0.0 for a, b in zip(p, q, strict=True)]


def jsd_03(p: list[float], q: list[float]) -> list[float]:
    return [0.7 * math.log((0.7 * a + 0.3 * b) / a) if a else 0.0 for a, b in zip(p, q, strict=True)]


def topk_stop_gradient_3(p: list[float], q: list[float]) -> list[float]:
    support = [token for token in ranked(p)[:3] if p[token]]
    return [math.log(q[j] / p[j]) if j in support else 0.0 for j in range(len(p))]


def topk_unnormalised_union_2(p: list[float], q: list[float]) -> list[float]:
    support = [token for token in {*ranked(p)[:2], *ranked(q)[:2]} if p[token]]
    return [math.log(q[j] / p[j]) - 1.0 if j in support else 0.0 for j in range(len(p))]


FIELDS: dict[str, Field] = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "jsd:beta=0.3": jsd_03,
    "topk_reverse_kl:k=3,form=stop_gradient": topk_stop_gradient_3,
    "topk_reverse_kl:k=2,form=unnormalised,support=union": topk_unnormalised_union_2,
}
SUPPORTS = {
    "topk_reverse_kl:k=3,form=stop_gradient": lambda p, q: set(ranked(p)[:3]),
    "topk_reverse_kl:k=2,form=unnormalised,support=union": lambda p, q: {*ranked(p)[:2], *ranked(q)[:2]},
}


def assert_scores_match(
    found: PathScores,
    student: Model,
    prompt_ids: tuple[int, ...],
    teachers: Sequence[TeacherView],
    response_ids: tuple[int, ...],
    objectives: Sequence[str],
    *,
    warp: Warp,
    threshold: float,
) -> None:
    """Compare every score with the loops, position by position."""
    candidate = 0
    for t in range(len(response_ids)):
        p = next_probs(student, prompt_ids, response_ids[:t], warp)
        qs = [
            next_probs(view.model, view.prompt_ids, response_ids[:t], warp._replace(top_p=1.0))[: len(p)]
            for view in teachers
        ]
        close(found.entropy[t], -math.fsum(a * math.log(a) for a in p if a))
        close(found.sampled_logprob[t], log_or_nan(p[response_ids[t]]))
        for k, q in enumerate(qs):
            close(found.reverse_kl[k, t], math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a))
            close(found.l2[k, t], math.dist(p, q))
            dot = math.fsum(a * b for a, b in zip(p, q, strict=True))
            close(found.distribution_cosine[k, t], dot / (math.hypot(*p) * math.hypot(*q)))
            close(found.total_variation[k, t], math.fsum(b - a for a, b in zip(p, q, strict=True) if b > a))
            close(found.teacher_entropy[k, t], -math.fsum(b * math.log(b) for b in q))
            size = min(OVERLAP_K, len(p))
            both = [j for j in ranked(p)[:size] if j in ranked(q)[:size] and p[j]]
            close(found.overlap_ratio[k, t], len(both) / size)
            close(found.student_overlap_mass[k, t], math.fsum(p[j] for j in both))
            close(found.teacher_overlap_mass[k, t], math.fsum(q[j] for j in both))
            for o, name in enumerate(objectives):
                field = FIELDS[name](p, q)
                mean = math.fsum(a * f for a, f in zip(p, field, strict=True))
                close(found.field_mean[k, o, t], mean)
                norm_squared = math.fsum((a * (f - mean)) ** 2 for a, f in zip(p, field, strict=True))
                close(found.full_norm_squared[k, o, t], norm_squared)
                support = SUPPORTS[name](p, q) if name in SUPPORTS else None
                masses = [math.nan if support is None else math.fsum(x[j] for j in support if p[j]) for x in (p, q)]
                close(found.student_topk_mass[k, o, t], masses[0])
                close(found.teacher_topk_mass[k, o, t], masses[1])
        for token in range(len(p)):
            if not any(x[token] > threshold for x in (p, *qs)):
                continue
            assert (found.position[candidate], found.token_id[candidate]) == (t, token)
            close(found.student_logprob[candidate], log_or_nan(p[token]))
            assert found.student_rank[candidate] == 1 + ranked(p).index(token)
            for k, q in enumerate(qs):
                close(found.teacher_logprob[k, candidate], math.log(q[token]))
                assert found.teacher_rank[k, candidate] == 1 + ranked(q).index(token)
                for o, name in enumerate(objectives):
                    close(found.field[k, o, candidate], FIELDS[name](p, q)[token])
            candidate += 1
    assert candidate == len(found.position) == len(found.token_id)


def log_or_nan(p: float) -> float:
    return math.log(p) if p else math.nan


def close(found: float, expected: float) -> None:
    """To the rounding of float32 logits."""
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)

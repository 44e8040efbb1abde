"""What the student and every teacher say at each token of a response, reduced to what the analysis needs.

All models walk a response together, a bounded block of positions at a time. Full-vocabulary quantities (fields,
norms, divergences, ranks, masses) are formed inside the block in float64 and only their values at candidates are kept,
so no full-vocabulary array outlives its block. A candidate is a token with p or any teacher's q above the threshold,
or one of those that are listed instead.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from hydrometer.dynamics import compute_overlap
from hydrometer.models import CausalModel, Warp, positions_per_block, walk_each, walk_mixture, warp_logprobs
from hydrometer.objectives import Objective
from hydrometer.types import WeightedPrompt

OVERLAP_K = 16
"""Most probable tokens that are compared (arXiv 2604.13016)."""


class TeacherView(NamedTuple):
    """A teacher as it looks at one question."""

    name: str
    model: CausalModel
    prompt_ids: tuple[int, ...]
    mixture: tuple[WeightedPrompt, ...] = ()
    """Where it is not empty, the teacher is the normalised weighted geometric mean over these prompts."""

    @property
    def prompts(self) -> tuple[WeightedPrompt, ...]:
        """The mixture, or the one prompt."""
        return self.mixture or (WeightedPrompt(self.prompt_ids, 1.0),)


class ListedCandidates(NamedTuple):
    """(position, token) pairs of one response that are its candidates, whatever their probability."""

    position: Int64[np.ndarray, " candidate"]
    token_id: Int64[np.ndarray, " candidate"]


@dataclass(frozen=True, slots=True, eq=False)
class PathScores:
    """Scores of one analysed response. Natural logs; NaN where a quantity does not exist."""

    CANDIDATE_FIELDS: ClassVar[frozenset[str]] = frozenset(
        ("position", "token_id", "student_logprob", "student_rank", "teacher_logprob", "teacher_rank", "field")
    )
    """The fields whose last axis runs over candidates; that of all others runs over positions."""

    entropy: Float64[np.ndarray, " position"]
    """Of the student, in nats."""
    sampled_logprob: Float64[np.ndarray, " position"]
    """Student log-probability of the response's own token. NaN where p = 0: the pass that sampled it and this one may
    round to either side of a nucleus's edge."""
    position: Int64[np.ndarray, " candidate"]
    token_id: Int64[np.ndarray, " candidate"]
    student_logprob: Float64[np.ndarray, " candidate"]
    """NaN where p = 0."""
    student_rank: Int64[np.ndarray, " candidate"]
    """1 = most probable."""
    teacher_logprob: Float64[np.ndarray, "teacher candidate"]
    teacher_rank: Int64[np.ndarray, "teacher candidate"]
    field: Float64[np.ndarray, "teacher objective candidate"]
    """Full-vocabulary ascent field at the candidate."""
    field_mean: Float64[np.ndarray, "teacher objective position"]
    """sum_k p_k f_k over the vocabulary."""
    full_norm_squared: Float64[np.ndarray, "teacher objective position"]
    """sum_k d_k^2 over the vocabulary."""
    reverse_kl: Float64[np.ndarray, "teacher position"]
    """KL(student || teacher), in nats."""
    l2: Float64[np.ndarray, "teacher position"]
    """Euclidean distance of p and q."""
    distribution_cosine: Float64[np.ndarray, "teacher position"]
    total_variation: Float64[np.ndarray, "teacher position"]
    """sum_k max(q_k - p_k, 0), the mass that the teacher puts elsewhere."""
    teacher_entropy: Float64[np.ndarray, "teacher position"]
    """In nats."""
    overlap_ratio: Float64[np.ndarray, "teacher position"]
    """Share of the student's `OVERLAP_K` most probable tokens that are among the teacher's, like the masses below."""
    student_overlap_mass: Float64[np.ndarray, "teacher position"]
    teacher_overlap_mass: Float64[np.ndarray, "teacher position"]
    student_topk_mass: Float64[np.ndarray, "teacher objective position"]
    teacher_topk_mass: Float64[np.ndarray, "teacher objective position"]

    def arrays(self) -> dict[str, np.ndarray]:
        """All fields by name (for the journal)."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def score_paths(
    student: CausalModel,
    student_prompt_ids: Sequence[int],
    teachers: Sequence[TeacherView],
    responses: Sequence[Sequence[int]],
    objectives: Sequence[Objective],
    *,
    warp: Warp,
    threshold: float,
    listed: Sequence[ListedCandidates | None] | None = None,
) -> list[PathScores]:
    """Score responses to one question under the student and every teacher.

    The student's distribution is warped as it was sampled; the temperature applies to teachers too, top-p does not.

    Args:
        student: gives p.
        student_prompt_ids: its prompt.
        teachers: give q, each from its own prompt and the same response ids.
        responses: the analysed responses.
        objectives: whose fields are evaluated (they may need teacher log-probabilities only).
        warp: how the responses were sampled.
        threshold: probability above which a token is a candidate.
        listed: of each response the candidates, instead of those above the threshold (None).
    """
    walks = [walk_each(student, student_prompt_ids, responses)]
    walks += [walk_mixture(view.model, view.prompts, responses) for view in teachers]
    return [
        _score_together(own, response, objectives, warp, threshold, None if listed is None else listed[number])
        for number, (response, *own) in enumerate(zip(responses, *walks, strict=True))
    ]


def _score_together(
    walks: Sequence[Iterator[Float[Tensor, "block vocab"]]],
    response_ids: Sequence[int],
    objectives: Sequence[Objective],
    warp: Warp,
    threshold: float,
    listed: ListedCandidates | None,
) -> PathScores:
    joined: defaultdict[str, _Blocks] = defaultdict(_Blocks)
    start = 0
    for student_logits, *teacher_logits in zip(*walks, strict=True):
        sampled = torch.tensor(response_ids[start : start + len(student_logits)], device=student_logits.device)
        p = warp_logprobs(student_logits.double(), warp)
        q = [warp_logprobs(logits.double(), warp._replace(top_p=1.0)) for logits in teacher_logits]
        is_candidate = _above(threshold, p, q) if listed is None else _is_listed(listed, p, start)
        for name, values in _score_block(p, q, sampled, objectives, is_candidate, start).items():
            joined[name].append(values)
        start += len(student_logits)
    return PathScores(**{name: blocks.join() for name, blocks in joined.items()})


class _Blocks:
    """Arrays that follow one another along their last axis, in one growing buffer.

    Kept one by one between the large arrays of each block, which are freed, they would fragment the heap until memory
    grew with the length of the response.
    """

    def __init__(self) -> None:
        self.buffer = array("B")
        self.count = 0
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.float64)

    def append(self, values: np.ndarray) -> None:
        self.buffer.frombytes(np.moveaxis(values, -1, 0).tobytes())
        self.count += values.shape[-1]
        self.shape, self.dtype = values.shape[:-1], values.dtype

    def join(self) -> np.ndarray:
        rows = np.frombuffer(self.buffer, self.dtype).reshape(self.count, *self.shape)
        return np.ascontiguousarray(np.moveaxis(rows, 0, -1))


def _above(
    threshold: float, p: Float[Tensor, "position vocab"], q: Sequence[Float[Tensor, "position vocab"]]
) -> Bool[Tensor, "position vocab"]:
    level = float(np.log(threshold))
    is_candidate = p > level
    for teacher in q:
        is_candidate |= teacher > level
    return is_candidate


def _is_listed(
    listed: ListedCandidates, p: Float[Tensor, "position vocab"], start: int
) -> Bool[Tensor, "position vocab"]:
    is_candidate = torch.zeros_like(p, dtype=torch.bool)
    mine = (listed.position >= start) & (listed.position < start + len(p))
    rows, token_ids = (torch.from_numpy(values[mine]).to(p.device) for values in listed)
    is_candidate[rows - start, token_ids] = True
    return is_candidate


def _score_block(
    p: Float[Tensor, "position vocab"],
    q: Sequence[Float[Tensor, "position vocab"]],
    sampled: Int[Tensor, " position"],
    objectives: Sequence[Objective],
    is_candidate: Bool[Tensor, "position vocab"],
    start: int,
) -> Mapping[str, np.ndarray]:
    rows, token_ids = is_candidate.nonzero(as_tuple=True)
    p_mass = p.exp()
    by_objective = [
        [_objective_scores(objective, p, teacher, p_mass, rows, token_ids) for objective in objectives] for teacher in q
    ]
    own = p.masked_fill(p.isneginf(), 0.0)  # only ever times its probability
    top = _most_probable(p)
    compared = [_compare(p, own, p_mass, top, teacher) for teacher in q]
    shape = (len(q), len(objectives))
    found = {
        "entropy": _entropy(own, p_mass),
        "sampled_logprob": _finite(p.gather(-1, sampled[:, None])[:, 0]),
        "position": rows + start,
        "token_id": token_ids,
        "student_logprob": _finite(p[rows, token_ids]),
        "student_rank": _ranks(p, rows, token_ids),
        "teacher_logprob": _stack([teacher[rows, token_ids] for teacher in q], (len(q), len(rows))),
        "teacher_rank": _stack([_ranks(teacher, rows, token_ids) for teacher in q], (len(q), len(rows))).long(),
        "field": _stack([s.field for row in by_objective for s in row], (*shape, len(rows))),
    }
    for name in ("field_mean", "full_norm_squared", "student_topk_mass", "teacher_topk_mass"):
        found[name] = _stack([getattr(s, name) for row in by_objective for s in row], (*shape, len(p)))
    for number, name in enumerate(_BY_TEACHER):
        found[name] = _stack([values[number] for values in compared], (len(q), len(p)))
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


_BY_TEACHER = (
    *("reverse_kl", "l2", "distribution_cosine", "total_variation", "teacher_entropy"),
    *("overlap_ratio", "student_overlap_mass", "teacher_overlap_mass"),
)


class _ObjectiveScores(NamedTuple):
    field: Tensor
    field_mean: Tensor
    full_norm_squared: Tensor
    student_topk_mass: Tensor
    teacher_topk_mass: Tensor


def _objective_scores(
    objective: Objective, p: Tensor, q: Tensor, p_mass: Tensor, rows: Tensor, token_ids: Tensor
) -> _ObjectiveScores:
    field = objective.field(p, q)
    scaled = p_mass * field
    mean = scaled.sum(-1)
    direction = scaled.addcmul_(p_mass, mean[:, None], value=-1.0)
    masses = objective.topk_masses(p, q)
    nothing = torch.full_like(mean, torch.nan)
    return _ObjectiveScores(
        field[rows, token_ids],
        mean,
        direction.square().sum(-1),
        *(masses if masses is not None else (nothing, nothing)),
    )


def _compare(
    p: Float[Tensor, "position vocab"],
    own: Float[Tensor, "position vocab"],
    p_mass: Float[Tensor, "position vocab"],
    top: Int[Tensor, "position k"],
    q: Float[Tensor, "position vocab"],
) -> tuple[Float[Tensor, " position"], ...]:
    """What `_BY_TEACHER` names, of a teacher's log-probabilities q.

    Args:
        p: the student's log-probabilities.
        own: the same with 0 for log 0.
        p_mass: its probabilities.
        top: its most probable tokens.
        q: the teacher's.
    """
    q_mass = q.exp()
    reverse_kl = (own - q).mul_(p_mass).sum(-1).clamp(min=0.0)
    cosine = (p_mass * q_mass).sum(-1) / (p_mass.norm(dim=-1) * q_mass.norm(dim=-1))
    entropy = _entropy(q, q_mass)
    overlap = compute_overlap(p, q, top, _most_probable(q))
    apart = q_mass.sub_(p_mass)
    l2 = apart.norm(dim=-1)
    variation = apart.clamp_(min=0.0).sum(-1)
    return reverse_kl, l2, cosine, variation, entropy, overlap.ratio, overlap.student_mass, overlap.teacher_mass


def _most_probable(logprobs: Float[Tensor, "position vocab"]) -> Int[Tensor, "position k"]:
    return logprobs.topk(min(OVERLAP_K, logprobs.shape[-1])).indices


def _entropy(
    logprobs: Float[Tensor, "position vocab"], mass: Float[Tensor, "position vocab"]
) -> Float[Tensor, " position"]:
    """In nats, of log-probabilities that are finite."""
    return -(mass * logprobs).sum(-1)


def _finite(logprobs: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
    """NaN in place of -inf, which is never stored."""
    return logprobs.masked_fill(logprobs.isneginf(), torch.nan)


def _ranks(
    logprobs: Float[Tensor, "position vocab"], rows: Int[Tensor, " candidate"], token_ids: Int[Tensor, " candidate"]
) -> Int[Tensor, " candidate"]:
    """1 + the number of tokens that are more probable (or as probable with a smaller id)."""
    ranks = torch.empty_like(token_ids)
    ids = torch.arange(logprobs.shape[-1], device=logprobs.device)
    step = positions_per_block(logprobs)
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        row, own = logprobs[rows[part]], logprobs[rows[part], token_ids[part]][:, None]
        is_level: Bool[Tensor, "part vocab"] = row == own
        ranks[part] = 1 + (row > own).sum(-1)
        if is_level.sum() > len(row):  # some other token is as probable
            ranks[part] += (is_level & (ids < token_ids[part][:, None])).sum(-1)
    return ranks


def _stack(parts: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(list(parts)).reshape(shape) if parts else torch.zeros(shape, dtype=torch.float64)

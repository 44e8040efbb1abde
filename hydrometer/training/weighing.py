"""Which tokens count: a weight for every token of every response, from its outcome or from what both models say there.

    all, correct, incorrect    the outcome of the rollout
    overlap, non_overlap       the sampled token lies in the top-k of both models, or does not
    kl_above:Q                 KL(student||teacher) is above its quantile Q over the tokens of the step that are scored
    FOLDER                     the advice of a diagnosis: by prefix where it has one, else by its fitted rule
    RULE@SHARE                 of the tokens of RULE as many, drawn at random, as make up SHARE of the step's tokens, so
                               that rules can be compared at equal numbers of tokens (`all@0.3`: random tokens)

The loss stays a sum over the weighted tokens divided by the number of all response tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hydrometer.alignment.advice import FEATURES, Rule, apply_rule, read_advice
from hydrometer.errors import SpecError
from hydrometer.sampling.seeding import rollout_seed, uniforms
from hydrometer.training.token_sheet import Joined
from hydrometer.types import Rollout

Weights = Float[np.ndarray, "_"]
"""Of the tokens of one response; responses differ in length."""


class SignColumns(NamedTuple):
    """What both models say of some tokens."""

    reverse_kl: Float[Tensor, " token"]
    """KL(student || teacher), nats."""
    student_entropy: Float[Tensor, " token"]
    """Nats."""
    is_overlap: Bool[Tensor, " token"]
    """Whether the sampled token lies in the top-k of both."""


class Signs(NamedTuple):
    """The same of the tokens of one response."""

    reverse_kl: Float[np.ndarray, " token"]
    student_entropy: Float[np.ndarray, " token"]
    is_overlap: Bool[np.ndarray, " token"]


def compute_signs(
    student_logprobs: Float[Tensor, "token vocab"],
    teacher_logprobs: Float[Tensor, "token vocab"],
    tokens: Int[Tensor, " token"],
    *,
    k: int,
) -> SignColumns:
    """The signs of some tokens from both distributions."""
    probs = student_logprobs.exp()
    is_overlap = torch.ones_like(tokens, dtype=torch.bool)
    for logprobs in (student_logprobs, teacher_logprobs):
        least = logprobs.topk(min(k, logprobs.shape[-1])).values[:, -1]
        is_overlap &= logprobs.gather(-1, tokens[:, None])[:, 0] >= least
    return SignColumns(
        (probs * (student_logprobs - teacher_logprobs)).sum(-1).clamp(min=0.0),
        -(probs * student_logprobs).sum(-1),
        is_overlap,
    )


def split_signs(joined: Joined[SignColumns] | None, lengths: Sequence[int]) -> list[Signs]:
    """One per response; NaN for a response that no teacher scores, which carries no distillation anyway."""
    found = [Signs(np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, bool)) for n in lengths]
    if joined is None:
        return found
    exercise = joined.exercise.cpu().numpy()
    columns = [column.cpu().numpy() for column in joined.values]
    places, starts = np.unique(exercise, return_index=True)
    for place, *parts in zip(places, *(np.split(column, starts[1:]) for column in columns), strict=True):
        found[place] = Signs(parts[0].astype(np.float64), parts[1].astype(np.float64), parts[2])
    return found


class Weighed(NamedTuple):
    """Weights of every response of a step, and what is to be told of them."""

    weights: list[Weights]
    metrics: dict[str, float | None]


WeighStep = Callable[[Sequence[Rollout], Sequence[Signs] | None], Weighed]


class Weigher(NamedTuple):
    """A rule that gives tokens their weights."""

    weigh: WeighStep
    needs_signs: bool = False


def build_weigher(text: str) -> Weigher:
    """Read --weights.

    Raises:
        SpecError: neither a rule nor the folder of a diagnosis, or a diagnosis without advice.
    """
    rule, at, share = text.rpartition("@")
    if at and not Path(text).is_dir():
        whole = build_weigher(rule)
        return whole._replace(weigh=_thin(whole.weigh, _read_share(text, "share", share)))
    name, _, argument = text.partition(":")
    match name:
        case "all":
            return Weigher(_by_outcome({True: 1.0, False: 1.0}))
        case "correct":
            return Weigher(_by_outcome({True: 1.0, False: 0.0}))
        case "incorrect":
            return Weigher(_by_outcome({True: 0.0, False: 1.0}))
        case "overlap" | "non_overlap":
            return Weigher(_by_overlap(wanted=name == "overlap"), needs_signs=True)
        case "kl_above":
            return Weigher(_by_quantile(_read_share(text, "quantile", argument)), needs_signs=True)
    if Path(text).is_dir():
        return Weigher(_by_advice(Path(text)), needs_signs=True)
    raise SpecError(
        f"--weights '{text}': expected all, correct, incorrect, overlap, non_overlap, kl_above:QUANTILE, the folder of "
        "a diagnosis, or one of these with @SHARE."
    )


def _read_share(text: str, what: str, argument: str) -> float:
    try:
        share = float(argument)
    except ValueError:
        share = -1.0
    if not 0.0 < share < 1.0:
        raise SpecError(f"--weights '{text}': the {what} has to lie between 0 and 1, e.g. kl_above:0.8 or all@0.3")
    return share


def _by_outcome(weight: Mapping[bool, float]) -> WeighStep:
    def weigh(rollouts: Sequence[Rollout], signs: Sequence[Signs] | None) -> Weighed:
        return _told([np.full(len(rollout.token_ids), weight[rollout.correct]) for rollout in rollouts])

    return weigh


def _by_overlap(*, wanted: bool) -> WeighStep:
    def weigh(rollouts: Sequence[Rollout], signs: Sequence[Signs] | None) -> Weighed:
        assert signs is not None
        return _told([(sign.is_overlap == wanted).astype(np.float64) for sign in signs])

    return weigh


def _by_quantile(quantile: float) -> WeighStep:
    def weigh(rollouts: Sequence[Rollout], signs: Sequence[Signs] | None) -> Weighed:
        assert signs is not None
        values = [sign.reverse_kl for sign in signs]
        known = [value for value in values if not np.isnan(value).any()]
        level = float(np.quantile(np.concatenate(known), quantile)) if known else 0.0
        return _told([(value > level).astype(np.float64) for value in values])

    return weigh


def _by_advice(folder: Path) -> WeighStep:
    advice = read_advice(folder)

    def weigh(rollouts: Sequence[Rollout], signs: Sequence[Signs] | None) -> Weighed:
        assert signs is not None
        weights, matched = [], 0
        for rollout, sign in zip(rollouts, signs, strict=True):
            known = advice.by_prefix.get(rollout.question_id, {})
            found = _follow_rule(advice.rule, rollout, sign)
            for position in range(len(rollout.token_ids)):
                weight = known.get(rollout.token_ids[:position])
                if weight is not None:
                    found[position] = weight
                    matched += 1
            weights.append(found)
        told = _told(weights)
        total = sum(map(len, weights))
        return told._replace(metrics=told.metrics | {"advice_matched_share": matched / total if total else None})

    return weigh


def _thin(weigh: WeighStep, share: float) -> WeighStep:
    """Of the tokens with a weight above 0 a random part, `share` of all tokens or as many as there are."""

    def thinned(rollouts: Sequence[Rollout], signs: Sequence[Signs] | None) -> Weighed:
        whole = weigh(rollouts, signs)
        # Sampling draws its numbers from the bare ids: the lot must not know which tokens came of them.
        seeds = [rollout_seed(0, f"weights of {rollout.question_id}", rollout.rollout_id) for rollout in rollouts]
        lots = [
            np.where(weights > 0.0, uniforms(seed, len(weights)), np.inf)
            for seed, weights in zip(seeds, whole.weights, strict=True)
        ]
        drawn = np.sort(np.concatenate(lots))[: round(share * sum(map(len, lots)))]
        last = min(drawn[-1], 1.0) if len(drawn) else -1.0
        kept = [np.where(lot <= last, weights, 0.0) for lot, weights in zip(lots, whole.weights, strict=True)]
        before = {"rule_share": whole.metrics["weighted_share"]}
        return whole._replace(weights=kept, metrics=whole.metrics | before | _told(kept).metrics)

    return thinned


def _follow_rule(rule: Rule | None, rollout: Rollout, sign: Signs) -> Weights:
    """0 where the rule expects the token to be taught the wrong way by more than its own error, else 1."""
    count = len(rollout.token_ids)
    if rule is None:
        return np.ones(count)
    position = np.arange(count, dtype=np.float64)
    columns = {
        "path_correct": np.full(count, float(rollout.correct)),
        "sqrt_reverse_kl": np.sqrt(sign.reverse_kl),
        "student_entropy_nats": sign.student_entropy,
        "depth_frac": position / max(count, 1),
        "log_position": np.log1p(position),
    }
    predicted = apply_rule(rule, np.stack([columns[name] for name in FEATURES], axis=1))
    return (predicted.signal >= -predicted.error).astype(np.float64)


def _told(weights: list[Weights]) -> Weighed:
    total = sum(map(len, weights))
    return Weighed(weights, {"weighted_share": float(sum(map(np.sum, weights))) / total if total else None})

"""Do the logits of row t predict response token t, and not its neighbour?

Cause and effect decide it for any model: with response token k replaced, rows up to k must stay and row k + 1 has to
move. Beside it stands how likely the response's own tokens are at their row and at the rows before and after.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from hydrometer.models import CausalModel
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.subjects import Sample, longest, read_logprobs

_TOLERANCE_NATS = 1e-3
_TEXT_TOKENS = 24
_PLACES = 3
_COMPARED = 4
_ERRORS = 4.0
_CLEAR_NATS = 0.1


class _Shifts(NamedTuple):
    """Mean log-probability of the same tokens, read from three rows."""

    before: float
    own: float
    after: float
    better: str | None
    """Which other row is better beyond chance."""


def check_shift(name: str, model: CausalModel, samples: list[Sample], *, noise_nats: float) -> Finding:
    """Is every token scored by the row that predicts it?"""
    check = "shift"
    usable = [sample for sample in samples if len(sample.drawn.token_ids) >= 2]
    if not usable:
        return Finding("note", check, name, "no probe response has two tokens, so alignment is not checked")
    offsets = _first_effects(model, longest(usable, most_tokens=_TEXT_TOKENS), max(_TOLERANCE_NATS, 3 * noise_nats))
    shifts = _compare_rows(model, usable[:: max(1, len(usable) // _COMPARED)][:_COMPARED])
    measured = (
        f"own tokens have {shifts.own:.2f} nats at their row, {shifts.before:.2f} one row before, {shifts.after:.2f} "
        "one row after"
        if shifts
        else "responses too short to compare rows"
    )
    if offsets and min(offsets) != 1:
        told = (
            f"row t already depends on response token t ({measured})"
            if min(offsets) < 1
            else f"row t does not depend on response token t - 1, only on earlier ones ({measured})"
        )
        return _red(check, name, told)
    if not offsets and shifts and shifts.better:
        return _red(check, name, f"the rows one {shifts.better} fit better ({measured})")
    if not offsets:
        shown = f"replacing a token moves no row, so alignment cannot be seen ({measured})"
        return Finding("note", check, name, shown)
    if shifts and shifts.better:
        return Finding(
            "note",
            check,
            name,
            f"rows are aligned, yet {measured}",
            "This model tells next to nothing about the student's text; its direction is mostly noise.",
            "Look whether it is the model you meant.",
        )
    return Finding("green", check, name, f"row t depends on tokens before t only; {measured}")


def _red(check: str, name: str, found: str) -> Finding:
    return Finding(
        "red",
        check,
        name,
        found,
        "Every token would be compared with its neighbour's distribution.",
        "Read logits so that row t is the output after the prompt and the first t response tokens.",
    )


def _first_effects(model: CausalModel, sample: Sample, tolerance: float) -> list[int]:
    """For a few places k: first row that moves when token k is replaced, minus k. Empty where nothing ever moves."""
    prompt, ids = sample.request.prompt_ids, sample.drawn.token_ids
    original = read_logprobs(model, prompt, ids)
    last = max(0, len(ids) - 3)
    offsets = []
    for place in sorted({round(last * step / max(_PLACES - 1, 1)) for step in range(_PLACES)}):
        for other in _replacements(model, ids, place):
            changed = read_logprobs(model, prompt, (*ids[:place], other, *ids[place + 1 :]))
            moved = _distance(original, changed) > tolerance
            if moved.any():
                offsets.append(int(moved.int().argmax()) - place)
                break
    return offsets


def _replacements(model: CausalModel, ids: Sequence[int], place: int) -> list[int]:
    """Other tokens to try at a place: those of the text first, no end of sequence."""
    tried = [*dict.fromkeys(ids), *range(min(model.vocab_size, 8))]
    return [i for i in dict.fromkeys(tried) if i != ids[place] and i not in model.eos_ids][:3]


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Largest difference of probability-weighted log-probabilities of each row, in nats."""
    weight = torch.maximum(a, b).clamp(min=-20.0).exp()
    return (weight.sqrt() * (a - b).nan_to_num(0.0, 0.0, 0.0).abs().clamp(max=1e3)).amax(-1)


def _compare_rows(model: CausalModel, samples: Sequence[Sample]) -> _Shifts | None:
    """Tokens between the ends of each response, read from the row before, their own, and the row after."""
    columns: list[torch.Tensor] = []
    for sample in samples:
        ids = sample.drawn.token_ids[: 2 * _TEXT_TOKENS]
        if len(ids) < 3:
            continue
        logprobs = read_logprobs(model, sample.request.prompt_ids, ids)
        inner = torch.tensor(ids[1:-1])
        rows = torch.arange(1, len(ids) - 1)
        columns.append(torch.stack([logprobs[rows + shift, inner] for shift in (-1, 0, 1)]))
    if not columns:
        return None
    before, own, after = torch.cat(columns, dim=1).clamp(min=-50.0).numpy()
    better = None
    for word, other in (("before", before), ("after", after)):
        gap = other - own
        error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else np.inf
        if gap.mean() > _CLEAR_NATS and gap.mean() > _ERRORS * error:
            better = word
    return _Shifts(float(before.mean()), float(own.mean()), float(after.mean()), better)

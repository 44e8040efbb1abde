"""Does the sampler draw from p, report what it drew, keep the end, and depend on its request alone?"""

import numpy as np
from jaxtyping import Float64

from hydrometer.preflight.findings import Finding
from hydrometer.preflight.subjects import Sample, Subjects
from hydrometer.preflight.warps import RED_LOG_EVIDENCE, Reading
from hydrometer.types import STUDENT

_TOLERANCE_NATS = {"float32": (1e-4, 1e-3), "float16": (1e-4, 2e-2), "bfloat16": (1e-4, 0.25)}
"""Mean gap above which it is said, and above which it is more than the rounding of that dtype."""
_BIAS_NATS = 1e-3
_BIAS_ERRORS = 6.0
_ALONE = 2
_ALONE_TOKENS = 8


def check_sampled_ends(subjects: Subjects, samples: list[Sample]) -> Finding:
    """A response that ended holds its end-of-sequence token; one that did not is as long as allowed."""
    check, eos_ids = "sampled end", subjects.student.eos_ids
    fault = next((text for sample in samples if (text := _end_fault(sample, eos_ids))), None)
    if fault:
        return Finding(
            "red",
            check,
            STUDENT,
            fault,
            "No gradient reaches the decision to stop, so every score at the end of a response is lost or wrong.",
            "Make the sampler return the end-of-sequence token it drew; mask padding by position, never by token id.",
        )
    ended = sum(sample.drawn.ended for sample in samples)
    if not ended:
        return Finding(
            "note",
            check,
            STUDENT,
            f"none of {len(samples)} probe responses ended within {subjects.drawn_tokens} tokens",
            "Whether a sampled end is kept could not be seen.",
            "Raise --probe-tokens to see it.",
        )
    return Finding("green", check, STUDENT, f"all {ended} responses that ended hold their end-of-sequence token")


def check_sampler_logprobs(subjects: Subjects, samples: list[Sample], reading: Reading) -> Finding:
    """Log-probabilities of the drawn tokens: as the sampler reported them, and as the scoring pass finds them."""
    check = "sampler against scorer"
    signed = _gaps(samples, reading)
    if not len(signed):
        return Finding("note", check, STUDENT, "the sampler drew no token that could be compared")
    mean, most = float(np.abs(signed).mean()), float(np.abs(signed).max())
    small, large = _TOLERANCE_NATS[subjects.dtype]
    found = (
        f"log-probabilities of {len(signed)} drawn tokens differ by {mean:.2g} nats on average, at most {most:.2g}, "
        f"between the two passes ({subjects.dtype})"
    )
    bias = float(signed.mean())
    error = float(signed.std()) / len(signed) ** 0.5
    # noise of the two passes biases the reported side upwards by half its variance; a cut does so by much more
    is_biased = bias > _BIAS_NATS and bias > _BIAS_ERRORS * error and bias > 2 * float(np.square(signed).mean())
    if mean > large or is_biased:
        return Finding(
            "red",
            check,
            STUDENT,
            found,
            "The tokens were not drawn from the distribution they are scored with: every expectation over the "
            "student's own samples is wrong.",
            "Give the sampler no options of its own (top_k, top_p, min_p, penalties, another temperature), and the "
            "same weights, template and alignment as the scorer.",
        )
    if mean > small:
        consequence = "Signals of that size cannot be told from rounding."
        return Finding("note", check, STUDENT, found, consequence, "Use --dtype float32 where it fits.")
    return Finding("green", check, STUDENT, found)


def check_sampler_draws(samples: list[Sample], reading: Reading) -> Finding:
    """The drawn tokens themselves against p, whatever the sampler reported."""
    check = "drawn tokens"
    count = sum(len(sample.drawn.token_ids) for sample in samples)
    if not reading.log_ratios:
        return Finding("note", check, STUDENT, "the sampler drew no token that could be tested")
    if reading.log_evidence > RED_LOG_EVIDENCE:
        best = reading.best_suspect
        return Finding(
            "red",
            check,
            STUDENT,
            f"{count} drawn tokens fit {best} e^{reading.log_ratios[best]:.0f} times better than the distribution "
            "that was asked for",
            "Success rates and candidates would belong to another student than the one that is scored.",
            f"Switch off what bends the sampler's distribution (it looks like {best}).",
        )
    return Finding(
        "green", check, STUDENT, f"{count} drawn tokens show no sign of a hidden top-k, top-p, min-p or penalty"
    )


def check_batches(subjects: Subjects, samples: list[Sample]) -> Finding:
    """The beginnings of some responses drawn alone: the same tokens as in the batch."""
    check, some = "batches", samples[:: max(1, len(samples) // _ALONE)][:_ALONE]
    same, gap = 0, 0.0
    for sample in some:
        request = sample.request._replace(most_tokens=min(_ALONE_TOKENS, sample.request.most_tokens or _ALONE_TOKENS))
        alone = subjects.sampler.sample([request])[0]
        same += alone.token_ids == sample.drawn.token_ids[: len(alone.token_ids)]
        pairs = zip(alone.logprobs, sample.drawn.logprobs, strict=False)  # as long as both go
        gap = max([gap, *(abs(one - other) for one, other in pairs)])
    if same == len(some):
        found = f"{same} responses begin alike drawn alone and in a batch (log-probabilities within {gap:.2g} nats)"
        return Finding("green", check, STUDENT, found)
    return Finding(
        "note",
        check,
        STUDENT,
        f"{len(some) - same} of {len(some)} responses begin otherwise drawn alone than in a batch",
        "If rounding does it, the distribution is the same, but the tables repeat only with the same batches.",
        "Keep --batch-size fixed, or use --dtype float32.",
    )


def _end_fault(sample: Sample, eos_ids: frozenset[int]) -> str | None:
    ids, logprobs, ended = sample.drawn
    if len(ids) != len(logprobs):
        return f"a response of {len(ids)} tokens came with {len(logprobs)} log-probabilities"
    if any(i in eos_ids for i in ids[:-1]):
        return "a response goes on after an end-of-sequence token"
    has_end = bool(ids) and ids[-1] in eos_ids
    if ended and not has_end:
        return f"a response of {len(ids)} tokens is said to have ended, but the end-of-sequence token is not in it"
    limit = sample.request.most_tokens
    if not has_end and limit is not None and len(ids) < limit:
        return f"a response stops after {len(ids)} of {limit} tokens without an end-of-sequence token"
    if has_end and not ended:
        return "a response holds an end-of-sequence token, but is said not to have ended"
    return None


def _gaps(samples: list[Sample], reading: Reading) -> Float64[np.ndarray, " token"]:
    """Reported minus scored log-probability of every token that both passes give."""
    pairs = zip(samples, reading.scored, strict=True)
    gaps = [np.subtract(s.drawn.logprobs, scored) for s, scored in pairs if len(s.drawn.logprobs) == len(scored)]
    joined = np.concatenate(gaps) if gaps else np.zeros(0)
    return joined[np.isfinite(joined)]

"""Is a model that vLLM runs able to score, and does it give one request one answer?"""

from hydrometer.models import CausalModel
from hydrometer.models.vllm.engine import Served
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.subjects import Subjects
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, build_sampler, rollout_seed

_TOKENS = 16
_NEIGHBOURS = 7


def is_capped(model: CausalModel) -> bool:
    """Whether a model gives only a part of its log-probabilities, so that it cannot score."""
    return isinstance(model, Served) and model.cap is not None


def check_engine(subjects: Subjects, name: str, model: CausalModel) -> list[Finding]:
    """The cap of a server, and the same seed and request twice: alone, and among others."""
    if not isinstance(model, Served):
        return []
    return [_check_cap(name, model), _check_requests(subjects, name, model)]


def _check_cap(name: str, model: Served) -> Finding:
    check = "top-k cap"
    if model.cap is None:
        return Finding("green", check, name, "vLLM gives the log-probabilities of the whole vocabulary")
    return Finding(
        "red",
        check,
        name,
        f"vLLM gives at most {model.cap} log-probabilities per token",
        "A student or teacher cannot be scored with it; the checks of its scores were left out.",
        "Start vLLM with --max-logprobs -1.",
    )


def _check_requests(subjects: Subjects, name: str, model: CausalModel) -> Finding:
    check = "vLLM repeatability"
    sampler = build_sampler(model, SamplingSettings(_TOKENS))
    prompt = model.render(subjects.prompts[0])
    seeds = [rollout_seed(subjects.seed, "check\x1fvllm", number) for number in range(1 + _NEIGHBOURS)]
    request, *others = [SampleRequest(prompt, (), seed) for seed in seeds]
    [alone], [again] = sampler.sample([request]), sampler.sample([request])
    among = sampler.sample([request, *others])[0]
    twice, batched = (_largest_gap(alone, other) for other in (again, among))
    if twice is not None and batched is not None:
        found = (
            f"one seed and request give the same {len(alone.token_ids)} tokens again and among {_NEIGHBOURS} others "
            f"(log-probabilities within {twice:.2g} and {batched:.2g} nats)"
        )
        return Finding("green", check, name, found)
    where = "alone, the second time" if twice is None else f"among {_NEIGHBOURS} others"
    return Finding(
        "note",
        check,
        name,
        f"one seed and request give other tokens {where}",
        "Where rounding does it, the distribution is the same; tables do not repeat from the same seed.",
        "Serve float32, or take the run as it comes: rollouts that are in its journal are never drawn again.",
    )


def _largest_gap(one: Continuation, other: Continuation) -> float | None:
    """Between the log-probabilities of two continuations, in nats; None where their tokens differ."""
    if one.token_ids != other.token_ids:
        return None
    return max(abs(a - b) for a, b in zip(one.logprobs, other.logprobs, strict=True))

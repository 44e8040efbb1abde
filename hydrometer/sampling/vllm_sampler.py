"""Rollouts from a model that vLLM runs, which draws with a generator of its own, keyed by the seed of each request.

A continuation then depends on its request alone, up to the rounding of vLLM's passes, which may change with the batch.
Its log-probabilities are of the distribution that was drawn from, or the sampler is refused.
"""

from collections.abc import Sequence

from hydrometer.errors import SpecError
from hydrometer.models import GREEDY, Warp
from hydrometer.models.vllm.engine import EngineAnswer, EngineError, EngineRequest
from hydrometer.models.vllm.model import VllmModel
from hydrometer.sampling.protocol import Continuation, SampleRequest, SamplingSettings, room, settled

_LEAST_TEMPERATURE = 0.01
"""vLLM takes a lower one for this."""


class VllmSampler:
    """Draws from `model` under `settings`."""

    def __init__(self, model: VllmModel, settings: SamplingSettings):
        """Refuse what vLLM cannot do.

        Raises:
            SpecError: a temperature too low for it, or log-probabilities of another distribution.
        """
        self.model = model
        self.settings = settings
        self.banned_ids = tuple(range(model.vocab_size, model.output_size))
        warp = settings.warp
        if warp.temperature < _LEAST_TEMPERATURE:
            raise SpecError(f"'{model.spec}': vLLM samples at temperatures from {_LEAST_TEMPERATURE} on.")
        is_plain = warp == Warp() and not self.banned_ids
        if not (is_plain or warp == GREEDY or model.abilities.is_processed):
            raise SpecError(
                f"'{model.spec}' reports log-probabilities before temperature and top-p, and this run draws from the "
                "distribution after them. Start vLLM with --logprobs-mode processed_logprobs."
            )

    def sample(self, requests: Sequence[SampleRequest]) -> list[Continuation]:
        """See `Sampler`.

        Raises:
            SpecError: a request has no room in the engine's context.
        """
        done = {i: settled(request, self.settings, self.model.eos_ids) for i, request in enumerate(requests)}
        waiting = [i for i, continuation in done.items() if continuation is None]
        answers = self.model.engine.answer([self._engine_request(requests[i]) for i in waiting])
        done |= {i: self._continuation(answer) for i, answer in zip(waiting, answers, strict=True)}
        return [continuation for i in range(len(requests)) if (continuation := done[i]) is not None]

    def _engine_request(self, request: SampleRequest) -> EngineRequest:
        text = (*request.prompt_ids, *request.prefix_ids)
        most = room(request, self.settings)
        self.model.check_length(len(text) + most)
        ends = tuple(sorted(self.model.eos_ids))
        return EngineRequest(text, most, request.seed, self.settings.warp, ends, self.banned_ids)

    def _continuation(self, answer: EngineAnswer) -> Continuation:
        if (largest := max(answer.token_ids)) >= self.model.vocab_size:
            raise EngineError(f"'{self.model.spec}': vLLM drew token {largest}, which the model's files do not know.")
        # in a nucleus of one token it has probability 1, whatever is reported
        logprobs = (0.0,) * len(answer.token_ids) if self.settings.warp == GREEDY else answer.logprobs
        return Continuation(answer.token_ids, logprobs, answer.token_ids[-1] in self.model.eos_ids)

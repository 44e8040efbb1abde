"""A model that vLLM runs, as a `CausalModel`: its text side from its files, its probabilities from an engine.

Row t of a score is the log-probability of every token after the prompt and the first t response tokens, asked for as
one drawn token; the engine's prefix cache holds what the requests of a response share. Log-probabilities are logits up
to a constant of each row, which nothing that reads logits depends on.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64

from hydrometer.artifacts.model_identity import served_fingerprint
from hydrometer.errors import SpecError
from hydrometer.models.causal import LogitsChunk, Warp
from hydrometer.models.checkpoints import Description, read_description
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.specs import ModelSpec
from hydrometer.models.tokenized import TokenizedModel
from hydrometer.models.vllm.abilities import Abilities, find_abilities
from hydrometer.models.vllm.engine import Engine, EngineRequest
from hydrometer.models.vllm.offline import OfflineEngine
from hydrometer.models.vllm.server import ServerEngine
from hydrometer.models.walking import drawn_logprobs, walk_logits

_CHUNK_ELEMENTS = 1 << 21
"""Log-probabilities asked for at a time by `score`; as JSON about 50 MB."""


class VllmModel(TokenizedModel):
    """Owns an engine and the tokenizer of its model."""

    def __init__(
        self, spec: str, description: Description, engine: Engine, abilities: Abilities, prompt_format: PromptFormat
    ):
        super().__init__(spec, description.tokenizer, description.generation, description.output_size, prompt_format)
        self.engine = engine
        self.abilities = abilities
        self.parameters = description.parameters
        self.fingerprint = served_fingerprint(_tokenizer_hash(self), engine.identity)

    @property
    def cap(self) -> int | None:
        """See `Abilities`."""
        return self.abilities.cap

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        """See `CausalModel`. Memory: one chunk of log-probabilities and the answers that it is made from.

        Raises:
            SpecError: the engine does not give the whole vocabulary, or the text is too long for it.
            UserError: the engine is gone for good.
            ValueError: there is no prompt, so nothing predicts the first response token.
        """
        if not prompt_ids:
            raise ValueError(f"'{self.spec}': a response cannot be scored without a prompt")
        self.require_whole_vocabulary()
        self.check_length(len(prompt_ids) + len(response_ids))
        size = max(1, _CHUNK_ELEMENTS // self.output_size)
        for start in range(0, len(response_ids), size):
            ends = range(start, min(start + size, len(response_ids)))
            texts = [(*prompt_ids, *response_ids[:end]) for end in ends]
            answers = self.engine.answer([EngineRequest(text, top=self.output_size) for text in texts])
            rows = np.stack([answer.row(self.output_size) for answer in answers])
            yield LogitsChunk(start, torch.from_numpy(rows)[:, : self.vocab_size])

    def sampled_logprobs(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]], warp: Warp
    ) -> list[Float64[np.ndarray, " token"]]:
        """Log-probability (nats) of every token of responses to one prompt; -inf outside a nucleus.

        Without a warp one short request for each response; a capped engine grants it too.
        """
        if warp != Warp() or self.vocab_size != self.output_size:
            return [drawn_logprobs(walk_logits(self, prompt_ids, response), response, warp) for response in responses]
        texts = [(*prompt_ids, *response) for response in responses if response]
        self.check_length(max(map(len, texts), default=0) + 1)
        answers = self.engine.answer([EngineRequest(text, reads_prompt=True) for text in texts])
        found = iter(np.array(answer.prompt_logprobs[len(prompt_ids) - 1 :]) for answer in answers)
        return [next(found) if response else np.zeros(0) for response in responses]

    def require_whole_vocabulary(self) -> None:
        """Say who needs it, and what to do.

        Raises:
            SpecError: the engine gives a part of it.
        """
        if self.cap is not None:
            raise SpecError(
                f"'{self.spec}' gives at most {self.cap} of {self.output_size:,} log-probabilities per token, and "
                "scoring a student or teacher takes all of them: start vLLM with --max-logprobs -1.\n"
                "As it is, it can write: be evaluated, give demonstrations as a peer, summarise."
            )

    def check_length(self, tokens: int) -> None:
        """Refuse a text that the engine has no room for.

        Raises:
            SpecError: it is too long.
        """
        if tokens > self.engine.context_tokens:
            raise SpecError(
                f"'{self.spec}' takes texts of {self.engine.context_tokens:,} tokens, and prompt and response may come "
                f"to {tokens:,}. Raise vLLM's --max-model-len, or lower --max-response-tokens."
            )


def load_vllm(spec: ModelSpec, *, dtype: str, prompt_format: PromptFormat, in_flight: int | None) -> VllmModel:
    """Reach the server that a spec names, or start vLLM here.

    Args:
        spec: with `is_vllm`.
        dtype: of a model that is run here; a server has its own.
        prompt_format: how prompts are written.
        in_flight: requests at a time to a server.

    Raises:
        UserError: no tokenizer, no server, no vLLM, another model than the server's.
    """
    description = read_description(spec)
    if spec.server is None:
        engine: Engine = OfflineEngine(spec.source, spec.revision, dtype, description.output_size)
    else:
        names = dict.fromkeys((spec.text.partition("#")[2], spec.source))
        engine = ServerEngine(spec.server, tuple(names), description.output_size, in_flight=in_flight)
    return VllmModel(spec.text, description, engine, find_abilities(engine, description.output_size), prompt_format)


def _tokenizer_hash(model: TokenizedModel) -> str:
    strings = json.dumps([model.token_strings(), sorted(model.eos_ids)])
    return hashlib.sha256(strings.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]

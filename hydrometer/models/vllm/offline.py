"""vLLM in this process, in the place of a server: the same requests, every option of its start set here."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from hydrometer.errors import SpecError
from hydrometer.models.checkpoints import first_line
from hydrometer.models.vllm.abilities import measure_identity
from hydrometer.models.vllm.engine import EngineAnswer, EngineRequest, check_answer, say_nothing


class OfflineEngine:
    """Owns a running `vllm.LLM`."""

    def __init__(self, source: str, revision: str | None, dtype: str, vocab_size: int):
        """Load the weights; takes from half a minute on.

        Raises:
            SpecError: vLLM is not installed here, or cannot run the model.
        """
        try:
            importlib.import_module("vllm.sampling_params")  # a folder that is called vllm is not enough
            vllm = importlib.import_module("vllm")
        except ImportError as error:
            raise SpecError(
                f"vllm:{source} needs vLLM in this environment ({first_line(error)}).\n"
                "Install it (pip install hydrometer[vllm]), or name a server: vllm:http://HOST:PORT/v1#MODEL"
            ) from error
        try:
            self._llm = vllm.LLM(
                source,
                revision=revision,
                dtype=dtype,
                skip_tokenizer_init=True,
                trust_remote_code=False,
                max_logprobs=-1,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",
                # on a CPU vLLM 0.32 dies of a seeded request whose prompt it has cut in two
                enable_chunked_prefill=not vllm.platforms.current_platform.is_cpu(),
            )
        except Exception as error:  # vLLM raises whatever its parts chose
            raise SpecError(f"vLLM cannot run '{source}': {first_line(error)}") from error
        self._params: Callable[..., Any] = vllm.SamplingParams
        self.say: Callable[[str], None] = say_nothing
        self.context_tokens = int(self._llm.llm_engine.model_config.max_model_len)
        self.identity = measure_identity(lambda request: self.answer([request])[0], vocab_size, self.context_tokens)

    def answer(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """See `Engine`."""
        if not requests:
            return []
        params = [self._params(**request.options(), detokenize=False, flat_logprobs=True) for request in requests]
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests]
        found = self._llm.generate(prompts, params, use_tqdm=False)
        return [check_answer(request, _read(output, request)) for request, output in zip(requests, found, strict=True)]


def _read(output: Any, request: EngineRequest) -> EngineAnswer:
    [drawn] = output.outputs
    flat = drawn.logprobs
    rows = list(zip(flat.start_indices, flat.end_indices, strict=True))
    top = [dict(zip(flat.token_ids[a:b], flat.logprobs[a:b], strict=True)) for a, b in rows] if request.top else []
    read = output.prompt_logprobs
    # the token's own comes first at every position; at the first token of the prompt there is none
    scored = [read.logprobs[a] for a in read.start_indices[1:]] if request.reads_prompt else []
    return EngineAnswer(tuple(drawn.token_ids), tuple(flat.logprobs[a] for a, _ in rows), tuple(top), tuple(scored))

"""A vLLM server as an engine: many requests in flight, and patience with a server that goes away for a while.

A request that finds no server waits until one is back, together with all others, and is sent again; since it brings its
seed, its answer is the same. A server that is back has to serve the model it served before. When none comes back, the
round that was under way is lost and every earlier one is in the run's journal.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from hydrometer.artifacts.model_identity import are_close
from hydrometer.models.vllm.abilities import measure_identity
from hydrometer.models.vllm.engine import (
    EngineAnswer,
    EngineError,
    EngineRequest,
    RefusedError,
    check_answer,
    say_nothing,
)
from hydrometer.models.vllm.transport import EXPECTED_ADDRESS, Transport, Unavailable

_IN_FLIGHT = 128
_ATTEMPTS = 10
"""Of one request, where others are answered meanwhile."""
_LOOK_S = 8.0
"""For a server to say what it serves."""
_LONGEST_PAUSE_S = 10.0
_RESUME = "Start it again and go on with --resume; what the run has written down is kept."


class Patience(NamedTuple):
    """How long a server is waited for."""

    request_s: float = 600.0
    """For one response, which may stand in the server's queue."""
    outage_s: float = 600.0
    """For a server that is gone to be back; loading a large model takes minutes."""


class ServerEngine:
    """One model of one server."""

    def __init__(
        self,
        address: str,
        names: Sequence[str],
        vocab_size: int,
        *,
        in_flight: int | None = None,
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ):
        """Look what is there.

        Args:
            address: of the OpenAI interface, http://HOST:PORT/v1.
            names: what the server may call the model.
            vocab_size: of the model.
            in_flight: requests at a time.
            patience: see there.

        Raises:
            EngineError: no server, or not of this model.
        """
        self.transport = Transport(address)
        self.names = tuple(names)
        self.vocab_size = vocab_size
        self.in_flight = in_flight or _IN_FLIGHT
        self.patience = patience
        self.say: Callable[[str], None] = say_nothing
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._pause_s = 0.0
        self._recoveries = 0
        try:
            self.model, self.context_tokens = self._find_model()
            self.identity = self._measure_identity()
        except Unavailable as error:
            raise EngineError(f"No vLLM server answers at {address}: {error}") from error

    def answer(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """See `Engine`."""
        if len(requests) <= 1:
            return [self._ask(request) for request in requests]
        crew = ThreadPoolExecutor(min(self.in_flight, len(requests)), thread_name_prefix="vllm")
        try:
            asked = [crew.submit(self._ask, request) for request in requests]
            done, _ = wait(asked, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises what one of them raised, while others may still be under way
            return [future.result() for future in asked]
        except BaseException:
            crew.shutdown(wait=False, cancel_futures=True)
            self.transport.abort()
            raise
        finally:
            crew.shutdown()
            self.transport.stopping.clear()

    def _ask(self, request: EngineRequest) -> EngineAnswer:
        failure = ""
        for _ in range(_ATTEMPTS):
            recoveries = self._recoveries
            try:
                found = self._exchange(request)
            except Unavailable as error:
                failure = str(error)
                self._wait(recoveries, failure)
            else:
                self._note_answer()
                return found
        raise EngineError(f"{self.transport.address} failed {_ATTEMPTS} times on one request: {failure}\n{_RESUME}")

    def _exchange(self, request: EngineRequest) -> EngineAnswer:
        body = {
            "model": self.model,
            "prompt": list(request.prompt_ids),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "add_special_tokens": False,
            **request.options(),
        }
        found = self.transport.exchange("POST", "/completions", body, timeout_s=self.patience.request_s)
        try:
            return check_answer(request, _read_completion(found, request))
        except EngineError as error:
            raise EngineError(f"{self.transport.address} gives an answer that makes no sense: {error}") from error

    def _note_answer(self) -> None:
        if self._failing_since is not None:
            with self._lock:
                if self._failing_since is not None:
                    self._failing_since, self._pause_s = None, 0.0
                    self.say(f"{self.transport.address} answers again.")

    def _wait(self, recoveries: int, failure: str) -> None:
        """Return when the request may be sent again; one of all that wait looks for the server.

        Raises:
            EngineError: it stayed away for too long, or serves another model now.
        """
        with self._lock:
            if recoveries != self._recoveries:
                return
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                minutes = self.patience.outage_s / 60
                self.say(f"{self.transport.address} does not answer ({failure}); waiting up to {minutes:.2g} minutes.")
            while not self.transport.stopping.is_set():
                left_s = self._failing_since + self.patience.outage_s - time.monotonic()
                if left_s <= 0:
                    raise EngineError(f"{self.transport.address} stayed away: {failure}\n{_RESUME}")
                self._pause_s = min(max(0.25, 2 * self._pause_s), _LONGEST_PAUSE_S)
                self.transport.stopping.wait(min(self._pause_s, left_s))
                try:
                    self._check_model()
                except Unavailable as error:
                    failure = str(error)
                else:
                    self._recoveries += 1
                    return
            raise EngineError("stopped by another request")

    def _check_model(self) -> None:
        model, _ = self._find_model()
        if model != self.model or not are_close(self._measure_identity(), self.identity):
            raise EngineError(
                f"{self.transport.address} is back with other weights: '{model}' scores a fixed text otherwise than "
                f"before.\nServe the model that the run began with, and go on with --resume."
            )

    def _find_model(self) -> tuple[str, int]:
        """What the server calls the model, and its limit on prompt plus response."""
        address = self.transport.address
        try:
            listed = self.transport.exchange("GET", "/models", timeout_s=_LOOK_S)
        except RefusedError as error:
            raise EngineError(f"{error}\n{EXPECTED_ADDRESS}") from error
        models = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(models, list) or not all(isinstance(model, dict) and "id" in model for model in models):
            raise EngineError(f"{address} does not list models as vLLM does.\n{EXPECTED_ADDRESS}")
        for model in models:
            if {model["id"], model.get("root")} & set(self.names):
                if not isinstance(limit := model.get("max_model_len"), int):
                    raise EngineError(f"{address} does not say how long a text may be, as vLLM does.")
                return str(model["id"]), limit
        served = ", ".join(str(model["id"]) for model in models[:5])
        raise EngineError(
            f"{address} serves {served or 'nothing'}, and not '{self.names[0]}'.\n"
            f"Write vllm:{address}#MODEL with what it serves, or start it with --served-model-name {self.names[0]}"
        )

    def _measure_identity(self) -> tuple[float, ...]:
        return measure_identity(self._exchange, self.vocab_size, self.context_tokens)


def _read_completion(found: Any, request: EngineRequest) -> EngineAnswer:
    """The answer in a body of `/v1/completions`.

    Raises:
        EngineError: the body is not what vLLM sends.
    """
    try:
        [choice] = found["choices"]
        ids, echoed = choice["token_ids"], choice["prompt_token_ids"]
        if ids is None or echoed is None:
            raise EngineError("it holds no token ids (vLLM gives them back from 0.10.2 on).")
        if tuple(echoed) != request.prompt_ids:
            raise EngineError("the prompt came back with other token ids.")
        told = choice["logprobs"]
        if [_token_id(text) for text in told["tokens"]] != ids:
            raise EngineError("its log-probabilities are of other tokens than it drew.")
        top = [{_token_id(text): value for text, value in row.items()} for row in told["top_logprobs"]]
        # the first token of a prompt has no log-probability
        read = choice["prompt_logprobs"][1:] if request.reads_prompt else []
        scored = [row[str(i)]["logprob"] for row, i in zip(read, request.prompt_ids[1:], strict=False)]
        return EngineAnswer(
            tuple(int(i) for i in ids),
            tuple(float(value) for value in told["token_logprobs"]),
            tuple(top) if request.top else (),
            tuple(float(value) for value in scored),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(f"it is not what vLLM sends ({type(error).__name__}: {str(error)[:100]}).") from error


def _token_id(text: str) -> int:
    """The id in `token_id:17`."""
    return int(text.removeprefix("token_id:"))

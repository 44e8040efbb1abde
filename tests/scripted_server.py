"""A small HTTP server on loopback that answers as vLLM's OpenAI interface does, and can be told to misbehave."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from tiny_models import EOS, TOKENS, VOCAB

NextLogits = Callable[[tuple[int, ...]], list[float]]


def next_logits(context: tuple[int, ...]) -> list[float]:
    """Of a small model: they depend on the last four tokens, and the end of sequence is likely."""
    logits = np.random.default_rng([1, *context[-4:]]).normal(scale=2.0, size=VOCAB)
    logits[TOKENS.index(EOS)] += 3.0
    return logits.tolist()


@dataclass
class Script:
    """What the server is, how it was started, and what goes wrong with it."""

    next_logits: NextLogits
    vocab: int
    name: str
    cap: int | None = None
    """`--max-logprobs`; None stands for -1."""
    is_processed: bool = True
    """`--logprobs-mode processed_logprobs`."""
    context_tokens: int = 256
    key: str | None = None
    faults: list[Callable[["Handler"], None]] = field(default_factory=list)
    """Each answers one completion in its own way."""
    spoil: Callable[[dict[str, Any]], Any] = lambda body: body
    """What becomes of the body of a completion."""
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all completions that were asked for."""


class Handler(BaseHTTPRequestHandler):
    """One request; the script hangs on the server."""

    protocol_version = "HTTP/1.1"

    @property
    def script(self) -> Script:
        return self.server.script  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Silence."""

    def reply(self, body: Any, status: int = 200) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        script = self.script
        if self.path != "/v1/models":
            self.reply({"detail": "Not Found"}, 404)
            return
        entry = {"id": script.name, "root": script.name, "max_model_len": script.context_tokens}
        self.reply({"object": "list", "data": [entry]})

    def do_POST(self) -> None:
        script = self.script
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not content:  # whoever asked has gone
            return
        asked = json.loads(content)
        script.seen.append(asked)
        with suppress(IndexError):
            script.faults.pop(0)(self)
            return
        if script.key is not None and self.headers["Authorization"] != f"Bearer {script.key}":
            self.reply({"error": {"message": "Unauthorized"}}, 401)
            return
        wanted = max(asked["logprobs"], asked["prompt_logprobs"] or 0)
        if script.cap is not None and wanted > script.cap:
            self.reply({"error": {"message": f"Requested sample logprobs of {wanted}, greater than allowed"}}, 400)
            return
        self.reply(script.spoil(_complete(script, asked)))


def _complete(script: Script, asked: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(asked["seed"])
    drawn: list[int] = []
    rows: list[np.ndarray] = []
    while len(drawn) < asked["max_tokens"] and not set(drawn[-1:]) & set(asked["stop_token_ids"]):
        logits = np.array(script.next_logits((*asked["prompt"], *drawn)))
        rows.append(_log_softmax(logits))
        for token_id, bias in (asked["logit_bias"] or {}).items():
            logits[int(token_id)] += bias
        processed = _warp(logits, asked["temperature"], asked["top_p"])
        if script.is_processed:
            rows[-1] = processed
        drawn.append(int(rng.choice(script.vocab, p=np.exp(processed))))
    top = [np.argsort(-row)[: asked["logprobs"]].tolist() for row in rows]
    told = [dict.fromkeys((token, *most)) for token, most in zip(drawn, top, strict=True)]
    prompt = asked["prompt"]
    wanted = range(1, len(prompt)) if asked["prompt_logprobs"] is not None else ()
    read = [
        {str(prompt[t]): {"logprob": float(_log_softmax(script.next_logits(tuple(prompt[:t])))[prompt[t]])}}
        for t in wanted
    ]
    choice = {
        "token_ids": drawn,
        "prompt_token_ids": asked["prompt"],
        "logprobs": {
            "tokens": [f"token_id:{token}" for token in drawn],
            "token_logprobs": [_json(row[token]) for row, token in zip(rows, drawn, strict=True)],
            "top_logprobs": [
                {f"token_id:{token}": _json(row[token]) for token in ids} for row, ids in zip(rows, told, strict=True)
            ],
        },
        "prompt_logprobs": None if asked["prompt_logprobs"] is None else [None, *read],
    }
    return {"choices": [choice]}


def _json(logprob: float) -> float:
    """vLLM writes -inf like this."""
    return max(float(logprob), -9999.0)


def _log_softmax(logits: Any) -> np.ndarray:
    shifted = np.array(logits) - np.max(logits)
    return shifted - math.log(np.exp(shifted).sum())


def _warp(logits: np.ndarray, temperature: float, top_p: float) -> np.ndarray:
    logprobs = _log_softmax(logits / temperature)
    order = np.argsort(-logprobs)
    before = np.cumsum(np.exp(logprobs[order])) - np.exp(logprobs[order])
    kept = np.full(len(logits), -np.inf)
    inside = order[before < top_p] if top_p < 1.0 else order
    kept[inside] = logprobs[inside]
    return kept - math.log(np.exp(kept).sum())


@contextmanager
def serving(script: Script, port: int = 0) -> Iterator[str]:
    """The address while the server runs."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.script = script  # type: ignore[attr-defined]
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] - clients that go away are part of the play
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fails(status: int, body: bytes = b"engine is dead") -> Callable[[Handler], None]:
    """A fault: another status."""

    def fault(handler: Handler) -> None:
        handler.reply(body, status)

    return fault


def hangs(seconds: float) -> Callable[[Handler], None]:
    """A fault: no answer for a while, and then none at all."""

    def fault(handler: Handler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return fault


def breaks_off(handler: Handler) -> None:
    """A fault: the answer ends in its middle."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True

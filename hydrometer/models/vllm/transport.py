"""One exchange of JSON with a server over HTTP, and what its failures mean.

Three kinds of failure: it may pass (`Unavailable`: no connection, a time-out, 408, 429, 5xx), the server does not grant
the request (`RefusedError`: other 4xx), or whoever answers is no vLLM server (`EngineError`). No redirect is followed.
"""

import http.client
import json
import os
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from hydrometer.credentials import hide_secrets
from hydrometer.models.vllm.engine import EngineError, RefusedError

EXPECTED_ADDRESS = "Expected the address of vLLM's OpenAI interface, http://HOST:PORT/v1"
KEY_VARIABLE = "VLLM_API_KEY"
_MAY_PASS = frozenset({408, 429})
_CONNECT_S = 10.0
_SHOWN = 300


class Unavailable(Exception):
    """No answer this time; the text says why."""


class Transport:
    """Owns the open connections to one address; each exchange has one of its own."""

    def __init__(self, address: str):
        self.address = address
        parts = urlsplit(address)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        """Set while nothing is to be asked any more."""

    def exchange(self, method: str, path: str, body: Any = None, *, timeout_s: float) -> Any:
        """The parsed answer.

        Raises:
            Unavailable: there is none, but there may be one later.
            RefusedError: the server says no.
            EngineError: something else answers.
        """
        connection = self._kind(self._host, self._port, timeout=min(_CONNECT_S, timeout_s))
        with self._lock:
            self._open.add(connection)
        try:
            connection.connect()
            if self.stopping.is_set():
                raise Unavailable("stopped")
            connection.sock.settimeout(timeout_s)
            connection.request(method, self._path + path, None if body is None else json.dumps(body), _headers())
            response = connection.getresponse()
            content = response.read()
        except TimeoutError as error:
            raise Unavailable(f"no answer within {timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(str(error) or type(error).__name__) from error
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()
        return self._read(response.status, content)

    def abort(self) -> None:
        """Make every exchange that is under way fail now, and others until `stopping` is cleared."""
        self.stopping.set()
        with self._lock:
            for connection in self._open:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _read(self, status: int, content: bytes) -> Any:
        shown = hide_secrets(content[:_SHOWN].decode("utf-8", errors="replace")).strip()
        if status in _MAY_PASS or status >= 500:
            raise Unavailable(f"status {status}: {shown}")
        if status in (401, 403):
            raise EngineError(f"{self.address} wants another key (status {status}). It is taken from {KEY_VARIABLE}.")
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise EngineError(
                f"{self.address} answers (status {status}) with other than vLLM's JSON: {shown!r}\n{EXPECTED_ADDRESS}"
            ) from error
        if status != 200:
            raise RefusedError(f"{self.address} refuses a request (status {status}): {_message(found) or shown}")
        return found


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE)
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _message(found: Any) -> str:
    """What vLLM says of an error."""
    error = found.get("error", found) if isinstance(found, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return hide_secrets(str(message))[:_SHOWN] if message else ""

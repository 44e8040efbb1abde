"""A real vLLM server on loopback, of the Python that HYDROMETER_VLLM_PYTHON names (tests with the marker `vllm`)."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_START_S = 240.0


class VllmServer:
    """One process (with its children) on one port."""

    def __init__(self, folder: Path | str, log: Path, *options: str, port: int | None = None, dtype: str = "float32"):
        self.port = port or _free_port()
        self.address = f"http://127.0.0.1:{self.port}/v1"
        self.log = log
        self.command = [
            *(os.environ["HYDROMETER_VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(folder), "--host", "127.0.0.1", "--port", str(self.port)),
            *("--dtype", dtype, "--enforce-eager", "--no-enable-chunked-prefill", *options),
        ]
        self.start()

    def start(self) -> None:
        """Start, or start again, without waiting."""
        small = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0", "VLLM_NO_USAGE_STATS": "1"}
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | small
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        """Return when it answers."""
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            assert self.process.poll() is None, f"vLLM ended:\n{self.log.read_text(errors='replace')[-3000:]}"
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with closing(connection), suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.5)
        raise AssertionError(f"vLLM did not start within {_START_S:g} s; see {self.log}")

    def kill(self) -> None:
        """End it like a crash does, children included."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def vllm_server(folder: Path | str, log: Path, *options: str, dtype: str = "float32") -> Iterator[VllmServer]:
    """A server that is ready."""
    server = VllmServer(folder, log, *options, dtype=dtype)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()

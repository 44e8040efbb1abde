"""An id that the Hub does not have, or a Hub that cannot be reached, is told at once."""

import http.server
import threading
import time
from collections.abc import Iterator

import pytest
from huggingface_hub import HfApi

import hydrometer.models.hub as hub
from hydrometer.errors import SpecError
from hydrometer.models import parse_model_spec
from hydrometer.models.transformers_model import load_model


class Answers(http.server.BaseHTTPRequestHandler):
    """404 as the Hub gives it; counts what it was asked."""

    asked: list[str]
    code = "RepoNotFound"

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(404)
        self.send_header("X-Error-Code", self.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Answers]]]:
    handler = type("Handler", (Answers,), {"asked": []})
    serving = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}", handler
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch):
    """Let the Hub be at an address."""

    def ask(address: str) -> None:
        monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "HfApi", lambda: HfApi(endpoint=address))

    return ask


def test_without_a_network_an_id_is_unknown_within_seconds(ask):
    ask("http://127.0.0.1:9")
    start = time.monotonic()
    assert hub.is_hub_reachable(parse_model_spec("no-such-org/no-such-model")) is False
    with pytest.raises(SpecError, match=r"Unknown model 'no-such-org/no-such-model'.*could not be had") as caught:
        load_model("no-such-org/no-such-model")
    assert time.monotonic() - start < 10
    assert len(str(caught.value).splitlines()) == 2


def test_an_id_that_the_hub_does_not_have_is_asked_for_once(ask, server):
    address, handler = server
    ask(address)
    with pytest.raises(SpecError, match=r"Unknown model 'no/model'.*the Hugging Face Hub has no such public model"):
        load_model("no/model")
    assert handler.asked == ["/api/models/no/model"]
    handler.code = "RevisionNotFound"
    with pytest.raises(SpecError, match=r"'no/model@v7': the Hugging Face Hub has no revision 'v7'"):
        load_model("no/model@v7")
    assert handler.asked[1:] == ["/api/models/no/model/revision/v7"]


def test_offline_nothing_is_asked(ask, server, monkeypatch: pytest.MonkeyPatch):
    address, handler = server
    ask(address)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.is_hub_reachable(parse_model_spec("no/model")) is False
    assert handler.asked == []

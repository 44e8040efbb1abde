"""A tiny checkpoint behind an HTTP server that answers like vLLM."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_server import Script, next_logits, serving
from tiny_models import VOCAB, save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model"), kind="llama")


@pytest.fixture
def script(folder: Path) -> Script:
    return Script(next_logits, VOCAB, str(folder))


@pytest.fixture
def address(script: Script) -> Iterator[str]:
    with serving(script) as address:
        yield address

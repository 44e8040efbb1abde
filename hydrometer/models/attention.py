"""Which attention function a transformers network calls, for as long as a block lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel


@contextmanager
def attention_by(network: PreTrainedModel, name: str | None) -> Iterator[None]:
    """The network's attention is the one that transformers knows by this name, while it is entered."""
    config: Any = network.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before

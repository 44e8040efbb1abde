"""What a model's files say of how it is talked to, apart from its weights: special tokens and stock sampling options.

None of it enters a score. `hydrometer.preflight` reads it to tell what other software would do with the same files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hydrometer.types import Message


@dataclass(frozen=True, slots=True)
class Conventions:
    """Special tokens of a tokenizer, and the sampling options that a generation config would bring in."""

    pad_id: int | None
    bos_id: int | None
    adds_bos: bool
    """Whether the tokenizer puts `bos_id` before a text by itself when asked for special tokens."""
    special_ids: frozenset[int]
    stock_sampling: Mapping[str, object]
    """Options of the generation config under which the sampled distribution is not p."""


@runtime_checkable
class Conventional(Protocol):
    """A model that comes with tokenizer files, a chat template and a generation config."""

    def conventions(self) -> Conventions:
        """What its files say."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text, special tokens recognised and none added."""
        ...

    def finished_text(self, messages: tuple[Message, ...]) -> str:
        """The chat template over finished turns: none is opened after them."""
        ...

"""The rows of a batch on their way through a model: the seam between drawing tokens and computing logits."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from hydrometer.models.transformers_model import TransformersModel


@runtime_checkable
class Rows(Protocol):
    """Rows that have been read up to somewhere."""

    def installed(self) -> AbstractContextManager[None]:
        """While it is entered, the model is ready for steps of these rows, and of no others."""
        ...

    def step(self, token_ids: Int[Tensor, " row"]) -> Float[Tensor, "row vocab"]:
        """Read one more token in every row; the logits of what follows it."""
        ...

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Forget all rows but these, and take them in this order; one that is named twice is two from now on."""
        ...


StartRows = Callable[[TransformersModel, Sequence[tuple[int, ...]], int], Rows]
"""(model, what each row has read, how many tokens each will read at most)"""

"""Arrays inside a JSON record: compressed, exact to the bit, never pickled."""

import base64
import io
from collections.abc import Mapping

import numpy as np


def encode_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Named arrays as one base64 text.

    Raises:
        TypeError: an array of objects, which only a pickle could hold.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"array '{name}' holds objects, expected numbers or text of a fixed width")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # pyright: ignore[reportArgumentType] - an array may have any name
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_arrays(text: str) -> dict[str, np.ndarray]:
    """The arrays that `encode_arrays` wrote."""
    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}

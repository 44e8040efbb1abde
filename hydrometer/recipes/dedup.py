"""Questions that a reference set does not hold already: exact matches first, then near ones by sentence embeddings.

    drop if the text is equal, or if max over the reference of cos(embedding, embedding) >= 0.6

Source: arXiv:2604.13016 (the threshold and the model all-mpnet-base-v2 are its released script's). Any
sentence-transformers model works; the package is an extra.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hydrometer.errors import SpecError

THRESHOLD = 0.6
DEFAULT_MODEL = "sentence-transformers/all-mpnet-base-v2"
_BLOCK = 1024
Embed = Callable[[Sequence[str]], Float[np.ndarray, "text width"]]


class Deduplicated(NamedTuple):
    """Places of the texts that stay, and of those that went."""

    kept: list[int]
    exact: list[int]
    near: list[int]


def load_embedder(model: str = DEFAULT_MODEL, *, device: str = "cpu") -> Embed:
    """Embeddings of length 1 by a sentence-transformers model.

    Raises:
        SpecError: the package or the model is not there.
    """
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SpecError(
            f"Semantic deduplication needs the package sentence-transformers ({error}).\n"
            "Install it: pip install hydrometer[dedup]"
        ) from error
    try:
        encoder = SentenceTransformer(model, device=device)
    except (OSError, ValueError) as error:
        raise SpecError(f"The embedding model '{model}' cannot be loaded: {str(error).splitlines()[0]}") from error
    return lambda texts: np.asarray(encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))


def deduplicate(
    texts: Sequence[str], reference: Sequence[str], embed: Embed | None, *, threshold: float = THRESHOLD
) -> Deduplicated:
    """Compare every text with every text of the reference; without `embed` only exactly (case and spaces apart)."""
    known = {_plain(text) for text in reference}
    exact = [place for place, text in enumerate(texts) if _plain(text) in known]
    rest = sorted(set(range(len(texts))) - set(exact))
    if embed is None or not rest or not reference:
        return Deduplicated(rest, exact, [])
    mine, theirs = embed([texts[place] for place in rest]), embed(list(reference))
    nearest = np.full(len(rest), -np.inf)
    for start in range(0, len(theirs), _BLOCK):
        nearest = np.maximum(nearest, (mine @ theirs[start : start + _BLOCK].T).max(1))
    near = [place for place, cosine in zip(rest, nearest, strict=True) if cosine >= threshold]
    return Deduplicated(sorted(set(rest) - set(near)), exact, near)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()

"""Questions that a reference set does not hold already: exact matches first, then near ones by sentence embeddings.

    drop if the text is equal, or if max over the reference of cos(embedding, embedding) >= 0.6

Source: arXiv:2604.13016 (the threshold and the model all-mpnet-base-v2 are its released script's). Any
sentence-transformers model works; the package is an extra. What is compared is the bare question where a row has one:
an instruction that all prompts share makes all of them alike.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from hydrometer.artifacts import write_json, write_text
from hydrometer.errors import SpecError
from hydrometer.inputs import read_plain_text
from hydrometer.tasks.columns import PROBLEM_COLUMNS

THRESHOLD = 0.6
DEFAULT_MODEL = "sentence-transformers/all-mpnet-base-v2"
KEPT = "kept.jsonl"
_BLOCK = 1024
_MOST_BYTES = 1 << 31
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
        encoder = SentenceTransformer(model, device=device, model_kwargs={"use_safetensors": True})
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


def deduplicate_rows(
    out: Path, rows: str, reference: str, *, embedder: str = DEFAULT_MODEL, threshold: float = THRESHOLD
) -> dict[str, Any]:
    """Write the rows of a JSON-lines file whose prompt the reference does not hold to `kept.jsonl`; how many they are.

    Args:
        out: folder to write to.
        rows: file with a column `question` or `problem`, else `prompt` (text or messages; the last one is compared).
        reference: another such file.
        embedder: sentence-transformers model; an empty name compares exactly only.
        threshold: cosine from which on two prompts count as the same.

    Raises:
        SpecError: a file that cannot be read or has no prompts; no embedding model.
    """
    lines, texts = _read_prompts(rows)
    _, known = _read_prompts(reference)
    found = deduplicate(texts, known, load_embedder(embedder) if embedder else None, threshold=threshold)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / KEPT, "".join(f"{lines[place]}\n" for place in found.kept))
    refused = {"exact": len(found.exact), "near": len(found.near)}
    told: dict[str, Any] = {"written": len(texts), "kept": len(found.kept), "refused": refused}
    write_json(out / "deduplicated.json", told)
    return told


def _read_prompts(path: str) -> tuple[list[str], list[str]]:
    """The lines of a file, and what each one asks."""
    try:
        lines = [line for line in read_plain_text(path, _MOST_BYTES).split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read ({error}).") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(_read_text(json.loads(line)))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise SpecError(f"{path}, row {number}: expected an object with question, problem or prompt.") from error
    if not texts:
        raise SpecError(f"{path} has no rows.")
    return lines, texts


def _read_text(row: dict[str, Any]) -> str:
    for column in PROBLEM_COLUMNS:
        if row.get(column) is not None:
            return str(row[column])
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()

"""Last hidden states of frozen models in a folder, for every run that asks for the same again.

    FOLDER/ab/abcdef....safetensors        one file for each pass: [token, width] in the model's dtype, and a checksum

What a pass gives is decided by the weights (with an adapter), their dtype, the token ids that were fed, the attention
function and the device, and the versions that run them: the file's name is a hash of these. Full-vocabulary logits
follow from the states through the output layer, so that other objectives, candidates and teachers beside it use the
same files. A run that finds a file computes from there what it would have computed from a pass of its own, so that its
values are the same bit for bit where that pass would have run on the same machine with the same number of threads.

Files are written beside their place and moved there, so that any number of processes may share a folder. One that is
damaged, or is not what its name says, is written anew. The folder can be deleted at any time; nothing else needs it.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from hydrometer.artifacts.disk import translate_disk_errors
from hydrometer.errors import SpecError
from hydrometer.inputs import open_plain

_FORMAT = "hydrometer states 1"
_PARTIAL = "partial"
_ABANDONED_S = 3600.0
"""Age of an unfinished file after which its writer is taken to be dead."""

Row = tuple[Sequence[int], Sequence[int]]
"""Prompt and response, as token ids."""


class ScoreCache:
    """Owns what a process knows of a cache folder: where it is, and how much of what was asked for it had."""

    def __init__(self, folder: Path):
        """Open a folder, or make it.

        Raises:
            SpecError: it is a file.
            DiskError: it cannot be made.
        """
        self.folder = folder.expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise SpecError(f"--score-cache {folder} is a file; the cache needs a folder.")
        with translate_disk_errors(self.folder):
            (self.folder / _PARTIAL).mkdir(parents=True, exist_ok=True)
        self.found_tokens = 0
        self.made_tokens = 0
        self.damaged: list[Path] = []
        """Files that could not be used and have been written anew."""
        self.refusal: str | None = None
        """Why nothing more is written, where the disk has refused."""
        _sweep(self.folder / _PARTIAL)

    def recall(
        self, made_by: Sequence[str], rows: Sequence[Row], make: Callable[[], Tensor], device: torch.device
    ) -> Float[Tensor, "token width"]:
        """What `make` gives, or gave before: hidden states at the response tokens of the rows, row after row.

        Args:
            made_by: what decides the numbers besides the tokens: weights, dtype, device, attention and the like.
            rows: what is fed in one pass; how rows share it is a part of the key, since it moves rounding.
            make: the pass.
            device: where the states are wanted.
        """
        name = _digest(made_by, rows)
        path = self.folder / name[:2] / f"{name}.safetensors"
        tokens = sum(len(response) for _, response in rows)
        states = self._read(path, name, tokens)
        if states is not None:
            self.found_tokens += tokens
            return states.to(device)
        states = make()
        self.made_tokens += tokens
        self._write(path, name, states)
        return states

    def describe_trouble(self) -> list[str]:
        """Sentences for whoever runs this; empty where all went well."""
        told = []
        if self.damaged:
            told.append(
                f"{len(self.damaged)} files of the score cache were damaged and have been made anew, the first was "
                f"{self.damaged[0]}."
            )
        if self.refusal is not None:
            told.append(
                f"The score cache in {self.folder} could not be written ({self.refusal}); nothing else is affected."
            )
        return told

    def _read(self, path: Path, name: str, tokens: int) -> Tensor | None:
        try:
            os.stat(path)
        except OSError:
            return None
        try:
            with open_plain(path) as file:
                data = file.read()
            states = load(data)["states"]
            if _read_metadata(data) == _metadata(name, states) and len(states) == tokens:
                return states
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError):
            pass
        self.damaged.append(path)
        return None

    def _write(self, path: Path, name: str, states: Tensor) -> None:
        if self.refusal is not None:
            return
        states = states.detach().cpu().contiguous()
        partial = None
        try:
            path.parent.mkdir(exist_ok=True)
            number, partial = tempfile.mkstemp(suffix=".safetensors", dir=self.folder / _PARTIAL)
            os.close(number)
            save_file({"states": states}, partial, metadata=_metadata(name, states))
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            self.refusal = str(error).splitlines()[0][:200]
            if partial is not None:
                with contextlib.suppress(OSError):
                    os.unlink(partial)


def open_score_cache(folder: str | None) -> ScoreCache | None:
    """The cache of an option `--score-cache`; none where it was not given.

    Raises:
        UserError: see `ScoreCache`.
    """
    return None if folder is None else ScoreCache(Path(folder))


def _digest(made_by: Sequence[str], rows: Sequence[Row]) -> str:
    versions = [_FORMAT, torch.__version__, metadata.version("transformers"), torch.get_float32_matmul_precision()]
    shape = [[len(prompt), len(response)] for prompt, response in rows]
    digest = hashlib.sha256(json.dumps([versions, list(made_by), shape]).encode())
    for part in (part for row in rows for part in row):
        digest.update(np.asarray(part, dtype="<i8").tobytes())
    return digest.hexdigest()


def _metadata(name: str, states: Tensor) -> dict[str, str]:
    return {"format": _FORMAT, "key": name, "crc32": f"{zlib.crc32(states.view(torch.uint8).numpy().tobytes()):08x}"}


def _read_metadata(data: bytes) -> dict[str, str]:
    """From the header of a safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


def _sweep(folder: Path) -> None:
    """Remove what killed writers have left."""
    now = time.time()
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may sweep too
            if now - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()

"""Teachers that are made to be known: `bundled:expert` with another last layer.

    uniform      every logit 0
    sharpened    logits times 2                       flattened   logits times 1/2
    careless     the row of "?" is the mean row: steps are never checked
    swapped      the rows of "3" and "8" change places: where an 8 is due it writes a 3, and the other way round

All but the last layer is the expert's, so that what differs between them is known exactly.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from hydrometer.models.family import family_folder

Rows = Float[Tensor, "vocab hidden"]
EMBEDDINGS = "model.embed_tokens.weight"
CHECK = "?"
SWAPPED = ("3", "8")


def _silence(rows: Rows, ids: Mapping[str, int]) -> Rows:
    changed = rows.clone()
    changed[ids[CHECK]] = rows.mean(0)
    return changed


def _swap(rows: Rows, ids: Mapping[str, int]) -> Rows:
    changed = rows.clone()
    first, second = (ids[token] for token in SWAPPED)
    changed[[first, second]] = rows[[second, first]]
    return changed


CONTROLS: Mapping[str, Callable[[Rows, Mapping[str, int]], Rows]] = {
    "uniform": lambda rows, ids: torch.zeros_like(rows),
    "sharpened": lambda rows, ids: 2.0 * rows,
    "flattened": lambda rows, ids: 0.5 * rows,
    "careless": _silence,
    "swapped": _swap,
}


def make_control(folder: Path, name: str) -> Path:
    """The checkpoint of a control in `folder/NAME`, made unless it is there."""
    path = folder / name
    if (path / "model.safetensors").exists():
        return path
    source = str(family_folder("expert"))
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    rows = CONTROLS[name](model.state_dict()[EMBEDDINGS].clone(), tokenizer.get_vocab())
    model.config.tie_word_embeddings = False
    model.lm_head.weight = nn.Parameter(rows.contiguous())
    tokenizer.save_pretrained(path)
    model.save_pretrained(path)
    return path

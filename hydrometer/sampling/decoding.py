"""How a model is decoded: by shared prefixes where they give the model's own logits, by padded rows elsewhere."""

import torch

from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling import shared_prefix
from hydrometer.sampling.padded_rows import PaddedRows
from hydrometer.sampling.rows import StartRows
from hydrometer.sampling.shared_prefix import SharedPrefixRows


def start_rows_of(model: TransformersModel) -> StartRows:
    """How rows of this model are decoded."""
    return SharedPrefixRows if shared_prefix.takes(model) and _agrees(model) else PaddedRows


@torch.inference_mode()
def _agrees(model: TransformersModel) -> bool:
    """Whether rows that branch, part and leave get the logits of plain forward passes, but for the dtype's rounding."""
    ids = [number * 7919 % model.output_size for number in range(1, 13)]
    rows = [ids[:7], ids[:3], [*ids[:5], ids[9]], ids[4:8]]
    following = torch.tensor([ids[8:12], ids[7:11]], device=model.device)
    kept = torch.tensor([2, 1, 2, 2, 1], device=model.device)
    try:
        decoded = SharedPrefixRows(model, [tuple(row) for row in rows], 2)
        with decoded.installed():
            found = [*decoded.step(following[0])]
            decoded.keep(kept)
            found += decoded.step(following[1, kept])
    except Exception:  # models raise whatever their author chose when they are called in a way they do not know
        return False
    read = [[*row, int(token)] for row, token in zip(rows, following[0], strict=True)]
    read += [[*read[row], int(following[1, row])] for row in kept.tolist()]
    for sequence, logits in zip(read, found, strict=True):
        inputs = torch.tensor([sequence], device=model.device)
        expected = model.network(input_ids=inputs, use_cache=False, logits_to_keep=1).logits[0, -1]
        tolerance = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max())
        if not float((logits - expected).abs().max()) <= tolerance:
            return False
    return True

"""Drawing a token of each row from its distribution, by inverse transform.

The token is the first whose cumulative probability exceeds the row's uniform number.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_BLOCK = 128
"""Neighbouring token ids whose probabilities are summed first."""


def draw_tokens(
    logits: Float[Tensor, "history vocab"], history: Int[Tensor, " row"], numbers: Float[Tensor, " row"]
) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
    """One token per row by inverse transform, with its log-probability in nats; one of probability 0 is never drawn.

    First the block of the vocabulary that the number falls into, then the token in it: of most of the vocabulary only
    the sums of blocks are needed. Cumulative sums are in float64. The total of a row need not be 1, so that logits are
    not made log-probabilities first, which would be two more passes over the vocabulary.

    Args:
        logits: of distributions that rows may have in common.
        history: which of them each row draws from.
        numbers: uniform in [0, 1).
    """
    largest = logits.amax(-1, keepdim=True)
    weights = (logits - largest).exp_()
    blocks = nn.functional.pad(weights, (0, -weights.shape[-1] % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    sums = blocks.sum(-1).double()
    cumulative = sums.cumsum(-1)
    total = cumulative[history, -1:]
    # a number so close to 1 that rounding carries it past the total would fall off the end of the table
    thresholds = numbers[:, None].clamp(max=1 - 1e-12) * total
    chosen = torch.searchsorted(cumulative[history], thresholds, right=True)[:, 0]
    inside = blocks[history, chosen].double().cumsum(-1)
    left = thresholds - (cumulative - sums)[history, chosen, None]
    # the block's sum was rounded in another order, so that a little too much may be left
    left = left.clamp(min=0.0).minimum(inside[:, -1:] * (1 - 1e-12))
    token_ids = chosen * _BLOCK + torch.searchsorted(inside, left, right=True)[:, 0]
    logprobs = (logits[history, token_ids] - largest[history, 0]).double() - total[:, 0].log()
    return token_ids, logprobs

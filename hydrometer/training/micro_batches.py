"""Which prompts and responses go through the networks together."""

import math
from collections.abc import Sequence
from itertools import accumulate

from transformers import PreTrainedModel

from hydrometer.models.tree_pass import takes_trees

_TOKENS_CPU = 1 << 11
"""Larger blocks take a third more time there: their memory is fresh, and out of the cache, every time."""
_TOKENS_ACCELERATOR = 1 << 14


def split_rows(
    prompts: Sequence[tuple[int, ...]], lengths: Sequence[int], micro_batch: int | None, network: PreTrainedModel
) -> list[list[int]]:
    """Places of rows by micro-batch, those of one prompt side by side and short ones first.

    Args:
        prompts: of each row.
        lengths: of each row's response.
        micro_batch: rows at a time; if None, as few micro-batches of about equal size as have few enough tokens.
        network: what they go through; where it takes trees, a prompt counts once for the rows that follow one another.
    """
    longest: dict[tuple[int, ...], int] = {}
    for prompt, length in zip(prompts, lengths, strict=True):
        longest[prompt] = max(longest.get(prompt, 0), len(prompt) + length)
    order = sorted(range(len(prompts)), key=lambda i: (longest[prompts[i]], prompts[i], lengths[i]))
    if micro_batch is not None:
        return [order[start : start + micro_batch] for start in range(0, len(order), micro_batch)]
    shares, previous, costs = takes_trees(network), None, []
    for place in order:
        own, prompt = lengths[place], prompts[place]
        costs.append(longest[prompt] if not shares else own if prompt == previous else len(prompt) + own)
        previous = prompt
    count = math.ceil(sum(costs) / _most_tokens(network))
    groups: list[list[int]] = [[] for _ in range(count)]
    for place, cost, end in zip(order, costs, accumulate(costs), strict=True):
        groups[int((end - cost / 2) * count / sum(costs))].append(place)
    return [group for group in groups if group]


def _most_tokens(network: PreTrainedModel) -> int:
    return _TOKENS_CPU if network.device.type == "cpu" else _TOKENS_ACCELERATOR

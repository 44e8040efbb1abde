"""Which rows are computed together: against a brute-force account of what each has read."""

from itertools import compress

import numpy as np
import pytest
import torch

from hydrometer.sampling.histories import Histories

CPU = torch.device("cpu")


def test_equal_contexts_are_one_history():
    histories = Histories([(1, 2), (3,), (1, 2), (), (3,)], CPU)
    assert histories.contexts == [(1, 2), (3,), ()]
    assert histories.of_row.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("seed", range(6))
def test_rows_follow_what_they_have_read(seed: int):
    generator = np.random.default_rng(seed)
    contexts = [tuple(generator.integers(2, size=2).tolist()) for _ in range(40)]
    histories = Histories(contexts, CPU)
    read = list(contexts)
    held = list(histories.contexts)  # what each of the model's rows has read
    while read:
        drawn = torch.from_numpy(generator.integers(2, size=len(read)) * (generator.random(len(read)) < 0.5))
        is_open = torch.from_numpy(generator.random(len(read)) < 0.9)
        histories.leave(is_open)
        drawn = drawn[is_open]
        read = [(*tokens, int(token)) for tokens, token in zip(compress(read, is_open), drawn, strict=True)]
        if not read:
            break
        kept = histories.part(drawn)
        if kept is not None:
            held = [held[place] for place in kept.tolist()]
        held = [(*tokens, token) for tokens, token in zip(held, histories.spread(drawn).tolist(), strict=True)]
        assert [held[place] for place in histories.of_row.tolist()] == read
        assert len(set(read)) <= len(held) == histories.count
        assert len(held) - len(set(read)) < len(held) / 4


def test_those_that_go_on_keep_their_place():
    histories = Histories([(token,) for token in (0, 1, 1, 2, 3, 3)], CPU)
    histories.leave(torch.tensor([False, True, True, True, True, True]))
    kept = histories.part(torch.tensor([5, 6, 5, 7, 7]))
    # history 0 is followed by nobody, and one of the two that 1 became takes its place
    assert kept is not None
    assert kept.tolist() == [1, 1, 2, 3]
    assert histories.spread(torch.tensor([5, 6, 5, 7, 7])).tolist() == [6, 5, 5, 7]


def test_nothing_moves_while_nothing_parts():
    histories = Histories([(token,) for token in range(8)], CPU)
    histories.leave(torch.tensor([True] * 7 + [False]))
    assert histories.part(torch.arange(7)) is None
    assert histories.spread(torch.arange(7) + 1).tolist() == [1, 2, 3, 4, 5, 6, 7, 0]

import numpy as np
import pytest

from hydrometer.errors import UserError
from hydrometer.success.enumeration import Limits, enumerate_success, enumerate_token_success
from hydrometer.success.tree import PrefixTree


def limits(model, **options) -> Limits:
    return Limits(eos_ids=frozenset({0}), max_tokens=model.max_tokens, **options)


@pytest.mark.parametrize("prefix", [(), (2,), (1, 3, 3)])
@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_bounds_bracket_the_closed_form_and_shrink(model, prefix, batch_size):
    truth = model.success(prefix)
    previous = (0.0, 1.0, 0)
    for bound in (0.3, 0.1, 0.01, 1e-4, 1e-9):
        got = enumerate_success(
            model.next_logprobs, model.verify, limits(model, bound=bound, batch_size=batch_size), prefix=prefix
        )
        assert got.low - 1e-12 <= truth <= got.high + 1e-12
        assert got.high - got.low <= bound
        assert got.low >= previous[0] - 1e-12
        assert got.high <= previous[1] + 1e-12
        assert got.expanded >= previous[2]
        previous = got
    assert previous.high - previous.low < 1e-9


def test_every_token_of_a_node(model):
    prefix = (3, 1)
    got = enumerate_token_success(
        model.next_logprobs, model.verify, limits(model, bound=1e-8), tokens=range(4), prefix=prefix
    )
    for token, bounds in got.items():
        assert bounds.low == pytest.approx(model.success((*prefix, token)), abs=2e-8)
    mixed = sum(model.probabilities(prefix)[token] * bounds.low for token, bounds in got.items())
    assert mixed == pytest.approx(model.success(prefix), abs=2e-8)
    assert (got[0].low, got[0].high, got[0].expanded) == (1.0, 1.0, 0)


def test_finished_prefixes_need_no_model(model):
    def refuse(prefixes):
        raise AssertionError(prefixes)

    for prefix, correct in [((1, 0), 1.0), ((2, 0), 0.0), ((1, 1, 1, 1, 1, 2), 0.0)]:
        assert enumerate_success(refuse, model.verify, limits(model), prefix=prefix) == (correct, correct, 0)


def test_truncated_responses_reach_the_verifier_as_truncated(model):
    def truncated_ones(token_ids, truncated):
        assert truncated == (token_ids[-1] != 0)
        return truncated and token_ids[-1] == 1

    got = enumerate_success(model.next_logprobs, truncated_ones, limits(model, bound=1e-9))
    alive = np.zeros(3)
    alive[0] = 1.0
    for position in range(model.max_tokens - 1):
        step = np.zeros(3)
        for residue in range(3):
            for token in (1, 2, 3):
                step[(residue + token) % 3] += alive[residue] * model.table[position, residue, token]
        alive = step
    assert got.low == pytest.approx(alive @ model.table[-1, :, 1], abs=1e-9)


def test_impossible_tokens_are_never_expanded():
    asked = []

    def only_two(prefixes):
        asked.extend(prefixes)
        return np.tile(np.array([-np.inf, -np.inf, 0.0]), (len(prefixes), 1))

    got = enumerate_success(only_two, lambda ids, _: ids == (2, 2, 2), Limits(eos_ids=frozenset({0}), max_tokens=3))
    assert got == (1.0, 1.0, 3)
    assert asked == [(), (2,), (2, 2)]


def test_a_large_vocabulary_stays_small_on_the_frontier():
    """50 000 tokens of which two matter: the rest is bounded without ever being expanded."""
    row = np.full(50_000, 1e-5 / 49_998)
    row[:2] = 0.3, 1 - 0.3 - row[2:].sum()
    verified = []

    def verify(token_ids, truncated):
        verified.append(token_ids)
        return len(token_ids) % 2 == 0

    got = enumerate_success(
        lambda prefixes: np.tile(np.log(row), (len(prefixes), 1)),
        verify,
        Limits(eos_ids=frozenset({0}), max_tokens=20, bound=1e-3, batch_size=1),
    )
    # Ends after 2, 4, ... tokens: 0.7 * 0.3 + 0.7^3 * 0.3 + ...; at 20 tokens also without the end.
    truth = sum(0.3 * 0.7 ** (n - 1) for n in range(2, 21, 2)) + 0.7**20
    assert got.low <= truth <= got.high
    assert got.high - got.low <= 1e-3
    assert got.expanded <= 20
    assert len(verified) <= 21


def test_what_is_left_out_at_every_depth_stays_within_the_bound():
    """A tail of 2e-4 a token is small at one node, but 40 nodes deep it is eight times the bound."""
    row = np.array([4e-5, 1 - 5 * 4e-5, 4e-5, 4e-5, 4e-5, 4e-5])
    got = enumerate_success(
        lambda prefixes: np.tile(np.log(row), (len(prefixes), 1)),
        lambda token_ids, _: set(token_ids) == {1},
        Limits(eos_ids=frozenset({0}), max_tokens=40, bound=1e-3),
    )
    assert got.high - got.low <= 1e-3
    assert got.low <= row[1] ** 40 + 1e-12 <= got.high + 1e-12


def test_too_many_expansions_is_a_user_error_that_says_what_to_do(model):
    with pytest.raises(UserError, match=r"stopped after 5 prefixes with 0\.\d+ of the probability"):
        enumerate_success(model.next_logprobs, model.verify, limits(model, bound=1e-6, max_expansions=5, batch_size=2))


def test_rows_that_are_not_distributions_are_refused(model):
    with pytest.raises(ValueError, match=r"row 0 sums to 1\.2"):
        enumerate_success(
            lambda prefixes: np.log(np.full((len(prefixes), 4), 0.3)), model.verify, limits(model, batch_size=1)
        )
    with pytest.raises(ValueError, match="of 1 prefixes, got 2 rows"):
        enumerate_success(lambda prefixes: np.log(np.full((2, 4), 0.25)), model.verify, limits(model))
    with pytest.raises(ValueError, match="0 < bound < 1"):
        limits(model, bound=0.0)


def test_float32_rows_do_not_leak_probability(model):
    rounded = lambda prefixes: (model.next_logprobs(prefixes).astype(np.float32) - 2e-5).astype(np.float64)  # noqa: E731
    got = enumerate_success(rounded, model.verify, limits(model, bound=1e-6))
    assert got.high - got.low <= 1e-6
    assert got.low == pytest.approx(model.success(()), abs=1e-5)


def test_simulated_success_rates_agree_with_enumeration(model, rollout):
    """Rates from base and forced rollouts against exact ones: standard scores at all nodes with 0.05 < S < 0.95."""
    rng = np.random.default_rng(2)
    paths = [model.rollout(rng, i, "path") for i in range(60)]
    tree = PrefixTree("q")
    for path in paths:
        tree.add_path(path)
    for i in range(4000):
        tree.count(model.rollout(rng, 100 + i, "base"))
    nodes = {path.token_ids[:position]: (path, position) for path in paths for position in range(len(path.token_ids))}
    for prefix in nodes:
        for token in range(4):
            for _ in range(100):
                tree.count(model.rollout(rng, 100 + tree.counted, "branch", (*prefix, token)))
    scores = []
    for prefix, (path, position) in nodes.items():
        exact = enumerate_token_success(
            model.next_logprobs, model.verify, limits(model, bound=1e-6), tokens=range(4), prefix=prefix
        )
        for token, outcome in tree.outcomes(path.rollout_id, position).items():
            truth = exact[token].low
            if 0.05 < truth < 0.95:
                error = outcome.successes / outcome.visits - truth
                scores.append(error / np.sqrt(truth * (1 - truth) / outcome.visits))
    assert len(scores) >= 20
    assert np.max(np.abs(scores)) < 4
    assert 0.5 < np.mean(np.square(scores)) < 1.7

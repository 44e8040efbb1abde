"""What every sampler promises, asked of each in the same words."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from reference_loops import Model, draw_by_hand, enumerate_responses, next_probs
from scipy.stats import chisquare

from hydrometer.models import Warp, warp_logprobs
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, build_sampler

PLAIN = Warp()
WARPED = Warp(temperature=0.7, top_p=0.8)
EOS = 1
PROMPT = (4, 2, 7, 3, 3, 6)
TOLERANCE_NATS = 1e-4


def sample(
    model: Model, requests: Sequence[SampleRequest], *, limit: int = 6, warp: Warp = PLAIN
) -> list[Continuation]:
    return build_sampler(model, SamplingSettings(limit, warp)).sample(requests)


def mixed_requests(count: int = 14) -> list[SampleRequest]:
    """Prompts of 1-20 tokens, prefixes of 0-4, some sharing a path and some not."""
    rng = random.Random(5)
    path = tuple(rng.randrange(2, 8) for _ in range(4))
    requests = []
    for number in range(count):
        prompt = PROMPT if number % 2 else tuple(rng.randrange(2, 8) for _ in range(rng.choice((1, 3, 20))))
        prefix = path[: rng.randrange(5)] if number % 3 else tuple(rng.randrange(2, 8) for _ in range(rng.randrange(3)))
        requests.append(SampleRequest(prompt, prefix, 1000 + number))
    return requests


def assert_same(found: Continuation, expected: Continuation) -> None:
    assert found.token_ids == expected.token_ids
    assert found.ended == expected.ended
    assert found.logprobs == pytest.approx(expected.logprobs, abs=TOLERANCE_NATS)


@pytest.mark.parametrize(
    ("prefix", "warp"),
    [((), PLAIN), ((2, 5), WARPED)],
    ids=["plain", "warped_from_prefix"],
)
def test_responses_are_distributed_as_the_model_says(model: Model, prefix: tuple[int, ...], warp: Warp):
    limit, count = len(prefix) + 3, 2000
    requests = [SampleRequest(PROMPT, prefix, seed) for seed in range(count)]
    drawn = sample(model, requests, limit=limit, warp=warp)
    counts = Counter(continuation.token_ids for continuation in drawn)
    exact = enumerate_responses(model, PROMPT, prefix, SamplingSettings(limit, warp))
    assert math.isclose(sum(exact.values()), 1.0)
    assert counts.keys() <= exact.keys()
    assert fit(counts, exact) > 1e-4
    # the same counts against a distribution that is a little too warm: the test sees it
    warmer = enumerate_responses(model, PROMPT, prefix, SamplingSettings(limit, warp._replace(temperature=1.25)))
    assert fit(counts, warmer) < 1e-6


def fit(counts: Counter[tuple[int, ...]], exact: dict[tuple[int, ...], float]) -> float:
    """P-value of Pearson's chi-square; responses expected less than 5 times are one cell."""
    total = sum(counts.values())
    large = [response for response, p in exact.items() if p * total >= 5.0]
    observed = [counts[response] for response in large]
    expected = [exact[response] * total for response in large]
    return float(chisquare([*observed, total - sum(observed) + 1e-9], [*expected, total - sum(expected) + 1e-9]).pvalue)


@pytest.mark.parametrize("warp", [PLAIN, WARPED], ids=["plain", "warped"])
def test_each_token_is_the_inverse_transform_of_its_own_number(model: Model, warp: Warp):
    requests = mixed_requests()
    for request, found in zip(requests, sample(model, requests, limit=7, warp=warp), strict=True):
        assert_same(found, draw_by_hand(model, request, SamplingSettings(7, warp)))


def test_a_rollout_is_its_seeds_whoever_shares_its_batch(model: Model):
    requests = mixed_requests()
    together = sample(model, requests)
    backwards = sample(model, requests[::-1])[::-1]
    for number, request in enumerate(requests):
        three = [requests[number - 1], request, requests[number - 2]]
        [alone] = sample(model, [request])
        assert_same(alone, together[number])
        assert_same(backwards[number], together[number])
        assert_same(sample(model, three)[1], together[number])
    assert len({continuation.token_ids for continuation in together}) > len(requests) // 2


def test_the_same_request_twice_in_a_batch_gives_the_same_rollout(model: Model):
    request = SampleRequest(PROMPT, (3,), 8)
    first, other, second = sample(model, [request, request._replace(seed=9), request])
    assert_same(first, second)
    assert first.token_ids != other.token_ids


@pytest.mark.parametrize("warp", [PLAIN, WARPED], ids=["plain", "warped"])
def test_logprobs_are_those_of_the_scoring_pass(model: Model, warp: Warp):
    requests = mixed_requests()
    for request, found in zip(requests, sample(model, requests, warp=warp), strict=True):
        response = (*request.prefix_ids, *found.token_ids)
        rows = [row for chunk in model.score(request.prompt_ids, response) for row in chunk.logits]
        assert len(rows) == len(response)
        for t, (token, logprob) in enumerate(zip(found.token_ids, found.logprobs, strict=True)):
            scored = warp_logprobs(rows[len(request.prefix_ids) + t].double(), warp)[token]
            assert logprob == pytest.approx(float(scored), abs=TOLERANCE_NATS)


def test_end_of_sequence_is_kept_and_nothing_follows_it(model: Model):
    drawn = sample(model, [SampleRequest(PROMPT, (), seed) for seed in range(300)], limit=4)
    ended = [continuation for continuation in drawn if continuation.ended]
    cut = [continuation for continuation in drawn if not continuation.ended]
    assert ended
    assert cut
    for continuation in ended:
        assert continuation.token_ids[-1] == EOS
        assert EOS not in continuation.token_ids[:-1]
        assert len(continuation.token_ids) <= 4
    for continuation in cut:
        assert EOS not in continuation.token_ids
        assert len(continuation.token_ids) == 4
    assert any(len(continuation.token_ids) == 4 for continuation in ended), "an end on the last allowed token counts"
    assert all(len(continuation.logprobs) == len(continuation.token_ids) for continuation in drawn)


def test_the_limit_counts_the_prefix(model: Model):
    drawn = sample(model, [SampleRequest(PROMPT, (2, 3, 4), seed) for seed in range(60)], limit=5)
    assert {len(c.token_ids) for c in drawn if not c.ended} == {2}
    assert {len(c.token_ids) for c in drawn if c.ended} <= {1, 2}


def test_a_prefix_that_ended_or_fills_the_limit_leaves_nothing_to_draw(model: Model):
    requests = [
        SampleRequest(PROMPT, (2, EOS), 0),
        SampleRequest(PROMPT, (2, 3, 4, 5), 1),
        SampleRequest(PROMPT, (2,), 2),
        SampleRequest(PROMPT, (2, 3, 4, 5, 6), 3),
        SampleRequest(PROMPT, (2, 3, 4, EOS), 4),
    ]
    first, full, open_row, over, both = sample(model, requests, limit=4)
    assert first == ((), (), True)
    assert full == ((), (), False)
    assert over == ((), (), False)
    assert both == ((), (), True)
    assert_same(open_row, draw_by_hand(model, requests[2], SamplingSettings(4)))


def test_no_requests_give_no_continuations(model: Model):
    assert sample(model, []) == []


def test_a_nucleus_of_one_token_is_greedy(model: Model):
    drawn = sample(model, [SampleRequest(PROMPT, (), seed) for seed in range(20)], warp=Warp(top_p=1e-6))
    response: tuple[int, ...] = ()
    while EOS not in response and len(response) < 6:
        probs = next_probs(model, PROMPT, response, PLAIN)
        response = (*response, probs.index(max(probs)))
    assert {c.token_ids for c in drawn} == {response}
    assert drawn[0].logprobs == pytest.approx([0.0] * len(response))


def test_tokens_without_probability_are_never_drawn(model: Model):
    drawn = sample(model, [SampleRequest(PROMPT, (2,), seed) for seed in range(400)], limit=3, warp=WARPED)
    possible = enumerate_responses(model, PROMPT, (2,), SamplingSettings(3, WARPED))
    assert len(possible) < 7 * 8, "top-p leaves something out"
    assert {continuation.token_ids for continuation in drawn} <= possible.keys()
    assert min(logprob for continuation in drawn for logprob in continuation.logprobs) > -math.inf


def test_a_request_may_ask_for_fewer_tokens_than_the_settings_allow(model: Model):
    requests = [SampleRequest(PROMPT, (2, 5)[: seed % 3], seed) for seed in range(12)]
    whole = sample(model, requests, limit=9)
    capped = sample(model, [request._replace(most_tokens=1 + i % 4) for i, request in enumerate(requests)], limit=9)
    for i, (short, long) in enumerate(zip(capped, whole, strict=True)):
        assert short.token_ids == long.token_ids[: 1 + i % 4]
        assert short.ended == (long.ended and len(long.token_ids) <= 1 + i % 4)
    assert any(len(long.token_ids) > 4 for long in whole)

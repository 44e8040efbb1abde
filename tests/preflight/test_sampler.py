"""Five ways to hand over wrong samples, and that honest ones pass."""

from collections.abc import Callable

import pytest
from faulty import BentSampler, EndlessSampler, top_k
from letter_subjects import EOS

from hydrometer.preflight.findings import Finding
from hydrometer.preflight.inspect import inspect
from hydrometer.preflight.sampler import check_sampled_ends, check_sampler_logprobs
from hydrometer.preflight.subjects import Sample, Subjects, draw_samples
from hydrometer.preflight.warps import Reading, read_samples
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, ScriptedModel
from hydrometer.types import Message

REQUEST = SampleRequest((1,), (), 0, most_tokens=3)


def of_check(subjects: Subjects, check: str) -> Finding:
    return next(f for f in inspect(subjects).findings if f.check == check)


@pytest.mark.parametrize("admits", [True, False])
def test_a_dropped_end_of_sequence_is_red(subjects: Callable[..., Subjects], admits: bool):
    plain = subjects()
    endless = subjects(sampler=EndlessSampler(plain.sampler, frozenset({EOS}), admits=admits))
    assert of_check(plain, "sampled end").level == "green"
    found = of_check(endless, "sampled end")
    assert found.level == "red"
    assert ("said to have ended" in found.found) == admits
    assert ("without an end-of-sequence token" in found.found) == (not admits)


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (Continuation((0, EOS), (0.0, 0.0), True), None),
        (Continuation((0, 1, 2), (0.0, 0.0, 0.0), False), None),
        (Continuation((0, 1), (0.0, 0.0), True), "is not in it"),
        (Continuation((0, 1), (0.0, 0.0), False), "stops after 2 of 3"),
        (Continuation((0, EOS, 1), (0.0, 0.0, 0.0), False), "goes on after"),
        (Continuation((0, EOS), (0.0, 0.0), False), "said not to have ended"),
        (Continuation((0, 1, 2), (0.0,), False), "3 tokens came with 1"),
    ],
)
def test_what_a_continuation_may_look_like(subjects: Callable[..., Subjects], drawn: Continuation, words: str | None):
    found = check_sampled_ends(subjects(), [Sample((Message("user", "x"),), REQUEST, drawn)])
    assert (found.level == "red") == (words is not None)
    assert words is None or words in found.found


def test_where_nothing_ended_it_says_so(subjects: Callable[..., Subjects]):
    found = check_sampled_ends(
        subjects(), [Sample((Message("user", "x"),), REQUEST, Continuation((0, 1, 2), (0.0,) * 3, False))]
    )
    assert (found.level, found.cure) == ("note", "Raise --probe-tokens to see it.")


@pytest.mark.parametrize("honest", [True, False])
def test_a_hidden_top_k_is_red_whatever_it_reports(subjects: Callable[..., Subjects], honest: bool):
    plain = subjects(probe_tokens=96)
    assert isinstance(plain.student, ScriptedModel)
    hidden = subjects(
        sampler=BentSampler(plain.student, SamplingSettings(96), top_k(4), honest=honest), probe_tokens=96
    )
    levels = {f.check: f.level for f in inspect(hidden).findings if f.model == "student"}
    assert levels["drawn tokens"] == "red"
    assert levels["sampler against scorer"] == ("red" if honest else "green")


def reading_of(scored: list[float]) -> Reading:
    reading = Reading()
    reading.scored = [scored]
    return reading


@pytest.mark.parametrize(
    ("dtype", "gaps", "level"),
    [
        ("float32", [3e-6, -3e-6] * 100, "green"),
        ("float32", [5e-4, -5e-4] * 100, "note"),
        ("float32", [5e-3, -5e-3] * 100, "red"),
        ("bfloat16", [0.05, -0.05] * 100, "note"),
        ("bfloat16", [0.5, -0.5] * 100, "red"),
        ("bfloat16", [0.08, -0.02] * 100, "red"),  # as a cut of 3 % of the mass would show
    ],
)
def test_gaps_are_judged_by_dtype_and_by_their_sign(
    subjects: Callable[..., Subjects], dtype: str, gaps: list[float], level: str
):
    drawn = Continuation((0,) * len(gaps), tuple(-1.0 + gap for gap in gaps), False)
    sample = Sample((Message("user", "x"),), REQUEST, drawn)
    found = check_sampler_logprobs(subjects(dtype=dtype), [sample], reading_of([-1.0] * len(gaps)))
    assert found.level == level


def test_the_cap_of_a_probe_is_the_beginning_of_the_uncapped_response(subjects: Callable[..., Subjects]):
    plain = subjects()
    capped = draw_samples(subjects(probe_tokens=5), plain.student, plain.sampler)
    whole = draw_samples(plain, plain.student, plain.sampler)
    for short, long in zip(capped, whole, strict=True):
        assert short.drawn.token_ids == long.drawn.token_ids[:5]
    assert any(len(long.drawn.token_ids) > 5 for long in whole)
    reading = read_samples(plain.student, whole, plain.warp)
    assert [len(scored) for scored in reading.scored] == [len(long.drawn.token_ids) for long in whole]

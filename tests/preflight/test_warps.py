"""The evidence for a hidden cut: its factors against closed forms, its expectation of 1, its power."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from faulty import BentSampler, Cut, nucleus, repetition, top_k

from hydrometer.models import Warp
from hydrometer.preflight.subjects import Sample, Subjects, draw_samples
from hydrometer.preflight.warps import RED_LOG_EVIDENCE, read_samples
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, ScriptedModel
from hydrometer.types import Message

P = np.array([0.4, 0.3, 0.2, 0.06, 0.03, 0.01])
MODEL = ScriptedModel(("a", "b", "c", "d", "e", "<eos>"), lambda prompt, response: P, name="constant")
MESSAGES = (Message("user", "x"),)


def sample_of(*ids: int, prompt: tuple[int, ...] = (100,)) -> Sample:
    return Sample(MESSAGES, SampleRequest(prompt, (), 0), Continuation(ids, (0.0,) * len(ids), False))


def test_factors_of_the_suspects_are_those_of_the_definition():
    ratios = read_samples(MODEL, [sample_of(0, 1, 1)], Warp()).log_ratios
    assert ratios["top_k=1"] == -math.inf
    assert ratios["top_k=5"] == pytest.approx(-3 * math.log(0.99), abs=1e-6)
    assert "top_k=10" not in ratios
    assert ratios["top_p=0.8"] == pytest.approx(-3 * math.log(0.9), abs=1e-6)
    assert ratios["min_p=0.1"] == pytest.approx(-3 * math.log(0.96), abs=1e-6)
    warm = P ** (1 / 1.2) / (P ** (1 / 1.2)).sum()
    assert ratios["an extra temperature=1.2"] == pytest.approx(np.log(warm / P)[[0, 1, 1]].sum(), abs=1e-6)
    # log-probabilities are below 0, so the penalty multiplies those of tokens that were seen
    expected, seen = 0.0, set()
    for token in (0, 1, 1):
        bent = np.exp(np.log(P) * np.where([i in seen for i in range(6)], 1.5, 1.0))
        expected += np.log(bent[token] / bent.sum() / P[token])
        seen.add(token)
    assert ratios["repetition_penalty=1.5"] == pytest.approx(expected, abs=1e-6)


def test_prompt_tokens_count_as_seen():
    ratios = read_samples(MODEL, [sample_of(0, prompt=(0,))], Warp()).log_ratios
    bent = np.exp(np.log(P) * np.array([1.5, 1, 1, 1, 1, 1]))
    assert ratios["repetition_penalty=1.5"] == pytest.approx(np.log(bent[0] / bent.sum() / P[0]), abs=1e-6)


def test_every_factor_has_expectation_one_under_p():
    for warp in (Warp(), Warp(0.7, 1.0), Warp(1.3, 0.95)):
        p = torch.tensor(P).log() / warp.temperature
        p = p.log_softmax(-1).exp().numpy()
        if warp.top_p < 1:
            p = np.where(np.arange(6) < int((np.cumsum(p) < warp.top_p).sum()) + 1, p, 0.0)
            p /= p.sum()
        factors: dict[str, float] = {}
        for token in range(6):
            if p[token] > 0:
                ratios = read_samples(MODEL, [sample_of(token, prompt=(1,))], warp).log_ratios
                for suspect, ratio in ratios.items():
                    factors[suspect] = factors.get(suspect, 0.0) + p[token] * math.exp(ratio)
        assert factors == {suspect: pytest.approx(1.0, abs=1e-5) for suspect in factors}


def test_tokens_of_equal_probability_are_no_evidence_for_a_cut():
    flat = ScriptedModel(("a", "b", "c", "<eos>"), lambda prompt, response: np.full(4, 0.25), name="flat")
    reading = read_samples(flat, [sample_of(*([0, 1, 2] * 40))], Warp())
    assert reading.log_evidence < 0.1


@pytest.mark.parametrize(
    ("cut", "named"),
    [
        (top_k(1), "top_k=1"),
        (top_k(5), "top_k=5"),
        (nucleus(0.8), "top_p=0.8"),
        (repetition(3.0), "repetition_penalty"),
    ],
)
@pytest.mark.parametrize("honest", [True, False])
def test_a_bent_sampler_is_seen_by_its_tokens_alone(
    subjects: Callable[..., Subjects], cut: Cut, named: str, honest: bool
):
    plain = subjects(probe_tokens=96)
    assert isinstance(plain.student, ScriptedModel)
    bent = BentSampler(plain.student, SamplingSettings(96), cut, honest=honest)
    reading = read_samples(plain.student, draw_samples(plain, plain.student, bent), Warp())
    assert reading.log_evidence > RED_LOG_EVIDENCE
    assert named in reading.best_suspect


def test_an_honest_sampler_is_never_suspected(subjects: Callable[..., Subjects]):
    worst = -math.inf
    for seed in range(12):
        for warp in (Warp(), Warp(0.8, 0.9)):
            plain = subjects(seed=seed, warp=warp)
            reading = read_samples(plain.student, draw_samples(plain, plain.student, plain.sampler), warp)
            worst = max(worst, reading.log_evidence)
    # 24 draws of a variable of mean at most 1: above e^9 with probability below 1 %
    assert worst < 9.0

from collections.abc import Callable

import numpy as np
import pytest
from faulty import LateModel, ShiftedModel
from letter_subjects import TOKENS, student_probs, teacher_probs

from hydrometer.models import CausalModel
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.shift import check_shift
from hydrometer.preflight.subjects import Subjects, draw_samples
from hydrometer.sampling import ScriptedModel


@pytest.fixture
def look(subjects: Callable[..., Subjects]) -> Callable[[CausalModel], Finding]:
    plain = subjects()
    samples = draw_samples(plain, plain.student, plain.sampler)
    return lambda model: check_shift("teacher", model, samples, noise_nats=0.0)


def test_aligned_rows_are_green_and_say_what_was_measured(look: Callable[[CausalModel], Finding]):
    found = look(ScriptedModel(TOKENS, teacher_probs, name="teacher"))
    assert found.level == "green"
    assert "nats at their row" in found.found


@pytest.mark.parametrize(
    ("kind", "words"),
    [(ShiftedModel, "already depends on response token t"), (LateModel, "does not depend on response token t - 1")],
)
def test_rows_off_by_one_are_red_either_way(look: Callable[[CausalModel], Finding], kind: type, words: str):
    found = look(kind(TOKENS, teacher_probs, name="shifted"))
    assert found.level == "red"
    assert words in found.found


def test_a_teacher_that_knows_nothing_of_the_text_is_not_called_shifted(look: Callable[[CausalModel], Finding]):
    def other(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng([5, *response]).dirichlet(np.full(8, 0.3))

    assert look(ScriptedModel(TOKENS, other, name="random")).level in ("green", "note")


def test_a_model_that_repeats_the_last_token_is_aligned_even_where_the_next_row_fits_better(
    look: Callable[[CausalModel], Finding],
):
    def echo(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        p = np.full(8, 0.01)
        p[response[-1] if response else 0] = 0.93
        return p

    found = look(ScriptedModel(TOKENS, echo, name="echo"))
    assert found.level == "note"
    assert "aligned" in found.found


def test_where_no_row_ever_moves_the_likelihood_of_the_rows_decides(subjects: Callable[..., Subjects]):
    # the distribution depends on the position alone, so cause and effect say nothing
    def by_position(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        p = np.full(8, 0.004)
        p[len(response) % 7] = 1 - 7 * 0.004
        return p

    student = ScriptedModel(TOKENS, by_position, name="clock")
    plain = subjects(student, {})
    samples = draw_samples(plain, plain.student, plain.sampler)
    assert check_shift("student", student, samples, noise_nats=0.0).level == "note"
    found = check_shift("student", ShiftedModel(TOKENS, by_position, name="clock"), samples, noise_nats=0.0)
    assert found.level == "red"
    assert "rows one before fit better" in found.found


def test_responses_of_one_token_are_said_to_be_too_short(subjects: Callable[..., Subjects]):
    plain = subjects(probe_tokens=1)
    samples = draw_samples(plain, plain.student, plain.sampler)
    found = check_shift("student", plain.student, samples, noise_nats=0.0)
    assert (found.level, "two tokens" in found.found) == ("note", True)
    assert student_probs((1,), ()).sum() == pytest.approx(1.0)

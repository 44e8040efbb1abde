"""Which teachers score a rollout, from which prompt, and which responses are left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lessons import Lesson, assert_same_gradients, learn, set_lesson, terms_of

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.training.gradient import teach
from hydrometer.training.responses import Exercise, choose, set_exercises
from hydrometer.training.routing import build_route
from hydrometer.types import Question, Rollout

TWO = ("expert=bundled:expert", "early=bundled:early")


@pytest.fixture(scope="module")
def two() -> Lesson:
    return set_lesson(teacher=TWO)


def only(lesson: Lesson, name: str) -> Lesson:
    """The same responses scored by one of the teachers."""
    taught = [replace(exercise, lessons={name: exercise.lessons[name]}) for exercise in lesson.exercises]
    return lesson._replace(exercises=taught)


@pytest.mark.parametrize("spec", ["reverse_kl", "minillm"])
def test_with_two_teachers_the_loss_is_the_mean_of_both(spec: str, two: Lesson) -> None:
    both = learn(two, terms_of(spec))
    apart = [learn(only(two, name), terms_of(spec)) for name in ("expert", "early")]
    mean = {name: sum(one.gradients[name] for one in apart) / 2 for name in both.gradients}
    assert_same_gradients(both.gradients, mean, tolerance=1e-6)
    torch.testing.assert_close(both.gathered.losses, sum(one.gathered.losses for one in apart) / 2)
    gaps = [apart[0].gradients[name] - apart[1].gradients[name] for name in both.gradients]
    assert max(float(gap.abs().max()) for gap in gaps) > 1e-4, "the teachers differ"


def test_a_route_by_outcome_gives_each_rollout_its_teacher() -> None:
    lesson = set_lesson(teacher=TWO, route="incorrect=expert,correct=early")
    assert {exercise.rollout.correct for exercise in lesson.exercises} == {True, False}
    for exercise in lesson.exercises:
        assert list(exercise.lessons) == ["early" if exercise.rollout.correct else "expert"]
    half = set_lesson(teacher="expert=bundled:expert", route="incorrect=expert")
    assert [not exercise.lessons for exercise in half.exercises] == [e.rollout.correct for e in half.exercises]
    found = learn(half, terms_of("reverse_kl"))
    kept = half._replace(exercises=[exercise for exercise in half.exercises if exercise.lessons])
    alone = learn(kept, terms_of("reverse_kl"))
    share = kept.tokens / half.tokens
    scaled = {name: gradient * share for name, gradient in alone.gradients.items()}
    assert_same_gradients(found.gradients, scaled, tolerance=1e-6)  # divided by all response tokens of the step


def question(name: str, teacher: str | None) -> Question:
    return Question(name, "task", (), "", teacher_id=teacher)


def test_a_route_by_column_reads_the_data_and_refuses_what_it_does_not_know() -> None:
    questions = [question("a", "x"), question("b", "y")]
    route = build_route("teacher_id", ["x", "y"], questions)
    assert [route(one, True) for one in questions] == [("x",), ("y",)]
    with pytest.raises(UnknownNameError, match="'y'"):
        build_route("teacher_id", ["x"], questions)
    with pytest.raises(SpecError, match="question 'c' has no teacher_id"):
        build_route("teacher_id", ["x"], [question("c", None)])


def test_a_route_by_a_diagnosis_follows_its_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hydrometer.training.routing.choose_teachers", lambda folder: ("x", {"b": "y"}))
    route = build_route(str(tmp_path), ["x", "y"], [])
    assert [route(question(name, None), False) for name in ("a", "b")] == [("x",), ("y",)]
    with pytest.raises(UnknownNameError, match="chosen in"):
        build_route(str(tmp_path), ["x"], [])


def test_a_teacher_with_a_context_sees_what_the_student_does_not() -> None:
    """The answers of this task occur in its prompts only by chance, so the frame's own words are looked for as well."""
    lesson = set_lesson(teacher="self+answer", double=False)
    student = lesson.shop.student
    questions = {question.question_id: question for question in lesson.shop.questions}
    for exercise in lesson.exercises:
        asked = student.decode(exercise.prompt_ids)
        shown = student.decode(exercise.lessons["self+answer"])
        answer = questions[exercise.rollout.question_id].answer
        added = shown.replace(asked.split("\n")[0], "")
        assert answer in added
        assert len(exercise.lessons["self+answer"]) > len(exercise.prompt_ids)
        assert exercise.prompt_ids == student.render(questions[exercise.rollout.question_id].prompt)


def test_the_same_response_is_scored_from_both_prompts() -> None:
    """Student and teacher rows hold the same response, each after its own prompt."""
    lesson = set_lesson(teacher="self+answer")
    found = teach(lesson.shop.student, lesson.shop.settings, lesson.exercises, range(len(lesson.exercises)), None)
    taught = found.taught["self+answer"]
    assert taught.places.tolist() == list(range(lesson.tokens))
    exercise = lesson.exercises[0]
    prompt, response = exercise.lessons["self+answer"], exercise.rollout.token_ids
    with torch.no_grad():
        ids = torch.tensor([[*prompt, *response]])
        expected = lesson.shop.student.network.base_model(input_ids=ids).last_hidden_state[0, len(prompt) - 1 : -1]
    torch.testing.assert_close(taught.states[: len(response)], expected, rtol=1e-5, atol=1e-5)


def demo(text: str, number: int, *, correct: bool = True) -> Rollout:
    return Rollout("q", number, "demo", (1,), text, float(correct), correct, False)


def test_demonstrations_are_demos_and_never_the_analysed_response() -> None:
    lesson = set_lesson(teacher="self+correct_demo", double=False)
    shop = lesson.shop
    asked = choose(shop.questions, step=0, count=1, seed=0)
    (seat,) = shop.settings.seats.values()
    own = replace(lesson.exercises[0].rollout, text="first 2 then 3 so 5", correct=True)
    shown = [demo("first 2 then 3 so 5", 1), demo("another way: 9 then 4", 2), demo("third way: 8 then 1", 3)]

    def prompts(demos: list[Rollout]) -> tuple[list[Exercise], int]:
        exercises, skipped = set_exercises(
            shop.student, asked, [[own]], shop.settings.seats, shop.route, [demos], length_gate=None
        )
        return exercises, skipped[seat.name]

    (exercise,), skipped = prompts(shown)
    text = shop.student.decode(exercise.lessons[seat.name])
    assert "another way" in text and "first 2" not in text and skipped == 0
    (exercise,), skipped = prompts(shown[:1])
    assert not exercise.lessons and skipped == 1, "nothing else to show: skipped and counted"
    (exercise,), skipped = prompts([demo("wrong 1 way", 4, correct=False)])
    assert not exercise.lessons and skipped == 1


def test_long_responses_are_not_distilled_on_but_still_counted_and_rewarded() -> None:
    plain = set_lesson()
    lengths = sorted(len(exercise.rollout.token_ids) for exercise in plain.exercises)
    gate = lengths[len(lengths) // 2]
    gated = set_lesson(length_gate=gate)
    assert [e.is_gated for e in gated.exercises] == [len(e.rollout.token_ids) > gate for e in plain.exercises]
    assert any(exercise.is_gated for exercise in gated.exercises)
    kept = [[0.0 if e.is_gated else 1.0] * len(e.rollout.token_ids) for e in gated.exercises]
    found = learn(gated, terms_of("reverse_kl"))
    expected = learn(plain, terms_of("reverse_kl"), weights=[np.array(one) for one in kept])
    assert_same_gradients(found.gradients, expected.gradients, tolerance=1e-6)
    rewarded = [learn(lesson, terms_of("dr_grpo")).gradients for lesson in (plain, gated)]
    assert_same_gradients(rewarded[1], rewarded[0], tolerance=1e-6)


def test_questions_come_in_whole_shuffled_passes() -> None:
    items = list(range(7))
    drawn = [item for step in range(7) for item in choose(items, step=step, count=3, seed=5)]
    for start in range(0, 21, 7):
        assert sorted(drawn[start : start + 7]) == items
    assert drawn[:7] != drawn[7:14]
    assert drawn[:3] == choose(items, step=0, count=3, seed=5) != choose(items, step=0, count=3, seed=6)

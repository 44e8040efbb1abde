"""What a run says of its looks at the ranking: since when the teacher is decided, and what is still open."""

import pytest

from hydrometer.alignment.choice import Arm, Ranked, Ranking
from hydrometer.alignment.wording import undecided_sentence
from hydrometer.diagnosis.looking import build_answer, build_look
from hydrometer.diagnosis.measurement import Look
from hydrometer.runs.rounds import Cost


def rank(teacher: str, factor: float, teacher_factor: float) -> Ranking:
    """Two objectives of one teacher in front, as far decided as the factors say (1: separated)."""
    lines = tuple(
        Ranked(Arm(teacher, objective, (), False, (0, place)), 0.3, [0.1, 0.5], 0.97, None, False)
        for place, objective in enumerate(("reverse_kl", "forward_kl"))
    )
    return Ranking(lines, 10, 0, 8, 0, (), factor, 0.99, teacher_factor, 0.98, 0.1)


def look_at(rankings: list[Ranking]) -> list[Look]:
    looks: list[Look] = []
    for place, ranking in enumerate(rankings, start=1):
        looks.append(build_look(ranking, 10 * place, Cost(generated_tokens=1000 * place), looks))
    return looks


def test_the_teacher_is_decided_since_the_first_of_the_looks_without_a_break() -> None:
    sure, unsure = rank("a", 3.0, 1.0), rank("a", 3.0, 1.5)
    looks = look_at([sure, unsure, sure, sure, rank("b", 2.0, 1.0), rank("b", 1.0, 1.0)])
    assert [look.teacher_decided_after for look in looks] == [10, None, 30, 30, 50, 50]
    assert [look.is_decided for look in looks] == [False] * 5 + [True]
    assert [look.teacher for look in looks] == ["a"] * 4 + ["b"] * 2


def test_no_teacher_in_front_does_not_read_as_if_none_were() -> None:
    none = Ranked(None, 0.0, None, 0.97, None, False)
    ranking = Ranking((none, *rank("a", 3.0, 3.0).lines), 10, 0, 8, 0, (), 3.0, 0.99, 3.0, 0.98, 0.1)
    [look] = look_at([ranking])
    assert ": doing without a teacher leads with pooled cosine +0.000, near the best with" in str(look)
    said = undecided_sentence(ranking, 0.02, more_tokens=100, for_teacher=None)
    assert said.startswith("Not separated yet: doing without a teacher leads, but ")


def test_a_look_says_plainly_what_is_decided_and_what_is_open() -> None:
    looks = look_at([rank("a", 3.0, 1.5), rank("a", 3.0, 1.0), rank("a", 3.0, 1.0), rank("a", 1.0, 1.0)])
    unsure, first, again, decided = map(str, looks)
    leads = "a with reverse_kl leads with pooled cosine +0.300, near the best with probability 0.970 (0.980 is needed"
    still_open = "teacher decided after 20 questions, objective still open"
    assert unsure.startswith(f"After 10 questions (1,000 tokens): {leads}")
    assert first.startswith(f"After 20 questions (2,000 tokens): {still_open}; {leads}")
    assert again.startswith(f"After 30 questions (3,000 tokens): {still_open}; {leads}")
    assert "about 6,000 more tokens would do" in again
    assert decided.endswith("decided (0.980 was needed).") and "open" not in decided


@pytest.mark.parametrize(
    ("ranking", "after", "said"),
    [
        (rank("a", 3.0, 1.0), 10, "teacher decided after 10 questions, objective still open; about 2,000 more tokens"),
        (rank("a", 3.0, 1.0), None, "teacher decided, objective still open; about 2,000 more tokens (2 min) would do"),
        (rank("a", float("nan"), 1.0), 10, "teacher decided after 10 questions, objective still open"),
        (rank("a", 3.0, 1.5), None, "not separated yet; about 2,000 more tokens (2 min) would do at these scores"),
        (rank("a", 1.0, 1.0), 10, "decided"),
    ],
)
def test_the_running_answer_says_it_too(ranking: Ranking, after: int | None, said: str) -> None:
    title = build_answer(ranking, 20, Cost(generated_tokens=1000, wall_s=60.0), after).title
    assert title.startswith(f"Pooled cosine on 20 questions: {said}")

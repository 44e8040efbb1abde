"""What a summariser is asked, and which summaries are shown."""

import pytest

from hydrometer.teachers import Summary, build_teacher_prompt, parse_context, request_summary, screen_summary
from hydrometer.types import Message, Question, Rollout

QUESTION = Question("q", "t", (Message("system", "S"), Message("user", "What is 2+3?")), "5")


def rollout(rollout_id: int, text: str, *, correct: bool = True, truncated: bool = False) -> Rollout:
    return Rollout("q", rollout_id, "demo", (1,), text, float(correct), correct, truncated)


DEMO = rollout(3, "First I take 2.\nThen $3 more makes $answer.\n")


def test_the_request_shows_the_response_and_not_its_outcome():
    assert request_summary(QUESTION, DEMO) == (
        Message("system", "S"),
        Message(
            "user",
            "What is 2+3?\n\nHere is a response to this:\nFirst I take 2.\nThen $3 more makes $answer.\n\n"
            "Do not solve it again. List the key steps of the response in a few short lines, and leave out everything "
            "else.",
        ),
    )


@pytest.mark.parametrize(
    ("written", "parsed", "reason"),
    [
        (rollout(3, " take 2, add 3 \n"), True, None),
        (rollout(3, "take 2, add 3", correct=False), False, None),
        (rollout(3, "take 2, add", truncated=True), True, "cut off"),
        (rollout(3, " \n"), False, "empty"),
        (rollout(3, "The answer is 5."), True, "the bare answer"),
        (rollout(3, "take 2, add 4, answer 6", correct=False), True, "another answer"),
        (rollout(3, "I add them: 5"), True, "equal to an analysed response"),
    ],
)
def test_a_summary_that_says_nothing_or_something_else_is_not_shown(written: Rollout, parsed: bool, reason: str | None):
    refuse = [rollout(0, "I add them: 5 ")]
    found = screen_summary(written, QUESTION, DEMO, parsed=parsed, refuse=refuse)
    assert found.text == written.text.strip()
    prompt = build_teacher_prompt(
        parse_context("summary"), QUESTION, demos=[DEMO], blank=str, summaries={DEMO.rollout_id: found}
    )
    if reason is None:
        assert found.reason is None
        assert "key steps of a correct response:\ntake 2, add 3\n\n" in prompt.messages[1].content
        assert prompt.demo_rollout_ids == (3,)
    else:
        assert reason in str(found.reason)
        assert (prompt.reason, prompt.messages) == (found.reason, ())


def test_a_summary_of_a_wrong_response_has_to_be_wrong_too():
    demo = rollout(3, "2*3 makes 6", correct=False)
    assert screen_summary(rollout(3, "add: 2+3=5"), QUESTION, demo, parsed=True, refuse=[]).reason is not None
    written = rollout(3, "multiply: 2*3=6", correct=False)
    assert screen_summary(written, QUESTION, demo, parsed=True, refuse=[]) == Summary("multiply: 2*3=6", None)

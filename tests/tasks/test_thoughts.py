"""What a verifier may read of a thinking model's response."""

import pytest

from hydrometer.tasks import answer_part, opens_thought


@pytest.mark.parametrize(
    ("response", "is_open", "answer"),
    [
        ("Answer: 4", False, "Answer: 4"),
        ("<think>Answer: 3</think>\nAnswer: 4", False, "\nAnswer: 4"),
        ("Answer: 3, no.</think>Answer: 4", True, "Answer: 4"),
        ("<think>Answer: 3", False, ""),
        ("Answer: 3", True, ""),
        ("<think>a</think>b<think>c</think>d", False, "d"),
        ("<think>a</think>b<think>Answer: 3", False, ""),
        ("<think></think>", False, ""),
        ("", True, ""),
    ],
)
def test_only_what_follows_the_last_finished_thought_is_read(response: str, is_open: bool, answer: str) -> None:
    assert answer_part(response, is_open=is_open) == answer


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [("...assistant\n<think>\n", True), ("...<think>\n\n</think>\n\n", False), ("...assistant\n", False)],
)
def test_a_prompt_opens_a_thought_where_it_ends_in_one(prompt: str, opened: bool) -> None:
    assert opens_thought(prompt) is opened

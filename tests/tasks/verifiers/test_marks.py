"""What holds for every verifier of ours: relaxed contains strict, and time is linear in the response."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrometer.tasks.chain import ChainTask
from hydrometer.tasks.verifiers import load_verifier
from hydrometer.tasks.verifiers.marks import clean, find_marked, tail
from hydrometer.types import Message, Question

ANSWERS = {"exact": "72", "boolean": "yes", "choice": "B", "integer": "72", "math": "72"}
PIECES = ["Answer:", "answer", " is ", "72", "\\boxed{", "}", "#### ", "\n", "yes", "no", "B", "(", ")", ".", "**", "="]
PIECES += ["$", ",", "-", " ", "7", "A", "\\text{", "x", "true", "𝟕", "\ud800", "/", "\\"]


def ask(answer: str) -> Question:
    return Question("q", "t", (Message("user", "?\nA. 8\nB. 72\n"),), answer)


@pytest.mark.parametrize("name", ["exact", "boolean", "choice", "integer"])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12))
@settings(max_examples=150, deadline=None)
def test_relaxed_is_correct_wherever_strict_is(name: str, pieces: list[str]):
    grades = load_verifier(name)(ask(ANSWERS[name]), "".join(pieces))
    assert grades.relaxed.correct >= grades.strict.correct
    assert grades.relaxed.parsed >= grades.strict.parsed
    assert grades.failure is None


@given(pieces=st.lists(st.sampled_from(["answer 04", "Answer", " ", "\n", "04", "05", ".", ":"]), max_size=9))
@settings(max_examples=150, deadline=None)
def test_relaxed_contains_strict_for_chains_too(pieces: list[str]):
    grades = ChainTask().verify(ask("04"), "".join(pieces))
    assert grades.relaxed.correct >= grades.strict.correct


@given(pieces=st.lists(st.sampled_from([p for p in PIECES if p != "\ud800"]), max_size=7))
@settings(max_examples=40, deadline=None)
def test_relaxed_contains_strict_for_mathematics_too(pieces: list[str]):
    grades = load_verifier("math")(ask("72"), "".join(pieces))
    assert grades.relaxed.correct >= grades.strict.correct


NASTY = [
    "a",
    " ",
    "\n",
    "answer",
    "answer:",
    "answer ",
    "answer is ",
    "Answer: 7\n",
    "\\boxed{",
    "\\boxed{7}",
    "{",
    "\\",
    "#### ",
    "#",
    "1",
    "1,111",
    "1,",
    "-",
    "1.",
    "*",
    "$",
    "yes",
    "(A) ",
    "A",
    "\\text{",
    "=",
    "answer****",
    "\u00a0",
    "ſ",
]


def _seconds(verify: Callable[[Question, str], object], question: Question, response: str) -> float:
    start = time.process_time()
    verify(question, response)
    return time.process_time() - start


@pytest.mark.parametrize("name", ["exact", "boolean", "choice", "integer", "math", "chain"])
def test_any_long_response_takes_no_time(name: str):
    """A quadratic pattern would take minutes on any of these; a linear one takes milliseconds."""
    verify = ChainTask().verify if name == "chain" else load_verifier(name)
    question = ask(ANSWERS.get(name, "04"))
    verify(question, "Answer: 1")
    for piece in NASTY:
        for end in ("", "x"):
            response = piece * (100_000 // len(piece)) + end
            # on a loaded machine one try can be slow; three are not
            assert any(_seconds(verify, question, response) < 0.4 for _ in range(3)), repr(piece)


@pytest.mark.parametrize("name", ["exact", "boolean", "choice", "integer", "math"])
def test_a_megabyte_is_no_trouble_either(name: str):
    response = "answer ****\\boxed{1,1 " * 45_000 + "\nAnswer: " + ANSWERS[name]
    start = time.process_time()
    assert load_verifier(name)(ask(ANSWERS[name]), response).strict.correct
    assert time.process_time() - start < 3.0


@pytest.mark.parametrize(
    ("response", "content"),
    [
        ("Answer: 4", " 4"),
        ("no mark", None),
        ("nonanswer: 4", None),
        ("Answer:", ""),
        ("\\boxed{a{b}c} d", "a{b}c"),
        ("\\boxed{a\\}b}", "a\\}b"),
        ("\\boxed{4", None),
        ("Answer: 4\n\\boxed{5}", "5"),
        ("\\boxed{5}\nAnswer: 4\nmore", " 4"),
        ("##### 4", None),
        ("a #### 4", None),
        ("#### 4\nx", " 4"),
        ("\\boxed{Answer: 4} x", " 4"),
        ("\\boxed{" + "x" * 3000 + "}", None),
    ],
)
def test_the_last_mark_decides(response: str, content: str | None):
    assert find_marked(response) == content


def test_cleaning_and_tails():
    assert clean(" **$\\text{a b}$**. ") == "a b"
    assert clean("\\(x\\)") == "x"
    assert clean("$") == "$"
    assert clean("x" * 2001) == ""
    assert tail("a b  \n") == "a b"
    assert tail("words " * 200).split() == ["words"] * 66, "the word that is cut is left out"
    assert tail("word " * 200).split() == ["word"] * 80

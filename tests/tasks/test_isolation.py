import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hydrometer.errors import VerifierError
from hydrometer.tasks.isolation import IsolatedVerifier, Limits
from hydrometer.types import Grades, Message, Question, Score, VerifierFailure

HERE = Path(__file__).parent
RIGHT, WRONG = Grades.same(Score(1.0, True, True)), Grades.same(Score(0.0, False, True))


def ask(number: int = 0, answer: str = "right") -> Question:
    return Question(f"q{number}", "t", (Message("user", "?" * number),), answer)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)


@pytest.fixture
def obedient(here: None) -> Iterator[IsolatedVerifier]:
    verifier = IsolatedVerifier("misbehaving:obedient", Limits(time_s=0.7))
    yield verifier
    verifier.close()


def grade(verifier: IsolatedVerifier, *responses: str) -> list[Grades]:
    return verifier.verify_all([(ask(number), response) for number, response in enumerate(responses)])


def pid_of(verifier: IsolatedVerifier) -> int:
    return round(1 / grade(verifier, "pid")[0].strict.value)


def failed(kind: str, detail: str) -> Grades:
    nothing = Score(0.0, False, False)
    return Grades(nothing, nothing, VerifierFailure(kind, detail))  # type: ignore[arg-type]


def test_what_a_function_may_return(obedient: IsolatedVerifier):
    found = grade(obedient, "right", "wrong", "half", "score", "grades", "torch", "print", "")
    assert found[:2] == [RIGHT, WRONG]
    assert found[2] == Grades.same(Score(0.5, False, True))
    assert found[3] == Grades.same(Score(0.25, True, False))
    assert found[4] == Grades(Score(0.0, False, True), Score(1.0, True, True))
    assert found[5:] == [RIGHT, WRONG, WRONG]
    for response, words in [("text", "returned 'yes', expected a bool"), ("nothing", "returned None")]:
        assert words in grade(obedient, response)[0].failure.detail  # type: ignore[union-attr]
    assert "returned 3.0, expected a bool, a number in [0, 1]" in grade(obedient, "three")[0].failure.detail  # type: ignore[union-attr]


def test_a_failure_costs_one_response_and_no_other(obedient: IsolatedVerifier):
    responses = ["right", "hang", "right", "die", "raise", "right", "crash", "exit", "wrong", "hang in C", "right"]
    assert grade(obedient, *responses) == [
        RIGHT,
        failed("time", "it took more than 0.7 s"),
        RIGHT,
        failed("died", "the verifier process ended with exit code 7"),
        failed("raised", "KeyError: 'no such thing\\nreally'"),
        RIGHT,
        failed("died", "the verifier process was ended by signal 11 (SIGSEGV)"),
        failed("raised", "SystemExit: bye"),
        WRONG,
        failed("time", "it took more than 0.7 s"),
        RIGHT,
    ]


def test_memory_is_limited_and_leaks_are_not_charged_to_the_next(obedient: IsolatedVerifier):
    found = grade(obedient, "right", "eat", "right", "leak", "leak", "leak", "leak", "right")
    assert [g.failure and g.failure.kind for g in found] == [None, "memory", None, None, None, None, None, None]
    assert found[2] == found[7] == RIGHT


def test_one_process_serves_until_it_is_lost(obedient: IsolatedVerifier):
    first = pid_of(obedient)
    assert first != os.getpid()
    assert pid_of(obedient) == first
    os.kill(first, signal.SIGKILL)
    time.sleep(0.1)
    assert grade(obedient, "right") == [RIGHT], "a process lost between batches is nobody's failure"
    assert pid_of(obedient) != first


def test_ten_thousand_short_ones_take_less_than_a_second():
    verifier = IsolatedVerifier("integer")
    questions = [ask(number, str(number)) for number in range(100)]
    pairs = [(questions[n % 100], f"So.\nAnswer: {n % 50}") for n in range(10_000)]
    verifier.verify_all(pairs[:1])
    start = time.monotonic()
    found = verifier.verify_all(pairs)
    assert time.monotonic() - start < 2.0, "1 s on a quiet machine"
    assert [g.strict.correct for g in found] == [n % 100 == n % 50 for n in range(10_000)]
    verifier.close()


def test_huge_and_strange_responses_pass(obedient: IsolatedVerifier):
    big = "x" * 5_000_000
    assert grade(obedient, big, "\ud800", "a\nb\x00", big, "right") == [WRONG, WRONG, WRONG, WRONG, RIGHT]
    question = Question("q", "t", (Message("system", "s"), Message("user", "u")), "ä\ud83d\n", "s", "w", "t")
    assert obedient.verify_all([(question, "ä\ud83d\n")]) == [RIGHT]
    assert obedient.verify_all([]) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("always_raises", "ZeroDivisionError: division by zero"), ("always_hangs", "it took more than 0.05 s")],
)
def test_a_verifier_that_always_fails_is_told(here: None, name: str, words: str):
    verifier = IsolatedVerifier(f"misbehaving:{name}", Limits(time_s=0.05))
    with pytest.raises(VerifierError, match=f"(?s)'misbehaving:{name}' failed on every.*'q7': {words}.*--verifier"):
        grade(verifier, *["anything"] * 8)
    verifier.close()


def test_failing_on_bad_responses_only_is_not_always(here: None):
    verifier = IsolatedVerifier("misbehaving:raises_on_garbage")
    found = verifier.verify_all([(ask(0, "4"), "four")] * 20 + [(ask(0, "4"), "4.0")])
    assert [g.failure is None for g in found] == [False] * 20 + [True]
    assert found[-1] == RIGHT
    verifier.close()


def test_interrupting_leaves_no_reply_behind(obedient: IsolatedVerifier):
    grade(obedient, "right")
    previous = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            grade(obedient, "wrong", "sleep", "wrong")
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert grade(obedient, "right") == [RIGHT]


def test_closing_ends_the_process(obedient: IsolatedVerifier):
    pid = pid_of(obedient)
    obedient.close()
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


PARENT = """
import sys, threading
from hydrometer.tasks.isolation import IsolatedVerifier
from hydrometer.types import Message, Question
verifier = IsolatedVerifier("misbehaving:obedient")
question = Question("q", "t", (Message("user", "?"),), "right")
print(round(1 / verifier.verify_all([(question, "pid")])[0].strict.value), flush=True)
verifier.verify_all([(question, sys.argv[1])])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("doing", ["sleep", "hang in C"])
def test_the_process_dies_with_a_parent_that_is_killed(doing: str):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, doing], cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)

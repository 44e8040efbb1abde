"""A verifier that forks, exits, writes and recurses costs its own response at most; the grades of the others stand."""

import sys
import time
from pathlib import Path

import pytest

from hydrometer.errors import VerifierError
from hydrometer.tasks.isolation import IsolatedVerifier, Limits
from hydrometer.types import Message, Question

QUESTION = Question("q", "t", (Message("user", "?"),), "right")
AROUND = ["right", "wrong", "right", "right", "wrong"]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def grade(responses: list[str], verifier: str = "hostile_verifiers:check") -> list[tuple[bool, str | None]]:
    """Whether each was right, and the kind of its failure."""
    isolated = IsolatedVerifier(verifier, Limits(time_s=3.0))
    try:
        grades = isolated.verify_all([(QUESTION, response) for response in responses])
    finally:
        isolated.close()
    return [(grade.strict.correct, grade.failure.kind if grade.failure else None) for grade in grades]


@pytest.mark.parametrize(
    ("deed", "kinds"),
    [
        ("fork", {None}),
        ("fork and exit", {None, "raised"}),
        ("fork and hang", {None}),
        ("recurse", {"raised"}),
        ("recurse in C", {"raised", "died", "memory"}),
        ("system exit", {"raised"}),
        ("interrupt", {"raised"}),
        ("raise text", {"raised"}),
        ("child", {None}),
        ("close everything", {"died"}),
        ("stdin", {"raised"}),
        ("not a number", {"raised"}),
        ("endless", {"raised"}),
        ("environment", {None}),
    ],
)
def test_what_a_verifier_does_to_itself_moves_no_other_grade(deed: str, kinds: set[str | None]) -> None:
    found = grade([*AROUND, deed, *AROUND, deed, *AROUND])
    expected = [(response == "right", None) for response in AROUND]
    assert found[:5] == found[6:11] == found[12:] == expected
    assert {found[5][1], found[11][1]} <= kinds
    assert not found[5][0]


def test_what_is_written_into_the_replies_ends_the_process_and_not_the_run() -> None:
    """A verifier may grade as it likes, also by forging; but nonsense is no traceback, and later grades are sound."""
    found = grade([*AROUND, "write everywhere", *AROUND, *AROUND])
    assert found[:5] == found[-5:] == [(response == "right", None) for response in AROUND]


def test_processes_that_a_verifier_started_end_with_it(tmp_path: Path) -> None:
    isolated = IsolatedVerifier("hostile_verifiers:check", Limits(time_s=3.0))
    isolated.verify_all([(QUESTION, "child")])
    assert isolated._child is not None
    group = isolated._child._process.pid
    assert members(group) >= 2
    isolated.close()
    deadline = time.monotonic() + 5
    while members(group) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert members(group) == 0


def members(group: int) -> int:
    """Living processes of a process group (Linux)."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        count += int(of_group) == group and state != "Z"
    return count


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('hello'); import sys; sys.exit(3)", "cannot be loaded: SystemExit: 3"),
        ("import os; os._exit(0)", "ended with exit code 0"),
        ("raise KeyboardInterrupt", "cannot be loaded: KeyboardInterrupt"),
        ("def f(): f()\nf()", "cannot be loaded: RecursionError"),
        ("import os\nos.fork()\n", "has no attribute 'check'"),
        ("check = 3", "is a int, not a function"),
        ("raise ValueError('\\x1b[31m' + 'x' * 10**6)", "ValueError"),
    ],
)
def test_a_module_that_misbehaves_when_imported_is_told(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"wicked{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(VerifierError) as caught:
        grade(["right"], f"{name}:check")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert name not in sys.modules

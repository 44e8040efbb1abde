"""Verifiers run in a process of their own, so that none can hang, kill or fill the run.

Batches go over in one piece and replies come back one by one. Where a reply does not come in time, or the process dies,
the response at hand counts as wrong with the reason in `Grades.failure`, and a new process goes on with the next one.

    >>> IsolatedVerifier("integer").verify_all([(question, "Answer: 42")])
"""

import contextlib
import os
import select
import signal
import subprocess
import time
import weakref
from dataclasses import dataclass, field

from hydrometer.errors import VerifierError
from hydrometer.tasks.verifiers import check_verifier_name
from hydrometer.tasks.verifiers.marks import WRONG
from hydrometer.tasks.wire import FIXED_ORDER, Pairs, child_command, decode_reply, encode_batch
from hydrometer.tasks.worker import READY
from hydrometer.types import Grades, Question, VerifierFailure

_START_LIMIT_S = 120.0
"""To load a verifier; far more than any of ours takes on a busy machine."""
_MOST_ITEMS = 2000
_MOST_CHARACTERS = 8_000_000
"""Of one batch."""
_SUSPICIOUS = 8
"""Failures without a single success after which the verifier is tried on a right answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one response may cost its verifier."""

    time_s: float = 10.0
    memory_bytes: int = 2 << 30
    """On top of what the loaded verifier takes."""


class _Died(Exception):
    """The process ended, or was ended, before it replied."""


class _Child:
    """Owns one verifier process."""

    def __init__(self, verifier: str, limits: Limits):
        self.served = 0
        self._unread = b""
        self._process = subprocess.Popen(
            child_command("hydrometer.tasks.worker", "serve", verifier, limits.memory_bytes, os.getpid()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run; what the verifier starts is ended with it
            env=os.environ | FIXED_ORDER | {"OMP_NUM_THREADS": "1"},
        )
        self.stop = weakref.finalize(self, _stop, self._process)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, line: bytes) -> None:
        """Hand over a batch."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except OSError as error:
            raise _Died from error

    def receive(self, limit_s: float) -> bytes:
        """The next line.

        Raises:
            TimeoutError: there is none within the limit.
            _Died: there will be none.
        """
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        deadline = time.monotonic() + limit_s
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                return line
            ready, _, _ = select.select([number], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            if not (data := os.read(number, 1 << 16)):
                raise _Died
            self._unread += data

    def explain_death(self) -> str:
        """How the process ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        if code is not None and code < 0:
            return f"the verifier process was ended by signal {-code} ({signal.Signals(-code).name})"
        return f"the verifier process ended with exit code {code}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a verifier process and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


@dataclass(slots=True)
class IsolatedVerifier:
    """A verifier by name, run in one process that is started when it is needed and again when it was lost."""

    name: str
    limits: Limits = field(default_factory=Limits)
    _child: _Child | None = None
    _failures: int = 0
    _works: bool = False
    """Whether any response was ever graded."""

    def __post_init__(self) -> None:
        check_verifier_name(self.name)

    def start(self) -> None:
        """Start the process if there is none.

        Raises:
            VerifierError: the verifier cannot be loaded.
        """
        if self._child is not None and self._child.alive:
            return
        self.close()
        self._child = _Child(self.name, self.limits)
        try:
            line = self._child.receive(_START_LIMIT_S)
        except TimeoutError:
            self.close()
            raise VerifierError(f"Verifier '{self.name}' was not loaded after {_START_LIMIT_S:g} s.") from None
        except _Died:
            death = self._child.explain_death()
            self.close()
            raise VerifierError(f"Verifier '{self.name}' cannot be loaded: {death}.") from None
        except BaseException:
            self.close()
            raise
        if line != READY.strip():
            self.close()
            said = decode_reply(line)
            assert isinstance(said, VerifierFailure)
            raise VerifierError(said.detail)

    def close(self) -> None:
        """End the process; the next verification starts another."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def verify_all(self, pairs: Pairs) -> list[Grades]:
        """Grade every (question, response), in order.

        Raises:
            VerifierError: the verifier cannot be loaded, or fails on everything it is given, a right answer included.
        """
        graded: list[Grades] = []
        while len(graded) < len(pairs):
            graded += self._verify_some(_take(pairs, len(graded)))
            self._check_works(pairs[len(graded) - 1][0], graded[-1])
        return graded

    def _verify_some(self, pairs: Pairs) -> list[Grades]:
        """Grades of the first pairs: all of them, or up to the first that cost the process (none: try again)."""
        self.start()
        child = self._child
        assert child is not None
        done: list[Grades] = []
        try:
            child.send(encode_batch(pairs))
            for _ in pairs:
                reply = decode_reply(child.receive(self.limits.time_s))
                if isinstance(reply, Grades):
                    self._works = True
                    done.append(reply)
                elif reply.kind == "memory" and child.served:
                    break  # what earlier responses left behind must not count against this one: a fresh process
                else:
                    self._failures += 1
                    done.append(Grades(WRONG, WRONG, reply))
                    if reply.kind == "memory":
                        break
                child.served += 1
            else:
                return done
        except TimeoutError:
            failure = VerifierFailure("time", f"it took more than {self.limits.time_s:g} s")
        except (ValueError, RecursionError):
            failure = VerifierFailure("died", "it wrote into the channel of the replies")
        except _Died:
            failure = VerifierFailure("died", child.explain_death())
        except BaseException:  # Ctrl-C: replies are still under way
            self.close()
            raise
        else:
            self.close()
            return done
        self.close()
        self._failures += 1
        return [*done, Grades(WRONG, WRONG, failure)]

    def _check_works(self, question: Question, last: Grades) -> None:
        """Give up on a verifier that has graded nothing so far and cannot grade a right answer either."""
        if self._works or self._failures < _SUSPICIOUS or last.failure is None:
            return
        self._failures = 0
        while not (proof := self._verify_some([(question, f"Answer: {question.answer}")])):
            pass
        if proof[0].failure is None:
            return
        raise VerifierError(explain_broken(self.name, question.question_id, last.failure))


def _take(pairs: Pairs, start: int) -> Pairs:
    """The next batch: bounded in items and in characters, at least one."""
    end, characters = start, 0
    while end < len(pairs) and end - start < _MOST_ITEMS and (end == start or characters < _MOST_CHARACTERS):
        characters += len(pairs[end][1])
        end += 1
    return pairs[start:end]


def explain_broken(verifier: str, question_id: str, failure: VerifierFailure) -> str:
    """The message about a verifier that fails on every response."""
    return (
        f"Verifier '{verifier}' failed on every response so far, last on question '{question_id}': {failure.detail}.\n"
        "It is called as function(question: Question, response: str) and returns a bool, a number in [0, 1] or a "
        "Score.\nMend it, or choose another with --verifier."
    )

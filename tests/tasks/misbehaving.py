"""Verifiers that do what no verifier should, each on the response that asks for it."""

import mmap
import os
import sys
import time

from hydrometer.types import Grades, Score


def obedient(question, response):
    match response:
        case "hang":
            while True:
                pass
        case "hang in C":
            return 10 ** (10**10) > 0
        case "sleep":
            time.sleep(100)
        case "die":
            os._exit(7)
        case "crash":
            os.kill(os.getpid(), 11)
        case "raise":
            raise KeyError("no such thing\nreally")
        case "exit":
            sys.exit("bye")
        case "eat":
            return len(bytearray(3 << 30)) > 0
        case "print":
            print("hello", flush=True)  # noqa: T201
            os.write(1, b"raw\n")
            sys.stderr.write("x" * 100_000)
        case "pid":
            return Score(1 / os.getpid(), False, True)
        case "leak":
            try:
                LEAKED.append(mmap.mmap(-1, 900 << 20))  # address space, without the time it takes to fill it
            except OSError as error:
                raise MemoryError from error
        case "text":
            return "yes"
        case "three":
            return 3
        case "nothing":
            return None
        case "half":
            return 0.5
        case "score":
            return Score(0.25, True, False)
        case "grades":
            return Grades(Score(0.0, False, True), Score(1.0, True, True))
        case "torch":
            return "torch" not in sys.modules and "numpy" not in sys.modules
    return response == question.answer


LEAKED = []


def always_raises(question, response):
    raise ZeroDivisionError("division by zero")


def always_hangs(question, response):
    time.sleep(100)


def raises_on_garbage(question, response):
    return float(response.removeprefix("Answer: ")) == float(question.answer)

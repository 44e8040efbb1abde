"""Verifiers that reach beyond what they are asked, each on the response that says so."""

import contextlib
import os
import subprocess
import sys
import threading


def check(question, response):
    match response:
        case "fork":
            os.fork()
        case "fork and exit":
            if os.fork() == 0:
                sys.exit(0)
        case "fork and hang":
            if os.fork() == 0:
                threading.Event().wait()
        case "recurse":
            return check(question, response)
        case "recurse in C":
            sys.setrecursionlimit(10**9)
            return eval("-" * 10**6 + "1") or recurse()
        case "system exit":
            raise SystemExit(0)
        case "interrupt":
            raise KeyboardInterrupt
        case "raise text":
            raise ValueError("\x1b[31mred\n\n" + "x" * 10**6)
        case "child":
            subprocess.Popen(["sleep", "100"])
        case "write everywhere":
            for number in range(256):
                with contextlib.suppress(OSError):
                    os.write(number, b'[1.0, true, true, 1.0, true, true]\nnonsense\n[["raised"]]\n')
        case "close everything":
            os.closerange(0, 256)
        case "stdin":
            return input() == "x"
        case "not a number":
            return float("nan")
        case "endless":
            return 10**400
        case "environment":
            os.environ.clear()
            os.chdir("/")
    return response == question.answer


def recurse():
    return recurse()

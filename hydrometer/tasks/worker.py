"""The process that runs a verifier: batches come on stdin, one reply per response goes to stdout; imports no torch.

It ends when its parent does: at the end of stdin, by the kernel (Linux), or by a thread that watches the parent.
"""

import contextlib
import ctypes
import os
import random
import resource
import signal
import sys
import threading
import time
from typing import BinaryIO

from hydrometer.errors import UserError
from hydrometer.tasks.verifiers.loading import Verifier, describe_error, load_verifier
from hydrometer.tasks.wire import decode_batch, encode_reply
from hydrometer.types import Grades, Question, VerifierFailure

READY = b"ready\n"
_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of <linux/prctl.h>."""


def serve(verifier_name: str, memory_bytes: int, parent: int) -> None:
    """Load a verifier, say so, then grade batches until stdin ends."""
    die_with(parent)
    own = os.getpid()
    requests, replies = _take_over_streams()
    try:
        verifier = load_verifier(verifier_name)
    except UserError as error:
        replies.write(encode_reply(VerifierFailure("raised", str(error))))
        return
    limit_memory(memory_bytes)
    _end_copies(own)
    replies.write(READY)
    for line in requests:
        for question, response in decode_batch(line):
            reply = encode_reply(grade_one(verifier, question, response))
            _end_copies(own)
            replies.write(reply)


def _end_copies(own: int) -> None:
    """End a copy of this process that a verifier made (`os.fork`) and let go on: it would answer a second time."""
    if os.getpid() != own:
        os._exit(0)


def grade_one(verifier: Verifier, question: Question, response: str) -> Grades | VerifierFailure:
    """What the verifier says, or how it failed; python's own random numbers start the same for every response."""
    random.seed(0)
    try:
        return verifier(question, response)
    except MemoryError:
        return VerifierFailure("memory", "it needed more memory than it is allowed")
    except BaseException as error:  # whatever a user's function does, also SystemExit
        return VerifierFailure("raised", describe_error(error))


def die_with(parent: int) -> None:
    """End this process when process `parent` ends, even if it is killed and whatever is running here."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def limit_memory(allowed_bytes: int) -> None:
    """Let the address space grow by so much and no more (Linux; other systems do not enforce such a limit)."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = used + allowed_bytes
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _take_over_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout for us alone: what a verifier prints, or a library logs, must not get between the replies."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.dup2(nothing, number)
    return requests, replies

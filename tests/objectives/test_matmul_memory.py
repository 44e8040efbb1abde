"""A process that multiplies in ever new shapes does not grow without end."""

import ctypes
import os
import subprocess
import sys

import pytest

PRODUCTS = """
import ctypes, torch
from hydrometer.matmul import fast_matmul

NAMES = "arena free_n fast_n mapped_n mapped unused fast used free top".split()

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = Heap
torch.set_num_threads(1)
rows, weight = torch.ones(1000, 64), torch.ones(64, 64)
used = []
with fast_matmul(torch.device("cpu")):
    for count in range(1, 901):
        torch.nn.functional.linear(rows[:count], weight)
        if count % 300 == 0:
            used.append(libc.mallinfo2().used)
print(*used)
"""


def test_compiled_products_are_not_kept_for_ever() -> None:
    """900 shapes; a product keeps half a MiB, so that without a limit 600 of them come to 300 MiB."""
    if not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc's count of its heap")
    own = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    found = subprocess.run([sys.executable, "-c", PRODUCTS], capture_output=True, text=True, check=True, env=own)
    early, _, late = map(int, found.stdout.split())
    assert late - early < 30 * 2**20

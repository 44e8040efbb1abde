"""Resident memory of this process (Linux)."""

from collections.abc import Callable
from pathlib import Path


def peak_of(work: Callable[[], object]) -> int:
    """Highest resident size in bytes while `work` runs."""
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return resident_bytes("VmHWM")


def resident_bytes(field: str) -> int:
    """A line of this process's status, where `VmRSS` is the present and `VmHWM` the highest resident size."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)

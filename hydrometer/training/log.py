"""Lines that a training run writes as it goes: `metrics.jsonl`, one object per step, and `alarms.jsonl`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hydrometer.artifacts import write_text
from hydrometer.artifacts.disk import translate_disk_errors
from hydrometer.errors import SpecError

Row = Mapping[str, Any]


class Lines:
    """Owns one open file of JSON lines, each on the disk before the next step begins."""

    def __init__(self, path: Path, *, last_step: int):
        """Keep the lines up to a step; a torn line, left by a kill, goes with those after it."""
        self.path = path
        self.rows = read_lines(path, last_step=last_step)
        write_text(path, "".join(_render(row) for row in self.rows))
        with translate_disk_errors(path):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()

    def append(self, row: Row) -> None:
        """Write one line.

        Raises:
            DiskError: the disk refuses.
        """
        with translate_disk_errors(self.path):
            line = memoryview(_render(row).encode())
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        self.rows.append(dict(row))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_lines(path: Path, *, last_step: int) -> list[dict[str, Any]]:
    """The lines up to a step, before the first torn one."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return [row for row in rows if row["step"] <= last_step]


def _render(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


class Tracker(Protocol):
    """Where metrics also go."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step's numbers."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class TensorBoard:
    """Event files under DIR/tensorboard."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SpecError(f"--log-to tensorboard needs the package tensorboard ({error}).") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class Trackio:
    """A local trackio project called hydrometer."""

    def __init__(self, folder: Path):
        try:
            import trackio  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise SpecError(f"--log-to trackio needs the package trackio ({error}).") from error
        self._trackio = trackio
        trackio.init(project="hydrometer", name=folder.name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._trackio.finish()


_TRACKERS = {"tensorboard": TensorBoard, "trackio": Trackio}


def build_trackers(names: tuple[str, ...], folder: Path) -> list[Tracker]:
    """Read --log-to.

    Raises:
        SpecError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in _TRACKERS:
            raise SpecError(f"--log-to '{name}': expected {' or '.join(_TRACKERS)}.")
    return [_TRACKERS[name](folder) for name in names]

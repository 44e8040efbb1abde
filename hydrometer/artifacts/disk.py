"""Turns a refused write into one sentence a person can act on."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from hydrometer.errors import DiskError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Raise DiskError for an OSError while writing `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskError(
                f"No space left while writing {path} ({error.strerror}). Free some space and run again with --resume; "
                "what was kept before is not lost."
            ) from error
        raise DiskError(
            f"Cannot write {path} ({error.strerror}). Choose another --out or mend its permissions."
        ) from error

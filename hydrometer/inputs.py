"""Files that a person names: only plain ones are opened, and only so much of them is read.

A device, a pipe or a directory in the place of a text file is refused before a byte of it is read, so that nothing
hangs on `/dev/zero` or on a pipe that nobody writes to.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_TEXT_BYTES = 4 << 20
"""Of a text that is read whole: templates, rules, system prompts, options."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def open_plain(path: str | Path) -> BinaryIO:
    """Open a plain file (or a link to one) to read its bytes; `~` is written out.

    Raises:
        OSError: it is not there, may not be read, or is not a plain file.
    """
    name = os.path.expanduser(path)
    if "\0" in str(name):
        raise OSError("a file name cannot hold a NUL character")
    number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer does not block
    kind = stat.S_IFMT(os.fstat(number).st_mode)
    if kind != stat.S_IFREG:
        os.close(number)
        raise OSError(f"it is {_KINDS.get(kind, 'something else')}, not a plain file")
    return os.fdopen(number, "rb")


def read_plain_text(path: str | Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The UTF-8 text of a plain file, with its line ends written as newlines.

    Raises:
        OSError: see `open_plain`; also a file of more than `most_bytes`.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_plain(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(f"it is larger than {most_bytes / 2**20:g} MiB")
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def refuse_special(path: Path) -> None:
    """Look whether a path that is there is a plain file (or a link to one); one that is not there passes.

    Raises:
        OSError: it is a device, a pipe, a socket or a folder.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if kind != stat.S_IFREG:
        raise OSError(f"it is {_KINDS.get(kind, 'something else')}, not a plain file")

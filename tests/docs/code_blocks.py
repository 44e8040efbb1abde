"""The code blocks of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "hydrometer" / "recipes" / "book").glob("*/README.md")),
)
_FENCED = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (?:\$ )?(hydrometer .*)$", re.MULTILINE)
_COMMENT = re.compile(r"\s# .*$")
_CONTINUED = re.compile(r" *\\\n *")


class Block(NamedTuple):
    """A fenced block that a reader would run."""

    page: str
    language: str
    text: str


def read_blocks(page: Path) -> list[Block]:
    """The fenced `sh` and `python` blocks of a page, in order."""
    found = _FENCED.findall(page.read_text(encoding="utf-8"))
    return [Block(page.name, language, text) for language, text in found]


def read_commands(text: str) -> list[list[str]]:
    """The `hydrometer` commands of a block, without comments and without the first word."""
    lines = _CONTINUED.sub(" ", text).splitlines()
    return [shlex.split(_COMMENT.sub("", line))[1:] for line in lines if line.startswith("hydrometer ")]


def every_command() -> Iterator[tuple[str, list[str]]]:
    """The page and the words of every command in the documentation, fenced or indented."""
    for page in PAGES:
        indented = _INDENTED.findall(_CONTINUED.sub(" ", page.read_text(encoding="utf-8")))
        for text in (*indented, *(block.text for block in read_blocks(page))):
            for words in read_commands(text):
                yield str(page.relative_to(ROOT)), words

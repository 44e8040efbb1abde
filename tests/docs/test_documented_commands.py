"""Every command in the documentation is one that the command line takes: its options exist and their values fit."""

from pathlib import Path

import pytest
from code_blocks import every_command

from hydrometer.cli.main import app

_STANDS_FOR = {"T": ["--teacher", "expert=bundled:expert"]}
"""Words by which a page abbreviates."""
_PATTERNS = {"COMMAND", "[TEACHER", "KIND", "[OPTIONS]", "...", "ARGS"}
"""Words of a line that shows a form and not a command."""
COMMANDS = [
    pytest.param(
        [part for word in words for part in _STANDS_FOR.get(word, [word])], id=f"{page}: {' '.join(words)}"[:150]
    )
    for page, words in every_command()
    if page != "docs/cli.md" and words and not _PATTERNS & set(words)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_documented_command_is_taken(words: list[str]) -> None:
    app.config = ()
    function, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert callable(function)
    if "--out" in words:
        assert bound.arguments["out"] == Path(words[words.index("--out") + 1])


def test_commands_are_found() -> None:
    pages = {page for page, _ in every_command()}
    assert {"README.md", "docs/tutorial.md", "docs/check.md", "docs/real-models.md"} <= pages
    assert len(COMMANDS) > 50

"""What mkdocs does to docs/ when it builds the site: the recipes' READMEs become pages, and links to them find them.

Everything else is read as it stands, so that the same files are readable on a forge.
"""

import importlib
import re
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parents[1] / "hydrometer" / "recipes" / "book"
_LINK = re.compile(r"\]\((?:\.\./)+(?:hydrometer/recipes/book/)?(\w+)/README\.md\)")


def on_files(files: Any, *, config: Any) -> Any:
    """Add a page for every recipe."""
    structure = importlib.import_module("mkdocs.structure.files")  # only where the extra `docs` is installed
    for readme in sorted(BOOK.glob("*/README.md")):
        text = readme.read_text(encoding="utf-8")
        files.append(structure.File.generated(config, f"recipe-{readme.parent.name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to a recipe's README lead to its page."""
    return _LINK.sub(r"](recipe-\1.md)", markdown)

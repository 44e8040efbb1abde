"""What mkdocs does to docs/ when it builds the site: the recipes' READMEs become pages, and links to them find them.

Everything else is read as it stands, so that the same files are readable on a forge. A built page that would fetch a
script, a style sheet, a font or a picture from elsewhere ends the build.
"""

import importlib
import re
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parents[1] / "hydrometer" / "recipes" / "book"
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc\s*=\s*["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b(?=[^>]*\brel\s*=\s*["']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^>]*>"""
    r"""|(?:@import\s+["']|url\(\s*["']?)(?:https?:)?//[^)]*\)?"""
)
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


def on_post_build(config: Any, **_: Any) -> None:
    """Refuse a site that needs the network to be read.

    Raises:
        ValueError: a page or style sheet names something to be fetched from elsewhere.
    """
    for path in sorted(Path(config["site_dir"]).rglob("*")):
        if path.suffix in {".html", ".css"} and (found := find_fetched(path.read_text(encoding="utf-8"))):
            raise ValueError(f"{path} would fetch {found[:200]}")


def find_fetched(text: str) -> str | None:
    """The first place of a page or style sheet that makes a browser fetch something from elsewhere."""
    found = _FETCHED.search(text)
    return found.group() if found else None

"""docs/contexts.md shows the prompts that the package makes."""

import importlib.util
from pathlib import Path

from hydrometer.teachers import FRAMES

ROOT = Path(__file__).parents[2]


def test_the_page_shows_every_prompt_as_it_is() -> None:
    """To refresh the examples: python scripts/show_contexts.py."""
    spec = importlib.util.spec_from_file_location("show_contexts", ROOT / "scripts" / "show_contexts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "contexts.md").read_text(encoding="utf-8")
    assert page.endswith(module.render_examples())
    shown = {context.partition(":")[0] for context in module.CONTEXTS}
    assert shown == {*FRAMES, "empty"}
    for name in FRAMES:
        assert f"`{name}" in page.partition("## Every prompt")[0]

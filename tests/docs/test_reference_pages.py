"""Pages that are made from the code are what the code makes now, and pages that name things of the code name all."""

import re

import pytest
import yaml
from code_blocks import ROOT

from hydrometer.artifacts.metrics import find_metric
from hydrometer.dynamics import RULES
from hydrometer.recipes.runner import known_recipes
from scripts.reference_pages import PAGES

DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_the_code_is_up_to_date(name: str) -> None:
    """To refresh: make reference."""
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name]()


def test_every_option_of_a_command_is_on_its_page() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    sections = dict(
        zip(re.findall(r"^##+ (.+)$", text, re.MULTILINE), re.split(r"^##+ .+$", text, flags=re.M)[1:], strict=True)
    )
    for command, option in (("diagnose", "--candidate-threshold"), ("train", "--lora-rank"), ("report", "--out")):
        assert f"`{option}" in sections[f"hydrometer {command}"]
    assert "`--k INT`" in sections["hydrometer probe pattern"]


def test_every_alarm_has_its_place_on_the_page_of_failing_runs() -> None:
    text = (DOCS / "failing.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    for rule in RULES:
        assert any(f"`{rule.name}`" in line for line in table), f"{rule.name} is in no row"
    for line in table[1:]:
        names = re.findall(r"`(\w+_?\*?)`", line.split("|")[3])
        for name in names:
            find_metric(name.replace("*", "0"))
    linked = set(re.findall(r"recipes/book/(\w+)/README", text))
    assert linked <= set(known_recipes()) and "cold_start" in linked


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = str(yaml.safe_load(text)["nav"])
    for page in DOCS.glob("*.md"):
        assert f"'{page.name}'" in nav
    for recipe in known_recipes():
        assert f"'recipe-{recipe}.md'" in nav

"""What the site needs beside its pages: links to recipes that lead to their pages, and nothing from the network."""

import pytest

from scripts.docs_hook import find_fetched, on_page_markdown


@pytest.mark.parametrize(
    ("written", "built"),
    [
        ("see [a](../hydrometer/recipes/book/cold_start/README.md).", "see [a](recipe-cold_start.md)."),
        ("[b](../cold_start/README.md)", "[b](recipe-cold_start.md)"),
        (
            "[c](training.md#recipes) and `../cold_start/README.md`",
            "[c](training.md#recipes) and `../cold_start/README.md`",
        ),
    ],
)
def test_links_to_recipes_lead_to_their_pages(written: str, built: str) -> None:
    assert on_page_markdown(written, page=None, config=None, files=None) == built


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://unpkg.com/iframe-worker/shim"></script>',
        "<link rel=stylesheet href=//fonts.example/css>",
        '<link href="https://fonts.example" rel="preconnect">',
        "<img alt=\"x\" src='http://example.org/a.png'>",
        "body { background: url(https://example.org/a.png) }",
        '@import "https://example.org/a.css";',
    ],
)
def test_what_would_be_fetched_is_found(text: str) -> None:
    assert find_fetched(f"<p>before</p>{text}<p>after</p>")


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://arxiv.org/abs/2605.10889">a paper</a>',
        '<script src="assets/javascripts/bundle.js"></script>',
        '<link rel="stylesheet" href="assets/main.css">',
        '<link rel="canonical" href="https://example.org/page">',
        "background: url(data:image/svg+xml;base64,AAAA)",
    ],
)
def test_links_and_own_files_are_not(text: str) -> None:
    assert find_fetched(text) is None

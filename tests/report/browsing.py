"""A headless Chromium for tests, and pages opened in it with everything that goes wrong there collected."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "html[data-ready]"


def find_browser() -> str | None:
    """HYDROMETER_BROWSER, or a Chromium on the path."""
    return os.environ.get("HYDROMETER_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def running_browser() -> Iterator[Any]:
    """A browser, or a skip with the reason; where HYDROMETER_BROWSER names one, its absence is a failure."""
    required = "HYDROMETER_BROWSER" in os.environ
    path = find_browser()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        assert not required, "HYDROMETER_BROWSER is set, but playwright is not installed"
        pytest.skip("playwright is not installed: pip install 'hydrometer[dev]'")
    if path is None:
        pytest.skip(f"no browser was found ({', '.join(BROWSERS)}): apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Any, path: Path, *, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """The page once it is ready; complaints, errors and dialogs that it makes while it is open fail the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if is_own(request.url) else wrong.append(f"asked for {request.url}"))
    page.goto(path.resolve().as_uri())
    page.wait_for_selector(READY, state="attached", timeout=20_000)
    yield page
    context.close()
    assert wrong == []


def is_own(address: str) -> bool:
    return address.startswith(("file:", "data:", "blob:"))


def draw_everything(page: Any) -> None:
    """Bring every figure to the window once, so that it is drawn."""
    shown = "[...document.querySelectorAll('figure')].filter((figure) => figure.checkVisibility())"
    for place in range(page.evaluate(f"{shown}.length")):
        page.evaluate(f"{shown}[{place}].scrollIntoView()")
        wait_until(page, f"Boolean({shown}[{place}].querySelector('.plot > *'))")
    page.evaluate("scrollTo(0, 0)")


def wait_until(page: Any, condition: str) -> None:
    """Ask the page from outside: its policy admits no condition that is evaluated inside."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)

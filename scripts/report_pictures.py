"""Takes the pictures of the report that stand in the docs, with Chromium through Playwright.

    python scripts/report_pictures.py runs/demo/report.html answer=docs/images/report-answer.png \
        tokens=docs/images/report-tokens.png

Each picture is one block of the page by its id, or one figure by its key, at 1280 pixels; `--dark` and `--width N`
change that. HYDROMETER_BROWSER names the browser (default: chromium on the path).
"""

import argparse
import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Page, sync_playwright  # pyright: ignore[reportMissingImports]

COLOURS = 200
MARGIN = 20
TALLEST = 1500
"""Pixels; what is below is cut off."""


def take_pictures(page: Page, wanted: list[str]) -> None:
    """One picture for each NAME=FILE."""
    for entry in wanted:
        name, _, target = entry.partition("=")
        place = page.locator(f"section#{name}, div#{name}, figure[data-figure='{name}']").first
        place.scroll_into_view_if_needed()
        page.wait_for_timeout(400)
        box = place.bounding_box()
        if box is None:
            raise SystemExit(f"{name} is not shown on the page")
        top = page.evaluate("scrollY")
        clip: FloatRect = {
            "x": max(box["x"] - MARGIN, 0),
            "y": box["y"] + top + (MARGIN if name != "answer" else 0),
            "width": box["width"] + 2 * MARGIN,
            "height": min(box["height"], TALLEST),
        }
        cut = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
        cut.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
        print(f"{target}: {cut.width} x {cut.height}, {Path(target).stat().st_size:,} bytes")


def main() -> None:
    """Open the page, draw all of it, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("pictures", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--press", default="", help="keys to press first, such as h (the most harmful token) or c")
    given = parser.parse_args()
    browser_path = os.environ.get("HYDROMETER_BROWSER") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        scheme = "dark" if given.dark else "light"
        page = browser.new_page(viewport={"width": given.width, "height": 1000}, color_scheme=scheme)
        page.goto(given.page.resolve().as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        for key in given.press:
            page.keyboard.press(key)
        take_pictures(page, given.pictures)
        browser.close()


if __name__ == "__main__":
    main()

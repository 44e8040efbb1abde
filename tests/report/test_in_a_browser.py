"""The pages in a real browser: from the ranking to a token, keys, layout, hostile text, files that are saved, speed."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from browsing import draw_everything, open_page, running_browser, wait_until
from PIL import Image
from synthetic import make_summary, write_run
from test_page import HOSTILE
from training_runs import write_training

from hydrometer.artifacts import write_json
from hydrometer.report import build_comparison, build_report

pytestmark = pytest.mark.browser
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(run_folder: Path) -> Path:
    return build_report(run_folder)


def labels(page: Any, figure: str) -> list[str]:
    """Texts of a figure without what shows when a reader points at them."""
    own = "[...text.childNodes].filter((node) => node.nodeName !== 'title').map((node) => node.textContent).join('')"
    return page.eval_on_selector_all(f"[data-figure={figure}] svg text", f"texts => texts.map((text) => {own})")


def unlike(first: bytes, second: bytes) -> float:
    """Share of the pixels of two screenshots that differ by more than the rounding of a drawn edge."""
    pictures = [np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=np.int64) for shot in (first, second)]
    return float((np.abs(pictures[0] - pictures[1]).max(axis=-1) > 48).mean())


def test_a_reader_goes_from_the_ranking_to_a_token_and_switches_teachers(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        page.evaluate("window.same = true")
        assert page.inner_text(".headline").startswith("Train with expert")
        assert "★ expert, forward_kl" in labels(page, "ranking") or "★ expert, reverse_kl" in labels(page, "ranking")
        page.select_option("[data-figure=ranking] select", "Mean advantage")
        page.click("[data-figure=ranking] .numbers-table summary")
        assert "Mean advantage" in page.inner_text("[data-figure=ranking] table")

        page.fill("#question-filter", "q002")
        assert page.locator("#question-table tbody tr").count() == 1
        page.click("#question-table button.open")
        assert page.eval_on_selector("#choose-question", "select => select.selectedOptions[0].text").startswith("q002")

        tokens = page.locator("#token-panes .tok")
        tokens.nth(3).click()
        assert page.inner_text("#node h3").startswith("Token 3:")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#node h3").startswith("Token 4:")

        page.select_option("#choose-teacher", "expert")
        before = page.eval_on_selector_all("#token-panes .tok", "tokens => tokens.map((token) => token.className)")
        page.select_option("#choose-teacher", "self+wrong_answer")
        after = page.eval_on_selector_all("#token-panes .tok", "tokens => tokens.map((token) => token.className)")
        assert len(before) == len(after) == 14
        assert before != after
        page.select_option("#choose-other", "expert")
        panes = page.locator(".pane")
        assert panes.count() == 2
        assert [panes.nth(place).locator("h3").inner_text() for place in (0, 1)] == ["self+wrong_answer", "expert"]
        assert panes.nth(1).locator(".tok").evaluate_all("tokens => tokens.map((token) => token.className)") == before
        assert page.evaluate("window.same"), "nothing was loaded again"


def test_the_most_harmful_token_of_the_run_is_two_clicks_away(browser: Any, run_folder: Path, report: Path) -> None:
    kept = pl.read_parquet(run_folder / "candidates.parquet").filter("kept")
    scores = pl.read_parquet(run_folder / "teacher_scores.parquet").filter(teacher="self+wrong_answer")
    alignment = pl.read_parquet(run_folder / "alignment.parquet")
    arm = alignment.filter(teacher="self+wrong_answer", objective="reverse_kl").drop_nulls("cosine")
    worst = None
    for row in arm.sort("signal").iter_rows(named=True):
        key = {name: row[name] for name in ("question_id", "rollout_id", "position")}
        here = kept.filter(**key).join(scores, on=[*key, "token_id"])
        p = np.exp(here["student_logprob"].to_numpy())
        d = p * (here["field:reverse_kl"].to_numpy() - (p * here["field:reverse_kl"].to_numpy()).sum() / p.sum())
        weights = p * (d - (p * d).sum() / p.sum())
        half = (here["success_high"] - here["success_low"]).to_numpy() / 2
        if abs((weights * here["success_rate"].to_numpy()).sum()) > np.sqrt(((weights * half) ** 2).sum()):
            worst = row
            break
    assert worst is not None
    with open_page(browser, report) as page:
        page.select_option("#choose-teacher", "self+wrong_answer")
        page.select_option("#choose-objective", "reverse_kl")
        page.evaluate("document.activeElement.blur()")
        page.select_option("#choose-question", index=1)
        page.click("#jump-help")
        page.click("#jump-harm")
        found = page.eval_on_selector("#choose-question", "select => select.selectedOptions[0].text")
        assert found.startswith(worst["question_id"])
        assert page.inner_text("#node h3").startswith(f"Token {worst['position']}:")
        told = page.inner_text("#node")
        assert "The teacher pulls away from success here" in told
        assert f"{worst['signal']:+.3f}".replace("-", "−") in told
        assert re.search(
            r"Of these candidates it favours .+ \(student .+, teacher .+\), after which the student is right in \d+ % "
            r"of \d+ visits, over .+ \(student .+\), after which it is right in \d+ % of \d+ visits\.",
            told,
        )
        assert re.search(r"The most harmful of the \d+ harmful tokens of all responses, by signal\.", told)
        page.click("#jump-harm")
        assert "Number 2 of the" in page.inner_text("#node .standing")


def test_the_page_opens_at_the_most_harmful_token_and_a_first_jump_stays_there(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        page.click(".onward a")
        opened = page.inner_text("#node h3")
        assert page.inner_text("#node .standing").startswith("The most harmful of the")
        page.click("#jump-harm")
        assert page.inner_text("#node h3") == opened
        asked = page.inner_text("#question-asked")
        assert asked.startswith("The student was asked:") and "Right would be" in asked
        page.select_option("#jump-scope", "response")
        assert "tokens of this response" in page.inner_text("#node .standing")


def test_keys_do_what_the_page_says(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        chosen = lambda name: page.eval_on_selector(f"#choose-{name}", "select => select.selectedIndex")  # noqa: E731
        page.keyboard.press("?")
        assert page.is_visible("#keys")
        page.keyboard.press("Escape")
        assert not page.is_visible("#keys")
        for key, name in (("n", "question"), ("t", "teacher"), ("o", "objective"), ("m", "metric"), ("r", "path")):
            before = chosen(name)
            page.keyboard.press(key)
            assert chosen(name) != before, key
        page.keyboard.press("c")
        assert page.locator(".pane").count() == 2
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "question-filter"
        page.keyboard.type("nth")  # letters typed into a field move nothing
        assert page.input_value("#question-filter") == "nth"


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_or_lies_over_anything_else(browser: Any, report: Path, width: int) -> None:
    with open_page(browser, report, width=width) as page:
        draw_everything(page)
        page.select_option("#choose-other", index=1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        out = page.evaluate(
            """() => [...document.querySelectorAll("figure svg text")].filter((text) => {
                const [own, host] = [text.getBoundingClientRect(), text.closest("figure").getBoundingClientRect()];
                const sideways = own.left < host.left - 1 || own.right > host.right + 1;
                return own.width && (sideways || own.bottom > host.bottom + 1);
            }).map((text) => `${text.closest("figure").dataset.figure}: ${text.textContent}`)"""
        )
        assert out == []
        parts = "section, figure, .verdict, .controls, .jump, #token-key, .pane, #node, #question-table, .legend > div"
        overlapping = page.evaluate(
            """(parts) => {
                const all = [...document.querySelectorAll(parts)].filter((part) => part.offsetParent);
                const boxes = all.map((part) => [part, part.getBoundingClientRect()]);
                const over = [];
                for (const [a, x] of boxes) for (const [b, y] of boxes) {
                    if (a === b || a.contains(b) || b.contains(a)) continue;
                    if (x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 1 && y.top < x.bottom - 1) {
                        over.push([a.id || a.className || a.tagName, b.id || b.className || b.tagName]);
                    }
                }
                return over;
            }""",
            parts,
        )
        assert overlapping == []


def test_the_page_looks_the_same_after_it_was_turned_dark_and_narrow_and_back(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        page.mouse.move(0, 0)
        wait_until(page, "Boolean(document.querySelector('[data-figure=ranking] svg'))")
        first = page.screenshot()
        page.click("#theme")
        dark = page.screenshot()
        page.set_viewport_size({"width": 390, "height": 900})
        page.wait_for_timeout(400)
        page.set_viewport_size({"width": 1280, "height": 900})
        wait_until(page, "document.querySelector('[data-figure=ranking] svg').getBoundingClientRect().width > 900")
        page.click("#theme")
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(200)
        assert unlike(page.screenshot(), first) < 0.001
        assert unlike(dark, first) > 0.5
        page.emulate_media(media="print")
        assert not page.is_visible("#controls")
        page.set_viewport_size({"width": 800, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 800
        assert page.is_visible("[data-figure=ranking] svg")


def test_hostile_text_does_nothing_and_is_shown(browser: Any, tmp_path: Path) -> None:
    words = tuple(word if len(word) < 1000 else word[:100_000] for word in HOSTILE)
    tables = write_run(
        tmp_path, questions=2, paths=1, tokens=30, words=words, teachers={HOSTILE[0]: 1.0, HOSTILE[1]: -1.0}
    )
    write_json(tmp_path / "summary.json", make_summary(tables) | {"warnings": list(HOSTILE)})
    with open_page(browser, build_report(tmp_path)) as page:
        draw_everything(page)
        assert page.title() == f"Hydrometer: {tmp_path.name}"
        assert page.locator("script").count() == 3
        assert page.locator("img").count() == 0
        shown = page.inner_text("#token-panes") + page.inner_text("#warnings")
        assert "</script><script>document.title='owned'</script>" in shown
        assert "<img src=x onerror=alert(1)>" in shown
        assert "⟨U+202E⟩" in shown
        assert any("<img src=x" in label for label in labels(page, "ranking"))
        for place in range(0, 30, 7):
            page.locator("#token-panes .tok").nth(place).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_what_is_saved_is_the_figure_and_its_numbers(browser: Any, report: Path, tmp_path: Path) -> None:
    with open_page(browser, report) as page:
        page.wait_for_selector("[data-figure=ranking] svg")
        saved = {}
        for place, kind in enumerate(("svg", "png", "csv")):
            with page.expect_download() as waiting:
                page.locator("[data-figure=ranking] .save").nth(place).click()
            assert waiting.value.suggested_filename == f"ranking.{kind}"
            saved[kind] = tmp_path / waiting.value.suggested_filename
            waiting.value.save_as(saved[kind])
        width = page.eval_on_selector("[data-figure=ranking] .plot svg", "svg => svg.getAttribute('width')")
    picture = saved["svg"].read_text(encoding="utf-8")
    tree = ElementTree.fromstring(picture)
    assert tree.tag.endswith("svg")
    assert "How every arm points: Ranking score" in "".join(tree.itertext())
    assert "var(--" not in picture
    header = saved["png"].read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(header[16:20]) == 2 * int(width)
    rows = list(csv.DictReader(saved["csv"].read_text(encoding="utf-8").splitlines()))
    assert {row["metric"] for row in rows} >= {"Ranking score", "Pooled cosine", "Mean signal"}
    best = next(row for row in rows if row["metric"] == "Ranking score" and row["split"] == "all")
    assert best["arm"].startswith("★ expert")


def test_training_runs_are_drawn_with_their_alarms_and_laid_over_each_other(browser: Any, tmp_path: Path) -> None:
    folders = [write_training(tmp_path / name, seed=seed) for seed, name in enumerate(("calm", "loud"))]
    page_path = build_comparison(tmp_path / "comparison.html", folders, diagnoses=None)
    for path in (build_report(folders[1]), page_path):
        with open_page(browser, path) as page:
            draw_everything(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280
            lines = page.locator("[data-figure=metric-accuracy] .plot svg [aria-label=line] path")
            assert lines.count() == (1 if path != page_path else 2)
            assert labels(page, "metric-accuracy").count("⚠") == 1
            assert "repetition" in page.inner_text("main")
            page.click("summary:has-text('more metric')")
            draw_everything(page)
            assert page.locator("[data-figure=metric-new_metric] .plot svg").count() == 1


BIG = """
import sys
from pathlib import Path
from synthetic import multiply_questions, write_run
from hydrometer.report import build_report
folder = Path(sys.argv[1])
teachers = {f"teacher {number}": float(number - 3) / 2 for number in range(8)}
tables = write_run(folder, questions=10, paths=2, tokens=60, teachers=teachers)
multiply_questions(folder, tables, 5)
print(build_report(folder))
"""


def test_fifty_questions_and_eight_teachers_fit_open_and_react_at_once(browser: Any, tmp_path: Path) -> None:
    """Built in a process of its own, without the checks that tests make of every call."""
    made = subprocess.run(
        [sys.executable, "-c", BIG, str(tmp_path / "big")],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        check=True,
    )
    path = Path(made.stdout.strip())
    assert path.stat().st_size <= 3_000_000
    opened, reacted = [], []
    for _ in range(5):
        with open_page(browser, path) as page:
            opened.append(json.loads(page.get_attribute("html", "data-ready")))
            assert page.locator("#question-table tbody tr").count() == 50
            reacted.append(
                page.evaluate(
                    """() => {
                        const start = performance.now();
                        const select = document.getElementById("choose-teacher");
                        select.selectedIndex = 5;
                        select.dispatchEvent(new Event("change"));
                        document.body.getBoundingClientRect();
                        return performance.now() - start;
                    }"""
                )
            )
        if opened[-1] < 1000 and reacted[-1] < 1000:
            break
    assert min(opened) < 1000, f"ms until the page was ready: {opened}"
    assert min(reacted) < 1000, f"ms until the teacher was switched: {reacted}"

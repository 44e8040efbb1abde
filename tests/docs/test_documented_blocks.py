"""Every fenced block of the documentation runs, page by page and in order, with less to do than the page says.

What a block asks for is shortened by `SHORTER`; what cannot run here stands in `LEFT_OUT` with the reason.
"""

import re
import shutil
from pathlib import Path

import pytest
from code_blocks import PAGES, Block, read_blocks, read_commands

from hydrometer.cli.main import run_command

LEFT_OUT = {
    ("index.md", "pip install"): "installs the package",
    ("choose-a-teacher.md", "hydrometer"): "real models; its options are checked with every other command",
    ("evaluation.md", "from hydrometer.evaluation.comparison"): "a fragment whose tables are the reader's",
    ("objectives.md", "from hydrometer"): "a fragment whose tensors are the reader's; tests/objectives has both calls",
    (
        "trl.md",
        "from hydrometer.integrations.trl",
    ): "a fragment whose models are the reader's; tests/integrations trains",
}
RUN_BY_HAND = {("recipe", "cold_start"): "four minutes; tests/recipes runs recipes with less to do"}
"""Commands whose blocks run without them, by their first words."""
SHORTER = [
    (
        r"--questions 24 --visits 6 --min-visits 6",
        "--questions 2 --rollouts 6 --visits 2 --min-visits 2 --teacher expert=bundled:expert",
    ),
    (r"--goal choose", "--goal choose --questions 8 --paths 4 --teacher expert=bundled:expert"),
    (r"--steps \d+", "--steps 2 --prompts-per-step 2 --num-generations 2 --eval-samples 2"),
    (
        r"train --teacher other-pattern=bundled:other-pattern --steps",
        "train --no-check --teacher other-pattern=bundled:other-pattern --steps",
    ),
    (r"--eval-questions \d+", "--eval-questions 2"),
    (r"--eval-steps \d+", "--eval-steps 1"),
    (r"--samples 8", "--samples 2 --questions 4"),
    (r"(probe prefix .*)", r"\1 --questions 2"),
    (r"(probe pattern .*)", r"\1 --questions 2 --samples 2"),
    (r"questions=6,", "questions=3,"),
    (r"questions=12", "questions=4, rollouts=6, visits=2, min_visits=2"),
    (r"questions=(?:50|60)", "questions=3"),
]
"""What a page says, and what is run instead."""


def _left_out(block: Block) -> str | None:
    for (page, start), reason in LEFT_OUT.items():
        if block.page == page and block.text.startswith(start):
            return reason
    return None


def _blocks_to_run(page: Path) -> list[Block]:
    return [block for block in read_blocks(page) if not _left_out(block)]


def _shorten(text: str) -> str:
    for pattern, replacement in SHORTER:
        text = re.sub(pattern, replacement, text)
    return text


RUN = [page for page in PAGES if _blocks_to_run(page)]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "runs/source" in page.read_text(encoding="utf-8"):
        shutil.copytree(request.getfixturevalue("small_diagnosis"), tmp_path / "runs" / "source")
    names: dict[str, object] = {}
    for block in _blocks_to_run(page):
        if block.language == "python":
            exec(compile(_shorten(block.text), page.name, "exec"), names)
            continue
        for words in read_commands(_shorten(block.text)):
            if tuple(words[:2]) in RUN_BY_HAND:
                continue
            assert run_command(words) == 0, f"{' '.join(words)}\n{capsys.readouterr().err}"
            if "--out" in words:
                assert (Path(words[words.index("--out") + 1]) / "summary.json").exists()


def test_the_pages_for_strangers_are_among_those_that_run() -> None:
    named = {page.name for page in RUN}
    assert {"README.md", "tutorial.md", "train-and-watch.md", "failing.md", "python.md", "probes.md"} <= named


def test_what_is_left_out_is_still_there() -> None:
    blocks = [block for page in PAGES for block in read_blocks(page)]
    for page, start in LEFT_OUT:
        assert any(block.page == page and block.text.startswith(start) for block in blocks), (page, start)
    joined = "\n".join(block.text for block in blocks)
    for words in RUN_BY_HAND:
        assert f"hydrometer {' '.join(words)}" in joined
    for pattern, _ in SHORTER:
        assert re.search(pattern, joined), f"no block says {pattern} any more"

"""A run ends with its report, and is complete without one."""

from pathlib import Path

import pytest
from training_runs import write_training

from hydrometer.errors import DiskError
from hydrometer.report import build_report, end_with_report


def test_a_finished_run_gets_the_page_that_the_command_builds(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    said: list[str] = []
    end_with_report(folder, said.append)
    written = (folder / "report.html").read_bytes()
    assert build_report(folder).read_bytes() == written
    assert said == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(DiskError("The disk is full."), "The disk is full."), (KeyError("difference"), "KeyError: 'difference'")],
)
def test_what_goes_wrong_with_a_report_is_a_sentence_and_leaves_no_page_of_an_earlier_sitting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    folder = write_training(tmp_path / "run")
    build_report(folder)
    files = {path.name for path in folder.iterdir()}

    def fail(folder: Path) -> Path:
        raise error

    monkeypatch.setattr("hydrometer.report.build.build_report", fail)
    said: list[str] = []
    end_with_report(folder, said.append)
    [sentence] = said
    assert sentence == (
        f"The report could not be built ({reason}). The run is complete; try: hydrometer report {folder}"
    )
    assert {path.name for path in folder.iterdir()} == files - {"report.html"}

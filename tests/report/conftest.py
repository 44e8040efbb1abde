from pathlib import Path

import pytest
from synthetic import write_run

from hydrometer.report import RunFiles, read_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that tests only read."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, questions=3, paths=2, tokens=14)
    return folder


@pytest.fixture(scope="session")
def run_files(run_folder: Path) -> RunFiles:
    return read_run(run_folder)

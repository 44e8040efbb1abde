"""The notebook runs from top to bottom, and its cells show what the text around them promises."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "diagnose_and_train.ipynb"


def _outputs(cells: list[dict], start: str) -> dict:
    """What the cell that begins like this shows, by type; the type of what is printed is `stream`."""
    [cell] = [cell for cell in cells if cell["source"].startswith(start)]
    shown = {}
    for output in cell["outputs"]:
        shown |= {"stream": output["text"]} if output["output_type"] == "stream" else output["data"]
    return shown


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ranked = _outputs(cells, "run = hydrometer.diagnose")["text/html"]
    assert all(name in ranked for name in ("expert", "other-pattern", "self+answer", "no teacher"))
    assert "P(near best)" in ranked
    assert _outputs(cells, 'run.figures["ranking"]')["image/png"]
    assert "signal -" in _outputs(cells, "worst")["stream"]
    accuracies = _outputs(cells, "leader")["text/plain"]
    assert "'before': 0." in accuracies and "'after': 0." in accuracies
    assert _outputs(cells, 'trained.figures["metric-reverse_kl"]')["image/png"]
    assert "shape: (12, 5)" in _outputs(cells, "trained.metrics")["text/plain"]

"""`open_run`: the object of a run from its folder, whatever kind of run it was.

run = open_run("runs/first")
run.ranking.to_pandas(), run.table("alignment"), run.figures["ranking"]
"""

from pathlib import Path

from hydrometer.errors import RunFolderError
from hydrometer.evaluation.run import Evaluation, open_evaluation
from hydrometer.probes.run import Probe, open_probe
from hydrometer.report import run_kind
from hydrometer.results import Diagnosis, Training, open_diagnosis, open_training


def open_run(folder: str | Path) -> Diagnosis | Training | Evaluation | Probe:
    """What `diagnose`, `train`, `evaluate` or `probe` returned when they wrote this folder.

    Raises:
        RunFolderError: the folder holds no finished run, a run of another schema version, or a recipe.
    """
    path = Path(folder)
    match kind := run_kind(path):
        case "diagnosis":
            return open_diagnosis(path)
        case "training":
            return open_training(path)
        case "evaluation":
            return open_evaluation(path)
        case "probe":
            return open_probe(path)
    stages = sorted(found.parent.name for found in path.glob("*/run.json"))
    hint = f" Open one of its stages: {', '.join(stages)}." if stages else ""
    raise RunFolderError(f"{path} is the folder of a run of kind '{kind}', which has no object of its own.{hint}")

"""Finished runs as Python objects: tables as frames, the ranking, and the figures of the report.

    run = open_diagnosis(Path("runs/first"))
    run.ranking, run.table("alignment"), run.figures["ranking"]

A run that has just been made and one that is read from its folder are the same object. Nothing here imports torch.
"""

from hydrometer.results.diagnosed import Diagnosis, open_diagnosis
from hydrometer.results.figures import RunFigure
from hydrometer.results.trained import Training, open_training

__all__ = ["Diagnosis", "RunFigure", "Training", "open_diagnosis", "open_training"]

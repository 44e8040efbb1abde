"""Hydrometer: which teacher, context, objective and tokens help, before paying for on-policy distillation.

>>> import hydrometer
>>> result = hydrometer.diagnose(out="runs/first", teacher=["expert=bundled:expert", "self+answer"])
>>> print(result.summary["verdict"])
>>> hydrometer.open_run("runs/first").ranking
>>> hydrometer.train(out="runs/trained", teacher="expert=bundled:expert").summary["after"]["accuracy"]
>>> hydrometer.probe("prefix", teacher="expert=bundled:expert").summary["teachers"]["expert"]["verdict"]
>>> hydrometer.evaluate(model="bundled:student", task="bundled:chain", samples=8).accuracy
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hydrometer.version import __version__

if TYPE_CHECKING:
    from hydrometer.diagnosis.run import diagnose as diagnose
    from hydrometer.evaluation.run import Evaluation as Evaluation
    from hydrometer.evaluation.run import evaluate as evaluate
    from hydrometer.opening import open_run as open_run
    from hydrometer.probes.run import Probe as Probe
    from hydrometer.probes.run import probe as probe
    from hydrometer.results import Diagnosis as Diagnosis
    from hydrometer.results import Training as Training
    from hydrometer.training.run import train as train

__all__ = [
    "Diagnosis",
    "Evaluation",
    "Probe",
    "Training",
    "__version__",
    "diagnose",
    "evaluate",
    "open_run",
    "probe",
    "train",
]


_FRONT_DOORS = {
    "diagnose": "hydrometer.diagnosis.run",
    **dict.fromkeys(("evaluate", "Evaluation"), "hydrometer.evaluation.run"),
    **dict.fromkeys(("probe", "Probe"), "hydrometer.probes.run"),
    "train": "hydrometer.training.run",
    **dict.fromkeys(("Diagnosis", "Training"), "hydrometer.results"),
    "open_run": "hydrometer.opening",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Load a front door when it is used: `import hydrometer` stays free of torch."""
    if name in _FRONT_DOORS:
        return getattr(import_module(_FRONT_DOORS[name]), name)
    raise AttributeError(f"module 'hydrometer' has no attribute '{name}'")

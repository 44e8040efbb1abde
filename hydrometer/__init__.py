"""Hydrometer: which teacher, context, objective and tokens help, before paying for on-policy distillation.

>>> import hydrometer
>>> result = hydrometer.diagnose(out="runs/first", teacher=["expert=bundled:expert", "self+answer"])
>>> print(result.summary["verdict"])
>>> hydrometer.evaluate(model="bundled:student", task="bundled:chain", samples=8).accuracy
"""

from typing import TYPE_CHECKING, Any

from hydrometer.version import __version__

if TYPE_CHECKING:
    from hydrometer.diagnosis.run import Diagnosis as Diagnosis
    from hydrometer.diagnosis.run import diagnose as diagnose
    from hydrometer.evaluation.run import Evaluation as Evaluation
    from hydrometer.evaluation.run import evaluate as evaluate

__all__ = ["Diagnosis", "Evaluation", "__version__", "diagnose", "evaluate"]


def __getattr__(name: str) -> Any:
    """Load the front door when it is used: `import hydrometer` stays free of torch."""
    if name in ("diagnose", "Diagnosis"):
        from hydrometer.diagnosis import run

        return getattr(run, name)
    if name in ("evaluate", "Evaluation"):
        from hydrometer.evaluation import run

        return getattr(run, name)
    raise AttributeError(f"module 'hydrometer' has no attribute '{name}'")

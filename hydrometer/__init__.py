"""Hydrometer: which teacher, context, objective and tokens help, before paying for on-policy distillation.

>>> import hydrometer
>>> result = hydrometer.diagnose(out="runs/first", teacher=["expert=bundled:expert", "self+answer"])
>>> print(result.summary["verdict"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydrometer.diagnosis.run import Diagnosis as Diagnosis
    from hydrometer.diagnosis.run import diagnose as diagnose

__version__ = "0.1.0"
__all__ = ["Diagnosis", "__version__", "diagnose"]


def __getattr__(name: str) -> Any:
    """Load the front door when it is used: `import hydrometer` stays free of torch."""
    if name in ("diagnose", "Diagnosis"):
        from hydrometer.diagnosis import run

        return getattr(run, name)
    raise AttributeError(f"module 'hydrometer' has no attribute '{name}'")

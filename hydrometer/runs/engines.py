"""What a run has to do with models that vLLM runs: hear of outages, and refuse what cannot score before it pays."""

from collections.abc import Iterable

from hydrometer.models import CausalModel
from hydrometer.models.vllm.engine import Served
from hydrometer.runs.progress import Progress


def report_outages(models: Iterable[CausalModel], progress: Progress) -> None:
    """Servers that go away, and come back, say so to the run's audience."""
    for model in models:
        if isinstance(model, Served):
            model.engine.say = progress.note


def require_scorers(models: Iterable[CausalModel]) -> None:
    """Refuse a model that cannot give the whole vocabulary.

    Raises:
        SpecError: there is one.
    """
    for model in models:
        if isinstance(model, Served):
            model.require_whole_vocabulary()

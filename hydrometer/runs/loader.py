"""Models of a run, each loaded once however many roles it has."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING

from hydrometer.errors import SpecError
from hydrometer.models.prompting import PromptFormat
from hydrometer.runs.memory import explain_memory
from hydrometer.runs.options import MachineOptions

if TYPE_CHECKING:
    from hydrometer.models.score_cache import ScoreCache
    from hydrometer.models.transformers_model import TransformersModel


class Loader:
    """Owns what was loaded, by spec and chat template; weights are loaded once for each spec."""

    def __init__(self, options: MachineOptions, score_cache: ScoreCache | None = None):
        self.options = options
        self.score_cache = score_cache
        """Of every model, since weights read from files are those of their fingerprint."""
        self.loaded: dict[tuple[str, str | None], TransformersModel] = {}

    def load(self, spec: str, prompt_format: PromptFormat) -> TransformersModel:
        """The model of a spec.

        Raises:
            SpecError: it cannot be loaded.
            MemoryLimitError: it does not fit.
        """
        key = spec, prompt_format.chat_template
        same = next((model for (loaded, _), model in self.loaded.items() if loaded == spec), None)
        if key not in self.loaded and same is not None:
            self.loaded[key] = copy(same)
            self.loaded[key].prompt_format = prompt_format
        elif key not in self.loaded:
            from hydrometer.models.transformers_model import load_model  # loads transformers

            with explain_memory(f"Loading '{spec}' takes more than there is. Try --dtype bfloat16 or a smaller model."):
                self.loaded[key] = load_model(
                    spec, dtype=self.options.dtype, device=self.options.device, prompt_format=prompt_format
                )
            self.loaded[key].score_cache = self.score_cache
        return self.loaded[key]

    def check_template_variables(self, names: Iterable[str]) -> None:
        """Refuse a variable that no template heeds: it would change nothing, and nobody would be told.

        Raises:
            SpecError: no loaded model's chat template mentions one of the names.
        """
        for name in names:
            if not any(model.knows_template_variable(name) for model in self.loaded.values()):
                listed = ", ".join(f"'{spec}'" for spec, _ in self.loaded)
                raise SpecError(
                    f"--chat-template-kwargs: no chat template of this run ({listed}) knows a variable '{name}', so it "
                    "would change nothing. Check its spelling in the template, or leave it out."
                )

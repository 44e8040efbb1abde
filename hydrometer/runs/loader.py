"""Models of a run, each loaded once however many roles it has."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING

from hydrometer.errors import SpecError
from hydrometer.models import parse_model_spec
from hydrometer.models.prompting import PromptFormat
from hydrometer.runs.memory import explain_memory
from hydrometer.runs.options import MachineOptions

if TYPE_CHECKING:
    from hydrometer.models.score_cache import ScoreCache
    from hydrometer.models.transformers_model import TransformersModel
    from hydrometer.models.vllm.model import VllmModel


class Loader:
    """Owns what was loaded, by spec and chat template; weights are loaded once for each spec."""

    def __init__(self, options: MachineOptions, score_cache: ScoreCache | None = None):
        self.options = options
        self.score_cache = score_cache
        """Of every model, since weights read from files are those of their fingerprint."""
        self.loaded: dict[tuple[str, str | None], TransformersModel | VllmModel] = {}

    def load(self, spec: str, prompt_format: PromptFormat) -> TransformersModel | VllmModel:
        """The model of a spec.

        Raises:
            UserError: it cannot be loaded.
            MemoryLimitError: it does not fit.
        """
        key = spec, prompt_format.chat_template
        same = next((model for (loaded, _), model in self.loaded.items() if loaded == spec), None)
        if key not in self.loaded and same is not None:
            self.loaded[key] = copy(same)
            self.loaded[key].prompt_format = prompt_format
        elif key not in self.loaded:
            with explain_memory(f"Loading '{spec}' takes more than there is. Try --dtype bfloat16 or a smaller model."):
                self.loaded[key] = self._load(spec, prompt_format)
        return self.loaded[key]

    def load_weights(self, spec: str, prompt_format: PromptFormat) -> TransformersModel:
        """The model of a spec, its weights at hand.

        Raises:
            UserError: it cannot be loaded, or is run by vLLM.
            MemoryLimitError: it does not fit.
        """
        from hydrometer.models.transformers_model import TransformersModel

        if parse_model_spec(spec).is_vllm:
            raise SpecError(
                f"'{spec}' cannot take part in training, which changes the student's weights and reads the hidden "
                "states of student and teachers; vLLM gives neither.\nName the folder or Hugging Face id itself."
            )
        model = self.load(spec, prompt_format)
        assert isinstance(model, TransformersModel)
        return model

    def _load(self, text: str, prompt_format: PromptFormat) -> TransformersModel | VllmModel:
        from hydrometer.models.transformers_model import load_model  # loads transformers
        from hydrometer.models.vllm.model import load_vllm

        spec, options = parse_model_spec(text), self.options
        if spec.is_vllm:
            return load_vllm(spec, dtype=options.dtype, prompt_format=prompt_format, in_flight=options.batch_size)
        model = load_model(text, dtype=options.dtype, device=options.device, prompt_format=prompt_format)
        model.score_cache = self.score_cache
        return model

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

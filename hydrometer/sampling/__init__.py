"""Drawing responses from a model: the Sampler protocol, samplers for transformers and vLLM, a scripted model."""

from hydrometer.sampling.protocol import Continuation, Sampler, SampleRequest, SamplingSettings
from hydrometer.sampling.scripted import ScriptedModel
from hydrometer.sampling.seeding import rollout_seed, uniforms

__all__ = [
    "Continuation",
    "SampleRequest",
    "Sampler",
    "SamplingSettings",
    "ScriptedModel",
    "build_sampler",
    "rollout_seed",
    "uniforms",
]


def build_sampler(model: object, settings: SamplingSettings, *, batch_size: int | None = None) -> Sampler:
    """The sampler that fits a model (`batch_size` None: chosen from the model's size)."""
    if isinstance(model, ScriptedModel):
        return model.sampler(settings)
    from hydrometer.models.transformers_model import TransformersModel  # loads transformers
    from hydrometer.models.vllm.model import VllmModel
    from hydrometer.sampling.transformers_sampler import TransformersSampler
    from hydrometer.sampling.vllm_sampler import VllmSampler

    if isinstance(model, VllmModel):
        return VllmSampler(model, settings)
    if not isinstance(model, TransformersModel):
        raise TypeError(f"no sampler for {type(model).__name__}")
    return TransformersSampler(model, settings, batch_size=batch_size)

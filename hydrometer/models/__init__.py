"""Student and teacher models: load one from a spec, compare token maps, score tokens; the bundled family."""

from hydrometer.models.causal import GREEDY, CausalModel, Warp, warp_logprobs
from hydrometer.models.conventions import Conventional, Conventions
from hydrometer.models.family import FAMILY, family_folder, read_family_card
from hydrometer.models.fingerprints import is_same_model
from hydrometer.models.specs import ModelSpec, parse_model_spec
from hydrometer.models.threads import torch_threads
from hydrometer.models.token_map import check_token_maps
from hydrometer.models.walking import positions_per_block, response_logprobs, walk_logits

__all__ = [
    "FAMILY",
    "GREEDY",
    "CausalModel",
    "Conventional",
    "Conventions",
    "ModelSpec",
    "Warp",
    "check_token_maps",
    "family_folder",
    "is_same_model",
    "parse_model_spec",
    "positions_per_block",
    "read_family_card",
    "response_logprobs",
    "torch_threads",
    "walk_logits",
    "warp_logprobs",
]

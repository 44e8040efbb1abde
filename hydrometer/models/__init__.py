"""Student and teacher models: load one from a spec, compare token maps, score tokens; the bundled family."""

from hydrometer.models.causal import GREEDY, CausalModel, Warp, uncached, warp_logprobs
from hydrometer.models.conventions import Conventional, Conventions
from hydrometer.models.family import FAMILY, family_folder, read_family_card
from hydrometer.models.score_cache import ScoreCache, open_score_cache
from hydrometer.models.specs import ModelSpec, parse_model_spec
from hydrometer.models.threads import torch_threads
from hydrometer.models.token_map import check_token_maps
from hydrometer.models.walking import drawn_logprobs, positions_per_block, walk_each, walk_logits, walk_mixture

__all__ = [
    "FAMILY",
    "GREEDY",
    "CausalModel",
    "Conventional",
    "Conventions",
    "ModelSpec",
    "ScoreCache",
    "Warp",
    "check_token_maps",
    "drawn_logprobs",
    "family_folder",
    "open_score_cache",
    "parse_model_spec",
    "positions_per_block",
    "read_family_card",
    "torch_threads",
    "uncached",
    "walk_each",
    "walk_logits",
    "walk_mixture",
    "warp_logprobs",
]

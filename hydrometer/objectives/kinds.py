"""The kinds of objective, and what is true of each whatever its parameters."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Kind = Literal[
    "reverse_kl",
    "forward_kl",
    "jsd",
    "sampled_token",
    "k1_loss",
    "k2",
    "k3",
    "minillm",
    "dr_grpo",
    "sft",
    "topk_reverse_kl",
]
Need = Literal["teacher", "success_rates", "reward_to_go", "tokens"]


class Traits(NamedTuple):
    """What is true of a kind whatever its parameters."""

    needs: Need = "teacher"
    samples: bool = False
    zero_at_equality: bool = True
    reference: bool = False
    training_only: bool = False
    caution: str | None = None


TRAITS: Mapping[Kind, Traits] = MappingProxyType(
    {
        "reverse_kl": Traits(),
        "forward_kl": Traits(),
        "jsd": Traits(),
        "sampled_token": Traits(samples=True),
        "k1_loss": Traits(
            samples=True,
            caution="the expected gradient of k1_loss is 0: the teacher is a constant in it, so only noise trains. "
            "Use sampled_token or k2 for reverse KL.",
        ),
        "k2": Traits(samples=True),
        "k3": Traits(samples=True),
        "minillm": Traits(needs="reward_to_go", samples=True),
        "dr_grpo": Traits(needs="success_rates", samples=True, zero_at_equality=False, reference=True),
        "sft": Traits(needs="tokens", zero_at_equality=False, reference=True, training_only=True),
        "topk_reverse_kl": Traits(),
    }
)
JSD_END = 0.05
"""A beta closer than this to 0 or 1 (but not there) makes the JSD, and its gradient, nearly vanish."""

"""What other packages call our objectives and parameters, and where one of their words means two things.

TRL (GKD, SDFT), verl, NeMo-RL, nano-opd, KDFlow, thunlp/OPD, miles and Open-On-Policy-Distillation (OOPD). A word with
two meanings in the wild is refused with both of them, never guessed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from hydrometer.objectives.kinds import Kind

Value = float | int | str


class KindAlias(NamedTuple):
    """A foreign name: our kind, the parameters it implies, and whose name it is."""

    kind: Kind
    params: Mapping[str, Value]
    source: str


def _topk(source: str, **params: Value) -> KindAlias:
    return KindAlias("topk_reverse_kl", MappingProxyType(params), source)


_NONE: Mapping[str, Value] = MappingProxyType({})
KINDS: Mapping[str, KindAlias] = MappingProxyType(
    {
        "rkl": KindAlias("reverse_kl", _NONE, "KDFlow"),
        "fkl": KindAlias("forward_kl", _NONE, "common"),
        "gkd": KindAlias("jsd", _NONE, "TRL GKD, ms-swift"),
        "generalized_jsd": KindAlias("jsd", _NONE, "TRL GKD"),
        "opd": KindAlias("sampled_token", _NONE, "NeMo-RL, prime-rl"),
        "sampled_reverse_kl": KindAlias("sampled_token", _NONE, "fw-ai"),
        "mse": KindAlias("k2", _NONE, "verl"),
        "low_var_kl": KindAlias("k3", _NONE, "verl"),
        "cross_entropy": KindAlias("sft", _NONE, "DistillKit"),
        "token_reward_direct": _topk("thunlp", form="stop_gradient", reward_weight_mode="student_p"),
        "topk_reverse_kl_notail": _topk("OOPD", form="unnormalised"),
        "topk_reverse_kl_notail_sg": _topk("OOPD", form="stop_gradient"),
        "topk_reverse_kl_intersect_sg_norm": _topk("OOPD", support="intersection", form="renormalised"),
        "full_vocab_topk_reverse_kl": _topk("OOPD", form="tail_bin"),
        "mopd": _topk("nano-opd", support="teacher", form="stop_gradient"),
    }
)
AMBIGUOUS: Mapping[str, str] = MappingProxyType(
    {
        "kl": "'kl' is forward_kl in KDFlow and sampled_token (or k1_loss) in verl. Write the one you mean.",
        "k1": "'k1' is sampled_token as an advantage and k1_loss, which learns nothing, as a plain loss. Write which.",
        "token_reverse_kl": "OOPD's 'token_reverse_kl' is sampled_token when subtracted from the advantage and "
        "k1_loss, which learns nothing, when added to the loss. Write which.",
    }
)

THUNLP_WEIGHT = "reward_weight_mode"
"""thunlp's and miles' weight mode; it reads `student_p` as normalised, except on a symmetric difference."""


class KeyAlias(NamedTuple):
    """A foreign parameter: ours, how its number turns into ours, and whose it is."""

    key: str
    source: str
    to_ours: Callable[[float], float] | None = None


def _mirror(value: float) -> float:
    return 1.0 - value


KEYS: Mapping[str, Mapping[str, KeyAlias]] = MappingProxyType(
    {
        "jsd": {
            "alpha": KeyAlias("beta", "SDPO"),
            "distillation_alpha": KeyAlias("beta", "TRL SDFT, SDPO"),
            "opsd_jsd_beta": KeyAlias("beta", "OOPD"),
            "jsd_beta": KeyAlias("beta", "KDFlow", _mirror),
            "jsd_alpha": KeyAlias("beta", "nano-opd", _mirror),
        },
        "topk_reverse_kl": {
            "log_prob_top_k": KeyAlias("k", "thunlp"),
            "opd_log_prob_top_k": KeyAlias("k", "miles"),
            "distillation_topk": KeyAlias("k", "TRL SDFT, SDPO"),
            "loss_top_k": KeyAlias("k", "TRL"),
            "topk": KeyAlias("k", "verl"),
            "top_k_strategy": KeyAlias("support", "thunlp"),
            "opd_top_k_strategy": KeyAlias("support", "miles"),
            "opd_reward_weight_mode": KeyAlias(THUNLP_WEIGHT, "miles"),
            THUNLP_WEIGHT: KeyAlias(THUNLP_WEIGHT, "thunlp"),
        },
    }
)
VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "support": {
            "only_stu": "student",
            "only-student": "student",
            "only_tch": "teacher",
            "only-teacher": "teacher",
            "xor": "symmetric_difference",
            "union-intersection": "symmetric_difference",
        },
        "form": {
            "notail": "unnormalised",
            "unnormalized": "unnormalised",
            "notail_sg": "stop_gradient",
            "sg": "stop_gradient",
            "renormalized": "renormalised",
            "add_tail": "tail_bin",
        },
        "weight": {"teacher_p": "teacher_p_norm", "none": "uniform"},
    }
)


def thunlp_weight(mode: str, support: str) -> str | None:
    """Our weight for a `reward_weight_mode`, or None where we have none (or no such mode exists)."""
    if support == "symmetric_difference":
        return "student_p" if mode == "student_p" else None
    return {"student_p": "student_p_norm", "teacher_p": "teacher_p_norm", "none": "uniform"}.get(mode)

"""Objectives by name: `KIND[:key=value,...]` as on the command line and in files, with the names of other packages.

    parse("topk_reverse_kl:k=16,form=stop_gradient")  ==  make("topk_reverse_kl", k=16, form="stop_gradient")
    parse("gkd:beta=0").name                          ==  "jsd:beta=0"

An alias is a kind with some parameters set; parameters that are written out win over those.
"""

from collections.abc import Mapping
from typing import TypeVar, get_args

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.objectives.aliases import AMBIGUOUS, KEYS, KINDS, THUNLP_WEIGHT, VALUES, Value, thunlp_weight
from hydrometer.objectives.kinds import Kind
from hydrometer.objectives.objective import Objective
from hydrometer.objectives.topk import Form, Support, TopK, Weight

KIND_NAMES: tuple[Kind, ...] = get_args(Kind)
_KIND_BY_NAME: Mapping[str, Kind] = {kind: kind for kind in KIND_NAMES}
SUPPORTS: tuple[Support, ...] = get_args(Support)
FORMS: tuple[Form, ...] = get_args(Form)
WEIGHTS: tuple[Weight, ...] = get_args(Weight)
PARAMETERS: Mapping[Kind, tuple[str, ...]] = {"jsd": ("beta",), "topk_reverse_kl": ("k", "support", "form", "weight")}
"""The parameters of each kind that has some."""
DEFAULT_BETA = 0.5
Name = TypeVar("Name", bound=str)


def parse(text: str) -> Objective:
    """Read one objective spec.

    Raises:
        UnknownNameError: no such kind, parameter or choice.
        SpecError: anything else that does not fit; both quote what was typed.
    """
    kind, colon, rest = text.strip().partition(":")
    params: dict[str, Value] = {}
    for item in rest.split(",") if colon else ():
        key, _, value = (part.strip() for part in item.partition("="))
        if not (key and value):
            raise SpecError(f"Objective '{text}': expected key=value, found '{item}'. Example: jsd:beta=0.5")
        if key in params:
            raise SpecError(f"Objective '{text}': '{key}' is given twice.")
        params[key] = value
    return _build(kind.strip(), params, text)


def make(kind: str, **params: float | int | str) -> Objective:
    """Build one objective from its kind (or an alias) and parameters.

    Raises:
        UnknownNameError: no such kind, parameter or choice.
        SpecError: a value out of range, or parameters that do not go together.
    """
    typed = ",".join(f"{key}={value}" for key, value in params.items())
    return _build(kind, params, f"{kind}:{typed}" if typed else kind)


def _build(name: str, given: Mapping[str, Value], text: str) -> Objective:
    """`text` is what messages quote."""
    if name in AMBIGUOUS:
        raise SpecError(f"Objective '{text}': {AMBIGUOUS[name]}")
    alias = KINDS.get(name)
    kind = alias.kind if alias else _KIND_BY_NAME.get(name)
    if kind is None:
        raise UnknownNameError("objective", name, [*KIND_NAMES, *KINDS])
    params = _our_keys(kind, given, text)
    preset = dict(alias.params) if alias else {}
    if {"weight", THUNLP_WEIGHT} & params.keys() or params.get("form", "stop_gradient") != "stop_gradient":
        preset.pop(THUNLP_WEIGHT, None)
    params = {**preset, **params}
    match kind:
        case "jsd":
            return Objective(kind, beta=_beta(params.get("beta", DEFAULT_BETA), text))
        case "topk_reverse_kl":
            return Objective(kind, topk=_topk(params, text))
    return Objective(kind)


def _our_keys(kind: Kind, given: Mapping[str, Value], text: str) -> dict[str, Value]:
    """Parameters under our names."""
    known, foreign = PARAMETERS.get(kind, ()), KEYS.get(kind, {})
    if given and not known:
        raise SpecError(f"Objective '{text}': {kind} takes no parameters.")
    params: dict[str, Value] = {}
    for typed, value in given.items():
        alias = foreign.get(typed.lower())
        if typed not in known and alias is None:
            raise UnknownNameError(f"parameter of {kind}", typed, [*known, *foreign])
        key = alias.key if alias else typed
        if key in params:
            raise SpecError(f"Objective '{text}': '{typed}' gives {key} a second time.")
        params[key] = alias.to_ours(_number(value, text, typed)) if alias and alias.to_ours else value
    return params


def _beta(value: Value, text: str) -> float:
    beta = _number(value, text, "beta")
    if not 0.0 <= beta <= 1.0:
        raise SpecError(f"Objective '{text}': beta must lie from 0 (forward KL) to 1 (reverse KL), not '{value}'.")
    return beta


def _number(value: Value, text: str, key: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise SpecError(f"Objective '{text}': {key} must be a number, not '{value}'.") from None


def _topk(params: Mapping[str, Value], text: str) -> TopK:
    chosen = TopK(
        k=_k(params.get("k", TopK().k), text),
        support=_choice("support", SUPPORTS, params, TopK().support),
        form=_choice("form", FORMS, params, TopK().form),
        weight=_choice("weight", WEIGHTS, params, TopK().weight),
    )
    if THUNLP_WEIGHT in params:
        mode = str(params[THUNLP_WEIGHT])
        weight = thunlp_weight(mode, chosen.support)
        if weight is None:
            raise SpecError(f"Objective '{text}': no {THUNLP_WEIGHT} '{mode}' with support {chosen.support}.")
        chosen = TopK(
            chosen.k, chosen.support, chosen.form, _choice("weight", WEIGHTS, {"weight": weight}, "student_p")
        )
    if chosen.form != "stop_gradient" and {"weight", THUNLP_WEIGHT} & params.keys():
        raise SpecError(f"Objective '{text}': weight belongs to form=stop_gradient, and the form is {chosen.form}.")
    if chosen.rejection:
        raise SpecError(f"Objective '{text}': {chosen.rejection}. Choose a larger k or another form.")
    return chosen


def _k(value: Value, text: str) -> int:
    try:
        k = int(value) if isinstance(value, str) else value
    except ValueError:
        k = 0
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise SpecError(f"Objective '{text}': k must be a whole number from 1, not '{value}'.")
    return k


def _choice(key: str, names: tuple[Name, ...], params: Mapping[str, Value], default: Name) -> Name:
    if key not in params:
        return default
    typed = str(params[key])
    ours = VALUES[key].get(typed, typed)
    for name in names:
        if name == ours:
            return name
    raise UnknownNameError(f"top-k {key}", typed, [*names, *VALUES[key]])

"""Names of objectives: what is read, what is printed, what is refused and in which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import PROPERTY, cells

from hydrometer import objectives
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.objectives.aliases import KINDS

PLAIN = [kind for kind in objectives.KIND_NAMES if kind not in ("jsd", "topk_reverse_kl")]


@PROPERTY
@given(spec=st.sampled_from([*PLAIN, "jsd", "topk_reverse_kl", *KINDS, *cells(1, 5)]))
def test_names_and_parameters_round_trip(spec: str) -> None:
    objective = objectives.parse(spec)
    assert objectives.parse(objective.name) == objective
    assert objectives.make(objective.kind, **objective.params) == objective
    assert objectives.parse(objective.name).name == objective.name == str(objective)


@PROPERTY
@given(beta=st.floats(0.0, 1.0))
def test_any_beta_round_trips(beta: float) -> None:
    assert objectives.parse(objectives.make("jsd", beta=beta).name).beta == beta


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("reverse_kl", "reverse_kl"),
        ("jsd", "jsd:beta=0.5"),
        (" jsd : beta = 1.0 ", "jsd:beta=1"),
        ("topk_reverse_kl:k=16,form=stop_gradient", "topk_reverse_kl:k=16,form=stop_gradient"),
        ("topk_reverse_kl:form=tail_bin,k=4", "topk_reverse_kl:k=4,form=tail_bin"),
        ("topk_reverse_kl", "topk_reverse_kl:k=16,form=stop_gradient"),
        ("topk_reverse_kl:weight=student_p", "topk_reverse_kl:k=16,form=stop_gradient"),
        ("topk_reverse_kl:support=xor,weight=uniform", "topk_reverse_kl:k=16,support=symmetric_difference,"
         "form=stop_gradient,weight=uniform"),
        ("rkl", "reverse_kl"),
        ("gkd:beta=0", "jsd:beta=0"),
        ("jsd:distillation_alpha=0.25", "jsd:beta=0.25"),
        ("jsd:jsd_beta=0.25", "jsd:beta=0.75"),
        ("opd", "sampled_token"),
        ("low_var_kl", "k3"),
        ("topk_reverse_kl_notail:k=5", "topk_reverse_kl:k=5,form=unnormalised"),
        ("topk_reverse_kl_intersect_sg_norm", "topk_reverse_kl:k=16,support=intersection,form=renormalised"),
        ("full_vocab_topk_reverse_kl", "topk_reverse_kl:k=16,form=tail_bin"),
        ("mopd", "topk_reverse_kl:k=16,support=teacher,form=stop_gradient"),
        ("token_reward_direct", "topk_reverse_kl:k=16,form=stop_gradient,weight=student_p_norm"),
        ("token_reward_direct:LOG_PROB_TOP_K=8,TOP_K_STRATEGY=only_tch,REWARD_WEIGHT_MODE=none",
         "topk_reverse_kl:k=8,support=teacher,form=stop_gradient,weight=uniform"),
        ("token_reward_direct:top_k_strategy=union-intersection",
         "topk_reverse_kl:k=16,support=symmetric_difference,form=stop_gradient"),
        ("token_reward_direct:weight=student_p", "topk_reverse_kl:k=16,form=stop_gradient"),
        ("token_reward_direct:form=tail_bin", "topk_reverse_kl:k=16,form=tail_bin"),
    ],
)  # fmt: skip
def test_what_is_typed_becomes_the_canonical_name(typed: str, name: str) -> None:
    assert objectives.parse(typed).name == name


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("revrse_kl", ["'revrse_kl'", "reverse_kl"]),
        ("", ["''"]),
        ("reverse_kl:k=3", ["'reverse_kl:k=3'", "takes no parameters"]),
        ("topk_reverse_kl:supprt=union", ["'supprt'", "support"]),
        ("topk_reverse_kl:support=intersecton", ["'intersecton'", "intersection"]),
        ("topk_reverse_kl:form=renormalizd", ["'renormalizd'", "renormalised"]),
        ("topk_reverse_kl:weight=teacher", ["'teacher'", "teacher_p_norm"]),
        ("topk_reverse_kl:k=0", ["'topk_reverse_kl:k=0'", "whole number", "'0'"]),
        ("topk_reverse_kl:k=2.5", ["whole number", "'2.5'"]),
        ("topk_reverse_kl:k=many", ["whole number", "'many'"]),
        ("topk_reverse_kl:k=4,k=5", ["'k' is given twice"]),
        ("topk_reverse_kl:k=4,topk=5", ["'topk' gives k a second time"]),
        ("topk_reverse_kl:k", ["key=value", "'k'"]),
        ("topk_reverse_kl:k=", ["key=value", "'k='"]),
        ("topk_reverse_kl:", ["key=value", "''"]),
        ("topk_reverse_kl:k=1,form=renormalised", ["always 0", "larger k"]),
        ("topk_reverse_kl:k=1,support=intersection,form=renormalised", ["always 0"]),
        ("topk_reverse_kl:form=tail_bin,weight=uniform", ["weight belongs to form=stop_gradient", "tail_bin"]),
        ("topk_reverse_kl:support=xor,reward_weight_mode=teacher_p", ["'teacher_p'", "symmetric_difference"]),
        ("jsd:beta=1.5", ["'jsd:beta=1.5'", "from 0", "'1.5'"]),
        ("jsd:beta=nan", ["'nan'"]),
        ("jsd:beta=half", ["must be a number", "'half'"]),
        ("jsd:jsd_beta=half", ["jsd_beta must be a number", "'half'"]),
        ("kl", ["forward_kl", "sampled_token"]),
        ("k1", ["sampled_token", "k1_loss"]),
        ("token_reverse_kl", ["sampled_token", "k1_loss"]),
    ],
)  # fmt: skip
def test_refusals_quote_what_was_typed_and_say_what_would_do(typed: str, words: list[str]) -> None:
    with pytest.raises((SpecError, UnknownNameError)) as refusal:
        objectives.parse(typed)
    for word in words:
        assert word in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 10


def test_make_checks_types_as_parse_checks_text() -> None:
    assert objectives.make("topk_reverse_kl", k=3) == objectives.parse("topk_reverse_kl:k=3")
    for params in ({"k": True}, {"k": 2.0}, {"k": -1}):
        with pytest.raises(SpecError, match="whole number"):
            objectives.make("topk_reverse_kl", **params)
    with pytest.raises(SpecError, match=r"'jsd:beta=-0\.1'"):
        objectives.make("jsd", beta=-0.1)


def test_objectives_are_values() -> None:
    one, other = objectives.parse("jsd:beta=0.5"), objectives.make("jsd")
    assert one == other and hash(one) == hash(other)
    with pytest.raises(AttributeError):
        one.beta = 0.1  # pyright: ignore[reportAttributeAccessIssue]


def test_directions_that_coincide_share_a_key() -> None:
    groups = {
        "reverse_kl": ["reverse_kl", "sampled_token", "k2", "jsd:beta=1"],
        "forward_kl": ["forward_kl", "k3", "jsd:beta=0"],
    }
    for key, specs in groups.items():
        assert {objectives.parse(spec).direction_key for spec in specs} == {key}
    own = ["k1_loss", "dr_grpo", "minillm", "jsd", "topk_reverse_kl:form=unnormalised", "topk_reverse_kl"]
    assert len({objectives.parse(spec).direction_key for spec in own} - groups.keys()) == len(own)


def test_cautions_name_what_goes_wrong() -> None:
    assert "mass on the support" in (objectives.parse("topk_reverse_kl:form=unnormalised").caution or "")
    assert "0.01" in (objectives.parse("jsd:beta=0.01").caution or "")
    assert objectives.parse("jsd:beta=0.96").caution
    assert "only noise trains" in (objectives.make("k1_loss").caution or "")
    for spec in ("jsd:beta=0", "jsd:beta=1", "jsd:beta=0.05", "jsd:beta=0.5", "reverse_kl", "topk_reverse_kl"):
        assert objectives.parse(spec).caution is None


def test_what_each_kind_needs_and_whether_it_samples() -> None:
    needs = {"dr_grpo": "success_rates", "minillm": "reward_to_go", "sft": "tokens"}
    sampling = {"sampled_token", "k1_loss", "k2", "k3", "minillm", "dr_grpo"}
    for kind in objectives.KIND_NAMES:
        objective = objectives.make(kind)
        assert objective.needs == needs.get(kind, "teacher")
        assert objective.samples == (kind in sampling)


def test_sft_has_no_field() -> None:
    import torch

    with pytest.raises(SpecError, match="training only"):
        objectives.make("sft").field(torch.zeros(3), torch.zeros(3))

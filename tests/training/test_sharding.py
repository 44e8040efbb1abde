"""A split student in one process, which goes through all of FSDP with itself; two are in test_two_processes."""

from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from lessons import Lesson, assert_same_gradients, learn, set_lesson, take_gradients, terms_of
from torch import nn
from torch.distributed.tensor import DTensor

from hydrometer.errors import SpecError
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.training.gradient import StudentLoss, idle_lesson
from hydrometer.training.optimiser import AdamSettings, Optimiser
from hydrometer.training.sharding import SplitStudent, WholeStudent, hold, part_like, read_split, whole_tensor

TOLERANCE = 1e-6
"""Of the largest entry of the gradient, as between a plain call of the network and the loop."""
ALL_TERMS = terms_of("reverse_kl", "dr_grpo", "sft", coefficients=(1.0, 0.5, 0.3))


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return set_lesson()


@pytest.fixture(scope="module")
def adapted() -> Lesson:
    return set_lesson(lora_rank=2)


def own_copy(student: TransformersModel, *, unties: bool = False) -> TransformersModel:
    own = copy(student)
    own.network = deepcopy(student.network)
    if unties:
        head = own.network.get_output_embeddings()
        assert isinstance(head, nn.Linear)
        head.weight = nn.Parameter(head.weight.detach().clone())
    return own


def split(student: TransformersModel, build: Any, accelerator: Accelerator, *, idle: int = 0) -> SplitStudent:
    """Split, with as many passes more as some other process would have."""
    held = SplitStudent(own_copy(student), build, accelerator)
    held.most = lambda count: count + idle
    return held


@pytest.mark.parametrize("idle", [0, 2])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["lesson", "adapted"])
def test_neither_splitting_nor_idle_passes_change_gradient_losses_or_metrics(
    name: str, recompute: bool, idle: int, request: pytest.FixtureRequest
) -> None:
    given = request.getfixturevalue(name)
    plain = learn(given, ALL_TERMS, micro_batch=4)
    parts = learn(given, ALL_TERMS, micro_batch=4, recompute=recompute, take_hold=partial(split, idle=idle))
    assert_same_gradients(parts.gradients, plain.gradients, tolerance=TOLERANCE)
    torch.testing.assert_close(parts.gathered.losses, plain.gathered.losses, rtol=1e-9, atol=0.0)
    assert parts.gathered.stats is not None and plain.gathered.stats is not None
    for mine, theirs in zip(parts.gathered.stats.values, plain.gathered.stats.values, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", ["reverse_kl", "dr_grpo", "sft"])
def test_a_pass_that_teaches_nothing_has_a_gradient_of_zero_in_every_parameter(spec: str, lesson: Lesson) -> None:
    """In an output layer of its own too: processes that split it add up what each has, and wait for who has none."""
    student = own_copy(lesson.shop.student, unties=True)
    assert student.network.get_output_embeddings().weight is not student.network.get_input_embeddings().weight
    loss = StudentLoss(student, replace(lesson.shop.settings, terms=terms_of(spec)))
    loss(idle_lesson(student.device), 1.0, lambda *_: None)[0].backward()
    for name, parameter in student.network.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_the_students_own_network_has_its_weights_while_it_is_whole_only(lesson: Lesson) -> None:
    student = own_copy(lesson.shop.student)
    before = {name: tensor.clone() for name, tensor in student.network.state_dict().items()}
    held = SplitStudent(student, lambda model: nn.Sequential(model.network), Accelerator(cpu=True))
    parameters = list(student.network.parameters())
    assert all(parameter.numel() == 0 for parameter in parameters)
    with torch.no_grad():
        for part in held.network.parameters():
            part.mul_(2.0)
    with pytest.raises(RuntimeError, match="inside"), held.whole():
        now = student.network.state_dict()
        assert all(now[name].equal(2.0 * tensor) for name, tensor in before.items())
        raise RuntimeError("inside")
    assert all(parameter.numel() == 0 for parameter in parameters)
    assert all(isinstance(part, DTensor) for part in held.network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_optimiser_of_a_split_student_makes_the_steps_of_a_whole_one_and_restores_either(
    dtype: torch.dtype, lesson: Lesson
) -> None:
    """Parts and whole tensors in turn, as where a run goes on with other processes."""
    plain = own_copy(lesson.shop.student)
    plain.network.to(dtype)
    held = SplitStudent(own_copy(plain), lambda model: nn.Sequential(model.network), Accelerator(cpu=True))
    networks = (plain.network, held.network)
    settings = AdamSettings(beta2=0.95, weight_decay=0.1, max_norm=0.5)
    mine, theirs = (Optimiser(network.parameters(), settings) for network in networks)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        for parameter, part in zip(plain.network.parameters(), held.network.parameters(), strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype)
            part.grad = part_like(parameter.grad, part)
        saved = [{name: value.clone() for name, value in optimiser.tensors()} for optimiser in (mine, theirs)]
        norms = []
        for optimiser, other in ((mine, saved[1]), (theirs, saved[0])):
            optimiser.restore(other)
            norms.append(optimiser.step(1e-2))
        assert float(norms[0]) == pytest.approx(float(norms[1]), rel=1e-6) and not isinstance(norms[1], DTensor)
    after = [dict(optimiser.tensors()) for optimiser in (mine, theirs)]
    assert after[0].keys() == after[1].keys() and any(name.startswith("exp_avg_sq") for name in after[0])
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=1e-6, atol=1e-9)
    for parameter, part in zip(plain.network.parameters(), held.network.parameters(), strict=True):
        torch.testing.assert_close(whole_tensor(part.detach()), parameter.detach(), rtol=1e-6, atol=1e-9)
    assert not any(gradient.any() for gradient in take_gradients(held.network).values())


def test_one_process_holds_the_whole_student_whatever_the_launcher_says(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    student = lesson.shop.student
    held = hold(student, lambda model: nn.Sequential(model.network), Accelerator(cpu=True))
    assert isinstance(held, WholeStudent) and held.network is student.network


REFUSED = {
    "FSDP 1": {"FSDP_VERSION": "1"},
    "--fsdp_offload_params": {"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"},
    "--gradient-checkpointing": {"FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_the_launcher_may_not_ask_for_is_refused_by_name(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_split() is None
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for variable, value in REFUSED[named].items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SpecError, match=named):
        read_split()

"""TRL's trainer with our loss: the seam is where we think it is, and what goes through it is what the formulas say."""

import inspect
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import build_network, build_tokenizer
from torch import Tensor

from hydrometer.errors import SpecError, UnknownNameError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("trl")
    from trl.trainer import distillation_trainer as theirs
    from trl.trainer.distillation_config import DistillationConfig

    from hydrometer.integrations import trl as adapter

pytestmark = pytest.mark.filterwarnings("ignore")
PROMPTS = ["ab", "hello there", "c", "what is it?"]


def new_trainer(
    folder: Path,
    *,
    plain: bool = False,
    network: dict[str, Any] | None = None,
    own: dict[str, Any] | None = None,
    **config: Any,
) -> Any:
    """Ours, or TRL's where `plain`; responses of at most 6 tokens by a random student and another random teacher."""
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_completion_length": 6,
        "max_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }
    build = theirs.DistillationTrainer if plain else adapter.DistillationTrainer
    return build(
        build_network(seed=1, **network or {}),
        build_network(seed=2, **network or {}),
        args=DistillationConfig(**options | config),
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS * 4]),
        processing_class=build_tokenizer(),
        **own or {},
    )


def micro_batch() -> dict[str, Tensor]:
    """Three rollouts as TRL hands them over: prompts padded on the left, responses on the right."""
    return {
        "prompt_ids": torch.tensor([[0, 0, 5], [0, 7, 9], [11, 12, 13]]),
        "prompt_mask": torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[6, 8, 14, 1], [20, 1, 0, 0], [9, 9, 21, 30]]),
        "completion_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]),
        "num_items_in_batch": torch.tensor(10.0),
    }


def loss_and_gradients(trainer: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    trainer.model.zero_grad()
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def response_logits(network: Any, inputs: dict[str, Tensor]) -> Tensor:
    """At the positions that predict the response, one row at a time and without padding."""
    width = inputs["completion_ids"].shape[1]
    rows = []
    for row in range(len(inputs["prompt_ids"])):
        prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row] == 1]
        logits = network(torch.cat([prompt, inputs["completion_ids"][row]])[None]).logits[0]
        rows.append(logits[len(prompt) - 1 : len(prompt) - 1 + width])
    return torch.stack(rows)


def test_seam_is_where_it_was() -> None:
    adapter.check_seam()
    inner = inspect.signature(theirs.DistillationTrainer._compute_loss).parameters
    assert list(inner) == ["self", "unwrapped_student", "inputs", "num_items_in_batch"]
    outer = inspect.signature(theirs.DistillationTrainer.compute_loss).parameters
    assert list(outer)[:3] == ["self", "model", "inputs"]
    made = inspect.signature(theirs.DistillationTrainer.__init__).parameters
    assert list(made)[1:4] == ["model", "teacher_model", "args"]
    ours = list(inspect.signature(adapter.SeamLoss.__call__).parameters)[1:]
    assert tuple(ours) == adapter.SEAM_PARAMETERS
    assert DistillationConfig(output_dir="unused", use_cpu=True, bf16=False).beta == 1.0


def test_moved_seam_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def other(student_hidden_states: Tensor, loss_mask: Tensor) -> Tensor:
        return student_hidden_states

    monkeypatch.setattr(theirs, adapter.SEAM, other)
    with pytest.raises(SpecError, match=r"student_hidden_states, loss_mask.*\n?.*trl==1\.16"):
        new_trainer(tmp_path)
    monkeypatch.delattr(theirs, adapter.SEAM)
    with pytest.raises(SpecError, match="parameters none"):
        new_trainer(tmp_path)


@pytest.mark.parametrize(
    ("beta", "objective", "network"),
    [
        (1.0, "reverse_kl", {}),
        (0.0, "forward_kl", {"kind": "llama"}),
        (0.5, "jsd:beta=0.5", {"tie_word_embeddings": True}),
    ],
)
def test_loss_and_gradients_equal_trl(beta: float, objective: str, network: dict[str, Any], tmp_path: Path) -> None:
    inputs = micro_batch()
    plain = new_trainer(tmp_path, plain=True, network=network, beta=beta, temperature=0.7)
    ours = new_trainer(tmp_path, network=network, own={"objective": objective}, temperature=0.7)
    expected, expected_gradients = loss_and_gradients(plain, inputs)
    loss, gradients = loss_and_gradients(ours, inputs)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-7)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=2e-4, atol=1e-6, msg=name)
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 1e-3
    # the one metric that both have
    assert ours._metrics["train"]["entropy"] == pytest.approx(plain._metrics["train"]["entropy"], rel=1e-5)


@pytest.mark.parametrize(
    "texts", [("k2",), ("minillm",), ("topk_reverse_kl:k=4,form=stop_gradient",), ("reverse_kl", "0.25*sampled_token")]
)
def test_loss_equals_the_objective_on_whole_logits(texts: tuple[str, ...], tmp_path: Path) -> None:
    inputs = micro_batch()
    trainer = new_trainer(tmp_path, own={"objective": texts})
    loss, gradients = loss_and_gradients(trainer, inputs)
    trainer.model.zero_grad()
    logits = response_logits(trainer.model, inputs), response_logits(trainer.teacher_model, inputs)
    mask, expected = inputs["completion_mask"] == 1, torch.zeros(())
    for objective, coefficient in adapter.parse_terms(texts):
        expected = expected + coefficient * objective.loss(*logits, response_mask=mask, tokens=inputs["completion_ids"])
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-7)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=2e-4, atol=1e-6, msg=name)


def test_weights_are_of_the_tokens_both_models_choose(tmp_path: Path) -> None:
    inputs = micro_batch()
    trainer = new_trainer(tmp_path, own={"weights": "overlap", "metrics_k": 12})
    loss, _ = loss_and_gradients(trainer, inputs)
    p, q = (
        response_logits(network, inputs).double().log_softmax(-1) for network in (trainer.model, trainer.teacher_model)
    )
    chosen = inputs["completion_ids"][..., None]
    in_both = [(logprobs > logprobs.gather(-1, chosen)).sum(-1) < 12 for logprobs in (p, q)]
    weights = (in_both[0] & in_both[1] & (inputs["completion_mask"] == 1)).double()
    assert 0 < weights.sum() < 10
    expected = ((p.exp() * (p - q)).sum(-1) * weights).sum() / 10
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    assert trainer._metrics["train"]["weighted_share"] == [pytest.approx(float(weights.sum()) / 10)]


def test_training_minimises_the_closed_form(tmp_path: Path) -> None:
    trainer = new_trainer(tmp_path, own={"objective": "reverse_kl"}, gradient_accumulation_steps=2)
    seen: list[float] = []
    inner: Callable[..., Any] = trainer._compute_loss

    @torch.no_grad()
    def closed_form(inputs: dict[str, Tensor]) -> float:
        p = response_logits(trainer.model, inputs).double().log_softmax(-1)
        q = response_logits(trainer.teacher_model, inputs).double().log_softmax(-1)
        kept = inputs["completion_mask"] == 1
        return float((p.exp() * (p - q)).sum(-1)[kept].sum() / inputs["num_items_in_batch"])

    def spy(network: Any, inputs: dict[str, Tensor], count: Any) -> Any:
        seen.append(closed_form(inputs))
        return inner(network, inputs, count)

    trainer._compute_loss = spy
    trainer.train()
    logs = [line for line in trainer.state.log_history if "loss" in line]
    assert [line["loss"] for line in logs] == pytest.approx([seen[0] + seen[1], seen[2] + seen[3]], rel=1e-4)
    assert logs[0]["loss"] != pytest.approx(logs[1]["loss"], rel=1e-3)
    for line in logs:
        # means of micro-batches of unequal length against the mean over tokens
        assert line["reverse_kl"] == pytest.approx(line["loss"], rel=0.3)
        assert line["response_tokens_mean"] == pytest.approx(line["completions/mean_length"], rel=0.01)
        assert line["truncated_share"] == pytest.approx(line["completions/clipped_ratio"], abs=1e-6)
        assert line["entropy"] == pytest.approx(line["student_entropy"], rel=1e-4)
        assert 0.0 < line["overlap_ratio"] <= 1.0 and math.isfinite(line["teacher_nll_bin_0"])
        assert "accuracy" not in line


def test_evaluation_logs_under_its_own_names(tmp_path: Path) -> None:
    trainer = new_trainer(tmp_path, per_device_eval_batch_size=4)
    rows = datasets.Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS])
    found = trainer.evaluate(rows)
    line = trainer.state.log_history[-1]
    assert line["eval_reverse_kl"] == pytest.approx(found["eval_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("config", "own", "words"),
    [
        ({"beta": 0.5}, {}, "objective='jsd:beta=0.5'"),
        ({"top_p": 0.9}, {}, "top_p=0.9: the student would sample"),
        ({"top_k": 20}, {}, "top_k=20"),
        ({"min_p": 0.1}, {}, "min_p=0.1"),
        ({"repetition_penalty": 1.1}, {}, "repetition_penalty=1.1"),
        ({"generation_kwargs": {"min_new_tokens": 3}}, {}, "generation_kwargs"),
        ({}, {"objective": "dr_grpo"}, "learns from outcomes"),
        ({}, {"objective": ("reverse_kl", "sft")}, "learns from given responses"),
        ({}, {"objective": ()}, "at least one objective"),
        ({}, {"weights": "correct"}, "outcome of a response"),
        ({"gradient_accumulation_steps": 2}, {"weights": "kl_above:0.5"}, "gradient_accumulation_steps=1"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    config: dict[str, Any], own: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as error:
        new_trainer(tmp_path, own=own, **config)
    assert words in str(error.value)


def test_unknown_objective_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean reverse_kl"):
        new_trainer(tmp_path, own={"objective": "revers_kl"})

"""What a run leaves: a model or an adapter that loads as any other, and a self-teacher that is what it should be."""

from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import SHORT, FewChains, run_short
from torch import Tensor

import hydrometer.training.run as run_module
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.training.config import TrainConfig
from hydrometer.training.setup import Workshop, build_workshop

IDS = torch.tensor([[5, 17, 29, 33, 25, 27, 14, 24]])
FAST: dict[str, Any] = {"steps": 2, "eval_questions": 0, "learning_rate": 1e-2}


@torch.no_grad()
def logits(model: TransformersModel) -> Tensor:
    return model.network(input_ids=IDS).logits


def train_shop(out: Path, **options: Any) -> Workshop:
    """The objects of a finished run."""
    config = TrainConfig(**SHORT | FAST | options)
    shop = build_workshop(config, task=FewChains())
    run_module.run_training(shop, out, resume=False, progress=run_module.Silent(), check=False)
    return shop


def test_model_is_an_ordinary_folder_with_the_trained_logits(tmp_path: Path) -> None:
    shop = train_shop(tmp_path / "run")
    trained = load_model(str(tmp_path / "run" / "model"))
    torch.testing.assert_close(logits(trained), logits(shop.student), rtol=0.0, atol=0.0)
    start = load_model("bundled:student")
    assert (logits(trained) - logits(start)).abs().max() > 0.01
    assert not (tmp_path / "run" / "adapter").exists()
    told = shop.questions[0].prompt
    assert trained.render(told) == start.render(told), "the chat template is kept"


def test_only_the_adapter_moves_and_loads_through_a_spec(tmp_path: Path) -> None:
    shop = train_shop(tmp_path / "run", lora_rank=2)
    start = load_model("bundled:student")
    base = {
        name.replace(".base_layer", ""): tensor
        for name, tensor in shop.student.network.state_dict().items()
        if "lora_" not in name
    }
    for name, tensor in start.network.state_dict().items():
        assert base[name].equal(tensor), name
    trained = load_model(f"bundled:student#adapter={tmp_path / 'run' / 'adapter'}")
    torch.testing.assert_close(logits(trained), logits(shop.student), rtol=0.0, atol=2e-5)
    assert (logits(trained) - logits(start)).abs().max() > 0.01
    assert not (tmp_path / "run" / "model").exists()
    names = {name for name, parameter in shop.student.network.named_parameters() if parameter.requires_grad}
    assert names and all("lora_" in name for name in names)
    assert not any("lm_head" in name or "embed" in name for name in names)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_frozen_self_stays_the_student_before_the_first_step(lora_rank: int, tmp_path: Path) -> None:
    shop = train_shop(tmp_path / "run", teacher="self+answer", lora_rank=lora_rank)
    (seat,) = shop.settings.seats.values()
    before = logits(load_model("bundled:student"))
    assert (logits(shop.student) - before).abs().max() > 0.01
    with seat.as_teacher():
        torch.testing.assert_close(logits(seat.model), before, rtol=0.0, atol=0.0)
    assert (logits(shop.student) - before).abs().max() > 0.01, "the adapter is back"
    assert (seat.model.network is shop.student.network) == (lora_rank > 0), "with LoRA no copy is needed"


def test_a_live_self_is_the_student(tmp_path: Path) -> None:
    shop = train_shop(tmp_path / "run", teacher="self+answer", self_teacher="live")
    (seat,) = shop.settings.seats.values()
    assert seat.model is shop.student


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_moving_average_follows_its_recursion(
    lora_rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Average <- 0.7 average + 0.3 weights after every step, from the first weights."""
    seen: list[list[Tensor]] = []
    real = run_module.Trainer.update

    def update(trainer: run_module.Trainer, *args: Any) -> Any:
        if not seen:
            seen.append([weight.detach().clone() for weight in trainer.optimiser.trained])
        told = real(trainer, *args)
        seen.append([weight.detach().clone() for weight in trainer.optimiser.trained])
        return told

    monkeypatch.setattr(run_module.Trainer, "update", update)
    options = {"teacher": "self+answer", "self_teacher": "ema", "ema_decay": 0.7, "steps": 3}
    shop = train_shop(tmp_path / "run", lora_rank=lora_rank, **options)
    assert shop.average is not None
    average = [weight.double() for weight in seen[0]]
    for weights in seen[1:]:
        average = [0.7 * mine + 0.3 * theirs.double() for mine, theirs in zip(average, weights, strict=True)]
    found = list(shop.average.tensors().values())
    assert len(found) == len(average)
    for mine, expected in zip(found, average, strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=1e-5, atol=1e-7)
    (seat,) = shop.settings.seats.values()
    assert seat.model is shop.average.model
    assert seat.model is not shop.student


def test_a_teacher_that_is_the_students_checkpoint_keeps_its_weights(tmp_path: Path) -> None:
    shop = train_shop(tmp_path / "run", teacher="other=bundled:student")
    (seat,) = shop.settings.seats.values()
    before = logits(load_model("bundled:student"))
    torch.testing.assert_close(logits(seat.model), before, rtol=0.0, atol=0.0)


def test_gradient_checkpointing_gives_the_same_run(tmp_path: Path) -> None:
    """Sampling too: layers that compute activations again heed no key-value cache."""
    plain = run_short(tmp_path / "plain", **FAST)
    again = run_short(tmp_path / "again", **FAST, gradient_checkpointing=True)
    for name in ("loss", "reverse_kl", "tokens"):
        assert again.metrics[name].to_list() == pytest.approx(plain.metrics[name].to_list(), rel=1e-5)

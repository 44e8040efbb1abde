"""What `accelerate launch --use_deepspeed` may ask for; the training itself is in test_deepspeed_runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from hydrometer.errors import SpecError
from hydrometer.training import zero
from hydrometer.training.zero import read_zero


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `accelerate launch --use_deepspeed` on a machine that has it."""
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr(zero, "find_spec", lambda name: object())


def write(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: Any) -> None:
    path = folder / "deepspeed.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3}} | settings))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))


def test_nothing_is_read_without_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    assert read_zero(1.0) is None


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_stage_0_is_left_to_the_loop_and_others_clip_as_the_run_does(
    stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
    config = read_zero(0.7)
    if stage == 0:
        assert config is None
        return
    assert config is not None
    assert config["zero_optimization"] == {"stage": stage}
    assert (config["gradient_clipping"], config["gradient_accumulation_steps"]) == (0.7, 1)


def test_of_a_file_zero_optimization_is_heeded_and_what_is_auto_is_deepspeeds_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = {"stage": 3, "stage3_param_persistence_threshold": 0, "overlap_comm": True}
    write(
        monkeypatch,
        tmp_path,
        zero_optimization=own | {"reduce_bucket_size": "auto", "offload_param": {"device": "none", "pin_memory": True}},
        train_batch_size="auto",
        train_micro_batch_size_per_gpu="auto",
        gradient_accumulation_steps="auto",
        gradient_clipping=0.7,
        bf16={"enabled": False, "min_loss_scale": 3},
        optimizer={"type": "auto", "params": {"lr": "auto"}},
        zero_allow_untested_optimizer=False,
    )
    config = read_zero(0.7)
    assert config is not None and config["zero_optimization"] == own
    with pytest.raises(SpecError, match="gradient_clipping"):
        read_zero(1.0)


REFUSED: dict[str, dict[str, Any]] = {
    "gradient_clipping": {"gradient_clipping": 0.5},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 4},
    "train_batch_size": {"train_batch_size": 8},
    "optimizer, scheduler": {
        "optimizer": {"type": "AdamW", "params": {"lr": "auto"}},
        "scheduler": {"type": "WarmupLR", "params": {}},
    },
    "fp16": {"fp16": {"enabled": True}},
    "offload_optimizer and offload_param": {
        "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "nvme"}}
    },
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_a_configuration_may_not_ask_for_is_refused_by_name(
    named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(monkeypatch, tmp_path, **REFUSED[named])
    with pytest.raises(SpecError, match=f"DeepSpeed with {named}[,;]"):
        read_zero(1.0)


def test_the_launchers_own_options_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    with pytest.raises(SpecError, match="--offload_optimizer_device"):
        read_zero(1.0)


def test_a_configuration_that_cannot_be_read_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "missing.json"))
    with pytest.raises(SpecError, match="configuration of DeepSpeed cannot be used"):
        read_zero(1.0)


def test_a_machine_without_deepspeed_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match="pip install deepspeed"):
        read_zero(1.0)

"""A LoRA adapter changes the weights by scale * B A, and nothing else is taken for an adapter."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import build_network, ids, save_checkpoint

from hydrometer.errors import SpecError
from hydrometer.models import parse_model_spec
from hydrometer.models.transformers_model import load_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint `base` and an adapter `lora` for it."""
    folder = tmp_path_factory.mktemp("adapters")
    save_checkpoint(folder / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a deprecated name
        adapted = get_peft_model(build_network(), LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "down_proj"]))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    adapted.save_pretrained(folder / "lora")
    return folder


@pytest.fixture
def lora(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "lora", tmp_path / "lora"))


def test_the_merged_weights_are_those_of_the_base_plus_the_scaled_product(trained: Path):
    model = load_model(f"{trained}/base#adapter={trained}/lora")
    expected = build_network().state_dict()
    tensors = load_file(trained / "lora" / "adapter_model.safetensors")
    changed = 0
    for name in expected:
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in tensors:
            expected[name] += 3.0 * tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"]
            changed += 1
    assert changed == 4
    found = model.network.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    [chunk] = model.score(ids("ab"), ids("cd"))
    [plain] = load_model(f"{trained}/base").score(ids("ab"), ids("cd"))
    assert (chunk.logits - plain.logits).abs().max() > 0.1
    assert not any(parameter.requires_grad and "lora" in name for name, parameter in model.network.named_parameters())


def test_the_fingerprint_is_of_the_model_and_its_adapter(trained: Path, lora: Path):
    spec = f"{trained}/base#adapter={lora}"
    with_adapter, without = load_model(spec).fingerprint, load_model(f"{trained}/base").fingerprint
    tensors = load_file(lora / "adapter_model.safetensors")
    next(iter(tensors.values()))[0] += 1e-3
    save_file(tensors, lora / "adapter_model.safetensors")
    assert len({with_adapter, without, load_model(spec).fingerprint}) == 3


def test_an_adapter_may_follow_any_model(trained: Path, tmp_path: Path):
    (tmp_path / "a#adapter=b").mkdir()
    assert parse_model_spec(f"{tmp_path}/a#adapter=b").adapter is None, "an existing folder wins"
    spec = parse_model_spec(f"org/name@v1#adapter={trained}/lora")
    assert (spec.source, spec.revision, spec.adapter) == ("org/name", "v1", f"{trained}/lora")
    assert parse_model_spec(f"bundled:student#adapter={trained}/lora").source.endswith("student")


def refusal(trained: Path, lora: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_model(f"{trained}/base#adapter={lora}")
    return str(caught.value)


def test_what_is_no_lora_adapter_is_refused(trained: Path, lora: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "has no adapter_config.json" in refusal(trained, tmp_path / "empty")
    config = lora / "adapter_config.json"
    given = json.loads(config.read_text())
    config.write_text(json.dumps(given | {"peft_type": "IA3"}))
    assert "of the kind 'IA3'; only LORA" in refusal(trained, lora)
    config.write_text("{")
    assert "cannot be loaded" in refusal(trained, lora)
    config.write_text(json.dumps(given))
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    assert "has no adapter_model.safetensors (only adapter_model.bin, which can run code" in refusal(trained, lora)


def test_an_adapter_of_another_network_is_refused(trained: Path, lora: Path):
    tensors = load_file(lora / "adapter_model.safetensors")
    name = next(key for key in tensors if "layers.1" in key)
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, lora / "adapter_model.safetensors")
    assert "does not fit" in refusal(trained, lora)
    deeper = {key.replace("layers.1", "layers.7"): tensor.clone() for key, tensor in tensors.items()}
    save_file(tensors | deeper, lora / "adapter_model.safetensors")
    assert "does not fit" in refusal(trained, lora)
    save_file({key: tensor[:, :-1].contiguous() for key, tensor in tensors.items()}, lora / "adapter_model.safetensors")
    assert "does not fit" in refusal(trained, lora)

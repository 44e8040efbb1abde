"""A checkpoint from a stranger: none of its code runs, no pickle is opened, nothing is fetched in its name."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_checkpoint

from hydrometer.errors import SpecError
from hydrometer.models.transformers_model import load_model
from hydrometer.types import Message


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def hostile(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "hostile"))


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def change(folder: Path, file: str, **entries: object) -> None:
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | entries))


def add_code(folder: Path) -> Path:
    """Modules that make a file when they are imported."""
    ran = folder.parent / "ran"
    for name in ("configuration_own", "modeling_own", "tokenization_own"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')\nraise SystemExit\n")
    return ran


CODE = {"AutoConfig": "configuration_own.C", "AutoModelForCausalLM": "modeling_own.M"}


@pytest.mark.parametrize("unknown", [False, True])
def test_code_of_a_checkpoint_never_runs(hostile: Path, unknown: bool) -> None:
    ran = add_code(hostile)
    weights = load_model(str(hostile)).network.state_dict()
    change(hostile, "config.json", auto_map=CODE, **({"model_type": "own"} if unknown else {}))
    change(hostile, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.T", "tokenization_own.T"]})
    if unknown:
        with pytest.raises(SpecError, match="cannot be loaded"):
            load_model(str(hostile))
    else:  # a known network with code left beside it: the known one is taken
        loaded = load_model(str(hostile)).network
        assert type(loaded).__module__.startswith("transformers.")
        assert all(torch.equal(weights[name], tensor) for name, tensor in loaded.state_dict().items())
    assert not ran.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"])
def test_pickles_are_never_opened(hostile: Path, name: str) -> None:
    ran = hostile.parent / "ran"
    (hostile / "model.safetensors").unlink()
    (hostile / name).write_bytes(pickle.dumps(Touch(ran)))
    with pytest.raises(SpecError, match=r"holds only pickle weights.*safetensors"):
        load_model(str(hostile))
    assert not ran.exists()
    pickle.loads((hostile / name).read_bytes())
    assert ran.exists(), "the pickle was armed"


@pytest.mark.parametrize("target", ["weights.bin", "../elsewhere.safetensors", "/etc/x.safetensors"])
def test_an_index_leads_to_no_other_file(hostile: Path, target: str) -> None:
    ran = hostile.parent / "ran"
    tensors = load_file(hostile / "model.safetensors")
    shutil.move(hostile / "model.safetensors", hostile.parent / "elsewhere.safetensors")
    (hostile / "weights.bin").write_bytes(pickle.dumps(Touch(ran)))
    change(hostile, "model.safetensors.index.json", metadata={}, weight_map=dict.fromkeys(tensors, target))
    with pytest.raises(SpecError, match=rf"index\.json names '{target}', which is not a safetensors file beside it"):
        load_model(str(hostile))
    assert not ran.exists()


def test_weights_named_in_the_configuration_are_no_pickles(hostile: Path) -> None:
    ran = hostile.parent / "ran"
    (hostile / "adapter_model.bin").write_bytes(pickle.dumps(Touch(ran)))
    (hostile / "model.safetensors").unlink()
    change(hostile, "config.json", transformers_weights="adapter_model.bin")
    with pytest.raises(SpecError):
        load_model(str(hostile))
    assert not ran.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_attention_kernel_from_the_hub_is_refused(hostile: Path, key: str) -> None:
    change(hostile, "config.json", **{key: "somebody/kernel"})
    with pytest.raises(SpecError, match="asks for code from the Hub"):
        load_model(str(hostile))


def test_an_adapter_is_not_taken_for_a_model(hostile: Path, checkpoint: Path) -> None:
    change(hostile, "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(checkpoint))
    with pytest.raises(SpecError, match=r"it is an adapter.*MODEL#adapter=FOLDER"):
        load_model(str(hostile))


def test_a_pickled_adapter_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    adapter, ran = tmp_path / "adapter", tmp_path / "ran"
    adapter.mkdir()
    change(adapter, "adapter_config.json", peft_type="LORA", r=1, target_modules=["q_proj"])
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Touch(ran)))
    with pytest.raises(SpecError, match=r"no adapter_model\.safetensors \(only adapter_model\.bin"):
        load_model(f"{checkpoint}#adapter={adapter}")
    assert not ran.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "extra.txt"])
def test_pipes_and_devices_do_not_hang(hostile: Path, checkpoint: Path, name: str) -> None:
    (hostile / name).unlink(missing_ok=True)
    os.mkfifo(hostile / name)
    with pytest.raises(SpecError, match=f"file {name} cannot be used: it is a pipe"):
        load_model(str(hostile))
    with pytest.raises(SpecError, match=f"file {name} cannot be used: it is a pipe"):
        load_model(f"{checkpoint}#adapter={hostile}")
    (hostile / name).unlink()
    (hostile / name).symlink_to("/dev/zero")
    with pytest.raises(SpecError, match=f"file {name} cannot be used: it is a device"):
        load_model(str(hostile))


def test_links_to_plain_files_are_fine(hostile: Path) -> None:
    shutil.move(hostile / "model.safetensors", hostile.parent / "blob")
    (hostile / "model.safetensors").symlink_to(hostile.parent / "blob")
    assert load_model(str(hostile)).parameters > 0


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('touch RAN') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_chat_template_reaches_nothing(hostile: Path, template: str) -> None:
    ran = hostile.parent / "ran"
    (hostile / "chat_template.jinja").write_text(template.replace("RAN", str(ran)))
    model = load_model(str(hostile))
    with pytest.raises(SpecError, match=r"The chat template .* refuses"):
        model.render((Message("user", "a"),))
    assert not ran.exists()

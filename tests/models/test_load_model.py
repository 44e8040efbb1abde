import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TEMPLATE, TOKENS, build_network, build_tokenizer, ids, save_checkpoint, tiny_model
from transformers.utils import logging

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.models import FAMILY, parse_model_spec
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.types import Message


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copied"))


# --- specs


def test_a_bundled_name_is_a_folder_of_the_package():
    spec = parse_model_spec("bundled:student")
    assert Path(spec.source).parts[-4:] == ("hydrometer", "models", "family", "student")
    assert spec.text == "bundled:student"


@pytest.mark.parametrize(("text", "hint"), [("bundled:studnet", "student"), ("bundled:exprt", "expert")])
def test_a_misspelt_bundled_name_gets_near_matches(text: str, hint: str):
    with pytest.raises(UnknownNameError, match=rf"bundled model '{text[8:]}'.*Did you mean .*{hint}"):
        parse_model_spec(text)
    with pytest.raises(UnknownNameError, match=r"Known: .*other-pattern"):
        parse_model_spec("bundled:")


def test_hub_ids_may_name_a_revision():
    spec = parse_model_spec("org/name@v1.2")
    assert (spec.source, spec.revision, spec.is_folder) == ("org/name", "v1.2", False)
    assert parse_model_spec("gpt2").revision is None
    assert parse_model_spec("org/name@").revision is None


def test_an_existing_folder_wins_over_every_other_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "org" / "name@v1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    spec = parse_model_spec("org/name@v1")
    assert (spec.source, spec.revision, spec.is_folder) == ("org/name@v1", None, True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_model_spec("~/org").source == str(tmp_path / "org")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no model"),
        ("@main", "names no model"),
        ("./nowhere", "looks like a folder"),
        ("/nowhere/at/all", "looks like a folder"),
        ("~nosuchuser/model", "looks like a folder"),
        ("a/b/c", "looks like a folder"),
        ("gguf:model.gguf", r"no file 'model\.gguf'"),
        ("gguf:", "no file ''"),
        ("org/name#adapter=lora", "no adapter folder 'lora'"),
        ("bundled:student#adapter=", "no adapter folder ''"),
        ("org/name#lora", "after '#' only adapter=FOLDER"),
    ],
)
def test_specs_that_cannot_be_loaded_are_refused_in_words(text: str, words: str):
    with pytest.raises(SpecError, match=words) as caught:
        parse_model_spec(text)
    assert f"'{text}'" in str(caught.value)


def test_a_spec_of_any_length_is_only_unknown():
    with pytest.raises(SpecError, match="Unknown model"):
        load_model("x" * 5000)


# --- loading


def test_a_folder_gives_the_network_it_was_saved_from(checkpoint: Path):
    model = load_model(str(checkpoint))
    saved = build_network()
    response = ids("abc|")
    [loaded_chunk] = model.score(ids("xyz"), response)
    expected = saved(input_ids=torch.tensor([[*ids("xyz"), *response]])).logits[0, 2:-1]
    torch.testing.assert_close(loaded_chunk.logits, expected.detach(), rtol=0, atol=1e-5)
    assert model.spec == str(checkpoint)
    assert model.eos_ids == frozenset(ids("|"))
    assert model.parameters == sum(parameter.numel() for parameter in saved.parameters())
    assert not model.network.training


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_is_that_of_the_weights_and_scores_are_float32(checkpoint: Path, dtype: str):
    model = load_model(str(checkpoint), dtype=dtype)  # pyright: ignore[reportArgumentType]
    assert model.network.dtype == getattr(torch, dtype)
    [chunk] = model.score(ids("ab"), ids("cd"))
    assert chunk.logits.dtype == torch.float32


def test_the_fingerprint_follows_weights_config_and_template(copied: Path):
    before = load_model(str(copied)).fingerprint
    assert before.startswith("sha256:")
    assert load_model(str(copied)).fingerprint == before
    (copied / "README.md").write_text("changes nothing")
    assert load_model(str(copied)).fingerprint == before
    (copied / "chat_template.jinja").write_text(TEMPLATE + " ")
    with_template = load_model(str(copied)).fingerprint
    weights = load_file(copied / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert len({before, with_template, load_model(str(copied)).fingerprint}) == 3


def test_loading_is_silent_and_leaves_the_settings_of_transformers(checkpoint: Path, capfd: pytest.CaptureFixture):
    for bars, verbosity in ((True, logging.INFO), (False, logging.ERROR)):
        before = logging.is_progress_bar_enabled(), logging.get_verbosity()
        try:
            logging.enable_progress_bar() if bars else logging.disable_progress_bar()
            logging.set_verbosity(verbosity)
            load_model(str(checkpoint))
            with pytest.raises(SpecError):
                load_model(str(checkpoint.parent))
            assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == (bars, verbosity)
        finally:
            logging.enable_progress_bar() if before[0] else logging.disable_progress_bar()
            logging.set_verbosity(before[1])
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_an_unknown_hub_id_gets_a_hint(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SpecError, match="Unknown model 'no-such-org/no-such-model'") as caught:
        load_model("no-such-org/no-such-model")
    assert "Hugging Face Hub" in str(caught.value)
    assert all(f"bundled:{name}" in str(caught.value) for name in FAMILY)
    assert len(str(caught.value).splitlines()) <= 10
    with pytest.raises(SpecError, match="Unknown model 'not an id!'"):
        load_model("not an id!")


def test_pickled_weights_are_refused(copied: Path):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(SpecError, match=r"only pickle weights.*safetensors"):
        load_model(str(copied))


def test_safe_weights_beside_pickled_ones_are_taken(copied: Path):
    (copied / "pytorch_model.bin").write_bytes(b"not to be opened")
    assert load_model(str(copied)).parameters == tiny_model().parameters


def test_a_folder_without_a_tokenizer_is_refused(copied: Path):
    for path in copied.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(SpecError, match=f"'{copied}' cannot be loaded.*no tokenizer files"):
        load_model(str(copied))


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(SpecError, match=f"'{tmp_path}' cannot be loaded"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("kept_bytes", [0, 4, 100, 5000])
def test_cut_off_weights_are_refused(copied: Path, kept_bytes: int):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept_bytes])
    with pytest.raises(SpecError, match="cannot be loaded"):
        load_model(str(copied))


def test_a_tensor_that_is_not_there_is_not_made_up(copied: Path):
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecError, match=r"lack 1 tensors.*layers\.1\.mlp\.up_proj"):
        load_model(str(copied))


def test_tensors_of_another_shape_are_refused(copied: Path):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(SpecError, match="cannot be loaded"):
        load_model(str(copied))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model_type": "no-such-type"}', '{"model_type": "qwen3", "vocab_size": "x"}']
)
def test_a_damaged_config_is_refused(copied: Path, text: str):
    (copied / "config.json").write_text(text)
    with pytest.raises(SpecError, match="cannot be loaded"):
        load_model(str(copied))


def test_code_that_comes_with_a_checkpoint_is_neither_run_nor_asked_about(copied: Path, capfd: pytest.CaptureFixture):
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "code.py").write_text(f"open({str(copied / 'ran')!r}, 'w')")
    with pytest.raises(SpecError, match="cannot be loaded"):
        load_model(str(copied))
    assert not (copied / "ran").exists()
    assert "[y/N]" not in capfd.readouterr().out


def test_layers_that_keep_a_recurrent_state_are_refused(copied: Path):
    from transformers import MambaConfig, MambaForCausalLM

    MambaForCausalLM(MambaConfig(vocab_size=39, hidden_size=16, num_hidden_layers=1)).save_pretrained(copied)
    with pytest.raises(SpecError, match="keep a state that cannot be cut back"):
        load_model(str(copied))


def test_a_device_that_is_not_there_is_named(checkpoint: Path):
    for device in ("cuda:99", "no-such-device"):
        with pytest.raises(SpecError, match=f"cannot be put on device '{device}'"):
            load_model(str(checkpoint), device=device)


# --- text in and out of tokens


def test_a_prompt_is_the_template_with_the_assistants_turn_opened():
    model = tiny_model()
    messages = (Message("system", "be"), Message("user", "a b"))
    assert model.prompt_text(messages, assistant="ok ") == "<system>be<user>a b<assistant>ok "
    assert model.render(messages) == (4, *ids("be"), 2, *ids("a b"), 3)
    assert model.render(messages, assistant="ok ") == (*model.render(messages), *ids("ok "))


def test_a_model_without_a_template_says_so(copied: Path):
    (copied / "chat_template.jinja").unlink()
    model = load_model(str(copied))
    with pytest.raises(SpecError, match=f"'{copied}' has no chat template"):
        model.render((Message("user", "a"),))


def test_a_template_that_refuses_is_quoted(copied: Path):
    (copied / "chat_template.jinja").write_text("{{ raise_exception('no system messages, please') }}")
    with pytest.raises(SpecError, match="no system messages, please"):
        load_model(str(copied)).render((Message("system", "a"),))
    (copied / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(SpecError, match="refuses these messages"):
        load_model(str(copied)).render((Message("user", "a"),))


def test_decoding_keeps_every_character_and_drops_the_end():
    model = tiny_model()
    assert model.decode(ids("a . b ?: c|")) == "a . b ?: c"
    assert model.token_text(1) == "<eos>"
    assert model.token_text(ids(" ")[0]) == " "
    assert model.count_tokens("a b") == 3


def test_ids_behind_a_gap_in_the_tokenizer_are_known():
    numbered = {token: number if token != "z" else 45 for number, token in enumerate(TOKENS)}
    model = TransformersModel("gap", build_network(vocab=48), build_tokenizer(numbered), "")
    strings = model.token_strings()
    assert len(model.tokenizer) == len(TOKENS), "which says nothing of the largest id"
    assert len(strings) == 46
    assert strings[45] == "z"
    assert strings[TOKENS.index("z")] is None
    assert strings[39:45] == [None] * 6
    assert TransformersModel("cut", build_network(vocab=20), build_tokenizer(), "").token_strings() == list(TOKENS[:20])


def test_end_ids_are_those_of_generation_config_and_tokenizer(copied: Path):
    path = copied / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [2, 3]}))
    assert load_model(str(copied)).eos_ids == {1, 2, 3}

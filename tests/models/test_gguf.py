"""GGUF files: the network that was written is the network that is read, whatever lies beside the file."""

import hashlib
from pathlib import Path

import pytest
import torch
from tiny_gguf import TEMPLATE, TOKENS, build_qwen2, write_gguf

from hydrometer.errors import SpecError
from hydrometer.models.transformers_model import load_model
from hydrometer.types import Message

PROMPT, RESPONSE = (5, 80, 90), (7, 256, 30)


def expected_logits(network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.tensor([[*PROMPT, *RESPONSE]])).logits[0, 2:-1]


def test_a_file_gives_the_network_and_tokenizer_it_was_written_from(tmp_path: Path):
    network = build_qwen2(tied=True)
    file = write_gguf(tmp_path / "q.gguf", network, quantised_embedding=False)
    (tmp_path / "config.json").write_text("not of this model")
    (tmp_path / "tokenizer.json").write_text("{}")
    model = load_model(f"gguf:{file}")
    [chunk] = model.score(PROMPT, RESPONSE)
    torch.testing.assert_close(chunk.logits, expected_logits(network), rtol=0, atol=1e-5)
    assert model.parameters == sum(p.numel() for p in network.parameters())
    assert model.token_strings() == list(TOKENS)
    assert model.prompt_text((Message("user", "hey"),)) == "<|im_start|>hey<|im_end|><|im_start|>"
    assert model.tokenizer.chat_template == TEMPLATE
    assert "quantization_config" not in model.network.config.to_dict()
    assert model.render((Message("user", "hey"),)) == (258, 256, TOKENS.index("y"), 259, 258)
    assert model.eos_ids == {257, 259}, "the end of a turn and the end of a text"
    assert model.fingerprint == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_embeddings_of_different_precision_are_tied_again(tmp_path: Path):
    network = build_qwen2(tied=True)
    file = write_gguf(tmp_path / "q.gguf", network, quantised_embedding=True)
    model = load_model(f"gguf:{file}")
    [chunk] = model.score(PROMPT, RESPONSE)
    torch.testing.assert_close(chunk.logits, expected_logits(network), rtol=0, atol=1e-5)
    assert model.network.get_input_embeddings().weight is model.network.get_output_embeddings().weight
    assert model.network.config.tie_word_embeddings
    assert model.parameters == sum(p.numel() for p in network.parameters())


def test_embeddings_that_are_two_matrices_stay_two(tmp_path: Path):
    network = build_qwen2(tied=False)
    file = write_gguf(tmp_path / "q.gguf", network, quantised_embedding=False)
    model = load_model(f"gguf:{file}")
    [chunk] = model.score(PROMPT, RESPONSE)
    torch.testing.assert_close(chunk.logits, expected_logits(network), rtol=0, atol=1e-5)
    assert not model.network.config.tie_word_embeddings


def test_the_dtype_is_honoured(tmp_path: Path):
    network = build_qwen2(tied=True)
    file = write_gguf(tmp_path / "q.gguf", network, quantised_embedding=False)
    model = load_model(f"gguf:{file}", dtype="bfloat16")
    [chunk] = model.score(PROMPT, RESPONSE)
    assert {p.dtype for p in model.network.parameters()} == {torch.bfloat16}
    assert model.network.model.rotary_emb.inv_freq.dtype == torch.float32, "as in any other checkpoint of that dtype"
    written = [tensor.bfloat16() for tensor in network.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(model.network.state_dict().values(), written, strict=True))
    assert chunk.logits.dtype == torch.float32


def test_what_is_no_gguf_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "notes.gguf").write_text("text")
    with pytest.raises(SpecError, match=r"is not a GGUF file \(it begins with b'text'"):
        load_model(f"gguf:{tmp_path}/notes.gguf")
    with pytest.raises(SpecError, match="it is a folder, not a plain file"):
        load_model(f"gguf:{tmp_path}")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00")
    with pytest.raises(SpecError, match=r"cut\.gguf' cannot be loaded"):
        load_model(f"gguf:{tmp_path}/cut.gguf")
    with pytest.raises(SpecError, match=r"To load a GGUF file, write gguf:/.*cut\.gguf"):
        load_model(f"{tmp_path}/cut.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match="pip install gguf"):
        load_model(f"gguf:{tmp_path}/cut.gguf")


@pytest.mark.real_model
def test_a_real_file_is_the_checkpoint_that_was_made_from_it(models_folder: Path):
    """The folder was dequantised from the file and rounded to bfloat16, so in bfloat16 the weights are equal."""
    folder = models_folder / "smollm2-135m"
    if not (folder / "model.gguf").exists():
        pytest.skip("the GGUF file was not kept beside the checkpoint")
    messages = (Message("user", "Name a prime number above ten."),)
    from_file, from_folder = (load_model(text, dtype="bfloat16") for text in (f"gguf:{folder}/model.gguf", str(folder)))
    prompt = from_file.render(messages)
    assert prompt == from_folder.render(messages)
    assert from_file.eos_ids == from_folder.eos_ids
    response = tuple(from_file.tokenizer("Eleven is a prime number.")["input_ids"])
    [ours], [theirs] = from_file.score(prompt, response), from_folder.score(prompt, response)
    assert torch.equal(ours.logits, theirs.logits)

"""Random networks and a 39-token tokenizer, small enough for tests to sample thousands of tokens."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hydrometer.models.transformers_model import TransformersModel

EOS = "<eos>"
SPECIAL = ("<pad>", EOS, "<user>", "<assistant>", "<system>")
LETTERS = (*"abcdefghijklmnopqrstuvwxyz", *" .-?:\n0", "<unk>")
TOKENS = (*SPECIAL, *LETTERS)
VOCAB = len(TOKENS)
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer(
    tokens: Sequence[str] | Mapping[str, int] = TOKENS, *, template: str | None = TEMPLATE
) -> PreTrainedTokenizerFast:
    """One token per character, the special ones written out; a character it does not know becomes <unk>."""
    numbered = tokens if isinstance(tokens, Mapping) else {token: i for i, token in enumerate(tokens)}
    inner = Tokenizer(models.WordLevel(dict(numbered), unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    inner.decoder = decoders.Fuse()  # type: ignore[assignment]
    inner.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=EOS, pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def build_network(
    kind: str = "qwen3", *, seed: int = 0, vocab: int = VOCAB, spread: float = 0.35, **changes: Any
) -> PreTrainedModel:
    """Two layers of width 32. `spread` is the standard deviation of the weights: larger, and p is less uniform."""
    shape = {
        "vocab_size": vocab,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": TOKENS.index(EOS),
        "pad_token_id": 0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        match kind:
            case "qwen3":
                network: PreTrainedModel = Qwen3ForCausalLM(Qwen3Config(**shape | changes))
            case "llama":
                network = LlamaForCausalLM(LlamaConfig(**shape | changes))
            case _:
                raise ValueError(kind)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=spread)
    return network.eval()


@cache
def tiny_model(kind: str = "qwen3", *, seed: int = 0, vocab: int = VOCAB, spread: float = 0.35) -> TransformersModel:
    """A model shared by tests, which must not change it."""
    return new_model(kind, seed=seed, vocab=vocab, spread=spread)


def new_model(kind: str = "qwen3", *, name: str = "tiny", **changes: Any) -> TransformersModel:
    """A model of one's own."""
    return TransformersModel(
        name, build_network(kind, **changes), build_tokenizer(), f"{kind}-{sorted(changes.items())}"
    )


def ids(text: str) -> tuple[int, ...]:
    """Token ids of plain letters; `|` stands for the end of sequence."""
    return tuple(TOKENS.index(EOS if character == "|" else character) for character in text)


def save_checkpoint(folder: Path, **changes: Any) -> Path:
    """A checkpoint folder as `load_model` expects it."""
    build_network(**changes).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder

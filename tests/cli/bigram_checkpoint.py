"""A Qwen3 checkpoint on disk that is exactly a bigram table, so that a real model can have known probabilities.

Embeddings are one-hot and every block adds nothing, so the logits after a token are one column of the output matrix.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

TOKENS = ("<unk>", "<eos>", ">", "\n", "a", "b", "c", "d", "1", "2", " ")
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}>{{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ m['role'] }}: {{ m['content'] }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
)

STUDENT: dict[str, dict[str, float]] = {
    ">": {"a": 0.45, "b": 0.35, "c": 0.2},
    "a": {"<eos>": 0.6, "b": 0.2, "\n": 0.2},
    "b": {"<eos>": 0.4, "\n": 0.6},
    "c": {"<eos>": 0.5, "a": 0.2, "\n": 0.3},
    "\n": {"a": 0.5, "b": 0.3, "c": 0.2},
}
"""A response is right where its last line is "a"."""
GOOD = STUDENT | {
    ">": {"a": 0.7, "b": 0.2, "c": 0.1},
    "a": {"<eos>": 0.85, "b": 0.05, "\n": 0.1},
    "b": {"<eos>": 0.1, "\n": 0.9},
}
EOS_LOGIT = {"<eos>": 1.0}


def write_checkpoint(
    folder: Path,
    table: Mapping[str, Mapping[str, float]] = STUDENT,
    *,
    tokens: tuple[str, ...] = TOKENS,
    chat: bool = True,
) -> Path:
    """Save the model whose next-token probabilities are `table[last token]` (elsewhere: always end of sequence)."""
    size = len(tokens)
    config = Qwen3Config(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        eos_token_id=1,
        bos_token_id=None,
    )
    network = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.model.norm.weight.fill_(size**-0.5)
        network.model.embed_tokens.weight.copy_(torch.eye(size))
        network.lm_head.weight.fill_(-30.0)
        for last, token in enumerate(tokens):
            for following, probability in table.get(token, EOS_LOGIT).items():
                network.lm_head.weight[tokens.index(following), last] = torch.tensor(probability).log()
    network.save_pretrained(folder)
    _tokenizer(tokens, chat).save_pretrained(folder)
    return folder


def _tokenizer(tokens: tuple[str, ...], chat: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = Fuse()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")
    if chat:
        wrapped.chat_template = TEMPLATE
    return wrapped

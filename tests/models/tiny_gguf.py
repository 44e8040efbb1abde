"""A GGUF file of a random Qwen2 network with a byte-level tokenizer, written tensor by tensor."""

from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENS = (*bytes_to_unicode().values(), "he", *ENDS)
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}<|im_start|>"
_SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def build_qwen2(*, tied: bool) -> Qwen2ForCausalLM:
    """The network that the file is written from."""
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(TOKENS), num_key_value_heads=1, tie_word_embeddings=tied, max_position_embeddings=128, **_SHAPE
    )
    network = Qwen2ForCausalLM(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def write_gguf(path: Path, network: Qwen2ForCausalLM, *, quantised_embedding: bool) -> Path:
    """Write every tensor in float32; the input embedding in 4 bits and the output matrix beside it where asked."""
    writer = gguf.GGUFWriter(path, "qwen2")
    config = network.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(list(TOKENS))
    writer.add_token_types([3 if token in ENDS else 1 for token in TOKENS])
    writer.add_token_merges(["h e"])
    writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings and not quantised_embedding:
            continue
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        values = tensor.numpy().astype(np.float32)
        if name == "model.embed_tokens.weight" and quantised_embedding:
            kind = gguf.GGMLQuantizationType.Q4_0
            writer.add_tensor(stored, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

"""Reading the conventions of a transformers checkpoint from its tokenizer and its generation config."""

from transformers import GenerationConfig, PreTrainedTokenizerBase

from hydrometer.models.conventions import Conventions

_NEUTRAL = {
    "temperature": (1.0,),
    "top_k": (0,),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "suppress_tokens": (),
    "begin_suppress_tokens": (),
    "bad_words_ids": (),
    "sequence_bias": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
}
"""Fields of a generation config that change what is sampled, with the values that do not."""


def read_conventions(tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig | None) -> Conventions:
    """Conventions of a loaded checkpoint."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    bos = _id(tokenizer.bos_token_id)
    # a text of one plain character shows what is put before it
    first = tokenizer("a", add_special_tokens=True, verbose=False)["input_ids"][:1]
    return Conventions(
        pad_id=_id(tokenizer.pad_token_id),
        bos_id=bos,
        adds_bos=bos is not None and list(first) == [bos],
        special_ids=frozenset(added | set(tokenizer.all_special_ids)),
        stock_sampling={} if generation is None else _stock_sampling(generation),
    )


def _id(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _stock_sampling(generation: GenerationConfig) -> dict[str, object]:
    found = {name: getattr(generation, name, None) for name in _NEUTRAL}
    return {name: value for name, value in found.items() if value is not None and value not in _NEUTRAL[name]}

"""The family's tokenizer: byte-level BPE with every digit and the filler as single tokens, and a chat template."""

import random
from collections.abc import Callable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from family.corpus import Mixture, sample_example
from hydrometer.tasks.chain_text import text_of

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, END, SYSTEM, USER, ASSISTANT)
FILLER = "- "
VOCABULARY = 448

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role: ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the merges on both patterns and all frames, then check what the family promises of its tokens.

    Raises:
        RuntimeError: the filler did not become one token.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(seed), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    if len(tokenizer.encode((FILLER * 5).strip())) != 5:
        raise RuntimeError(f"the filler {FILLER!r} is not one token")
    return tokenizer


def build_blank(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], str]:
    """Filler of the same number of tokens as a text, as the `empty:` contexts have it."""
    return lambda text: (FILLER * len(tokenizer.encode(text, add_special_tokens=False))).strip()


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token."""
    found = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int):
        raise RuntimeError(f"{token!r} is not one token")
    return found


def _corpus(seed: int) -> list[str]:
    rng = random.Random(f"tokenizer {seed}")
    texts = []
    for pattern in ("lines", "prose"):
        mixture = Mixture(pattern=pattern, second_prompt_share=0.3, bare_share=0.1, strict_share=0.3)
        for _ in range(1500):
            example = sample_example(rng, mixture, lambda text: (FILLER * (len(text) // 2)).strip())
            texts += [message.content for message in example.messages]
            texts.append(example.assistant + text_of(example.response))
    return texts

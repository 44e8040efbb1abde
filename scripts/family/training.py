"""Plain next-token training of one member on masked examples: Muon on the matrices, AdamW on the rest.

Loss = mean over trained response tokens of -log p(token | prompt, prefix). Prompt tokens and values that are wrong on
purpose carry no loss. The learning rate warms up, stays, and falls linearly to zero in the last `decay_share`.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from family.corpus import Example, Mixture, sample_example
from family.tokenizer import END, PAD, build_blank, token_id

POOL = 1536
"""Examples that are drawn together and sorted by length, so that a batch has little padding."""


@dataclass(frozen=True, slots=True)
class Size:
    """Shape of a Qwen3 model."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How one member is trained."""

    size: Size
    steps: int
    seed: int
    mixture: Mixture = field(default_factory=Mixture)
    tokens_per_batch: int = 3072
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    warmup_steps: int = 100
    decay_share: float = 0.25
    snapshots: tuple[int, ...] = ()
    """Steps after which the model is handed to the caller while training goes on."""


class Batch(NamedTuple):
    """Right-padded examples; `loss_mask[i, t]` is True where predicting token t + 1 is trained."""

    token_ids: Int[Tensor, "row token"]
    loss_mask: Bool[Tensor, "row token"]


class Progress(NamedTuple):
    """What a training run has used up so far."""

    step: int
    tokens: int
    """Prompt and response tokens, without padding."""
    cpu_s: float
    loss: float
    """Nats per trained token, mean over the last 50 steps."""

    def as_json(self) -> dict[str, Any]:
        """As it is recorded beside a member."""
        told = {"step": self.step, "tokens": self.tokens, "cpu_s": round(self.cpu_s)}
        return told | {"loss_nats": round(self.loss, 4)}


def build_model(size: Size, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A freshly initialised model; the global generator is put back afterwards."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        head_dim=size.hidden // size.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, PAD),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    # On rows this short the plain attention is half again as fast on a CPU as the fused one.
    model.set_attn_implementation("eager")
    return model


def train(
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    *,
    on_snapshot: Callable[[Qwen3ForCausalLM, Progress], None],
    log: Callable[[str], None],
) -> Qwen3ForCausalLM:
    """Train one member from scratch; `on_snapshot` also gets the last state."""
    model = build_model(plan.size, tokenizer, plan.seed)
    optimizers = _build_optimizers(model, plan)
    batches = _batches(plan, tokenizer)
    pad_id = token_id(tokenizer, PAD)
    started, tokens, losses = time.process_time(), 0, []
    for step in range(1, plan.steps + 1):
        batch = next(batches)
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * _rate_share(plan, step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tokens += int(torch.count_nonzero(batch.token_ids != pad_id))
        losses.append(loss.item())
        progress = Progress(step, tokens, time.process_time() - started, sum(losses[-50:]) / len(losses[-50:]))
        if step % 100 == 0:
            log(f"step {step} loss {progress.loss:.4f} tokens {tokens} cpu_s {progress.cpu_s:.0f}")
        if step in plan.snapshots or step == plan.steps:
            on_snapshot(model, progress)
    return model


def _build_optimizers(model: Qwen3ForCausalLM, plan: Plan) -> list[tuple[torch.optim.Optimizer, float]]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    muon = torch.optim.Muon(matrices, lr=plan.muon_rate, momentum=0.95, weight_decay=0.01)
    adam = torch.optim.AdamW(rest, lr=plan.adam_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [(muon, plan.muon_rate), (adam, plan.adam_rate)]


def _rate_share(plan: Plan, step: int) -> float:
    decay_steps = max(1, round(plan.decay_share * plan.steps))
    return min(1.0, step / plan.warmup_steps, (plan.steps - step + 1) / decay_steps)


def _loss(model: Qwen3ForCausalLM, batch: Batch) -> Tensor:
    hidden = model.model(input_ids=batch.token_ids, use_cache=False).last_hidden_state
    # Right padding needs no attention mask under causal attention: no trained position looks at it.
    logits = model.lm_head(hidden[:, :-1][batch.loss_mask[:, 1:]])
    return torch.nn.functional.cross_entropy(logits.float(), batch.token_ids[:, 1:][batch.loss_mask[:, 1:]])


def _batches(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    rng = random.Random(f"batches {plan.seed}")
    blank = build_blank(tokenizer)
    while True:
        examples = [sample_example(rng, plan.mixture, blank) for _ in range(POOL)]
        rows = sorted(encode(examples, tokenizer), key=lambda row: len(row[0]))
        groups, group = [], []
        for row in rows:
            if (len(group) + 1) * len(row[0]) > plan.tokens_per_batch:
                groups.append(group)
                group = []
            group.append(row)
        groups.append(group)
        rng.shuffle(groups)
        for group in groups:
            yield _pad(group, token_id(tokenizer, PAD))


def encode(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[tuple[list[int], list[bool]]]:
    """Token ids of prompt, response and end token, and for each whether it is trained."""
    prompts = [render_prompt(example, tokenizer) for example in examples]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    # Segments end at digits, which are single tokens: encoding them one by one gives the tokens of the whole text.
    pieces = sorted({segment.text for example in examples for segment in example.response})
    piece_ids = dict(zip(pieces, tokenizer(pieces, add_special_tokens=False)["input_ids"], strict=True))
    rows = []
    for example, prompt in zip(examples, prompt_ids, strict=True):
        ids, trained = list(prompt), [False] * len(prompt)
        for segment in example.response:
            piece = piece_ids[segment.text]
            ids += piece
            trained += [segment.trained] * len(piece)
        rows.append(([*ids, token_id(tokenizer, END)], [*trained, True]))
    return rows


def render_prompt(example: Example, tokenizer: PreTrainedTokenizerFast) -> str:
    """The rendered chat up to where the response starts."""
    messages = [message._asdict() for message in example.messages]
    return f"{tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)}{example.assistant}"


def _pad(rows: list[tuple[list[int], list[bool]]], pad_id: int) -> Batch:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row, _ in rows])
    mask = torch.tensor([[*row, *[False] * (width - len(row))] for _, row in rows])
    return Batch(ids, mask)

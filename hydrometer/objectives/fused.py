"""The output layer and the objectives in one step, a chunk of response tokens at a time.

Logits of a whole batch are never held. Every objective has its gradient in closed form, so a chunk's is made as soon as
its logits are there, and both are forgotten. With z the logits of a token, d its direction, w its loss weight, n the
number of tokens:

    z = (h W^T + b) scale,  or softcap tanh of that / softcap;  p = softmax(z / T), q likewise
    G = -w d                                 of an objective that compares distributions
    G = w c (onehot(y) - p)                  of one that reads the token y; c the slope of its loss in log p(y)
    dL/dh = G W scale / (T n)        dL/dW = G^T h scale / (T n)        (G first times 1 - (z / softcap)^2)

One matmul forward and two backward, no autograd graph and nothing computed twice. Chunks run from the last to the
first, so that the rewards to go of `minillm` are known when their turn comes. Matmuls are in the dtype of the hidden
states (or of autocast); all else, and the sum over chunks of the head's gradient, in float32 or better.

    >>> loss = fused_loss([Term(objective)], hidden, Head(lm_head.weight), teacher_hidden=..., teacher_head=...).loss
    >>> loss.backward()
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from hydrometer.matmul import fast_matmul
from hydrometer.objectives.objective import Objective
from hydrometer.objectives.sampled import sum_rewards_to_go

BLOCK_BYTES_CPU = 24 * 2**20
"""Of one float32 [chunk, vocab]. Above 32 MiB every allocation is of fresh pages, which cost more than the arithmetic
on them."""
BLOCK_BYTES_ACCELERATOR = 128 * 2**20
CHUNK_TOKENS_LEAST = 128
"""With fewer rows a matmul spends its time on reading the weights."""

Observer = Callable[[slice, Tensor, Tensor | None], None]


class Head(NamedTuple):
    """An output layer: logits = (hidden @ weight^T + bias) * scale, then softcap * tanh(logits / softcap)."""

    weight: Float[Tensor, "vocab hidden"]
    bias: Float[Tensor, " vocab"] | None = None
    scale: float = 1.0
    softcap: float | None = None


class Term(NamedTuple):
    """One summand of a training loss."""

    objective: Objective
    coefficient: float = 1.0


class FusedLoss(NamedTuple):
    """What `fused_loss` gives."""

    loss: Float[Tensor, ""]
    """Sum of coefficient times mean loss. Its gradient reaches the hidden states and the head, once."""
    per_term: Float[Tensor, " term"]
    """Mean loss of each term before its coefficient, without gradient."""


def fused_loss(
    terms: Sequence[Term],
    hidden: Float[Tensor, "token width"],
    head: Head,
    *,
    teacher_hidden: Float[Tensor, "token teacher_width"] | None = None,
    teacher_head: Head | None = None,
    tokens: Int[Tensor, " token"] | None = None,
    rollout_ids: Int[Tensor, " token"] | None = None,
    advantages: Float[Tensor, " token"] | None = None,
    loss_weights: Float[Tensor, " token"] | None = None,
    divide_by: float | int | None = None,
    warp_temperature: float = 1.0,
    chunk_tokens: int | None = None,
    observe: Observer | None = None,
) -> FusedLoss:
    """Sum over terms of coefficient times the tokens' summed losses / `divide_by` (0 without tokens).

    Equals `Objective.loss` on the logits of the whole batch in value and gradient. Heads of different length are cut
    here to the shorter one, whose rows they share; rows beyond it get a gradient of 0.

    Args:
        terms: one or more objectives with their coefficients.
        hidden: the student's last hidden states at the positions that predict the response tokens of a micro-batch,
            rollout after rollout.
        head: the student's output layer; no work is done for what does not require a gradient.
        teacher_hidden: the teacher's, at the same tokens; needed by every objective that has a teacher.
        teacher_head: the teacher's output layer.
        tokens: the response tokens (objectives that sample) or those to imitate (`sft`).
        rollout_ids: of `minillm`: equal along a rollout and different from its neighbours'.
        advantages: of `dr_grpo`: `group_advantages`, repeated for each token of the rollout.
        loss_weights: a factor for each token's loss; rewards to go of `minillm` are summed before it.
        divide_by: number of response tokens of the whole optimiser step; of this micro-batch if not given.
        warp_temperature: of both distributions.
        chunk_tokens: tokens at a time; a fixed number of bytes if not given.
        observe: called with each chunk's place among the tokens, the student's and the teacher's log-probabilities
            (None without a teacher), float32 or better, the last chunk first. It must not write to them.

    Raises:
        TypeError: a term needs what was not given, or half a teacher was.
    """
    if (teacher_hidden is None) != (teacher_head is None):
        raise TypeError("teacher_hidden and teacher_head are given together or not at all")
    buffer = hidden.new_zeros(len(hidden), dtype=_wide(hidden.dtype))
    inputs = _TokenInputs(tokens, rollout_ids, advantages, loss_weights, rewards_to_go=buffer)
    for term in terms:
        _check_inputs(term.objective, inputs, teacher_head is not None)
    student, teacher = _layers(hidden, head, teacher_hidden, teacher_head, warp_temperature)
    gradients = _zero_gradients(hidden, head)
    size = chunk_tokens or default_chunk_tokens(len(student.weight), hidden.device)
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False), fast_matmul(hidden.device):
        sums = _walk(terms, student, teacher, inputs, gradients, size, observe)
        per_term = sums / (divide_by or max(len(hidden), 1))
        total = (per_term * per_term.new_tensor([term.coefficient for term in terms])).sum()
    factor = head.scale / warp_temperature / (divide_by or max(len(hidden), 1))
    loss = _HandOn.apply(total, gradients, factor, hidden, head.weight, head.bias)
    return FusedLoss(loss, per_term)


def default_chunk_tokens(vocab: int, device: torch.device) -> int:
    """How many tokens at a time."""
    return max(_fitting(vocab, device), CHUNK_TOKENS_LEAST)


class _TokenInputs(NamedTuple):
    """What is known of each token besides the two models."""

    tokens: Int[Tensor, " token"] | None
    rollout_ids: Int[Tensor, " token"] | None
    advantages: Float[Tensor, " token"] | None
    loss_weights: Float[Tensor, " token"] | None
    rewards_to_go: Float[Tensor, " token"]
    """Of `minillm`, filled in from the last token to the first."""

    def at(self, rows: slice) -> "_TokenInputs":
        """Those of a chunk, as views."""
        given = [None if values is None else values[rows] for values in self[:-1]]
        return _TokenInputs(*given, rewards_to_go=self.rewards_to_go[rows])


class _Layer(NamedTuple):
    """Hidden states and the output layer that reads them, both in the dtype of the matmuls."""

    hidden: Float[Tensor, "token width"]
    weight: Float[Tensor, "vocab width"]
    bias: Float[Tensor, " vocab"] | None
    scale: float
    softcap: float | None
    temperature: float

    def logprobs(self, rows: slice) -> tuple[Float[Tensor, "chunk vocab"], Float[Tensor, "chunk vocab"] | None]:
        """Log-probabilities of a chunk, and the derivative of the softcap where there is one."""
        logits = torch.mm(self.hidden[rows], self.weight.T)
        logits = logits.to(_wide(logits.dtype))
        if self.bias is not None:
            logits += self.bias
        if self.softcap is None:
            return logits.mul_(self.scale / self.temperature).log_softmax(-1), None
        bent = logits.mul_(self.scale / self.softcap).tanh_()
        return (bent * (self.softcap / self.temperature)).log_softmax(-1), bent.square_().neg_().add_(1.0)


class _Gradients(NamedTuple):
    """Sums over chunks of G W, G^T h and G, in float32 or better; None for what does not require a gradient."""

    hidden: Float[Tensor, "token width"] | None
    weight: Float[Tensor, "rows width"] | None
    bias: Float[Tensor, " rows"] | None

    def add(self, rows: slice, logit_gradient: Float[Tensor, "chunk vocab"], layer: _Layer) -> None:
        """Take in a chunk."""
        vocab = logit_gradient.shape[-1]
        if self.bias is not None:
            self.bias[:vocab] += logit_gradient.sum(0)
        narrow = logit_gradient.to(layer.weight.dtype)
        if self.hidden is not None:
            self.hidden[rows] = torch.mm(narrow, layer.weight)
        if self.weight is None:
            return
        if self.weight.dtype == narrow.dtype:
            self.weight[:vocab].addmm_(narrow.T, layer.hidden[rows])
            return
        block = _fitting(self.weight.shape[-1], self.weight.device)
        for total, part in zip(self.weight[:vocab].split(block), narrow.split(block, dim=-1), strict=True):
            total += torch.mm(part.T, layer.hidden[rows]).to(total.dtype)


class _HandOn(torch.autograd.Function):
    """Gives the loss the gradients that were made with it. In place, since the head's is as large as the head."""

    @staticmethod
    def forward(
        ctx: Any,
        total: Float[Tensor, ""],
        gradients: _Gradients,
        factor: float,
        hidden: Float[Tensor, "token width"],
        weight: Float[Tensor, "rows width"],
        bias: Float[Tensor, " rows"] | None,
    ) -> Float[Tensor, ""]:
        ctx.gradients, ctx.factor = gradients, factor
        ctx.dtypes = [None if x is None else x.dtype for x in (hidden, weight, bias)]
        return total.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, upstream: Float[Tensor, ""]
    ) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("a fused loss can be taken backwards once: its gradients have been handed on")
        factor, gradients, ctx.gradients = upstream * ctx.factor, ctx.gradients, None
        handed = (
            None if gradient is None else gradient.mul_(factor).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return None, None, None, *handed


def _walk(
    terms: Sequence[Term],
    student: _Layer,
    teacher: _Layer | None,
    inputs: _TokenInputs,
    gradients: _Gradients,
    size: int,
    observe: Observer | None,
) -> Float[Tensor, " term"]:
    """Fill `gradients`, chunk by chunk from the last; the sum over tokens of each term's losses."""
    sums = inputs.rewards_to_go.new_zeros(len(terms))
    count = len(student.hidden)
    for start in reversed(range(0, count, size)):
        rows = slice(start, min(start + size, count))
        student_logprobs, curve = student.logprobs(rows)
        teacher_logprobs = None if teacher is None else teacher.logprobs(rows)[0]
        if observe is not None:
            observe(rows, student_logprobs, teacher_logprobs)
        if teacher_logprobs is not None and any(term.objective.kind == "minillm" for term in terms):
            _extend_rewards_to_go(inputs, rows, student_logprobs, teacher_logprobs)
        chunk_sums, logit_gradient = _sums_and_gradient(terms, student_logprobs, teacher_logprobs, inputs.at(rows))
        sums += chunk_sums
        gradients.add(rows, logit_gradient if curve is None else logit_gradient.mul_(curve), student)
    return sums


def _sums_and_gradient(
    terms: Sequence[Term],
    student_logprobs: Float[Tensor, "chunk vocab"],
    teacher_logprobs: Float[Tensor, "chunk vocab"] | None,
    inputs: _TokenInputs,
) -> tuple[Float[Tensor, " term"], Float[Tensor, "chunk vocab"]]:
    """Of one chunk: the summed losses of each term, and the gradient in the logits of their sum with coefficients."""
    weights = torch.ones_like(student_logprobs[:, 0])
    if inputs.loss_weights is not None:
        weights = inputs.loss_weights.to(weights.dtype)
    sums, slopes, gradient = [], None, None
    for objective, coefficient in terms:
        if objective.reads_tokens:
            losses, slope = _losses_and_slopes(objective, student_logprobs, teacher_logprobs, inputs)
            slope = slope * weights * coefficient
            slopes = slope if slopes is None else slopes + slope
        else:
            assert teacher_logprobs is not None
            losses, direction = objective.losses_and_directions(student_logprobs, teacher_logprobs)
            direction.mul_((weights * -coefficient).unsqueeze(-1))
            gradient = direction if gradient is None else gradient.add_(direction)
        sums.append((losses * weights).sum())
    if slopes is not None:
        assert inputs.tokens is not None
        toward = student_logprobs.exp().mul_(-slopes.unsqueeze(-1))
        toward.scatter_add_(-1, inputs.tokens.unsqueeze(-1), slopes.unsqueeze(-1))
        gradient = toward if gradient is None else gradient.add_(toward)
    assert gradient is not None
    return torch.stack(sums), gradient


def _losses_and_slopes(
    objective: Objective,
    student_logprobs: Float[Tensor, "chunk vocab"],
    teacher_logprobs: Float[Tensor, "chunk vocab"] | None,
    inputs: _TokenInputs,
) -> tuple[Float[Tensor, " chunk"], Float[Tensor, " chunk"]]:
    """Loss of each token, and its derivative in the token's log-probability."""
    assert inputs.tokens is not None
    student = _chosen(student_logprobs, inputs.tokens)
    teacher = None if teacher_logprobs is None else _chosen(teacher_logprobs, inputs.tokens)
    advantages = inputs.rewards_to_go if objective.kind == "minillm" else inputs.advantages
    if advantages is not None:
        advantages = advantages.to(student.dtype)
    losses = objective.token_losses(student, teacher, advantages=advantages)
    return losses, objective.token_slopes(student, teacher, advantages=advantages)


def _extend_rewards_to_go(
    inputs: _TokenInputs,
    rows: slice,
    student_logprobs: Float[Tensor, "chunk vocab"],
    teacher_logprobs: Float[Tensor, "chunk vocab"],
) -> None:
    """Fill in a chunk's; the token after it holds already what its rollout earns from there on."""
    assert inputs.tokens is not None and inputs.rollout_ids is not None
    chosen = inputs.tokens[rows]
    inputs.rewards_to_go[rows] = _chosen(teacher_logprobs, chosen) - _chosen(student_logprobs, chosen)
    onward = slice(rows.start, rows.stop + 1)
    inputs.rewards_to_go[onward] = sum_rewards_to_go(inputs.rewards_to_go[onward], inputs.rollout_ids[onward])


def _chosen(logprobs: Float[Tensor, "chunk vocab"], tokens: Int[Tensor, " chunk"]) -> Float[Tensor, " chunk"]:
    return logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _layers(
    hidden: Float[Tensor, "token width"],
    head: Head,
    teacher_hidden: Float[Tensor, "token teacher_width"] | None,
    teacher_head: Head | None,
    temperature: float,
) -> tuple[_Layer, _Layer | None]:
    """The student's and the teacher's, over the rows that their heads share."""
    vocab = min(len(layer.weight) for layer in (head, teacher_head) if layer is not None)
    student, teacher = _layer(hidden, head, vocab, temperature), None
    if teacher_hidden is not None and teacher_head is not None:
        teacher = _layer(teacher_hidden, teacher_head, vocab, temperature)
    return student, teacher


def _layer(hidden: Float[Tensor, "token width"], head: Head, vocab: int, temperature: float) -> _Layer:
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    bias = None if head.bias is None else head.bias.detach()[:vocab]
    weight = head.weight.detach()[:vocab]
    return _Layer(hidden.detach().to(dtype), weight.to(dtype), bias, head.scale, head.softcap, temperature)


def _zero_gradients(hidden: Float[Tensor, "token width"], head: Head) -> _Gradients:
    enabled = torch.is_grad_enabled()
    return _Gradients(
        *(
            torch.zeros_like(x, dtype=_wide(x.dtype)) if enabled and x is not None and x.requires_grad else None
            for x in (hidden, head.weight, head.bias)
        )
    )


def _fitting(columns: int, device: torch.device) -> int:
    """How many float32 rows make a block."""
    return max((BLOCK_BYTES_CPU if device.type == "cpu" else BLOCK_BYTES_ACCELERATOR) // (4 * columns), 1)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _check_inputs(objective: Objective, inputs: _TokenInputs, teacher_given: bool) -> None:
    kind = objective.kind
    needed = {
        "teacher_hidden and teacher_head": (kind in ("dr_grpo", "sft")) or teacher_given,
        "tokens": not objective.reads_tokens or inputs.tokens is not None,
        "advantages": kind != "dr_grpo" or inputs.advantages is not None,
        "rollout_ids": kind != "minillm" or inputs.rollout_ids is not None,
    }
    for argument, there in needed.items():
        if not there:
            raise TypeError(f"objective '{objective.name}' needs {argument}, which was not given")


@torch.no_grad()
def observe_logprobs(
    hidden: Float[Tensor, "token width"],
    head: Head,
    observe: Observer,
    *,
    teacher_hidden: Float[Tensor, "token teacher_width"] | None = None,
    teacher_head: Head | None = None,
    warp_temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> None:
    """Show every chunk's log-probabilities to `observe` as `fused_loss` does (see there), without a loss."""
    student, teacher = _layers(hidden, head, teacher_hidden, teacher_head, warp_temperature)
    size = chunk_tokens or default_chunk_tokens(len(student.weight), hidden.device)
    with fast_matmul(hidden.device):
        for start in reversed(range(0, len(hidden), size)):
            rows = slice(start, min(start + size, len(hidden)))
            observe(rows, student.logprobs(rows)[0], None if teacher is None else teacher.logprobs(rows)[0])

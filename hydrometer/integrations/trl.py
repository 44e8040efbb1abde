"""Hydrometer's objectives, token weights and metrics inside TRL's `DistillationTrainer`.

    from hydrometer.integrations.trl import DistillationTrainer
    trainer = DistillationTrainer(student, teacher, args=config, train_dataset=prompts, objective="jsd:beta=0.5")
    trainer.train()

TRL samples, shards, steps and saves; what it minimises, and what it logs of it, is ours. The seam is its function
`_chunked_divergence_loss`, which gets the hidden states and output layers of both models: it is replaced while TRL
computes the loss of a micro-batch, so that everything around it stays TRL's.

    L = sum over objectives c_k (1 / n) sum over response tokens w_t l_k(t)      n: TRL's `num_items_in_batch`

Names and meaning of the metrics: docs/metrics.md. Like TRL's own they are means over micro-batches (each over the
tokens of all processes). Accuracy and the weights that need it are not there: TRL grades nothing while it distils.
TRL compares the sizes of the two vocabularies, not the token maps; `hydrometer check` does.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from accelerate.utils import gather_object
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from hydrometer.dynamics import TokenStats, aggregate, build_bin_starts, compute_token_stats, join_stats
from hydrometer.errors import SpecError
from hydrometer.objectives import Head, Term, fused_loss, parse
from hydrometer.objectives.fused import observe_logprobs
from hydrometer.training.config import split_term
from hydrometer.training.weighing import SignColumns, Signs, Weigher, build_weigher, compute_signs
from hydrometer.types import Rollout

try:
    from trl.trainer import distillation_trainer as theirs
    from trl.trainer.distillation_config import DistillationConfig
except ImportError as error:
    raise ImportError("hydrometer.integrations.trl needs TRL 1.16 or later: pip install 'hydrometer[trl]'") from error

SEAM = "_chunked_divergence_loss"
SEAM_PARAMETERS = (
    "student_hidden_states",
    "teacher_hidden_states",
    "student_lm_head_weight",
    "teacher_lm_head_weight",
    "completion_mask",
    "beta",
    "num_items_in_batch",
    "student_lm_head_bias",
    "teacher_lm_head_bias",
    "student_logit_scale",
    "teacher_logit_scale",
    "student_final_logit_softcapping",
    "teacher_final_logit_softcapping",
    "temperature",
)
"""Of TRL's function; another list is another TRL, and is refused."""
WEIGHTS = ("all", "overlap", "non_overlap", "kl_above")
"""Rules for token weights that need nothing but the two models."""


class DistillationTrainer(theirs.DistillationTrainer):
    """TRL's trainer with another loss; every other option is TRL's, by its name.

    Args:
        model: the student, as TRL takes it.
        teacher_model: the teacher, as TRL takes it.
        args: TRL's config. `beta` has to stay as it is: `objective` takes its place.
        objective: one or more `[COEFFICIENT*]KIND[:k=v,...]`, whose losses are added.
        weights: which tokens count: all, overlap, non_overlap, kl_above:QUANTILE.
        metrics_k: k of the overlap metrics and of the weights that are made of them.
        options: TRL's.

    Raises:
        SpecError: TRL's loss is not where it was, or what is asked for cannot be honoured there.
    """

    def __init__(
        self,
        model: str | PreTrainedModel | Any,
        teacher_model: str | PreTrainedModel,
        args: DistillationConfig | None = None,
        *,
        objective: str | Sequence[str] = "reverse_kl",
        weights: str = "all",
        metrics_k: int = 16,
        **options: Any,
    ):
        check_seam()
        texts = (objective,) if isinstance(objective, str) else tuple(objective)
        choices = Choices(parse_terms(texts), parse_weights(weights, args), metrics_k)
        if args is not None:
            refuse_options(args)
        super().__init__(model, teacher_model, args, **options)
        self.choices = choices

    def _compute_loss(
        self, unwrapped_student: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        self.seam_loss = SeamLoss(self.choices, inputs["completion_ids"])
        with patch.object(theirs, SEAM, self.seam_loss):
            return super()._compute_loss(unwrapped_student, inputs, num_items_in_batch)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *positional: Any, **named: Any) -> Any:
        """TRL's, and the metrics of the micro-batch into its log."""
        loss = super().compute_loss(model, inputs, *positional, **named)
        # not inside the wrapped forward pass, where processes may not wait for one another
        parts: list[Seen] = gather_object([self.seam_loss.seen(self.eos_token_ids, self._tokenizer)])
        logged = self._metrics["train" if model.training else "eval"]
        for name, value in compute_metrics(parts, self.max_completion_length or 1).items():
            logged[name].append(value)
        return loss


class Choices(NamedTuple):
    """What is the same in every micro-batch."""

    terms: tuple[Term, ...]
    weigher: Weigher | None
    metrics_k: int


class Seen(NamedTuple):
    """What one process has seen of a micro-batch."""

    stats: TokenStats | None
    rollouts: list[Rollout]
    weighted_share: float | None


@dataclass
class SeamLoss:
    """Stands in for TRL's function for one micro-batch, and keeps what it sees."""

    choices: Choices
    tokens: Int[Tensor, "rollout position"]
    response_mask: Bool[Tensor, "rollout position"] | None = None
    """Known once it was called, like what follows."""
    stats: list[TokenStats] = field(default_factory=list)
    """Chunk by chunk, the last first."""
    weighted_share: float | None = None

    def __call__(
        self,
        student_hidden_states: Float[Tensor, "rollout position width"],
        teacher_hidden_states: Float[Tensor, "rollout position teacher_width"],
        student_lm_head_weight: Float[Tensor, "vocab width"],
        teacher_lm_head_weight: Float[Tensor, "vocab teacher_width"],
        completion_mask: Tensor,
        beta: float,
        num_items_in_batch: Tensor | float | None = None,
        student_lm_head_bias: Float[Tensor, " vocab"] | None = None,
        teacher_lm_head_bias: Float[Tensor, " vocab"] | None = None,
        student_logit_scale: float = 1.0,
        teacher_logit_scale: float = 1.0,
        student_final_logit_softcapping: float | None = None,
        teacher_final_logit_softcapping: float | None = None,
        temperature: float = 1.0,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Int[Tensor, ""]]:
        """Loss of the micro-batch, summed student entropy (nats), number of response tokens; `beta` is not read."""
        chosen = self.response_mask = completion_mask != 0
        rollout_ids, tokens = chosen.nonzero()[:, 0], self.tokens.to(chosen.device)[chosen]
        head = _head(student_lm_head_weight, student_lm_head_bias, student_logit_scale, student_final_logit_softcapping)
        teacher_head = _head(
            teacher_lm_head_weight, teacher_lm_head_bias, teacher_logit_scale, teacher_final_logit_softcapping
        )
        states = States(
            student_hidden_states[chosen], head, teacher_hidden_states[chosen], teacher_head, tokens, temperature
        )

        def observe(rows: slice, p: Tensor, q: Tensor | None) -> None:
            assert q is not None
            self.stats.append(compute_token_stats(p, q, tokens[rows], k=self.choices.metrics_k))

        loss = fused_loss(
            self.choices.terms,
            states.student,
            head,
            teacher_hidden=states.teacher,
            teacher_head=teacher_head,
            tokens=tokens,
            rollout_ids=rollout_ids,
            loss_weights=self._weigh(states),
            divide_by=None if num_items_in_batch is None else float(num_items_in_batch),
            warp_temperature=temperature,
            observe=observe,
        ).loss
        entropies = [part.student_entropy.sum() for part in self.stats]
        return loss, torch.stack(entropies).sum() if entropies else loss.detach() * 0.0, chosen.sum()

    def _weigh(self, states: "States") -> Float[Tensor, " token"] | None:
        """Weights of the micro-batch's tokens; both models are looked at before the loss is made."""
        if self.choices.weigher is None or not len(states.tokens):
            return None
        parts: list[SignColumns] = []

        def observe(rows: slice, p: Tensor, q: Tensor | None) -> None:
            assert q is not None
            parts.append(compute_signs(p, q, states.tokens[rows], k=self.choices.metrics_k))

        observe_logprobs(
            states.student,
            states.head,
            observe,
            teacher_hidden=states.teacher,
            teacher_head=states.teacher_head,
            warp_temperature=states.temperature,
        )
        columns = [torch.cat(column).cpu().numpy() for column in zip(*reversed(parts), strict=True)]
        signs = Signs(columns[0].astype(np.float64), columns[1].astype(np.float64), columns[2])
        weighed = self.choices.weigher.weigh([], [signs])
        self.weighted_share = weighed.metrics["weighted_share"]
        return torch.from_numpy(weighed.weights[0]).to(states.student.device, torch.float32)

    def seen(self, eos_ids: Sequence[int], tokenizer: Any) -> Seen:
        """What there is to tell, on the CPU."""
        assert self.response_mask is not None
        rollouts: list[Rollout] = []
        for row, (ids, kept) in enumerate(zip(self.tokens.tolist(), self.response_mask.tolist(), strict=True)):
            response = tuple(token for token, is_kept in zip(ids, kept, strict=True) if is_kept)
            text, is_cut = tokenizer.decode(response), not response or response[-1] not in eos_ids
            rollouts.append(Rollout("", row, "base", response, text, score=0.0, correct=False, truncated=is_cut))
        stats = TokenStats(*(column.cpu() for column in join_stats(self.stats[::-1]))) if self.stats else None
        return Seen(stats, rollouts, self.weighted_share)


class States(NamedTuple):
    """Both models at the response tokens of a micro-batch."""

    student: Float[Tensor, "token width"]
    head: Head
    teacher: Float[Tensor, "token teacher_width"]
    teacher_head: Head
    tokens: Int[Tensor, " token"]
    temperature: float


def compute_metrics(parts: Sequence[Seen], max_response_tokens: int) -> dict[str, float]:
    """The metrics of a micro-batch over all processes; what is undefined there is left out."""
    stats = [part.stats for part in parts if part.stats is not None]
    if not stats:
        return {}
    rollouts = [rollout for part in parts for rollout in part.rollouts]
    bins = build_bin_starts(max_response_tokens)
    found = aggregate(join_stats(stats), rollouts, bin_starts=bins, graded=False)
    shares = [part.weighted_share for part in parts if part.weighted_share is not None]
    if shares:
        found["weighted_share"] = float(np.mean(shares))
    return {name: value for name, value in found.items() if value is not None}


def check_seam() -> None:
    """Whether TRL's loss is the function we know.

    Raises:
        SpecError: it is not.
    """
    found = getattr(theirs, SEAM, None)
    names = () if found is None else tuple(inspect.signature(found).parameters)
    if names != SEAM_PARAMETERS:
        import trl

        raise SpecError(
            f"TRL {trl.__version__} computes its distillation loss in another way than TRL 1.16 ({SEAM} has the "
            f"parameters {', '.join(names) or 'none'}), so Hydrometer's objectives cannot take its place. Install "
            "'trl==1.16.*', or train with `hydrometer train`."
        )


def parse_terms(texts: Sequence[str]) -> tuple[Term, ...]:
    """Read objectives with their coefficients.

    Raises:
        UserError: an unknown one, none, or one that learns from something else than a teacher.
    """
    terms = tuple(Term(parse(name), coefficient) for coefficient, name in map(split_term, texts))
    if not terms:
        raise SpecError("A distillation needs at least one objective, e.g. objective='reverse_kl'")
    for term in terms:
        if term.objective.kind in ("dr_grpo", "sft"):
            source = "outcomes" if term.objective.kind == "dr_grpo" else "given responses"
            raise SpecError(
                f"Objective '{term.objective.name}' learns from {source}, which TRL's DistillationTrainer does not "
                "have. Use another of TRL's trainers, or `hydrometer train`, where objectives can be mixed."
            )
    return terms


def parse_weights(text: str, args: DistillationConfig | None) -> Weigher | None:
    """Read the rule for token weights; None where all count.

    Raises:
        SpecError: an unknown rule, or one that needs what is not known inside TRL.
    """
    name = text.partition(":")[0]
    if name not in WEIGHTS or "@" in text:
        raise SpecError(
            f"weights='{text}': inside TRL the weights can be all, overlap, non_overlap or kl_above:QUANTILE. Others "
            "need the question and the outcome of a response, which TRL does not keep: use `hydrometer train`."
        )
    if name == "kl_above" and args is not None and args.gradient_accumulation_steps * args.world_size > 1:
        raise SpecError(
            f"weights='{text}': the quantile is over the tokens of a whole step, and TRL shows them micro-batch by "
            "micro-batch. Use gradient_accumulation_steps=1 and one process, or `hydrometer train`."
        )
    return None if name == "all" else build_weigher(text)


def refuse_options(args: DistillationConfig) -> None:
    """Options of TRL under which our objectives would not be of the distribution that is sampled from.

    Raises:
        SpecError: one of them is set.
    """
    if args.beta != 1.0:
        raise SpecError(
            f"beta={args.beta:g} chooses TRL's own loss, which is not used here: leave it out and give "
            f"objective='jsd:beta={args.beta:g}'"
        )
    warps = {
        "top_p": args.top_p not in (None, 1.0),
        "top_k": args.top_k not in (None, 0, -1),
        "min_p": args.min_p not in (None, 0.0),
        "repetition_penalty": args.repetition_penalty not in (None, 1.0),
        "generation_kwargs": bool(args.generation_kwargs),
        "vllm_structured_outputs_regex": args.vllm_structured_outputs_regex is not None,
    }
    for name, is_set in warps.items():
        if is_set:
            raise SpecError(
                f"{name}={getattr(args, name)!r}: the student would sample from another distribution than the one that "
                "is compared with the teacher's. Leave it out; temperature may be changed, it applies to both."
            )


def _head(
    weight: Float[Tensor, "vocab width"], bias: Float[Tensor, " vocab"] | None, scale: float, softcap: float | None
) -> Head:
    """An output layer; parameters that FSDP has split are put together, once for all chunks."""
    weight = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return Head(weight, bias.full_tensor() if isinstance(bias, DTensor) else bias, scale, softcap)

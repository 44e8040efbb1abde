"""One objective as a frozen value: what it is called, the direction it pushes in, and the loss that pushes that way.

Directions are ASCENT in the student's logits (positive = the update raises the token):

    d_j = p_j (f_j - sum_k p_k f_k)

`Objective.field` gives f, for a diagnosis that restricts it to some tokens; `Objective.direction` gives d on the whole
vocabulary, computed as p f - p sum(p f) so that no division by a tiny p enters; `Objective.loss` is what training
minimises, with -n_response_tokens * d loss / d student_logits = d at every response token (in expectation over the
student's tokens where the objective samples).

    >>> objective = make("topk_reverse_kl", k=16, support="union")
    >>> loss = objective.loss(student_logits, teacher_logits, response_mask=response_mask)
"""

from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hydrometer.errors import SpecError
from hydrometer.objectives import fullvocab, sampled
from hydrometer.objectives.kinds import JSD_END, TRAITS, Kind, Need
from hydrometer.objectives.topk import TopK, find_members, masses, topk_field, topk_losses, topk_scaled_field


@dataclass(frozen=True, slots=True)
class Objective:
    """What a student is trained towards. Built by `make` or `parse`, which also check the parameters."""

    kind: Kind
    beta: float | None = None
    """Of `jsd`: 0 is forward KL, 1 reverse KL."""
    topk: TopK | None = None
    """Of `topk_reverse_kl`."""

    @property
    def params(self) -> dict[str, float | int | str]:
        """The parameters, so that `make(o.kind, **o.params) == o`."""
        if self.beta is not None:
            return {"beta": self.beta}
        if self.topk is None:
            return {}
        params = asdict(self.topk)
        if self.topk.form != "stop_gradient":
            del params["weight"]
        return params

    @property
    def name(self) -> str:
        """The canonical spec: what tells it apart (beta; k and form) always, the rest where it is not the default."""
        default = asdict(TopK())
        shown = {
            key: value
            for key, value in self.params.items()
            if key in ("beta", "k", "form") or value != default.get(key)
        }
        return self.kind + (":" if shown else "") + ",".join(f"{key}={_render(value)}" for key, value in shown.items())

    def __str__(self) -> str:
        return self.name

    @property
    def needs(self) -> Need:
        """What the direction is made from. The loss of an objective that samples also needs `tokens`."""
        return TRAITS[self.kind].needs

    @property
    def samples(self) -> bool:
        """Whether the loss sees sampled tokens only, so that it has the direction in expectation."""
        return TRAITS[self.kind].samples

    @property
    def reads_tokens(self) -> bool:
        """Whether the loss sees given tokens and not distributions: those that sample, and `sft`."""
        return self.samples or self.kind == "sft"

    @property
    def zero_at_equality(self) -> bool:
        """Whether the direction is 0 wherever student and teacher agree (`minillm`: agree from here on)."""
        if self.topk is not None:
            return self.topk.zero_at_equality
        return TRAITS[self.kind].zero_at_equality

    @property
    def reference(self) -> bool:
        """Whether it is a yardstick without a teacher, never ranked."""
        return TRAITS[self.kind].reference

    @property
    def training_only(self) -> bool:
        """Whether it has no direction of its own at a node (`sft` needs given tokens)."""
        return TRAITS[self.kind].training_only

    @property
    def caution(self) -> str | None:
        """What to tell whoever trains with it, or None."""
        if self.beta is not None and 0.0 < min(self.beta, 1.0 - self.beta) < JSD_END:
            return (
                f"jsd nearly vanishes at beta={_render(self.beta)}: near 0 it is beta * forward KL, near 1 "
                "(1 - beta) * reverse KL, while beta=0 and beta=1 are the full divergences."
            )
        if self.topk is not None and self.topk.form == "unnormalised":
            return (
                "the unnormalised top-k loss is biased: besides the distillation signal its gradient holds that of the "
                "student's mass on the support, so it pushes probability out of the support even where student and "
                "teacher agree. form=stop_gradient, renormalised and tail_bin do not."
            )
        return TRAITS[self.kind].caution

    @property
    def direction_key(self) -> str:
        """Equal for objectives whose expected directions are identical at every node."""
        if self.kind in ("sampled_token", "k2") or self.beta == 1.0:
            return "reverse_kl"
        if self.kind == "k3" or self.beta == 0.0:
            return "forward_kl"
        return self.name if self.topk is None else Objective(self.kind, topk=_twin_at_one(self.topk)).name

    def field(
        self,
        student_logprobs: Float[Tensor, "*batch vocab"],
        teacher_logprobs: Float[Tensor, "*batch vocab"] | None,
        *,
        success_rates: Float[Tensor, "*batch vocab"] | None = None,
        reward_to_go: Float[Tensor, "*batch vocab"] | None = None,
    ) -> Float[Tensor, "*batch vocab"]:
        """The field f of every token; only ever to be used multiplied by p, and only up to a constant per node.

        A token with p = 0 (log-probability -inf) has f = 0, whatever the teacher says there. Elsewhere f is finite:
        where it has the form w / p it is clamped at about e^80 in float32 and e^701 in float64, which changes p f only
        for tokens whose p is below e^-80 (e^-701). `direction` has no such limit.

        Raises:
            SpecError: for `sft`, which has no field without given tokens.
        """
        if self.kind == "sft":
            raise SpecError("Objective 'sft' is for training only: it has no direction without given tokens.")
        return self._field_or_scaled(student_logprobs, teacher_logprobs, success_rates, reward_to_go, scaled=False)

    def direction(
        self,
        student_logits: Float[Tensor, "*batch vocab"],
        teacher_logits: Float[Tensor, "*batch vocab"] | None,
        *,
        success_rates: Float[Tensor, "*batch vocab"] | None = None,
        reward_to_go: Float[Tensor, "*batch vocab"] | None = None,
        tokens: Int[Tensor, "*batch"] | None = None,
    ) -> Float[Tensor, "*batch vocab"]:
        """Ascent direction in the student's logits on the vocabulary; expected over p where the objective samples.

        Logits or log-probabilities, which differ by a constant only. Without gradient.

        Args:
            student_logits: of the distribution that was sampled from; -inf where it cannot go.
            teacher_logits: may be None for an objective that has no teacher.
            success_rates: of `dr_grpo`: S of every token with p > 0.
            reward_to_go: of `minillm`: mean of log q - log p summed from the token to the end.
            tokens: of `sft`: the token to imitate.
        """
        student_logprobs = _log_softmax(student_logits.detach())
        probs = student_logprobs.exp()
        if self.kind == "sft":
            target = _required(tokens, self, "tokens").unsqueeze(-1)
            return torch.zeros_like(probs).scatter_(-1, target, 1.0) - probs
        teacher_logprobs = None if teacher_logits is None else _log_softmax(teacher_logits.detach())
        scaled = self._field_or_scaled(student_logprobs, teacher_logprobs, success_rates, reward_to_go, scaled=True)
        return scaled - probs * scaled.sum(-1, keepdim=True)

    def losses_and_directions(
        self, student_logprobs: Float[Tensor, "token vocab"], teacher_logprobs: Float[Tensor, "token vocab"]
    ) -> tuple[Float[Tensor, " token"], Float[Tensor, "token vocab"]]:
        """The loss of each token and `direction`, for an objective that compares distributions. Without gradient.

        Cheaper than one after the other: with p f at hand, KL(p||q) = -sum p f and KL(q||p) = sum p f (log q - log p).
        """
        assert not self.reads_tokens, f"{self.kind} reads tokens"
        student, teacher = student_logprobs.detach(), teacher_logprobs.detach()
        scaled = self._field_or_scaled(student, teacher, None, None, scaled=True)
        totals = scaled.sum(-1, keepdim=True)
        match self.direction_key:
            case "reverse_kl":
                losses = -totals.squeeze(-1)
            case "forward_kl":
                losses = fullvocab.reverse_kl_field(student, teacher).mul_(scaled).sum(-1)
            case _:
                losses = self._losses_of_distributions(student, teacher)
        return losses, scaled.addcmul_(student.exp(), totals, value=-1.0)

    def token_losses(
        self,
        student_logprobs: Float[Tensor, " token"],
        teacher_logprobs: Float[Tensor, " token"] | None,
        *,
        advantages: Float[Tensor, " token"] | None = None,
    ) -> Float[Tensor, " token"]:
        """The loss of each given token, for an objective that `reads_tokens`.

        Args:
            student_logprobs: log p of the tokens; gradient reaches it.
            teacher_logprobs: log q of the tokens; may be None for an objective that has no teacher.
            advantages: of `dr_grpo`, and of `minillm` the rewards to go.
        """
        match self.kind:
            case "sft":
                return -student_logprobs
            case "dr_grpo" | "minillm":
                return sampled.policy_gradient_losses(student_logprobs, _required(advantages, self, "advantages"))
            case "sampled_token" | "k1_loss" | "k2" | "k3":
                teacher_logprobs = _required(teacher_logprobs, self, "teacher_logits")
                return sampled.estimator_losses(self.kind, student_logprobs, teacher_logprobs)
        raise AssertionError(f"{self.kind} reads no tokens")

    def token_slopes(
        self,
        student_logprobs: Float[Tensor, " token"],
        teacher_logprobs: Float[Tensor, " token"] | None,
        *,
        advantages: Float[Tensor, " token"] | None = None,
    ) -> Float[Tensor, " token"]:
        """Derivative c of each of `token_losses` in log p(y): its gradient in the logits is c (1[j = y] - p_j)."""
        match self.kind:
            case "sft":
                return -torch.ones_like(student_logprobs)
            case "dr_grpo" | "minillm":
                return -_required(advantages, self, "advantages")
            case "sampled_token" | "k1_loss" | "k2" | "k3":
                teacher_logprobs = _required(teacher_logprobs, self, "teacher_logits")
                return sampled.estimator_slopes(self.kind, student_logprobs, teacher_logprobs)
        raise AssertionError(f"{self.kind} reads no tokens")

    def topk_masses(
        self, student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]] | None:
        """Probability of the support under student and teacher; None for an objective without a support."""
        if self.topk is None:
            return None
        return masses(find_members(self.topk, student_logprobs.detach(), teacher_logprobs.detach()))

    def loss(
        self,
        student_logits: Float[Tensor, "rollout position vocab"],
        teacher_logits: Float[Tensor, "rollout position vocab"] | None,
        *,
        response_mask: Bool[Tensor, "rollout position"],
        tokens: Int[Tensor, "rollout position"] | None = None,
        advantages: Float[Tensor, " rollout"] | None = None,
        loss_weights: Float[Tensor, "rollout position"] | None = None,
    ) -> Float[Tensor, ""]:
        """Sum over response tokens divided by their number, also under `loss_weights` (0 without response tokens).

        Gradient reaches the student only. What stands outside `response_mask` is never read.

        Args:
            student_logits: at the positions that predict `tokens`.
            teacher_logits: may be None for an objective that has no teacher.
            response_mask: True at sampled tokens.
            tokens: the sampled tokens (objectives that sample), or those to imitate (`sft`); p > 0 at each.
            advantages: of `dr_grpo`, from `group_advantages`.
            loss_weights: a factor for each token's loss; rewards to go of `minillm` are summed before it.
        """
        student_logprobs = _log_softmax(student_logits[response_mask])
        teacher_logprobs = None if teacher_logits is None else _log_softmax(teacher_logits.detach()[response_mask])
        if self.reads_tokens:
            index = _required(tokens, self, "tokens")[response_mask].unsqueeze(-1)
            student_logprobs = student_logprobs.gather(-1, index).squeeze(-1)
            if teacher_logprobs is not None:
                teacher_logprobs = teacher_logprobs.gather(-1, index).squeeze(-1)
            spread = self._advantages_of_tokens(student_logprobs, teacher_logprobs, response_mask, advantages)
            losses = self.token_losses(student_logprobs, teacher_logprobs, advantages=spread)
        else:
            losses = self._losses_of_distributions(
                student_logprobs, _required(teacher_logprobs, self, "teacher_logits")
            )
        if loss_weights is not None:
            losses = losses * loss_weights[response_mask]
        return losses.sum() / max(len(losses), 1)

    def _field_or_scaled(
        self,
        student_logprobs: Float[Tensor, "*batch vocab"],
        teacher_logprobs: Float[Tensor, "*batch vocab"] | None,
        success_rates: Float[Tensor, "*batch vocab"] | None,
        reward_to_go: Float[Tensor, "*batch vocab"] | None,
        *,
        scaled: bool,
    ) -> Float[Tensor, "*batch vocab"]:
        """F, or p f where `scaled`."""
        student = student_logprobs.detach()
        if self.kind == "k1_loss":
            return torch.zeros_like(student)
        if self.kind in ("dr_grpo", "minillm"):
            values = (
                _required(success_rates, self, "success_rates")
                if self.kind == "dr_grpo"
                else _required(reward_to_go, self, "reward_to_go")
            )
            values = values.detach() * student.exp() if scaled else values.detach()
            return values.masked_fill(fullvocab.unreachable(student), 0.0)
        teacher = _required(teacher_logprobs, self, "teacher").detach()
        match self.direction_key:
            case "reverse_kl":
                field = fullvocab.reverse_kl_scaled_field if scaled else fullvocab.reverse_kl_field
                return field(student, teacher)
            case "forward_kl":
                field = fullvocab.forward_kl_scaled_field if scaled else fullvocab.forward_kl_field
                return field(student, teacher)
        if self.topk is not None:
            field = topk_scaled_field if scaled else topk_field
            return field(self.topk, student, teacher)
        assert self.beta is not None
        mixed = fullvocab.jsd_field(student, teacher, self.beta)
        return mixed.mul_(student.exp()) if scaled else mixed

    def _losses_of_distributions(
        self, student_logprobs: Float[Tensor, "token vocab"], teacher_logprobs: Float[Tensor, "token vocab"]
    ) -> Float[Tensor, " token"]:
        if self.topk is not None:
            return topk_losses(self.topk, student_logprobs, teacher_logprobs)
        match self.direction_key:
            case "reverse_kl":
                return fullvocab.reverse_kl_losses(student_logprobs, teacher_logprobs)
            case "forward_kl":
                return fullvocab.forward_kl_losses(student_logprobs, teacher_logprobs)
        assert self.beta is not None
        return fullvocab.jsd_losses(student_logprobs, teacher_logprobs, self.beta)

    def _advantages_of_tokens(
        self,
        student_logprobs: Float[Tensor, " token"],
        teacher_logprobs: Float[Tensor, " token"] | None,
        response_mask: Bool[Tensor, "rollout position"],
        advantages: Float[Tensor, " rollout"] | None,
    ) -> Float[Tensor, " token"] | None:
        rollouts = response_mask.nonzero()[:, 0]
        match self.kind:
            case "dr_grpo":
                return _required(advantages, self, "advantages")[rollouts]
            case "minillm":
                teacher_logprobs = _required(teacher_logprobs, self, "teacher_logits")
                return sampled.sum_rewards_to_go((teacher_logprobs - student_logprobs).detach(), rollouts)
        return None


def _log_softmax(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Log-probabilities in at least float32."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


_TWO_SLOTS = ("union", "symmetric_difference")


def _twin_at_one(spec: TopK) -> TopK:
    """The representative of the cells that k = 1 makes equal; `spec` itself at any other k."""
    if spec.k > 1:
        return spec
    if spec.form == "stop_gradient" and spec.weight != "student_p" and spec.support not in _TWO_SLOTS:
        # On a single token every normalised weight is 1.
        return replace(spec, weight="student_p_norm")
    if spec.form == "renormalised" and spec.support in _TWO_SLOTS:
        # Either two different tokens, or one, on which a renormalised KL is 0.
        return replace(spec, support="union")
    return spec


def _required(value: Tensor | None, objective: Objective, argument: str) -> Tensor:
    if value is None:
        raise TypeError(f"objective '{objective.name}' needs {argument}, which was not given")
    return value


def _render(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)

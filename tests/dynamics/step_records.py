"""Random log-probabilities and made-up training histories that the tests of dynamics share."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor

PROPERTY = settings(max_examples=40, deadline=None, database=None, derandomize=True)


def random_logprobs(
    seed: int, tokens: int, vocab: int, scale: float = 2.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(tokens, vocab, generator=generator, dtype=dtype) * scale).log_softmax(-1)


def random_tokens(seed: int, tokens: int, vocab: int) -> Tensor:
    return torch.randint(vocab, (tokens,), generator=torch.Generator().manual_seed(seed))


HEALTHY: Mapping[str, tuple[float, float, float]] = {
    "student_topk_mass": (0.97, 0.99, 0.005),
    "student_entropy": (0.6, 0.45, 0.04),
    "repeat_ratio": (0.3, 0.32, 0.03),
    "response_tokens_mean": (120.0, 125.0, 8.0),
    "truncated_share": (0.1, 0.05, 0.05),
    "overlap_ratio": (0.72, 0.91, 0.01),
    "entropy_gap": (0.3, 0.1, 0.02),
    "student_entropy_bin_0": (0.5, 0.4, 0.05),
    "student_entropy_bin_1": (0.6, 0.45, 0.05),
    "student_entropy_bin_2": (0.8, 0.6, 0.08),
    "reverse_kl": (0.4, 0.05, 0.02),
    "gradient_norm": (1.5, 0.4, 0.2),
    "accuracy": (0.4, 0.75, 0.05),
    "sequence_reward_auroc": (0.73, 0.75, 0.06),
}
"""Per metric: mean at the start, at the end, noise of a step. After the successful run of arXiv:2604.13016."""


def make_history(
    steps: int = 100,
    *,
    seed: int = 0,
    change: Callable[[str, float], float | None] | None = None,
    **shapes: tuple[float, float, float],
) -> list[dict[str, float | int | None]]:
    """Straight lines with Gaussian noise. `shapes` replace entries of `HEALTHY`."""
    rng = np.random.default_rng(seed)
    history: list[dict[str, float | int | None]] = []
    for step in range(steps):
        share = step / max(1, steps - 1)
        record: dict[str, float | int | None] = {"step": step}
        for name, (start, end, noise) in {**HEALTHY, **shapes}.items():
            value = start + (end - start) * share + noise * rng.standard_normal()
            record[name] = change(name, value) if change else value
        history.append(record)
    return history

"""Every objective once: its field over tokens, the direction that implies, the loss whose gradient is that direction.

    d_j = p_j (f_j - sum_k p_k f_k)        ascent in the student's logits; p student, f the objective's field

Diagnosis and training use the same values, so what is diagnosed is what is trained.

    >>> from hydrometer import objectives
    >>> objective = objectives.parse("topk_reverse_kl:k=16,form=stop_gradient")
    >>> objective.direction(student_logits, teacher_logits)
"""

from hydrometer.objectives.fused import FusedLoss, Head, Term, fused_loss
from hydrometer.objectives.grammar import KIND_NAMES, make, parse
from hydrometer.objectives.kinds import Kind, Need
from hydrometer.objectives.objective import Objective
from hydrometer.objectives.sampled import group_advantages
from hydrometer.objectives.table import alias_table, topk_table

__all__ = [
    "KIND_NAMES",
    "FusedLoss",
    "Head",
    "Kind",
    "Need",
    "Objective",
    "Term",
    "alias_table",
    "fused_loss",
    "group_advantages",
    "make",
    "parse",
    "topk_table",
]

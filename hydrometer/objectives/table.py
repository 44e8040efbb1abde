"""The tables of docs/objectives.md, made from the objectives themselves.

python -c "from hydrometer import objectives; print(objectives.topk_table())"
"""

from collections.abc import Mapping, Sequence

from hydrometer.objectives.aliases import AMBIGUOUS, KEYS, KINDS, VALUES
from hydrometer.objectives.grammar import FORMS, SUPPORTS, WEIGHTS, parse
from hydrometer.objectives.topk import Form, Support, TopK, Weight

_SETS: Mapping[Support, str] = {
    "student": "S",
    "teacher": "T",
    "union": "S ∪ T",
    "intersection": "S ∩ T",
    "symmetric_difference": "(S ∪ T) \\ (S ∩ T)",
}
_FORMULAS: Mapping[tuple[Form, Weight | None], tuple[str, str]] = {
    ("unnormalised", None): ("-(l + 1)", "Σ_K p l"),
    ("stop_gradient", "student_p"): ("-l", "Σ_K (p l - p + q)"),
    ("stop_gradient", "student_p_norm"): ("-l / M_S", "Σ_K (p l - p + q) / sg(M_S)"),
    ("stop_gradient", "teacher_p_norm"): ("-(q / M_T) l / p", "½ Σ_K (q / M_T) l²"),
    ("stop_gradient", "uniform"): ("-(1 / n) l / p", "½ Σ_K l² / n"),
    ("renormalised", None): ("(D - l~) / M_S", "D = Σ_K p~ l~"),
    ("tail_bin", None): ("-l + log((1-M_S) / (1-M_T))", "Σ_K p l + (1-M_S) log((1-M_S) / (1-M_T))"),
}


def topk_table() -> str:
    """Every cell of `topk_reverse_kl` as markdown: the set, its field there, its loss, and what k = 1 makes of it."""
    rows = [("form", "weight", "support", "K", "f on K (0 off K)", "loss", "0 at p = q", "k = 1")]
    for form in FORMS:
        for weight in WEIGHTS if form == "stop_gradient" else (None,):
            for support in SUPPORTS:
                field, loss = _FORMULAS[form, weight]
                cell = TopK(2, support, form, weight or "student_p")
                single = TopK(1, support, form, weight or "student_p").rejection
                rows.append(
                    (
                        f"`{form}`",
                        f"`{weight}`" if weight else "",
                        f"`{support}`",
                        _SETS[support],
                        f"rejected: {cell.rejection}" if cell.rejection else field,
                        "" if cell.rejection else loss,
                        "yes" if cell.zero_at_equality else "no (biased)",
                        f"rejected: {single}" if single else "accepted",
                    )
                )
    return _markdown(rows)


def alias_table() -> str:
    """Every alias and what it stands for, as markdown."""
    rows = [("typed", "stands for", "whose name")]
    rows += [(f"`{name}`", f"`{parse(name)}`", alias.source) for name, alias in KINDS.items()]
    rows += [(f"`{name}`", "refused", reason) for name, reason in AMBIGUOUS.items()]
    for kind, keys in KEYS.items():
        for key, alias in keys.items():
            ours = f"`{alias.key}`" + (" = 1 - value" if alias.to_ours else "")
            rows.append((f"`{kind}:{key}=`", "see above" if key == alias.key else ours, alias.source))
    rows += [
        (f"`{key}={typed}`", f"`{key}={ours}`", "") for key, names in VALUES.items() for typed, ours in names.items()
    ]
    return _markdown(rows)


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])

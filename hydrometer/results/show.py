"""A diagnosis as a piece of a notebook's page: the answer and the ranking, every text escaped."""

from html import escape

import polars as pl

from hydrometer.report.visible import visible_text

_SHOWN = 12
_HEADS = ("", "teacher", "objective", "pooled cosine", "95 % over questions", "P(near best)")


def show_diagnosis(name: str, verdict: str, ranking: pl.DataFrame) -> str:
    """HTML without script, style sheet or link.

    Args:
        name: of the run.
        verdict: the answer in one sentence.
        ranking: from `rank_frame`; the first arms are shown and the others counted.
    """
    rows = "".join(_row(row) for row in ranking.head(_SHOWN).iter_rows(named=True))
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    rest = ranking.height - _SHOWN
    more = f"<p>and {rest} more arms in <code>.ranking</code></p>" if rest > 0 else ""
    return (
        f"<div><p><b>{_text(name)}</b>: {_text(verdict)}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{more}</div>"
    )


def _row(row: dict[str, object]) -> str:
    low, high, reason = row["low"], row["high"], row["reason"]
    interval = f"[{low:+.3f}, {high:+.3f}]" if isinstance(low, float) and isinstance(high, float) else ""
    score = f"{row['score']:+.3f}" if isinstance(row["score"], float) else f"none: {reason}"
    chance = row["p_within_epsilon"]
    near = f"{chance:.2f}" if isinstance(chance, float) else ""
    cells = (row["place"], row["teacher"], row["objective"], score, interval, near)
    return "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"


def _text(value: object) -> str:
    return escape(visible_text("" if value is None else str(value)))

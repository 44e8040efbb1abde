"""Filler for control contexts: as many tokens as the content it stands for, and nothing in them."""

from hydrometer.models import CausalModel

_UNIT = "- "


def blank_text(model: CausalModel, text: str) -> str:
    """Dashes that take as many tokens as `text` under the model's tokenizer (or nearly as many)."""
    wanted = model.count_tokens(text)
    count = max(wanted, 1)
    for _ in range(3):  # one dash is one token almost everywhere; where it is not, scale towards the wanted length
        found = model.count_tokens((_UNIT * count).strip())
        if found == wanted or found == 0:
            break
        count = max(1, round(count * wanted / found))
    return (_UNIT * count).strip()

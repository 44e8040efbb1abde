"""`hydrometer models`: the bundled family as a table."""

import json as json_format
import sys


def models(*, json: bool = False) -> None:
    """The bundled family and what was measured of it.

    Args:
        json: Print the card as JSON.
    """
    from hydrometer.models.family import read_family_card

    card = read_family_card()
    if json:
        sys.stdout.write(json_format.dumps(card) + "\n")

"""`hydrometer models`: the bundled family, what was measured of it, and how it was made."""

import json as json_format
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from hydrometer.errors import UserError

_TITLES = {
    "accuracy": "accuracy %",
    "strict_accuracy": "strict %",
    "second_prompt_accuracy": "other prompt %",
    "top4_overlap_with_student": "top-4 overlap %",
}
"""Measured properties with an interval, in the order of the columns."""


def models(*, json: bool = False) -> None:
    """The bundled family and what was measured of it.

    Args:
        json: Print the card as JSON.
    """
    from hydrometer.models.family import read_family_card

    try:
        card = read_family_card()
    except FileNotFoundError as error:
        raise UserError(
            f"The bundled family is not part of this installation ({error.filename} is missing).\n"
            "Install the package from a wheel, or make the family with python scripts/make_family.py"
        ) from error
    if json:
        sys.stdout.write(json_format.dumps(card) + "\n")
        return
    screen = Console(highlight=False, emoji=False, markup=False)
    everyone = card["members"] | card.get("not_bundled", {})
    measured = card["measured_on"]
    screen.print(
        f"Task {card['task']}: {measured['questions']} questions of the split '{measured['split']}', "
        f"{measured['samples_bare']} responses each ({measured['samples_in_context']} in a context), temperature "
        f"{measured['temperature']:g}. Intervals: {measured['intervals']}.\n"
    )
    screen.print(_properties(everyone))
    screen.print("\nGain in accuracy from a context, in points (after ±: half of the interval)\n")
    screen.print(_gains(everyone))
    minutes = card["training_cpu_s"] / 60
    screen.print(f"\nMade by {card['made_by']} from seed {card['seed']} in {minutes:.0f} CPU minutes:\n")
    screen.print(_origins(everyone, card))


def _properties(members: Mapping[str, Any]) -> Table:
    """One row per member."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("member", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for title in _TITLES.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, member in members.items():
        cells = [_share(member[key]) for key in _TITLES]
        table.add_row(name, f"{member['parameters'] / 1e6:.2f}M", *cells)
    return table


def _gains(members: Mapping[str, Any]) -> Table:
    """One row per context, one column per member."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("context", overflow="fold")
    for name in members:
        table.add_column(name.replace("-", "-\n"), justify="right", no_wrap=True)
    contexts = dict.fromkeys(context for member in members.values() for context in member["gains"])
    for context in contexts:
        table.add_row(context, *(_points(member["gains"].get(context)) for member in members.values()))
    return table


def _share(estimate: Mapping[str, Any]) -> str:
    value, low, high = (100.0 * number for number in (estimate["value"], *estimate["interval"]))
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"


def _points(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return "-"
    value, low, high = (100.0 * number for number in (estimate["value"], *estimate["interval"]))
    return f"{value:+.0f} ±{(high - low) / 2:.0f}"


def _origins(members: Mapping[str, Any], card: Mapping[str, Any]) -> Table:
    """How each member was made."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("model", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for title in ("step", "tokens", "CPU s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, member in members.items():
        made = member["training"]
        notes = [] if name in card["members"] else ["not bundled"]
        if "rollouts" in made:
            notes.append(f"{made['rollouts']:,} rollouts from {made['plan']['start']}, {made['plan']['objective']}")
        spec = f"bundled:{name}" if name in card["members"] else name
        table.add_row(spec, made["run"], *(f"{made[key]:,}" for key in ("step", "tokens", "cpu_s")), "; ".join(notes))
    return table

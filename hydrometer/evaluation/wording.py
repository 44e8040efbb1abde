"""Shares and their differences, as dictionaries of `Estimate`, in sentences and on the screen."""

from collections.abc import Mapping
from typing import Any


def percent(entry: Mapping[str, Any]) -> str:
    """A share with its interval, where it has one."""
    return _write(entry, "%", "")


def points(entry: Mapping[str, Any]) -> str:
    """A difference of shares with its interval, where it has one."""
    return _write(entry, "points", "+")


def _write(entry: Mapping[str, Any], unit: str, sign: str) -> str:
    value = f"{100 * entry['value']:{sign}.1f} {unit}"
    if entry["low"] is None:
        return value
    return f"{value} [{100 * entry['low']:{sign}.1f}, {100 * entry['high']:{sign}.1f}]"

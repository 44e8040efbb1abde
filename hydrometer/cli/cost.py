"""What a run had for nothing, for the line about its cost."""

from collections.abc import Mapping
from typing import Any


def told_of_cache(cost: Mapping[str, Any]) -> str:
    """Stands behind the number of scored tokens; empty where none came from the score cache."""
    found = cost["cached_tokens"]
    return f" ({found:,} of them from the score cache)" if found else ""

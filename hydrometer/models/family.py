"""Where the bundled family lies, and what was measured of it (`hydrometer models`)."""

import json
from pathlib import Path
from typing import Any

from hydrometer.errors import UnknownNameError

_FOLDER = Path(__file__).parent / "family"
FAMILY = ("student", "student-large", "expert", "expert-rl", "other-pattern", "early")
"""Members, as `bundled:NAME`."""


def family_folder(name: str) -> Path:
    """The checkpoint folder of one member.

    Raises:
        UnknownNameError: no such member.
    """
    if name not in FAMILY:
        raise UnknownNameError("bundled model", name, FAMILY)
    return _FOLDER / name


def read_family_card() -> dict[str, Any]:
    """What `scripts/make_family.py` measured of each member, and how it was made."""
    return json.loads((_FOLDER / "family.json").read_text(encoding="utf-8"))

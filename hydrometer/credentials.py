"""Keys and passwords: kept out of what is printed, refused in what would be written to a run folder.

Two things count as secret: the value of an environment variable whose name says so (`HF_TOKEN`, `OPENAI_API_KEY`, ...),
and the user part of a URL that holds a password (`https://me:password@host`).
"""

import os
import re
from collections.abc import Iterator, Mapping

from hydrometer.errors import SpecError

_SECRET_NAME = re.compile(r"(?:^|_)(?:TOKEN|KEY|APIKEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$", re.IGNORECASE)
_LEAST_CHARACTERS = 12
"""A shorter value is as likely to be a word (`EMPTY`, `none`) as a key."""
_URL_LOGIN = re.compile(r"(?<=:/)(/?)[^\s/@:]*:[^\s/@]*@")
"""One slash is what a path makes of two."""
HIDDEN = "***"


def hide_secrets(text: str) -> str:
    """`text` with every secret written as `***`."""
    for _, value in _secrets(os.environ):
        text = text.replace(value, HIDDEN)
    return _URL_LOGIN.sub(rf"\1{HIDDEN}@", text)


def refuse_secrets(given: object, place: str) -> None:
    """Refuse a secret anywhere in `given` (text, or lists and mappings of it), which is named `place` in the message.

    Raises:
        SpecError: a secret stands there; the message says where and does not repeat it.
    """
    if isinstance(given, Mapping):
        for key, value in given.items():
            refuse_secrets(str(key), place)
            refuse_secrets(value, f"{place}.{hide_secrets(str(key))}"[:200])
    elif isinstance(given, list | tuple):
        for value in given:
            refuse_secrets(value, place)
    elif isinstance(given, str) and (found := _find_secret(given)):
        raise SpecError(
            f"{place} holds {found}, and it would be written to the run folder.\n"
            "Leave it out; keys are taken from the environment only."
        )


def _find_secret(text: str) -> str | None:
    """What the secret in a text is, or None."""
    for name, value in _secrets(os.environ):
        if value in text:
            return f"the value of the environment variable {name}"
    return "a URL with a password in it" if _URL_LOGIN.search(text) else None


def _secrets(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if len(value) >= _LEAST_CHARACTERS and _SECRET_NAME.search(name):
            yield name, value

"""Do student and teacher mean the same strings by the same token ids?

The response ids a teacher scores are the student's, so every id the student can sample has to be the same string for
the teacher. Sizes may differ (padded output layers): the shared range is used by all.
"""

from collections.abc import Mapping

from hydrometer.errors import TokenMapError
from hydrometer.models.causal import CausalModel

_SHOWN = 5


def check_token_maps(student: CausalModel, teachers: Mapping[str, CausalModel]) -> int:
    """The number of leading token ids shared by all models.

    Raises:
        TokenMapError: an id that the student can sample has another string, or none, at a teacher.
    """
    mine = student.token_strings()
    shared = student.vocab_size
    for name, teacher in teachers.items():
        if teacher is student:
            continue
        theirs = teacher.token_strings()
        different = [
            (token_id, text, theirs[token_id] if token_id < len(theirs) else None)
            for token_id, text in enumerate(mine)
            if text is not None and (token_id >= len(theirs) or theirs[token_id] != text)
        ]
        if different:
            listed = "\n".join(f"  id {i}: student {a!r}, {name} {b!r}" for i, a, b in different[:_SHOWN])
            raise TokenMapError(
                f"Teacher '{name}' ({teacher.spec}) gives {len(different)} token ids another meaning than the student "
                f"({student.spec}), first:\n{listed}\nUse a teacher with the student's tokenizer."
            )
        shared = min(shared, teacher.vocab_size)
    return shared

"""Do the models mean the same by a token id, and do they agree on how a response ends?"""

from hydrometer.errors import TokenMapError
from hydrometer.models import CausalModel, Conventional, check_token_maps
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.subjects import Sample
from hydrometer.types import STUDENT


def check_token_map(student: CausalModel, name: str, teacher: CausalModel) -> Finding:
    """Every id that the student can sample has to be the same string for the teacher."""
    check = "token map"
    try:
        shared = check_token_maps(student, {name: teacher})
    except TokenMapError as error:
        *found, cure = str(error).splitlines()
        consequence = "The teacher would score other words than the student wrote."
        return Finding("red", check, name, "\n".join(found), consequence, cure)
    if student.vocab_size != teacher.vocab_size:
        sizes = f"{student.vocab_size:,} and {teacher.vocab_size:,}"
        found = f"equal strings; the output layers are padded differently ({sizes} ids), the first {shared:,} are used"
        return Finding("green", check, name, found)
    return Finding("green", check, name, f"all {shared:,} ids mean the same strings")


def check_ends(student: CausalModel, name: str, model: CausalModel) -> list[Finding]:
    """End-of-sequence and padding ids of one model."""
    check = "end of sequence"
    if not model.eos_ids:
        return [
            Finding(
                "red",
                check,
                name,
                "no end-of-sequence token is configured",
                "No response could ever end; all of them would be cut off.",
                "Set eos_token_id in the generation_config.json of the model.",
            )
        ]
    findings = [Finding("green", check, name, f"ends with {_tokens(model, model.eos_ids)}")]
    missing = student.eos_ids - model.eos_ids
    if name != STUDENT and missing:
        findings[0] = Finding(
            "note",
            check,
            name,
            f"the student ends with {_tokens(student, student.eos_ids)}, this teacher with "
            f"{_tokens(model, model.eos_ids)}",
            f"A teacher that never saw {_tokens(student, missing)} at the end gives it little probability, so its "
            "gradient tells the student not to stop.",
            "Look at the nodes where the student ends before you believe this teacher, or give both one end token.",
        )
    if isinstance(model, Conventional):
        findings.append(_padding(name, model, model))
    return findings


def check_round_trip(name: str, model: CausalModel, samples: list[Sample]) -> list[Finding]:
    """Is a sampled response what its own text would be tokenised to?"""
    if not isinstance(model, Conventional):
        return []
    changed = shown = 0
    for sample in samples:
        ids = tuple(i for i in sample.drawn.token_ids if i not in model.eos_ids)
        text = model.decode(ids)
        if not ids or not text:
            continue
        shown += 1
        changed += model.encode(text) != ids
    found = f"{shown - changed} of {shown} probe responses keep their ids when their text is tokenised again"
    if not changed:
        return [Finding("green", "round trip", name, found)]
    return [
        Finding(
            "note",
            "round trip",
            name,
            found,
            "Hydrometer passes ids, so nothing changes here; software that passes text would score other tokens.",
            "Wherever you train, pass token ids to the teacher.",
        )
    ]


def _padding(name: str, model: CausalModel, files: Conventional) -> Finding:
    check = "padding"
    pad = files.conventions().pad_id
    if pad is None or pad not in model.eos_ids:
        shown = "none" if pad is None else f"{_token(model, pad)} ({pad})"
        return Finding("green", check, name, f"padding token {shown} does not end a response")
    return Finding(
        "note",
        check,
        name,
        f"padding and end of sequence are one token, {_token(model, pad)} ({pad})",
        "A trainer that masks padding by its id masks the end of every response too, and the student unlearns to stop; "
        "Hydrometer masks by position and keeps sampled ends.",
        "Wherever you train, set a padding token of its own or mask by length.",
    )


def _tokens(model: CausalModel, ids: frozenset[int]) -> str:
    return ", ".join(f"{_token(model, i)} ({i})" for i in sorted(ids)[:4]) or "no token"


def _token(model: CausalModel, token_id: int) -> str:
    strings = model.token_strings()
    return repr(strings[token_id]) if token_id < len(strings) else "an id without a string"

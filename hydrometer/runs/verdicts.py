"""What a run says of a verifier that failed on responses."""

from collections.abc import Sequence

from hydrometer.types import VerifierFailure

_KINDS = {"raised": "raised an exception", "time": "ran out of time", "memory": "ran out of memory", "died": "died"}


def describe_failures(failures: Sequence[tuple[str, VerifierFailure]]) -> list[str]:
    """One sentence per kind of failure: how often, and where first. Each failure stands beside its question's id."""
    by_kind: dict[str, list[tuple[str, VerifierFailure]]] = {}
    for question_id, failure in failures:
        by_kind.setdefault(failure.kind, []).append((question_id, failure))
    return [
        f"The verifier {_KINDS[kind]} on {len(failed)} response{'s' * (len(failed) > 1)}, counted as wrong; the first, "
        f"on question '{failed[0][0]}': {failed[0][1].detail}."
        for kind, failed in by_kind.items()
    ]


def explain_all_failed(failures: Sequence[tuple[str, VerifierFailure]]) -> str:
    """The message where the verifier failed on every single response."""
    question_id, failure = failures[-1]
    return (
        f"The verifier failed on all {len(failures)} responses, last on question '{question_id}': {failure.detail}.\n"
        "Mend it, or choose another with --verifier, and start again in a new folder."
    )

"""Hidden thoughts of thinking models: what stands between `<think>` and `</think>` is no part of the answer."""

OPEN, CLOSE = "<think>", "</think>"


def answer_part(response: str, *, is_open: bool = False) -> str:
    """What a verifier may read of a response: all of it, or what follows the last thought.

    A response that never finished thinking says nothing, whatever stands in its thoughts.

    Args:
        response: decoded, thoughts included.
        is_open: the prompt has opened a thought already, as the templates of some thinking models do.
    """
    _, closed, answer = response.rpartition(CLOSE)
    return "" if OPEN in answer or (is_open and not closed) else answer


def opens_thought(prompt: str) -> bool:
    """Whether a prompt (or the end of one) leaves a thought open."""
    return prompt.rstrip().endswith(OPEN)

"""Which of a teacher's answers are worth imitating: whole, with the mark of an answer, and not stuck in a loop.

The four rules, in this order (arXiv:2604.13016, section 5.1 and its released rollout script, described in our words):
    mark      a text that has to be in the answer is there (the paper: a boxed result)
    line      no stripped line of 20 or more characters stands 5 or more times
    window    no 100-character window, looked at every 10 characters, is seen 3 or more times
    block     in answers of more than 5,000 characters: no 50 characters stand 3 times back to back
"""

from collections import Counter
from typing import Literal

LINE_CHARACTERS, LINE_TIMES = 20, 5
WINDOW_CHARACTERS, WINDOW_STRIDE, WINDOW_TIMES = 100, 10, 3
BLOCK_FROM, BLOCK_CHARACTERS, BLOCK_TIMES = 5_000, 50, 3

Refusal = Literal["mark", "line", "window", "block"]


def refuse_answer(text: str, *, mark: str = "") -> Refusal | None:
    """The first rule that an answer breaks; None where it may be imitated. Without a `mark` that rule asks nothing."""
    if mark not in text:
        return "mark"
    if repeats_lines(text):
        return "line"
    if repeats_windows(text):
        return "window"
    if len(text) > BLOCK_FROM and repeats_block(text):
        return "block"
    return None


def repeats_lines(text: str) -> bool:
    """Whether a long line stands too often."""
    lines = Counter(line for raw in text.splitlines() if len(line := raw.strip()) >= LINE_CHARACTERS)
    return any(count >= LINE_TIMES for count in lines.values())


def repeats_windows(text: str) -> bool:
    """Whether a window is seen too often."""
    starts = range(0, len(text) - WINDOW_CHARACTERS + 1, WINDOW_STRIDE)
    windows = Counter(text[start : start + WINDOW_CHARACTERS] for start in starts)
    return any(count >= WINDOW_TIMES for count in windows.values())


def repeats_block(text: str) -> bool:
    """Whether some block is followed by itself often enough: a stretch in which every character returns a block on."""
    run = 0
    for here, later in zip(text, text[BLOCK_CHARACTERS:], strict=False):
        run = run + 1 if here == later else 0
        if run >= BLOCK_CHARACTERS * (BLOCK_TIMES - 1):
            return True
    return False

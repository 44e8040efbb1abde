"""What each context shows: prints the examples of docs/contexts.md, prompts as the bundled student sees them.

    python scripts/show_contexts.py > examples.md

A small diagnosis is run, and the prompts are read from its `contexts.parquet`.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydrometer
from hydrometer.artifacts import read_table
from hydrometer.errors import UserError

CONTEXTS = (
    "none",
    "answer",
    "solution",
    "masked_solution",
    "correct_demo",
    "correct_wrong_demo",
    "summary",
    "correct_wrong_summary",
    "peer_demo:bundled:other-pattern",
    "conciseness",
    "hidden_think",
    "rule:Check every step.",
    "wrong_answer",
    "empty:correct_demo",
)
OPTIONS: dict[str, Any] = {
    "questions": 2,
    "rollouts": 2,
    "demos": 16,
    "allocation": "on_policy",
    "objective": ["reverse_kl"],
    "teacher": [f"self+{context}" for context in CONTEXTS],
}
QUESTION = "diagnose-0001"


def show_prompts() -> dict[str, str]:
    """The prompt of one question by context, as text with special tokens."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        with suppress(UserError):  # too small to rank anything; the tables are written all the same
            hydrometer.diagnose(out=out, **OPTIONS)
        contexts = read_table(out / "contexts.parquet").filter(question_id=QUESTION)
    prompts = dict(contexts.select("teacher", "prompt").iter_rows())
    return {context: prompts[f"self+{context}"] for context in CONTEXTS}


def render_examples() -> str:
    """Markdown: one heading and one block per context."""
    return "\n".join(f"### `{context}`\n\n```text\n{prompt}\n```\n" for context, prompt in show_prompts().items())


if __name__ == "__main__":
    sys.stdout.write(render_examples())

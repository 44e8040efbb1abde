"""A rule that a real small model takes in: self-distillation of an answer format, measured without the rule.

    python -m benchmarks.real_rule --model FOLDER --out runs/rule    # SmolLM2-135M: about 15 minutes of CPU

The questions are those of BoolQ without their passages (HYDROMETER_DATA). The teacher is the student with RULE in its
prompt; the student is asked the bare question, trains a LoRA adapter, and is graded by whether it keeps to the rule.
Its answers may be wrong as often as before: what is learnt is the form. Every third question is kept for the test.
"""

import argparse
import gzip
import json
import os
import re
from pathlib import Path

import hydrometer
from hydrometer.types import Question

RULE = "Answer with one word: Yes or No."
_TEST_QUESTIONS = 100
_SAMPLES = 4


def begins_with_yes_or_no(question: Question, response: str) -> bool:
    """Whether a response keeps to the rule as far as its first word goes."""
    return re.match(r"(Yes|No)\b", response.strip()) is not None


def write_questions(file: Path) -> None:
    """BoolQ's questions, each once, as rows of a `jsonl:` task."""
    source = Path(os.environ["HYDROMETER_DATA"]) / "boolq_validation.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        questions = sorted({json.loads(line)["question"].strip().rstrip("? ") + "?" for line in lines})
    rows = [
        {"prompt": question[0].upper() + question[1:], "answer": "-", "split": "train" if number % 3 else "test"}
        for number, question in enumerate(questions)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Train, and print compliance without the rule before and after, beside compliance with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    questions = options.out / "questions.jsonl"
    write_questions(questions)
    common = {
        "task": f"jsonl:{questions}",
        "verifier": "benchmarks.real_rule:begins_with_yes_or_no",
        "max_response_tokens": 16,
        "threads": 1,
        "resume": options.resume,
    }
    asked = hydrometer.evaluate(
        model=options.model,
        questions=_TEST_QUESTIONS,
        samples=_SAMPLES,
        system_prompt=RULE,
        out=options.out / "with-rule",
        **common,
    )
    trained = hydrometer.train(
        student=options.model,
        teacher=[f"rule=self+rule:{RULE}"],
        lora_rank=16,
        steps=options.steps,
        eval_questions=_TEST_QUESTIONS,
        eval_samples=_SAMPLES,
        out=options.out / "trained",
        **common,
    )
    found = trained.summary
    print("with the rule in the prompt", asked.accuracy.describe())
    print("without it, before training", found["before"]["accuracy"])
    print("without it, after training", found["after"]["accuracy"])
    print("difference, paired by question", found["comparison"]["difference"])


if __name__ == "__main__":
    main()

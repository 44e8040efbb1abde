"""What the study trains: every arm with its options, and what an arm leaves in `OUT/ARM-SEED`.

Beside the runs stand `OUT/teacher-NAME` (the teacher on the same test questions), `OUT/exam-ARM-SEED` (the trained
student under the common length limit, where its own was another), `OUT/aggregation` (the probe of that name) and
`OUT/costs.jsonl` (CPU seconds of each of these).
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydrometer.evaluation.run import evaluate
from hydrometer.probes.run import probe
from hydrometer.recipes.collecting import ANSWERS, collect_answers
from hydrometer.runs.progress import Silent
from hydrometer.tasks.chain import SECOND_PROMPT
from hydrometer.training.run import train

EXAM = {"questions": 60, "samples": 4}
COMMON = {
    "steps": 50,
    "eval_questions": EXAM["questions"],
    "eval_samples": EXAM["samples"],
    "alarms": "warn",
    "threads": 1,
}
TEACHER_SAMPLES = 8
COSTS = "costs.jsonl"
DONE = "summary.json"
WORDING = "prompt_template"
OWN_WORDS = SECOND_PROMPT.replace("{chain}", "$question")
"""A wording that `expert` was trained on, and no other bundled model."""
UNSEEN_WORDS = "Solve $question step by step and give the answer."
"""A wording that none was trained on."""


class Arm(NamedTuple):
    """One way to train; `$ARM` in its student is the folder of another arm with the same seed."""

    options: Mapping[str, Any]
    seeds: int = 3
    has_exam: bool = False
    """Whether the trained student is also evaluated under the common length limit."""


def _taught(teacher: str, **options: Any) -> dict[str, Any]:
    return {"teacher": [f"{teacher}=bundled:{teacher}"], **options}


def _topk(k: int, form: str, **more: str) -> dict[str, Any]:
    extra = "".join(f",{name}={value}" for name, value in more.items())
    return _taught("expert", objective=[f"topk_reverse_kl:k={k},form={form}{extra}"])


LIMITS = (16, 32, 64, 192)
ARMS: Mapping[str, Arm] = {
    "full": Arm(_taught("expert"), seeds=5),
    "expert_rl": Arm(_taught("expert-rl")),
    "other": Arm(_taught("other-pattern")),
    "imitated": Arm({"objective": ["sft"], "sft_from": ANSWERS, "prompts_per_step": 64, "steps": 60}),
    "other_after_cold_start": Arm(_taught("other-pattern", student="$imitated/model")),
    "stop_gradient_5": Arm(_topk(5, "stop_gradient"), seeds=5),
    "unnormalised_5": Arm(_topk(5, "unnormalised"), seeds=5),
    "unnormalised_2": Arm(_topk(2, "unnormalised")),
    "unnormalised_20": Arm(_topk(20, "unnormalised")),
    "renormalised_5": Arm(_topk(5, "renormalised")),
    "tail_bin_5": Arm(_topk(5, "tail_bin")),
    "stop_gradient_1": Arm(_topk(1, "stop_gradient")),
    "stop_gradient_1_norm": Arm(_topk(1, "stop_gradient", weight="student_p_norm")),
    "k1_loss": Arm(_taught("expert", objective=["k1_loss"])),
    "early": Arm(_taught("early")),
    "rule": Arm({"teacher": ["rule=self+rule:Check every step."]}),
    "answer": Arm({"teacher": ["answer=self+answer"]}),
    "solution": Arm({"teacher": ["solution=self+solution"]}),
    "student_support": Arm(_topk(4, "stop_gradient")),
    "overlap": Arm(_topk(4, "stop_gradient", support="intersection")),
    "non_overlap": Arm(_topk(4, "stop_gradient", support="symmetric_difference")),
    "own_words": Arm(_taught("expert", prompt_template=OWN_WORDS)),
    "unseen_words": Arm(_taught("expert", prompt_template=UNSEEN_WORDS)),
    "sampled_token": Arm(_taught("expert", objective=["sampled_token"]), seeds=5),
    "topk_16": Arm(_topk(16, "stop_gradient"), seeds=5),
    "dr_grpo": Arm({"objective": ["dr_grpo"]}),
    **{f"length_{n}": Arm(_taught("expert", max_response_tokens=n), has_exam=True) for n in LIMITS},
}


def run_arm(out: Path, name: str, seed: int) -> Path:
    """Train one arm with one seed and what belongs to it, unless that is done; its folder."""
    arm, folder = ARMS[name], out / f"{name}-{seed}"
    options = {**COMMON, **arm.options, "seed": seed}
    if "sft_from" in options:
        options["sft_from"] = str(_answers(out))
    if str(options.get("student", "")).startswith("$"):
        other, _, rest = str(options["student"]).removeprefix("$").partition("/")
        options["student"] = str(run_arm(out, other, seed) / rest)
    run_once(folder, lambda: train(out=folder, resume=folder.exists(), **options))
    if arm.has_exam:
        _examine(out / f"exam-{name}-{seed}", str(folder / "model"), seed=seed, **EXAM)
    teacher = teacher_folder(out, name)
    if teacher is not None:
        model = str(arm.options["teacher"][0]).partition("=")[2]
        wording = arm.options.get(WORDING)
        _examine(teacher, model, questions=EXAM["questions"], samples=TEACHER_SAMPLES, prompt_template=wording)
    return folder


def probe_aggregation(out: Path, names: tuple[str, ...]) -> Path:
    """-log Z of the contexts of these arms, unless it is known; the folder of the probe."""
    folder = out / "aggregation"
    teachers = [ARMS[name].options["teacher"][0] for name in names]
    run_once(folder, lambda: probe("aggregation", teacher=teachers, out=folder, resume=folder.exists(), threads=1))
    return folder


def teacher_folder(out: Path, name: str) -> Path | None:
    """Where the evaluation of an arm's teacher stands, asked as the arm asks; None for one that is the student."""
    model = str(next(iter(ARMS[name].options.get("teacher", ())), "")).partition("=")[2]
    if not model.startswith("bundled:"):
        return None
    asked = f"-{name}" if WORDING in ARMS[name].options else ""
    return out / f"teacher-{model.removeprefix('bundled:')}{asked}"


def _examine(folder: Path, model: str, **options: Any) -> None:
    run_once(folder, lambda: evaluate(model=model, out=folder, resume=folder.exists(), threads=1, **options))


def _answers(out: Path) -> Path:
    folder = out / "answers"
    options = {"model": "bundled:other-pattern", "questions": 1000, "temperature": 0.7, "threads": 1}
    run_once(folder, lambda: collect_answers(folder, options, resume=folder.exists(), progress=Silent()), last=ANSWERS)
    return folder / ANSWERS


def run_once(folder: Path, work: Callable[[], object], *, last: str = DONE) -> None:
    """Do the work whose last file in `folder` is `last`, unless it stands there, and note its CPU seconds."""
    if (folder / last).exists():
        return
    started = time.process_time()
    work()
    line = {"what": folder.name, "cpu_s": round(time.process_time() - started, 1)}
    with (folder.parent / COSTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")

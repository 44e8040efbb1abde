"""What the members can do, measured by sampling at temperature 1, and the card `family.json` that says so.

Accuracies are means over questions of per-question means, with a t interval over questions (so samples of one question
are not taken for independent); a gain is the paired difference to the bare prompt, question by question. Top-4 overlap
is the mean over the positions of student responses of |top4(student) & top4(member)| / 4.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from family.members import LONG_STUDENT, RUNS, SEED
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.sampling.protocol import SampleRequest, SamplingSettings
from hydrometer.sampling.seeding import rollout_seed
from hydrometer.sampling.transformers_sampler import TransformersSampler
from hydrometer.tasks.chain import CHECK_RULE, NO_CHECK_RULE, PLAIN_PROMPT, SECOND_PROMPT, ChainTask
from hydrometer.tasks.chain_text import REFERENCE_REMARK
from hydrometer.teachers.contexts import parse_context
from hydrometer.teachers.filler import blank_text
from hydrometer.teachers.prompts import build_teacher_prompt
from hydrometer.types import Message, Question, Rollout, Task

CONTEXTS = (
    "answer",
    "wrong_answer",
    "solution",
    "correct_demo",
    "correct_wrong_demo",
    f"rule:{CHECK_RULE}",
    f"rule:{NO_CHECK_RULE}",
    "empty:answer",
    "empty:solution",
    "empty:correct_demo",
    f"empty:rule:{CHECK_RULE}",
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is sampled."""

    questions: int = 120
    bare_samples: int = 16
    context_samples: int = 4
    max_response_tokens: int = 120
    seed: int = SEED

    def as_json(self) -> dict[str, Any]:
        """As the card says it."""
        return {
            "split": "diagnose",
            "questions": self.questions,
            "samples_bare": self.bare_samples,
            "samples_in_context": self.context_samples,
            "temperature": 1.0,
            "intervals": "95 %, t over questions; gains paired by question; demonstrations are the student's rollouts",
        }


class Sampled(NamedTuple):
    """Responses to the questions under one context; a question without a prompt has none."""

    by_question: dict[str, list[Rollout]]
    parsed_share: float


class Estimate(NamedTuple):
    """A mean over questions with its 95 % interval."""

    value: float
    low: float
    high: float
    questions: int

    def as_json(self) -> dict[str, Any]:
        """Rounded to four digits."""
        rounded = {"value": round(self.value, 4), "interval": [round(self.low, 4), round(self.high, 4)]}
        return rounded | {"questions": self.questions}


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Mean of per-question values with a t interval over questions; needs at least two."""
    array = np.asarray(values, dtype=np.float64)
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5
    return Estimate(float(array.mean()), float(array.mean() - half), float(array.mean() + half), len(array))


def sample_responses(
    model: TransformersModel,
    task: Task,
    questions: Sequence[Question],
    context: str,
    demos: dict[str, list[Rollout]],
    *,
    samples: int,
    effort: Effort,
) -> Sampled:
    """Responses of `model` to each question under a context."""
    requests, owners = [], []
    for question in questions:
        prompt = build_teacher_prompt(
            parse_context(context),
            question,
            demos=demos.get(question.question_id, []),
            blank=lambda text: blank_text(model, text),
        )
        if prompt.reason:
            continue
        prompt_ids = model.render(prompt.messages, assistant=prompt.assistant)
        for number in range(samples):
            seed = rollout_seed(effort.seed, f"{task.name} {context} {question.question_id}", number)
            requests.append(SampleRequest(prompt_ids, (), seed))
            owners.append((question, number))
    sampler = TransformersSampler(model, SamplingSettings(effort.max_response_tokens))
    found: dict[str, list[Rollout]] = {}
    parsed = 0
    for (question, number), drawn in zip(owners, sampler.sample(requests), strict=True):
        text = model.decode(drawn.token_ids)
        score = task.verify(question, text).strict
        parsed += score.parsed
        rollout = Rollout(
            question.question_id, number, "demo", drawn.token_ids, text, score.value, score.correct, not drawn.ended
        )
        found.setdefault(question.question_id, []).append(rollout)
    return Sampled(found, parsed / len(requests))


def success_rates(sampled: Sampled) -> dict[str, float]:
    """Share of correct responses by question."""
    return {key: float(np.mean([rollout.correct for rollout in rows])) for key, rows in sampled.by_question.items()}


def estimate_gain(context: Sampled, bare: Sampled) -> Estimate:
    """Accuracy under a context minus accuracy without, paired by question."""
    rates, base = success_rates(context), success_rates(bare)
    return estimate_mean([rate - base[key] for key, rate in rates.items()])


@torch.inference_mode()
def estimate_overlap(
    model: TransformersModel, student: TransformersModel, questions: Sequence[Question], paths: dict[str, list[Rollout]]
) -> Estimate:
    """Top-4 overlap with the student on one student response per question, mean over its positions."""
    values = []
    for question in questions:
        token_ids = paths[question.question_id][0].token_ids
        tops = []
        for scorer in (model, student):
            logits = torch.cat([chunk.logits for chunk in scorer.score(scorer.render(question.prompt), token_ids)])
            tops.append(logits.topk(4).indices)
        shared = (tops[0][:, :, None] == tops[1][:, None, :]).any(-1).double().mean()
        values.append(float(shared))
    return estimate_mean(values)


def measure_member(folder: Path, student_folder: Path, effort: Effort) -> dict[str, Any]:
    """Everything the card says of one member."""
    torch.set_num_threads(1)
    started = time.process_time()
    model, student = load_model(str(folder)), load_model(str(student_folder))
    task = ChainTask()
    questions = task.questions("diagnose")[: effort.questions]

    def sample(context: str, samples: int, of: TransformersModel = model, on: Task = task) -> Sampled:
        # The prompts of another task or wording come from its own questions, in the same order.
        asked = on.questions("diagnose")[: effort.questions] if on is not task else questions
        return sample_responses(of, on, asked, context, demos, samples=samples, effort=effort)

    demos: dict[str, list[Rollout]] = {}
    paths = sample("none", 8, of=student).by_question
    bare = sample("none", effort.bare_samples)
    demos = paths
    by_context = {context: sample(context, effort.context_samples) for context in CONTEXTS}
    strict = sample("none", effort.context_samples, on=ChainTask(strict=True))
    second = sample_responses(
        model, task, _reworded(questions), "none", {}, samples=effort.context_samples, effort=effort
    )
    rates = np.array(list(success_rates(bare).values()))
    lengths = [len(rollout.token_ids) for rows in bare.by_question.values() for rollout in rows]
    return {
        "accuracy": estimate_mean(rates.tolist()).as_json(),
        "parsed_share": round(bare.parsed_share, 4),
        "questions_between_10_and_90_percent": round(float(((rates > 0.1) & (rates < 0.9)).mean()), 4),
        "success_rate_quartiles": [round(float(q), 3) for q in np.quantile(rates, (0.25, 0.5, 0.75))],
        "gains": {context: estimate_gain(sampled, bare).as_json() for context, sampled in by_context.items()},
        "strict_accuracy": estimate_mean(list(success_rates(strict).values())).as_json(),
        "second_prompt_accuracy": estimate_mean(list(success_rates(second).values())).as_json(),
        "top4_overlap_with_student": estimate_overlap(model, student, questions, paths).as_json(),
        "checked_steps_share": {
            "none": round(_checked_share(bare), 4),
            **{context: round(_checked_share(by_context[context]), 4) for context in CONTEXTS if "rule" in context},
        },
        "reference_remark_share": round(_remark_share(by_context["solution"]), 4),
        "response_tokens": {"median": int(median(lengths)), "longest": max(lengths)},
        "parameters": model.parameters,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "training": json.loads((folder / "training.json").read_text(encoding="utf-8")),
        "measuring_cpu_s": round(time.process_time() - started),
    }


def _reworded(questions: Sequence[Question]) -> list[Question]:
    lead = PLAIN_PROMPT.index("{")
    chains = [question.prompt[0].content[lead:].split()[0] for question in questions]
    prompts = [(Message("user", SECOND_PROMPT.format(chain=chain)),) for chain in chains]
    return [replace(question, prompt=prompt) for question, prompt in zip(questions, prompts, strict=True)]


def _checked_share(sampled: Sampled) -> float:
    texts = [rollout.text for rows in sampled.by_question.values() for rollout in rows]
    steps = sum(text.count("=") + text.count(" is ") for text in texts)
    checks = sum(text.count("?") + text.count("(digit ") for text in texts)
    return checks / max(steps, 1)


def _remark_share(sampled: Sampled) -> float:
    texts = [rollout.text for rows in sampled.by_question.values() for rollout in rows]
    return sum(text.startswith(REFERENCE_REMARK) for text in texts) / len(texts)


def measure_family(
    bundled: Path, scratch: Path, runs: Sequence[str], *, processes: int, effort: Effort | None = None
) -> None:
    """Measure the members of `runs` that are there and write `family.json` beside them.

    What the card says of other members stays, unless the student is among those measured (all are compared with it) or
    the card was measured with another effort: then everyone is measured.
    """
    effort = effort or Effort()
    folders = {
        member: (scratch if member == LONG_STUDENT else bundled) / member
        for run in RUNS.values()
        for member in run.members.values()
    }
    chosen = {member for name in runs for member in RUNS[name].members.values()}
    kept = {} if "student" in chosen else _measured_before(bundled / "family.json", effort)
    wanted = {n: f for n, f in folders.items() if f.is_dir() and (n in chosen or n not in kept)}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {n: pool.submit(measure_member, f, folders["student"], effort) for n, f in wanted.items()}
        measured = {name: future.result() for name, future in futures.items()}
    measured = {name: member for name, member in {**kept, **measured}.items() if name in folders}
    long_student = measured.pop(LONG_STUDENT, None)
    card = {
        "task": ChainTask().name,
        "seed": SEED,
        "made_by": "python scripts/make_family.py",
        "measured_on": effort.as_json(),
        "bytes": sum(member["bytes"] for member in measured.values()),
        "training_cpu_s": training_cpu_s(measured, long_student),
        "members": dict(sorted(measured.items())),
        "not_bundled": {LONG_STUDENT: long_student} if long_student else {},
    }
    (bundled / "family.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _measured_before(card_path: Path, effort: Effort) -> dict[str, dict[str, Any]]:
    """What the card says of each member, where it was measured with this effort."""
    if not card_path.is_file():
        return {}
    card = json.loads(card_path.read_text(encoding="utf-8"))
    return {**card["members"], **card["not_bundled"]} if card["measured_on"] == effort.as_json() else {}


def training_cpu_s(measured: dict[str, dict[str, Any]], long_student: dict[str, Any] | None) -> int:
    """CPU seconds of all training runs; members of one run share its steps, so each run counts by its longest."""
    by_run: dict[str, int] = {}
    for member in [*measured.values(), *([long_student] if long_student else [])]:
        record = member["training"]
        by_run[record["run"]] = max(by_run.get(record["run"], 0), record["cpu_s"])
    return sum(by_run.values())

"""What a diagnosis will cost, measured on a small probe of the real models (`--dry-run`)."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hydrometer.diagnosis.continuation import candidates_under
from hydrometer.diagnosis.corridor import wanted_rollouts
from hydrometer.diagnosis.setup import Instruments
from hydrometer.models import CausalModel, torch_threads
from hydrometer.runs.memory import explain_memory
from hydrometer.runs.rounds import round_size
from hydrometer.sampling import SampleRequest, rollout_seed
from hydrometer.teachers import TeacherView, score_paths
from hydrometer.types import STUDENT, Question

_QUESTIONS = 3
_LARGEST_PROBE = 256
"""Rollouts: about the batch of a small model, so that the probe is as fast as the run will be."""


class Plan(NamedTuple):
    """Expected cost of a run."""

    rollouts: int
    generated_tokens: int
    scored_tokens: int
    seconds: float
    memory_bytes: int
    probed_questions: int
    probed_rollouts: int
    continued_by: Mapping[str, int]
    """Rollouts of everyone who continues: branches, and a teacher's own from its prompt."""


def plan_run(instruments: Instruments) -> Plan:
    """Sample a few responses, score one path per probed question, and scale up.

    Branches are bounded from above: every (node, token) pair is paid for in full, and continues for half a response.
    They are paid once where the student continues, and once for each teacher that does.
    Given rollouts cost nothing to sample; their base rollouts are scored as well as their paths.
    A pilot is counted for the wanted questions only; each question that it leaves out costs as much again.
    Sampling speed is that of the probe, a quarter of a round; a larger teacher is taken to be slower in proportion to
    its parameters, and to write as much as the student.
    """
    config = instruments.config
    questions = instruments.questions()
    probed = questions[: min(_QUESTIONS, config.questions)]
    with explain_memory("Lower --batch-size (fewer rollouts at a time)."), torch_threads(config.threads):
        probe = _probe(instruments, probed)
    length = probe.generated_tokens / probe.rollouts
    count = min(config.questions, len(questions)) if instruments.given is None else len(instruments.given.questions)
    sampled_by_peers = config.demos * len(instruments.peers)
    on_policy = count * sampled_by_peers
    if instruments.given is None:
        on_policy += count * (config.pilot + sum(wanted_rollouts(instruments).values()))
    summaries = 2 * count * len(instruments.summarisers)  # as many as there can be, as long as responses
    in_context = count * config.context_rollouts
    continued = _plan_continuations(instruments, probe, count, len(probed))
    written = [((on_policy + summaries) * length, instruments.student), *continued.texts(length)]
    if in_context:
        models = (instruments.student, *(teacher.model for teacher in instruments.teachers))
        written += [(in_context * length, model) for model in models]
    generated = sum(tokens for tokens, _ in written)
    size = instruments.student.parameters
    paced = sum(tokens * max(1.0, model.parameters / size) for tokens, model in written)  # the student's tokens
    scored = count * config.paths * length
    if instruments.given is not None:
        scored = instruments.given.count_tokens("path", "base")
    seconds = paced * probe.sample_s / probe.generated_tokens + scored * probe.score_s / (len(probed) * length)
    return Plan(
        rollouts=on_policy + continued.rollouts + in_context * (1 + len(instruments.teachers)),
        generated_tokens=round(generated),
        scored_tokens=round(scored * (1 + len(instruments.teachers))),
        seconds=seconds,
        memory_bytes=_memory(instruments),
        probed_questions=len(probed),
        probed_rollouts=probe.rollouts,
        continued_by={name: own + branches for name, (own, branches, _) in continued.by_name.items()},
    )


class _Continued(NamedTuple):
    by_name: Mapping[str, tuple[int, int, CausalModel]]
    """Rollouts from the prompt, branches, and who writes them."""

    @property
    def rollouts(self) -> int:
        return sum(own + branches for own, branches, _ in self.by_name.values())

    def texts(self, length: float) -> list[tuple[float, CausalModel]]:
        """Tokens and who writes them: branches are half a response long."""
        return [(own * length + branches * length / 2, model) for own, branches, model in self.by_name.values()]


def _plan_continuations(instruments: Instruments, probe: "_Probe", count: int, probed: int) -> _Continued:
    found = {}
    for continuer in instruments.continuers:
        pairs = round(instruments.config.paths * probe.pairs[continuer.name] / probed)
        own = 0 if continuer.name == STUDENT else count * instruments.config.rollouts
        found[continuer.name] = own, count * instruments.allocation.ceiling(pairs), continuer.writer.model
    return _Continued(found)


class _Probe(NamedTuple):
    rollouts: int
    generated_tokens: int
    sample_s: float
    score_s: float
    pairs: Mapping[str, int]
    """By who continues: candidates of the scored paths that stand beside another candidate."""


def _probe(instruments: Instruments, questions: Sequence[Question]) -> _Probe:
    """Sample some responses of each question in one call, and score one of each under student and teachers.

    Every teacher is scored on the student's prompt: contexts need demonstrations that are not there yet.
    """
    config, student = instruments.config, instruments.student
    size = min(_LARGEST_PROBE, round_size(student, config.max_response_tokens) // 4)
    each = max(4, size // len(questions))
    prompts = [student.render(question.prompt) for question in questions]
    requests = [
        SampleRequest(prompt, (), rollout_seed(config.seed, f"plan\x1f{question.question_id}", number))
        for question, prompt in zip(questions, prompts, strict=True)
        for number in range(each)
    ]
    start = time.monotonic()
    drawn = instruments.sampler.sample(requests)
    sample_s = time.monotonic() - start
    start = time.monotonic()
    names = [teacher.name for teacher in instruments.teachers]
    pairs = dict.fromkeys(instruments.continuations, 0)
    for number, prompt in enumerate(prompts):
        [scores] = score_paths(
            student,
            prompt,
            [TeacherView(teacher.name, teacher.model, prompt) for teacher in instruments.teachers],
            [drawn[number * each].token_ids],
            instruments.scored_objectives,
            warp=instruments.warp,
            threshold=config.candidate_threshold,
        )
        for name in pairs:
            here = scores.position[candidates_under(name, scores, names, config.candidate_threshold)]
            _, counts = np.unique(here, return_counts=True)
            pairs[name] += int(counts[counts >= 2].sum())
    tokens = sum(len(continuation.token_ids) for continuation in drawn)
    return _Probe(len(requests), tokens, sample_s, time.monotonic() - start, pairs)


def _memory(instruments: Instruments) -> int:
    """Weights of the distinct models, one batch of rollouts (about 1 GiB) and the Python process."""
    models = {id(model): model for model in instruments.models.values()}
    width = 4 if instruments.config.dtype == "float32" else 2
    return sum(model.parameters * width for model in models.values()) + (3 << 29)

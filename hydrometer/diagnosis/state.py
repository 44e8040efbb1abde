"""What a diagnosis knows of each question while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from hydrometer.diagnosis.continuation import Continued, candidates_under
from hydrometer.diagnosis.given.rollouts import FrozenPath
from hydrometer.models import CausalModel
from hydrometer.runs.rollouts import Asked, Drawn, ask
from hydrometer.success.allocation import PathCandidates, list_forcible
from hydrometer.teachers import PathScores, Summary, TeacherPrompt
from hydrometer.types import STUDENT, Grades, Question, Rollout, RolloutKind


@dataclass(slots=True)
class QuestionState:
    """Rollouts, contexts, scores and visit counts of one question, as far as they are there."""

    question: Question
    prompt_ids: tuple[int, ...]
    is_thinking: bool = False
    """Whether the student's prompt has opened a thought."""
    rollouts: dict[int, Rollout] = field(default_factory=dict)
    grades: dict[int, Grades] = field(default_factory=dict)
    """By rollout id, under both gradings; neither holds branches."""
    sampler_logprobs: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """Of the paths' tokens, from the pass that sampled them."""
    frozen: Mapping[int, FrozenPath] = field(default_factory=dict)
    """Candidates and node weights that another run has chosen, by the path's rollout id."""
    summaries: dict[tuple[str, int], Summary] = field(default_factory=dict)
    """By summariser and rollout id of the demonstration."""
    prompts: dict[str, TeacherPrompt] = field(default_factory=dict)
    """By teacher name."""
    scores: dict[int, PathScores] = field(default_factory=dict)
    """By rollout id of the path."""
    rewards_to_go: dict[int, np.ndarray] = field(default_factory=dict)
    """[teacher, token] of counted rollouts by id, in nats, where they were scored (see `rewards`)."""
    context_rollouts: list[Drawn] = field(default_factory=list)
    """By teachers from their own prompts (`Rollout.model` is the teacher's name) and afresh by the student."""
    node_weights: dict[int, np.ndarray] = field(default_factory=dict)
    """Per position of each path, by its rollout id; 0 where the node was not chosen."""
    continued: dict[str, Continued] = field(init=False)
    """By who continues; the student is always there, to hold its branches."""
    next_rollout_id: int = 0

    def __post_init__(self) -> None:
        self.continued = {STUDENT: Continued(self.question.question_id, STUDENT)}

    def of_kind(self, *kinds: RolloutKind) -> list[Rollout]:
        """Rollouts of these kinds by id; for branches see `counted`."""
        return [rollout for _, rollout in sorted(self.rollouts.items()) if rollout.kind in kinds]

    def counted(self) -> list[Rollout]:
        """Base rollouts and branches of the student by id."""
        own = [*self.of_kind("base"), *self.continued[STUDENT].rollouts]
        return sorted(own, key=lambda rollout: rollout.rollout_id)

    def is_continued_by(self, name: str) -> bool:
        """Whether branches may be asked of this model here."""
        return name in self.continued and self.continued[name].listed is not None

    def demos(self, model: str = STUDENT) -> list[Rollout]:
        """Demonstration rollouts of the student or of a peer."""
        return [rollout for rollout in self.of_kind("demo") if rollout.model == model]

    @property
    def scored_teachers(self) -> list[str]:
        """Teachers that are not skipped for this question."""
        return [name for name, prompt in self.prompts.items() if prompt.reason is None]

    def grades_of(self, *kinds: RolloutKind) -> list[Grades]:
        """Grades of the rollouts of these kinds by id."""
        return [self.grades[rollout.rollout_id] for rollout in self.of_kind(*kinds)]

    @property
    def is_informative(self) -> bool:
        """Whether some base rollouts are right and some are wrong."""
        base = self.of_kind("base")
        return 0 < sum(rollout.correct for rollout in base) < len(base)

    def add(self, rollout: Rollout, grades: Grades) -> None:
        """Take in a rollout; what is there before the tree has its paths is counted when it has them."""
        self.next_rollout_id = max(self.next_rollout_id, rollout.rollout_id + 1)
        if rollout.kind != "branch":
            self.rollouts[rollout.rollout_id] = rollout
            self.grades[rollout.rollout_id] = grades
            return
        self.continued[STUDENT].add(rollout, grades)

    def grow_trees(self, asked: Mapping[str, Asked], threshold: float) -> None:
        """Lay the analysed paths into the tree of everyone who continues, and list what can be forced there.

        Args:
            asked: the prompt of each of them, by name.
            threshold: probability above which a token is a candidate.
        """
        paths = self.of_kind("path")
        for name, prompt in asked.items():
            continued = self.continued.setdefault(name, Continued(self.question.question_id, name))
            for path in paths:
                continued.tree.add_path(path)
            for rollout in self.counted() if name == STUDENT else ():
                continued.tree.count(rollout)
            continued.asked = prompt
            continued.listed = list_forcible(
                continued.tree, [self._candidates(path, name, threshold) for path in paths]
            )

    def _candidates(self, path: Rollout, name: str, threshold: float) -> PathCandidates:
        """Of the chosen nodes."""
        scores = self.scores[path.rollout_id]
        is_chosen = (self.node_weights[path.rollout_id] > 0.0)[scores.position]
        is_candidate = is_chosen & candidates_under(name, scores, self.scored_teachers, threshold)
        return _chosen_candidates(path, scores, is_candidate)


def _chosen_candidates(path: Rollout, scores: PathScores, here: Bool[np.ndarray, " candidate"]) -> PathCandidates:
    log_p, log_q = scores.student_logprob, scores.teacher_logprob
    p = np.nan_to_num(np.exp(log_p), nan=0.0)
    if len(log_q):
        gradient = p * (log_p - log_q - scores.reverse_kl[:, scores.position])
        by_gradient = np.nan_to_num(np.abs(gradient)).max(axis=0)
        by_difference = np.abs(np.exp(log_q) - p).max(axis=0)
    else:
        by_gradient = by_difference = np.zeros_like(p)
    columns = (scores.position, scores.token_id, p, by_gradient, by_difference)
    return PathCandidates(path.rollout_id, *(column[here] for column in columns))


def open_question(
    student: CausalModel, question: Question, frozen: Mapping[int, FrozenPath] = MappingProxyType({})
) -> QuestionState:
    """A question as the student is asked it, before anything is sampled."""
    asked = ask(student, question.prompt)
    return QuestionState(question, asked.prompt_ids, asked.is_thinking, frozen=frozen)

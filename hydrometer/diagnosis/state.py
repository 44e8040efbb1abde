"""What a diagnosis knows of each question while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from hydrometer.diagnosis.branches import Branches
from hydrometer.diagnosis.given.rollouts import FrozenPath
from hydrometer.models import CausalModel
from hydrometer.runs.rollouts import Drawn, ask
from hydrometer.success.allocation import Forcible, PathCandidates, list_forcible
from hydrometer.success.tree import PrefixTree
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
    branches: Branches = field(default_factory=Branches)
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
    tree: PrefixTree = field(init=False)
    listed: Forcible | None = None
    """The (node, token) pairs that branches may be forced to."""
    next_rollout_id: int = 0

    def __post_init__(self) -> None:
        self.tree = PrefixTree(self.question.question_id)

    def of_kind(self, *kinds: RolloutKind) -> list[Rollout]:
        """Rollouts of these kinds by id; for branches see `counted`."""
        return [rollout for _, rollout in sorted(self.rollouts.items()) if rollout.kind in kinds]

    def counted(self) -> list[Rollout]:
        """Base rollouts and branches by id."""
        return sorted([*self.of_kind("base"), *self.branches], key=lambda rollout: rollout.rollout_id)

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
        self.branches.add(rollout, grades)
        if self.listed is not None:
            self.tree.count(rollout)

    def grow_tree(self) -> None:
        """Lay the analysed paths into the tree, count the rollouts so far, and list what can be forced."""
        paths = self.of_kind("path")
        for path in paths:
            self.tree.add_path(path)
        for rollout in self.counted():
            self.tree.count(rollout)
        self.listed = list_forcible(self.tree, [self._candidates(path) for path in paths])

    def _candidates(self, path: Rollout) -> PathCandidates:
        """Of the chosen nodes."""
        return _chosen_candidates(path, self.scores[path.rollout_id], self.node_weights[path.rollout_id] > 0.0)


def _chosen_candidates(path: Rollout, scores: PathScores, is_chosen: Bool[np.ndarray, " position"]) -> PathCandidates:
    log_p, log_q = scores.student_logprob, scores.teacher_logprob
    p = np.nan_to_num(np.exp(log_p), nan=0.0)
    if len(log_q):
        gradient = p * (log_p - log_q - scores.reverse_kl[:, scores.position])
        by_gradient = np.nan_to_num(np.abs(gradient)).max(axis=0)
        by_difference = np.abs(np.exp(log_q) - p).max(axis=0)
    else:
        by_gradient = by_difference = np.zeros_like(p)
    here = is_chosen[scores.position]
    columns = (scores.position, scores.token_id, p, by_gradient, by_difference)
    return PathCandidates(path.rollout_id, *(column[here] for column in columns))


def open_question(
    student: CausalModel, question: Question, frozen: Mapping[int, FrozenPath] = MappingProxyType({})
) -> QuestionState:
    """A question as the student is asked it, before anything is sampled."""
    return QuestionState(question, *ask(student, question.prompt), frozen=frozen)

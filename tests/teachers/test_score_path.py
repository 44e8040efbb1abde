"""Scores of a path against loops, whole and in blocks; and the one-position shift that has to be noticed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from path_reference import FIELDS, assert_scores_match
from reference_loops import Model
from tiny_models import VOCAB, ids, new_model, tiny_model

from hydrometer import objectives
from hydrometer.models import Warp, transformers_model, walking
from hydrometer.models.causal import LogitsChunk
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling import ScriptedModel
from hydrometer.teachers import PathScores, TeacherView, score_paths, scoring

PROMPT = ids("add up")
RESPONSE = ids("a b c.|")
OBJECTIVES = tuple(FIELDS)
PLAIN = Warp()


def cut(model: TransformersModel) -> TransformersModel:
    model.vocab_size = VOCAB
    return model


@pytest.fixture(scope="module")
def teachers() -> list[TeacherView]:
    """Another seed with a longer prompt, another architecture, and a larger padded output."""
    return [
        TeacherView("seen", tiny_model(seed=1), (*PROMPT, *ids(" the answer"))),
        TeacherView("llama", tiny_model("llama", seed=2), ids("x")),
        TeacherView("padded", cut(new_model(seed=3, vocab=64)), PROMPT),
    ]


def score(
    student: Model,
    teachers: Sequence[TeacherView],
    response: tuple[int, ...] = RESPONSE,
    *,
    names: Sequence[str] = OBJECTIVES,
    warp: Warp = PLAIN,
    threshold: float = 0.02,
) -> PathScores:
    made = [objectives.parse(name) for name in names]
    [found] = score_paths(student, PROMPT, teachers, [response], made, warp=warp, threshold=threshold)
    return found


def check(found: PathScores, student: Model, teachers: Sequence[TeacherView], **changes: Any) -> None:
    arguments = {"warp": PLAIN, "threshold": 0.02, "objectives": OBJECTIVES, "response_ids": RESPONSE} | changes
    assert_scores_match(found, student, PROMPT, teachers, **arguments)


@pytest.mark.parametrize(
    ("warp", "threshold"), [(PLAIN, 0.02), (Warp(0.6, 1.0), 0.05), (Warp(1.3, 0.7), 0.02)], ids=str
)
def test_scores_are_those_of_the_loops(teachers: list[TeacherView], warp: Warp, threshold: float):
    found = score(tiny_model(), teachers, warp=warp, threshold=threshold)
    check(found, tiny_model(), teachers, warp=warp, threshold=threshold)
    assert len(found.position) > len(RESPONSE), "there is something to compare"
    if warp.top_p < 1.0:
        assert np.isnan(found.student_logprob).any(), "a teacher's candidate outside the student's nucleus"
    assert not any(np.isinf(values).any() for values in found.arrays().values())


def test_a_response_of_one_token_is_scored(teachers: list[TeacherView]):
    check(score(tiny_model(), teachers, ids("|")), tiny_model(), teachers, response_ids=ids("|"))


class LateTeacher:
    """A teacher whose scores come one position late, as when a prompt is taken for one token longer than it is."""

    def __init__(self, model: TransformersModel):
        self.inner = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def score_each(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]
    ) -> Iterator[Iterator[LogitsChunk]]:
        each = [torch.cat([chunk.logits for chunk in self.inner.score(prompt_ids, ids)]) for ids in responses]
        return iter([iter([LogitsChunk(0, torch.cat([logits[:1], logits[:-1]]))]) for logits in each])


def test_a_shift_by_one_position_is_noticed(teachers: list[TeacherView]):
    right = teachers[:1]
    check(score(tiny_model(), right), tiny_model(), right)
    [view] = right
    late = [view._replace(model=LateTeacher(view.model))]  # pyright: ignore[reportArgumentType]
    short_prompt = [view._replace(prompt_ids=view.prompt_ids[:-1])]
    long_prompt = [view._replace(prompt_ids=(*view.prompt_ids, RESPONSE[0]))]
    for shifted in (late, short_prompt, long_prompt):
        with pytest.raises(AssertionError, match=r"Not equal|Mismatched"):
            check(score(tiny_model(), shifted), tiny_model(), right)


def test_a_shifted_student_is_noticed(teachers: list[TeacherView]):
    late = LateTeacher(tiny_model())
    with pytest.raises(AssertionError, match=r"Not equal|Mismatched"):
        check(score(late, teachers), tiny_model(), teachers)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("block", "chunk"), [(1, 100), (2, 3), (3, 2), (4, 1), (100, 2)])
def test_blocks_and_chunks_move_nothing(
    teachers: list[TeacherView], block: int, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    whole = score(tiny_model(), teachers)
    monkeypatch.setattr(walking, "_BLOCK_ELEMENTS", block * VOCAB)
    monkeypatch.setattr(transformers_model, "_CHUNK_BYTES", 4 * chunk * VOCAB)  # the padded teacher's are smaller
    monkeypatch.setattr(transformers_model, "_LEAST_ROWS", 1)
    parts = score(tiny_model(), teachers).arrays()
    for name, values in whole.arrays().items():
        assert parts[name].dtype == values.dtype
        np.testing.assert_allclose(parts[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_no_block_is_larger_than_it_may_be(teachers: list[TeacherView], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(walking, "_BLOCK_ELEMENTS", 2 * VOCAB)
    sizes: list[int] = []
    original = scoring._score_block
    monkeypatch.setattr(scoring, "_score_block", lambda p, *rest: sizes.append(len(p)) or original(p, *rest))
    score(tiny_model(), teachers)
    assert sizes == [2, 2, 2, 1]


def test_a_teacher_that_is_the_student_has_nothing_to_teach():
    itself = [TeacherView("self", tiny_model(), PROMPT), TeacherView("same weights", new_model(), PROMPT)]
    zero_at_equality = [name for name in OBJECTIVES if objectives.parse(name).zero_at_equality]
    found = score(tiny_model(), itself, names=zero_at_equality)
    assert len(zero_at_equality) == 4
    assert found.reverse_kl.max() == 0.0
    assert found.l2.max() < 1e-12
    np.testing.assert_allclose(found.distribution_cosine, 1.0, rtol=1e-12)
    assert found.full_norm_squared.max() < 1e-24
    np.testing.assert_array_equal(found.teacher_rank[0], found.student_rank)
    biased = score(tiny_model(), itself, names=["topk_reverse_kl:k=2,form=unnormalised"])
    assert biased.full_norm_squared.min() > 1e-6


def test_the_same_model_with_another_prompt_does_teach():
    found = score(tiny_model(), [TeacherView("context", tiny_model(), ids("it is f. add up"))], names=["reverse_kl"])
    assert found.reverse_kl.min() > 1e-4
    assert found.full_norm_squared.min() > 1e-8


def test_scripted_models_are_scored_alike():
    tokens = ("<eos>", "a", "b", "c", "d")

    def probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng([len(prompt), *response]).dirichlet(np.ones(5))

    model = ScriptedModel(tokens, probs)
    views = [TeacherView("t", model, (*PROMPT, 1))]
    response = (1, 3, 2, 0)
    found = score(model, views, response)
    check(found, model, views, response_ids=response)


def test_without_teachers_the_students_own_scores_are_there():
    found = score(tiny_model(), [])
    check(found, tiny_model(), [])
    assert found.teacher_rank.shape == (0, len(found.position))
    assert found.field_mean.shape == (0, len(OBJECTIVES), len(RESPONSE))
    assert found.reverse_kl.shape == (0, len(RESPONSE))


def test_a_sampled_token_that_the_warp_forbids_has_no_logprob():
    warp = Warp(top_p=0.1)
    found = score(tiny_model(), [], warp=warp)
    check(found, tiny_model(), [], warp=warp)
    assert np.isnan(found.sampled_logprob).any()

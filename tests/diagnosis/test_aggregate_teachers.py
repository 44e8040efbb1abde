"""Teachers that are the mean over the contexts a student cannot tell apart: their weights, values and refusals."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from recompute import check_run
from scripted_worlds import (
    LIMITS,
    TINY,
    TOKENS,
    LetterTask,
    is_right,
    leave_plain_reports,
    run_world,
    student_probs,
    success_of,
)

from hydrometer.alignment.advice import write_trl_rows
from hydrometer.artifacts.run_folder import write_json
from hydrometer.diagnosis.run import Diagnosis
from hydrometer.errors import SpecError, UserError
from hydrometer.sampling import ScriptedModel
from hydrometer.success.enumeration import enumerate_success
from hydrometer.types import Question

TEACHERS = ("self+answer", "self+aggregate:answer", "s=self+aggregate:solution", "d=self+aggregate:correct_demo")


class TwoAnswers(LetterTask):
    """Every question has a right and a wrong answer."""

    def questions(self, split: str) -> list[Question]:
        return [
            Question(one.question_id, one.task, one.prompt, "right", wrong_answer="wrong")
            for one in super().questions(split)
        ]


@cache
def told_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    """A student that knows what to do once it is told, and follows the letters of a text that it is shown."""
    p = student_probs(prompt, response)
    text = bytes(prompt).decode()
    if "answer is" in text:
        rates = [success_of(prompt, (*response, token)) if p[token] > 0.0 else 0.0 for token in range(len(TOKENS))]
        lean = np.array(rates) * (3.0 if "answer is right" in text else -3.0)
    elif "\n" in text:
        shown = text.split("\n")[3]
        lean = np.array([0.6 * shown.count(letter) for letter in "abc"] + [0.0])
    else:
        return p
    weights = p * np.exp(lean)
    return weights / weights.sum()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    """One whose teachers continue."""
    return run_told(
        tmp_path_factory.mktemp("both") / "run",
        teacher=TEACHERS[:2],
        continuation="both",
        **{"questions": 8, "rollouts": 24, "paths": 1, "visits": 16, "min_visits": 16, "demos": 6},
    )


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    """One with every kind of aggregate."""
    return run_told(tmp_path_factory.mktemp("scored") / "run", teacher=TEACHERS, **TINY, demos=9)


def run_told(folder: Path, **options: Any) -> Diagnosis:
    with pytest.MonkeyPatch.context() as patched:
        leave_plain_reports(patched)
        return run_world(
            folder, student=ScriptedModel(TOKENS, told_probs, name="told"), task=TwoAnswers(), seed=2, **options
        )


def contexts_of(run: Diagnosis, teacher: str) -> dict[str, list[tuple[float, str]]]:
    rows = run.table("contexts").filter(~pl.col("skipped"), teacher=teacher).to_dicts()
    return {row["question_id"]: [(one["weight"], one["prompt"]) for one in row["instances"]] for row in rows}


def mean_probs(contexts: list[tuple[float, str]], response: tuple[int, ...]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logs = sum(weight * np.log(told_probs(tuple(text.encode()), response)) for weight, text in contexts)
    weights = np.exp(logs)
    return weights / weights.sum()


def test_answers_weigh_as_often_as_demonstrations_of_the_student_are_right(run: Diagnosis) -> None:
    demos = run.table("rollouts").filter(kind="demo").group_by("question_id").agg(pl.col("correct").mean())
    share = dict(demos.iter_rows())
    found = contexts_of(run, "self+aggregate:answer")
    assert found.keys() == share.keys()
    for question, contexts in found.items():
        weights = {text.split("answer is ")[1].split(".")[0]: weight for weight, text in contexts}
        assert weights == pytest.approx(
            {name: w for name, w in (("right", share[question]), ("wrong", 1 - share[question])) if w > 0.0}
        )
        assert [weight for weight, _ in contexts] == sorted(weights.values(), reverse=True)
    assert run.table("contexts").filter(teacher="self+answer")["instances"].null_count() == len(share)


def test_solutions_are_the_demonstrations_and_those_that_read_the_same_are_one(scored: Diagnosis) -> None:
    run = scored
    demos = run.table("rollouts").filter(kind="demo", truncated=False)
    paths = run.table("rollouts").filter(kind="path")
    for question, contexts in contexts_of(run, "s").items():
        refused = set(paths.filter(question_id=question)["text"])
        texts = [text for text in demos.filter(question_id=question)["text"] if text not in refused and text]
        shown = {text.split("\n")[3]: weight for weight, text in contexts}
        assert shown == pytest.approx({text: texts.count(text) / len(texts) for text in set(texts)})


@pytest.mark.parametrize("teacher", TEACHERS[1:])
def test_scores_are_of_the_normalised_geometric_mean(scored: Diagnosis, teacher: str) -> None:
    run, name = scored, teacher.partition("=")[0]
    paths = {
        (row["question_id"], row["rollout_id"]): tuple(row["token_ids"])
        for row in run.table("rollouts").filter(kind="path").iter_rows(named=True)
    }
    contexts = contexts_of(run, name)
    rows = run.table("teacher_scores").filter(teacher=name).to_dicts()
    assert {row["question_id"] for row in rows} == contexts.keys()
    assert max(len(one) for one in contexts.values()) >= 2
    for row in rows:
        prefix = paths[row["question_id"], row["rollout_id"]][: row["position"]]
        expected = np.log(mean_probs(contexts[row["question_id"]], prefix)[row["token_id"]])
        assert row["teacher_logprob"] == pytest.approx(expected, abs=1e-4)


def test_its_rollouts_and_branches_are_drawn_from_that_mean(run: Diagnosis) -> None:
    contexts = contexts_of(run, "self+aggregate:answer")
    exact = {question: success_under(mine, int(question[1:]), ()) for question, mine in contexts.items()}
    own = run.table("rollouts").filter(model="self+aggregate:answer", kind="base")
    rates = dict(own.group_by("question_id").agg(pl.col("correct").mean()).iter_rows())
    z = [(rates[q] - p) / np.sqrt(max(p * (1 - p), 1e-9) / 24) for q, p in exact.items()]
    assert np.abs(z).max() < 3.5
    [value] = [one for one in run.summary["values"] if one["teacher"] == "self+aggregate:answer"]
    assert value["teacher_value"]["value"] == pytest.approx(np.mean(list(rates.values())))
    assert value["holds"] is True
    assert value["privilege_gap"] is None
    kept = run.table("candidates").filter("kept", continuation="self+aggregate:answer")
    texts = {
        (row["question_id"], row["rollout_id"]): tuple(row["token_ids"])
        for row in run.table("rollouts").filter(kind="path").iter_rows(named=True)
    }
    errors = []
    for row in kept.iter_rows(named=True):
        prefix = (*texts[row["question_id"], row["rollout_id"]][: row["position"]], row["token_id"])
        truth = success_under(contexts[row["question_id"]], int(row["question_id"][1:]), prefix)
        if 0.05 < truth < 0.95:
            errors.append((row["success_rate"] - truth) / np.sqrt(truth * (1 - truth) / row["visits"]))
    assert len(errors) > 20
    assert abs(np.mean(errors)) < 0.4
    assert 0.7 < np.std(errors) < 1.3


def success_under(contexts: list[tuple[float, str]], number: int, prefix: tuple[int, ...]) -> float:
    def next_logprobs(prefixes: list[tuple[int, ...]]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.stack([mean_probs(contexts, one) for one in prefixes]))

    def verify(ids: tuple[int, ...], truncated: bool) -> bool:
        return is_right(number, "".join(TOKENS[i] for i in ids if TOKENS[i] != "<eos>"))

    found = enumerate_success(next_logprobs, verify, LIMITS, prefix=prefix)
    return 0.5 * (found.low + found.high)


def test_the_teacher_that_is_told_is_said_to_be_worth_what_its_aggregate_is(run: Diagnosis) -> None:
    values = {one["teacher"]: one for one in run.summary["values"]}
    told, mean = values["self+answer"], values["self+aggregate:answer"]
    assert told["learnable"] == mean["difference"]
    assert told["privilege_gap"] == told["difference"]
    assert told["difference"]["value"] > mean["difference"]["value"] + 0.1, "else this world shows nothing"
    assert mean["learnable"] is None
    [note] = [text for text in run.summary["warnings"] if "is not told can learn" in text]
    assert note.startswith(f"self+answer is right {told['difference']['value']:+.2f} [")
    assert f"is {mean['difference']['value']:+.2f} [" in note
    assert check_run(run.folder)[1] == []


def test_one_that_leads_is_not_exported_as_one_context(run: Diagnosis, tmp_path: Path) -> None:
    summary = run.folder / "summary.json"
    written = summary.read_text()
    arm = next(arm for arm in run.summary["arms"] if arm["teacher"] == "self+aggregate:answer")
    write_json(summary, run.summary | {"recommendation": arm | {"sentence": ""}})
    try:
        with pytest.raises(UserError, match="the mean over several contexts"):
            write_trl_rows(run.folder, tmp_path / "rows.jsonl")
    finally:
        summary.write_text(written)


def test_without_two_readable_demonstrations_it_is_skipped(tmp_path: Path) -> None:
    found = run_told(tmp_path / "run", teacher=TEACHERS[:2], demos=1, **TINY)
    rows = found.table("contexts").filter(teacher="self+aggregate:answer")
    assert set(rows["reason"]) == {"an answer could be read from fewer than 2 of the student's rollouts"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "self+aggregate:rule:Be brief."}, "differs between questions"),
        ({"teacher": "self+aggregate:"}, "differs between questions"),
        ({"teacher": "self+aggregate:summary"}, "differs between questions"),
        ({"teacher": "self+empty:aggregate:answer"}, "no content to blank"),
        ({"teacher": "self+aggregate:answer", "demos": 0}, "--demos 0"),
    ],
)
def test_what_has_no_aggregate_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        run_world(tmp_path / "run", student=ScriptedModel(TOKENS, told_probs), **(TINY | options))
    assert not (tmp_path / "run").exists()

"""`--candidates-from RUN`: other teachers on the same rollouts, nodes, tokens and success rates."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scripted_worlds import TOKENS, LetterTask, build_planted, build_student, run_world, student_probs

from hydrometer.artifacts import read_json
from hydrometer.errors import RunFolderError, SpecError
from hydrometer.results import Diagnosis
from hydrometer.sampling import ScriptedModel

KEYS = ["question_id", "rollout_id", "position"]
# a high threshold, so that some tokens are no candidates until a teacher favours them
OPTIONS: dict[str, Any] = {"questions": 6, "rollouts": 24, "paths": 2, "visits": 8, "min_visits": 6}
CHOOSING: dict[str, Any] = {"candidate_threshold": 0.3, "nodes_per_path": 3}
OBJECTIVES = ["reverse_kl", "minillm"]


def favourite_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    """All on the student's least likely token: it brings tokens of its own above any threshold."""
    p = student_probs(prompt, response)
    weights = np.where(p > 0, 1e-3, 0.0)
    weights[int(np.argmin(np.where(p > 0, p, 2.0)))] = 1.0
    return weights / weights.sum()


FAVOURITE = ScriptedModel(TOKENS, favourite_probs, name="favourite")


class Refusing(ScriptedModel):
    """The student, who must not be sampled."""

    def sampler(self, settings: Any) -> Any:
        inner = super().sampler(settings)

        class Sampler:
            def sample(self, requests: Any) -> Any:
                assert all(request.most_tokens is not None for request in requests) or not requests, "sampled"
                return inner.sample(requests)

        return Sampler()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return run_world(tmp_path_factory.mktemp("first") / "run", objective=OBJECTIVES, **OPTIONS, **CHOOSING)


@pytest.fixture(scope="module")
def second(first: Diagnosis, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return run_world(
        tmp_path_factory.mktemp("second") / "run",
        candidates_from=str(first.folder),
        student=Refusing(TOKENS, student_probs, name="letters-student"),
        teacher={"favourite": FAVOURITE, "planted": build_planted(2.0)},
        objective=OBJECTIVES,
        check=False,
    )


def test_a_teacher_that_was_there_gets_the_same_rows(first: Diagnosis, second: Diagnosis) -> None:
    before, after = (run.table("alignment").filter(teacher="planted") for run in (first, second))
    assert before.height > 40
    names = [name for name, dtype in before.schema.items() if dtype == pl.Float64]
    assert before.drop(names).equals(after.drop(names))
    for name in names:
        both = np.stack([before[name].to_numpy(), after[name].to_numpy()])
        np.testing.assert_allclose(both[0], both[1], rtol=0, atol=1e-12, err_msg=name)
    arms = [next(a for a in run.summary["arms"] if a["teacher"] == "planted") for run in (first, second)]
    assert arms[0]["scores"]["all"] == arms[1]["scores"]["all"]


def test_the_kept_candidates_are_those_of_the_run_although_a_teacher_favours_others(
    first: Diagnosis, second: Diagnosis, tmp_path: Path
) -> None:
    keys = [*KEYS, "token_id"]
    kept = first.table("candidates").filter("kept").select(keys)
    assert 0 < kept.height < first.table("candidates").height
    shared = [*keys, "visits", "successes", "visits_a", "successes_a", "kept"]
    assert second.table("candidates")[shared].equals(first.table("candidates")[shared])
    assert second.table("rollouts").equals(first.table("rollouts"))
    alone = run_world(
        tmp_path / "alone",
        teacher={"favourite": FAVOURITE, "planted": build_planted(2.0)},
        objective=["reverse_kl"],
        **OPTIONS,
        **CHOOSING,
    )
    assert alone.table("candidates").filter("kept").height > kept.height


def test_the_new_teacher_is_scored_there_and_nothing_is_sampled(first: Diagnosis, second: Diagnosis) -> None:
    rows = second.table("teacher_scores").filter(teacher="favourite")
    assert rows.height == second.table("candidates").height
    paths = {(r["question_id"], r["rollout_id"]): r["token_ids"] for r in second.table("rollouts").to_dicts()}
    for row in rows.sample(20, seed=0).iter_rows(named=True):
        prompt = tuple(f"user: question {int(row['question_id'][1:])}".encode())
        prefix = tuple(paths[row["question_id"], row["rollout_id"]][: row["position"]])
        expected = np.log(favourite_probs(prompt, prefix)[row["token_id"]])
        assert row["teacher_logprob"] == pytest.approx(expected, abs=1e-5)
    cost = second.summary["cost"]
    assert (cost["rollouts"], cost["generated_tokens"]) == (0, 0)
    assert cost["scored_tokens"] > 0
    assert second.summary["candidate_set"] == f"candidates of {first.folder}"
    assert second.summary["warnings"][0].startswith(f"Candidates of {first.folder}: nothing was sampled")
    assert "(planted)" in second.summary["warnings"][0]
    given = read_json(second.folder / "run.json")["given"]
    assert given["source"] == str(first.folder)
    assert given["fingerprint"].startswith("sha256:")
    config = read_json(second.folder / "run.json")["config"]
    assert (config["rollouts"], config["candidate_threshold"], config["nodes_per_path"]) == (24, 0.3, 3)


def test_what_differs_is_listed_in_one_error(first: Diagnosis, tmp_path: Path) -> None:
    class Other(LetterTask):
        def questions(self, split: str) -> Any:
            return list(reversed(super().questions(split)))

    with pytest.raises(SpecError) as caught:
        run_world(
            tmp_path / "run",
            candidates_from=str(first.folder),
            student=ScriptedModel(TOKENS, student_probs, name="another student"),
            task=Other(),
            temperature=0.7,
            seed=4,
            rollouts=99,
        )
    text = str(caught.value)
    assert "temperature: 1.0 there, 0.7 here" in text
    assert "seed: 0 there, 4 here" in text
    assert "rollouts: 24 there, 99 here" in text
    assert "student: 'letters-student' there, 'another student' here" in text
    assert "the task's questions have changed" in text
    assert len(text.splitlines()) <= 10
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_finished_or_has_changed_is_refused(first: Diagnosis, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is missing"):
        run_world(tmp_path / "run", candidates_from=str(tmp_path / "nothing"))
    options: dict[str, Any] = {"objective": ["reverse_kl"], "questions": 2, "rollouts": 8, "visits": 4, "min_visits": 4}
    source = run_world(tmp_path / "source", **options)
    mine: dict[str, Any] = {"candidates_from": str(source.folder), "teacher": {"other": FAVOURITE}}
    mine["objective"] = ["reverse_kl"]
    run = run_world(tmp_path / "mine", **mine)
    before = run.table("alignment")
    (run.folder / "summary.json").unlink()
    assert run_world(tmp_path / "mine", **mine, resume=True).table("alignment").equals(before)
    table = source.table("rollouts").with_columns(score=pl.col("score") * 0.5)
    table.write_parquet(source.folder / "rollouts.parquet")
    with pytest.raises(RunFolderError, match="its rollouts have changed"):
        run_world(tmp_path / "mine", **mine, resume=True)
    source.table("rollouts").drop("parsed").write_parquet(source.folder / "rollouts.parquet")
    with pytest.raises(RunFolderError, match=r"rollouts.parquet lacks parsed.*\n?.*--resume"):
        run_world(tmp_path / "again", **mine)


def test_the_student_itself_is_never_forced(first: Diagnosis, second: Diagnosis) -> None:
    kinds = first.table("rollouts")["kind"].unique().sort().to_list()
    assert kinds == ["base", "branch", "path"]
    assert build_student().fingerprint == read_json(second.folder / "run.json")["models"]["student"]["fingerprint"]
    tilt = {row["teacher"]: row for row in second.summary["analyses"]["sequence_tilt"]}
    assert tilt["planted"]["derivative"]["value"] > 0
    assert tilt["planted"]["n_rollouts"] == 6 * 24


def test_what_a_teacher_adds_up_to_is_that_of_the_run_and_not_known_of_a_new_one(tmp_path: Path) -> None:
    few_visits = {"questions": 6, "rollouts": 24, "paths": 1, "allocation": "on_policy", "min_visits": 6}
    teachers = {"favourite": FAVOURITE, "planted": build_planted(2.0)}
    options = {"objective": ["reverse_kl"], "check": False}
    for name, sampling in (("lacking", few_visits), ("measured", OPTIONS | {"paths": 1})):
        run = run_world(tmp_path / name, **options, **sampling)
        again = run_world(tmp_path / f"{name}-2", candidates_from=str(run.folder), teacher=teachers, **options)
        before = {line["teacher"]: line["worth"] for line in run.summary["ranking"]}
        after = {line["teacher"]: line["worth"] for line in again.summary["ranking"]}
        assert (before["planted"] is None) == (name == "lacking"), "a run without enough visits does not know"
        values = [None if worth is None else worth["value"] for worth in (before["planted"], after["planted"])]
        assert values[0] == pytest.approx(values[1], abs=1e-9)
        assert after["favourite"] is None

"""Teachers that continue forced tokens: whose rollouts count, from which prompt, at what price, and what is refused."""

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
    build_planted,
    build_student,
    is_right,
    leave_plain_reports,
    question_number,
    run_world,
    student_probs,
)

import hydrometer
import hydrometer.runs.drawing as drawing
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.plan import plan_run
from hydrometer.diagnosis.run import Diagnosis
from hydrometer.diagnosis.setup import build_instruments
from hydrometer.errors import SpecError
from hydrometer.sampling import ScriptedModel
from hydrometer.success.enumeration import enumerate_success

OPTIONS: dict[str, Any] = {"questions": 6, "paths": 2, "visits": 16, "min_visits": 16, "rollouts": 16, "seed": 3}
TABLES = ("rollouts", "nodes", "candidates", "alignment")
KEYS = ["question_id", "rollout_id", "position", "token_id"]


@pytest.fixture(autouse=True)
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_plain_reports(monkeypatch)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    teachers = {"towards": build_planted(2.0), "away": build_planted(-2.0)}
    folder = tmp_path_factory.mktemp("both") / "run"
    with pytest.MonkeyPatch.context() as patched:
        leave_plain_reports(patched)
        return run_world(folder, teacher=teachers, continuation="both", **OPTIONS)


def of_model(run: Diagnosis, name: str, who: str) -> pl.DataFrame:
    """What a table says where `who` continues."""
    table = run.table(name)
    return table.filter(model=who) if name == "rollouts" else table.filter(continuation=who)


def test_visits_are_those_of_whoever_continued_and_scores_follow_from_them(both: Diagnosis) -> None:
    compared, wrong = check_run(both.folder)
    assert wrong == []
    assert compared["visits and successes"] == both.table("candidates").height
    assert both.table("candidates")["continuation"].n_unique() == 3
    pairs = both.table("alignment").select("teacher", "continuation").unique().sort("teacher", "continuation").rows()
    assert pairs == [("away", "away"), ("away", "student"), ("towards", "student"), ("towards", "towards")]


def test_the_student_s_part_is_that_of_a_run_where_it_alone_continues(both: Diagnosis, tmp_path: Path) -> None:
    teachers = {"towards": build_planted(2.0), "away": build_planted(-2.0)}
    alone = run_world(tmp_path / "run", teacher=teachers, **OPTIONS)
    for name in TABLES:
        assert of_model(both, name, "student").equals(alone.table(name)), name
    mine = [arm for arm in both.summary["arms"] if arm["continuation"] == "student"]
    assert mine == alone.summary["arms"]


def test_another_teacher_in_the_run_changes_no_number_of_a_teacher_s_own_continuations(
    both: Diagnosis, tmp_path: Path
) -> None:
    only = {"away": build_planted(-2.0)}
    alone = run_world(tmp_path / "run", teacher=only, continuation="teacher", **OPTIONS)
    assert alone.table("candidates").drop("token").equals(of_model(both, "candidates", "away").drop("token"))
    texts = [of_model(run, "rollouts", "away").sort("rollout_id")["text"].to_list() for run in (alone, both)]
    assert texts[0] == texts[1]
    assert set(alone.table("candidates")["continuation"]) == {"away"}
    ranking = {(line["teacher"], line["objective"], line["continuation"]) for line in alone.summary["ranking"]}
    assert ranking == {
        ("away", "reverse_kl", "away"), ("away", "forward_kl", "away"), ("no teacher", "none", "teacher"),
    }  # fmt: skip
    assert alone.summary["recommendation"]["teacher"] == "no teacher"


@pytest.mark.parametrize("strength", [2.0, -2.0])
def test_success_rates_are_those_of_the_teacher_s_continuations(both: Diagnosis, strength: float) -> None:
    teacher = build_planted(strength)
    name = "towards" if strength > 0 else "away"
    paths = {
        (row["question_id"], row["rollout_id"]): row["token_ids"]
        for row in both.table("rollouts").filter(kind="path").iter_rows(named=True)
    }
    prompts = {q.question_id: build_student().render(q.prompt) for q in LetterTask().questions("diagnose")}
    rows = of_model(both, "candidates", name).filter("kept")
    exact = []
    for row in rows.iter_rows(named=True):
        prefix = (*paths[row["question_id"], row["rollout_id"]][: row["position"]], row["token_id"])
        exact.append(success_under(teacher.next_probs, prompts[row["question_id"]], prefix))
    truth, rates = np.array(exact), rows["success_rate"].to_numpy()
    open_ = (truth > 0.05) & (truth < 0.95)
    z = (rates - truth)[open_] / np.sqrt(truth * (1 - truth) / rows["visits"].to_numpy())[open_]
    assert open_.sum() > 40
    assert abs(z.mean()) < 0.35
    assert 0.75 < z.std() < 1.25
    by_student = rows.join(of_model(both, "candidates", "student"), on=KEYS)["success_rate_right"].to_numpy()
    assert np.sign(strength) * (rates - by_student)[open_].mean() > 0.1, "else this world shows nothing"


def success_under(probs: Any, prompt: tuple[int, ...], prefix: tuple[int, ...]) -> float:
    def next_logprobs(prefixes: list[tuple[int, ...]]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.stack([probs(prompt, one) for one in prefixes]))

    def verify(ids: tuple[int, ...], truncated: bool) -> bool:
        return is_right(question_number(prompt), "".join(TOKENS[i] for i in ids if TOKENS[i] != "<eos>"))

    found = enumerate_success(next_logprobs, verify, LIMITS, prefix=prefix)
    return 0.5 * (found.low + found.high)


@cache
def told_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    """A student that writes nothing but b once it has been told the answer, for four tokens."""
    if b"answer is" not in bytes(prompt):
        return student_probs(prompt, response)
    return np.eye(4)[3] * 0.97 + 0.01 if len(response) == 4 else np.eye(4)[1] * 0.97 + 0.0075


def test_a_teacher_with_a_context_continues_as_the_one_who_sees_it(tmp_path: Path) -> None:
    student = ScriptedModel(TOKENS, told_probs, name="told")
    run = run_world(tmp_path / "run", student=student, teacher="self+answer", continuation="both", **TINY)
    rollouts = run.table("rollouts").filter(pl.col("kind").is_in(["base", "branch"]))
    free = rollouts.with_columns(
        pl.col("token_ids").list.slice(pl.col("forced_tokens")).list.head(1).list.first().alias("first_free")
    ).filter(pl.col("token_ids").list.len() > pl.col("forced_tokens"), pl.col("forced_tokens") < 3)
    share = dict(free.group_by("model").agg((pl.col("first_free") == 1).mean()).iter_rows())
    assert share["self+answer"] > 0.9
    assert share["student"] < 0.7
    own = rollouts.filter(model="self+answer", kind="base")
    assert own.height == 3 * 8
    assert own["rollout_id"].min() == 1_000_000


def test_teachers_are_sampled_at_the_student_s_temperature_and_without_its_nucleus(tmp_path: Path) -> None:
    config = DiagnoseConfig(task="letters", continuation="both", temperature=0.7, top_p=0.9)
    named: dict[str, Any] = {"student": build_student(), "task": LetterTask()}
    instruments = build_instruments(config, **named, teachers={"planted": build_planted(1.0)})
    warps = [continuer.writer.sampler.settings.warp for continuer in instruments.continuers]  # type: ignore[attr-defined]
    assert [tuple(warp) for warp in warps] == [(0.7, 0.9), (0.7, 1.0)]


def test_a_smaller_budget_is_shared_in_turns_and_a_larger_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hydrometer.diagnosis.branching as branching

    for module in (branching, drawing):
        monkeypatch.setattr(module, "round_size", lambda student, limit: 16)
    options: dict[str, Any] = {**TINY, "continuation": "both", "objective": ["reverse_kl"], "rollouts": 4}
    whole = run_world(tmp_path / "whole", budget="1M rollouts", **options)
    short = run_world(tmp_path / "short", budget="150 rollouts", **options)
    counts = dict(short.table("rollouts").filter(kind="branch").group_by("model").len().iter_rows())
    assert set(counts) == {"student", "planted"}
    assert abs(counts["student"] - counts["planted"]) <= 64
    assert any("budget of 150 rollouts ended" in warning for warning in short.summary["warnings"])
    again = run_world(tmp_path / "short", budget="1M rollouts", resume=True, **options)
    for name in TABLES:
        assert again.table(name).equals(whole.table(name)), name


def test_a_run_cut_off_among_a_teacher_s_rounds_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {**TINY, "continuation": "both", "objective": ["reverse_kl"]}
    whole = run_world(tmp_path / "whole", **options)
    journal = whole.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    kinds = [line.split(b'"round"')[1][:40] for line in lines[1:] if b'"round"' in line]
    assert any(b"branch by planted" in kind for kind in kinds)
    cut = tmp_path / "cut"
    cut.mkdir()
    place = next(i for i, line in enumerate(lines) if b"branch by planted" in line)
    (cut / "journal.jsonl").write_bytes(b"".join(lines[:place]))
    (cut / "run.json").write_bytes((whole.folder / "run.json").read_bytes())
    again = run_world(cut, resume=True, **options)
    for name in TABLES:
        assert again.table(name).equals(whole.table(name)), name


def test_a_choice_by_teachers_looks_at_their_joint_ranking(tmp_path: Path) -> None:
    run = run_world(
        tmp_path / "run",
        goal="choose",
        continuation="teacher",
        teacher={"towards": build_planted(2.0), "away": build_planted(-2.0)},
        objective=["reverse_kl"],
        task=LetterTask(24),
        questions=24,
        paths=3,
        nodes_per_question=2,
        visits=12,
        epsilon=0.3,
    )
    assert run.summary["looks"][-1]["leader"] == "towards with reverse_kl"
    assert run.summary["recommendation"]["continuation"] == "towards"
    # branches at the chosen nodes only, for each of the two teachers
    nodes = run.table("nodes")
    chosen = nodes.filter(pl.col("node_weight") > 0.0)
    assert chosen.group_by("question_id", "continuation").len()["len"].max() <= 2
    assert run.table("candidates").join(
        chosen, on=["question_id", "rollout_id", "position", "continuation"]
    ).height == (run.table("candidates").height)
    assert check_run(run.folder)[1] == []


def test_the_plan_says_who_continues_how_much(tmp_path: Path) -> None:
    config = DiagnoseConfig(task="letters", continuation="both", rollouts=8, visits=20, questions=3)
    named: dict[str, Any] = {
        "student": build_student(),
        "task": LetterTask(),
        "teachers": {"planted": build_planted(2.0)},
    }
    plan = plan_run(build_instruments(config, **named))
    own = plan_run(build_instruments(config.model_copy(update={"continuation": "student"}), **named))
    assert list(plan.continued_by) == ["student", "planted"]
    assert list(own.continued_by) == ["student"]
    assert plan.continued_by["student"] == own.continued_by["student"] == plan.continued_by["planted"] - 3 * 8
    assert plan.rollouts == own.rollouts + plan.continued_by["planted"]
    assert plan.generated_tokens > 1.7 * own.generated_tokens


class Mute:
    """Scores like another model, but nothing can draw from it."""

    def __init__(self, model: ScriptedModel):
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"allocation": "on_policy"}, "--allocation on_policy samples no branches, and --continuation both asks"),
        ({"objective": ["minillm"]}, "averaged over the student's own continuations"),
        ({"objective": ["dr_grpo"], "continuation": "teacher"}, "follows the student's own success rates"),
        ({"teacher": {"mute": Mute(build_student())}}, "Teacher 'mute' .letters-student. can score tokens but not"),
        ({"continuation": "anyone"}, "continuation"),
    ],
)
def test_what_cannot_be_continued_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        run_world(tmp_path / "run", **{"continuation": "both"} | options)
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_would_write_on_after_the_student_s_end_is_refused(tmp_path: Path) -> None:
    other = ScriptedModel(TOKENS, student_probs, name="other ends", eos="c")
    with pytest.raises(SpecError, match="Teacher 'other' does not end a response with '<eos>'"):
        run_world(tmp_path / "run", teacher={"other": other}, continuation="teacher")


def test_candidates_are_taken_over_from_the_student_s_part_of_a_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {**TINY, "objective": ["reverse_kl"]}
    first = run_world(tmp_path / "first", continuation="both", **options)
    again = hydrometer.diagnose(
        out=tmp_path / "again", student=build_student(), task=LetterTask(), teacher={"planted": build_planted(2.0)},
        candidates_from=str(first.folder), objective=["reverse_kl"],
    )  # fmt: skip
    kept = of_model(first, "candidates", "student").filter("kept")
    assert (
        again.table("candidates")
        .filter("kept")
        .select(*KEYS, "visits", "successes")
        .equals(kept.select(*KEYS, "visits", "successes"))
    )
    only = run_world(tmp_path / "only", continuation="teacher", **options)
    with pytest.raises(SpecError, match="only teachers continued responses there"):
        run_world(tmp_path / "third", candidates_from=str(only.folder), objective=["reverse_kl"])

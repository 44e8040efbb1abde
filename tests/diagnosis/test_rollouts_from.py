"""`--rollouts-from FILE`: a user's own rollouts, their parts, what is said of them, and what is refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scripted_worlds import EOS, TOKENS, build_planted, build_student, is_right, run_world, student_probs
from tiny_models import ids, tiny_model

import hydrometer
from hydrometer.artifacts import read_json
from hydrometer.diagnosis.given.file import open_rollout_file
from hydrometer.errors import SpecError
from hydrometer.models import Warp
from hydrometer.results import Diagnosis
from hydrometer.sampling import SampleRequest, SamplingSettings
from hydrometer.types import Message

PER_QUESTION = 40


def sample_rows(count: int = 6, *, temperature: float = 1.0, per_question: int = PER_QUESTION) -> list[dict[str, Any]]:
    """Rollouts of the scripted student, as somebody else's trainer would have written them."""
    student = build_student()
    sampler = student.sampler(SamplingSettings(8, Warp(temperature)))
    rows = []
    for i in range(count):
        prompt = f"question {i}"
        requests = [
            SampleRequest(student.render((Message("user", prompt),)), (), 1000 * i + n) for n in range(per_question)
        ]
        for drawn in sampler.sample(requests):
            right = is_right(i, student.decode(drawn.token_ids))
            row = {"prompt": prompt, "response_ids": list(drawn.token_ids), "reward": 1.0 if right else -1.0}
            rows.append(row | {"logprobs": list(drawn.logprobs)})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def diagnose(out: Path, file: str, **options: Any) -> Diagnosis:
    named: dict[str, Any] = {
        "student": build_student(),
        "teacher": {"good": build_planted(2.0), "bad": build_planted(-2.0)},
        "objective": ["reverse_kl"],
        "min_visits": 4,
        "check": False,
    }
    return hydrometer.diagnose(out=out, rollouts_from=file, **named | options)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("file") / "rollouts.jsonl", sample_rows())


@pytest.fixture(scope="module")
def run(file: str, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return diagnose(tmp_path_factory.mktemp("given") / "run", file)


def test_every_rollout_has_its_part_and_nothing_is_sampled(run: Diagnosis, file: str) -> None:
    rollouts = run.table("rollouts")
    written = [json.loads(line) for line in Path(file).read_text().splitlines()]
    assert rollouts.height == len(written)
    assert dict(rollouts.group_by("kind").len().iter_rows()) == {"path": 6, "base": 6 * (PER_QUESTION - 1)}
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in written:
        by_prompt.setdefault(row["prompt"], []).append(row)
    firsts = {f"line-{1 + i * PER_QUESTION:06d}": f"question {i}" for i in range(6)}
    for row in rollouts.iter_rows(named=True):
        own = by_prompt[firsts[row["question_id"]]][row["rollout_id"]]
        assert row["token_ids"] == own["response_ids"]
        assert (row["score"], row["correct"]) == (own["reward"], own["reward"] > 0)
        assert row["truncated"] is (own["response_ids"][-1] != EOS)
    assert run.summary["cost"]["generated_tokens"] == 0
    assert run.summary["cost"]["rollouts"] == 0
    entry = read_json(run.folder / "run.json")
    assert entry["config"]["allocation"] == "on_policy"
    assert entry["config"]["questions"] == 6
    assert entry["config"]["task"] == f"rollouts:{file}"
    assert entry["given"]["rollouts"] == len(written)


def test_success_rates_are_counts_of_the_other_rollouts(run: Diagnosis) -> None:
    rollouts = run.table("rollouts")
    base = rollouts.filter(kind="base")
    for row in run.table("candidates").filter(position=0).iter_rows(named=True):
        through = base.filter(
            (pl.col("question_id") == row["question_id"]) & (pl.col("token_ids").list.first() == row["token_id"])
        )
        assert (row["visits"], row["successes"]) == (through.height, through["correct"].sum())


def test_the_log_ratios_are_the_sums_and_their_tilt_has_the_right_sign(run: Diagnosis) -> None:
    table = run.table("log_ratios")
    base = {(r["question_id"], r["rollout_id"]): r for r in run.table("rollouts").filter(kind="base").to_dicts()}
    assert table.height == 2 * len(base)
    prompts = dict(run.table("questions").select("question_id", "prompt").iter_rows())
    teacher = build_planted(2.0)
    for row in table.filter(teacher="good").sample(15, seed=2).iter_rows(named=True):
        rollout = base[row["question_id"], row["rollout_id"]]
        prompt = f"user: {prompts[row['question_id']]}".encode()
        y = tuple(rollout["token_ids"])
        terms = [
            np.log(teacher.next_probs(tuple(prompt), y[:t])[y[t]] / student_probs(tuple(prompt), y[:t])[y[t]])
            for t in range(len(y))
        ]
        assert row["log_ratio_sum"] == pytest.approx(sum(terms), abs=1e-5)
        assert (row["tokens"], row["correct"]) == (len(y), rollout["correct"])
    tilt = {row["teacher"]: row for row in run.summary["analyses"]["sequence_tilt"]}
    assert tilt["good"]["derivative"]["interval"][0] > 0 > tilt["bad"]["derivative"]["interval"][1]
    assert tilt["good"]["auroc"]["value"] > 0.6 > 0.4 > tilt["bad"]["auroc"]["value"]
    assert run.table("teacher_scores")["reward_to_go"].is_null().all()


def test_the_warnings_say_outcomes_limits_and_that_the_logprobs_fit(run: Diagnosis, file: str) -> None:
    warnings = run.summary["warnings"]
    correct = run.table("rollouts")["correct"].sum()
    assert warnings[0] == (
        f"Rollouts of {file}: 240 of 6 questions, {correct} correct (reward above 0.5) and {240 - correct} not."
    )
    assert any("cannot tell whether they were sampled from this student" in text for text in warnings)
    assert any("over 6 of 6 analysed responses: as far as this shows" in text for text in warnings)
    assert not any("WRONG STUDENT" in text for text in warnings)
    assert read_json(run.folder / "run.json")["sampler_gap_nats"]["max"] < 1e-5


def test_another_temperature_is_said_loudly(tmp_path: Path) -> None:
    path = write(tmp_path / "hot.jsonl", sample_rows(temperature=3.0))
    warnings = diagnose(tmp_path / "run", path).summary["warnings"]
    assert sum(text.startswith("WRONG STUDENT?") for text in warnings) == 1


def test_parts_are_seeded_blind_to_rewards_and_demonstrations_at_most_a_quarter(file: str) -> None:
    kinds = []
    for flipped in (False, True):
        rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
        target = Path(file).with_name(f"{flipped}.jsonl.gz")
        with gzip.open(target, "wt") as out:
            for row in rows:
                out.write(json.dumps(row | {"reward": -row["reward"] if flipped else row["reward"]}) + "\n")
        kinds.append(parts_of(str(target), seed=0))
    assert kinds[0] == kinds[1]
    assert kinds[0] != parts_of(str(target), seed=1)
    for question in kinds[0]:
        assert (question.count("path"), question.count("demo"), question.count("base")) == (2, 10, 28)


def parts_of(path: str, *, seed: int) -> list[list[str]]:
    from hydrometer.diagnosis.config import DiagnoseConfig
    from hydrometer.runs.prompt_options import read_prompt_options

    opened = open_rollout_file(path)
    config = opened.resolve(DiagnoseConfig(rollouts_from=path, demos=30, paths=2, seed=seed))
    given = opened.read(config, build_student(), read_prompt_options(config, ()), needs_demos=True)
    return [[one.rollout.kind for one in question.rollouts] for question in given.questions]


def test_text_is_tokenised_anew_and_closed_unless_it_was_cut_off(tmp_path: Path) -> None:
    student = tiny_model()
    rows = [
        {"prompt": "p", "response": "a b", "reward": 1, "group": 7, "finish_reason": reason, "truncated": cut}
        for reason, cut in (("stop", None), ("length", None), (None, True), (None, None))
    ]
    opened = open_rollout_file(write(tmp_path / "text.jsonl", rows))
    from hydrometer.diagnosis.config import DiagnoseConfig
    from hydrometer.runs.prompt_options import read_prompt_options

    config = opened.resolve(DiagnoseConfig(rollouts_from="text.jsonl"))
    given = opened.read(config, student, read_prompt_options(config, ()), needs_demos=False)
    (question,) = given.questions
    assert question.question.question_id == "7"
    (eos,) = student.eos_ids
    plain = tuple(ids("a b"))
    assert [one.rollout.token_ids for one in question.rollouts] == [(*plain, eos), plain, plain, (*plain, eos)]
    assert [one.rollout.truncated for one in question.rollouts] == [False, True, True, False]
    assert any("4 responses are text and were tokenised anew" in note for note in given.notes)


def test_branches_need_a_verifier_which_is_then_compared_with_the_rewards(tmp_path: Path) -> None:
    rows = [row | {"answer": "aab"} for row in sample_rows(3)]
    path = write(tmp_path / "rollouts.jsonl", rows)
    with pytest.raises(SpecError, match="--verifier NAME"):
        diagnose(tmp_path / "run", path, allocation="fixed")
    lacking = write(tmp_path / "lacking.jsonl", [*rows, {**rows[0], "prompt": "question 9", "answer": None}])
    with pytest.raises(SpecError, match="line 121 has none"):
        diagnose(tmp_path / "run", lacking, allocation="fixed", verifier="exact")
    run = diagnose(tmp_path / "run", path, allocation="fixed", verifier="exact", visits=6, max_response_tokens=8)
    rollouts = run.table("rollouts")
    assert rollouts.filter(kind="branch").height == run.summary["cost"]["rollouts"] > 0
    given = rollouts.filter(pl.col("kind") != "branch")
    exact = given["text"] == "aab"
    alone = (given["correct"] & ~exact).sum(), (exact & ~given["correct"]).sum()
    assert alone[0] > 0
    assert any(
        f"{alone[0]} are correct by their reward alone, {alone[1]} for the verifier alone" in text
        for text in run.summary["warnings"]
    )


def test_rollouts_too_few_for_a_node_still_give_the_tilt(tmp_path: Path) -> None:
    run = diagnose(tmp_path / "run", write(tmp_path / "few.jsonl", sample_rows(8, per_question=8)), min_visits=20)
    assert not run.table("nodes")["eligible"].any()
    assert run.summary["ranking"][0]["score"] is None or run.summary["ranking"][0]["teacher"] == "no teacher"
    assert any("only the tilt of whole responses" in text for text in run.summary["warnings"])
    assert run.summary["analyses"]["sequence_tilt"][1]["derivative"]["value"] is not None


def test_another_run_can_take_its_candidates_from_one_of_a_file(run: Diagnosis, file: str, tmp_path: Path) -> None:
    again = diagnose(tmp_path / "again", file, candidates_from=str(run.folder))
    assert again.table("alignment").equals(run.table("alignment"))
    assert again.table("log_ratios").equals(run.table("log_ratios"))
    edited = [json.loads(line) for line in Path(file).read_text().splitlines()]
    (tmp_path / "own.jsonl").write_text(Path(file).read_text())
    own = diagnose(tmp_path / "own", str(tmp_path / "own.jsonl"))
    write(tmp_path / "own.jsonl", [*edited[:-1], edited[-1] | {"reward": -edited[-1]["reward"]}])
    with pytest.raises(Exception, match="its rollouts have changed"):
        diagnose(own.folder, str(tmp_path / "own.jsonl"), resume=True)


GOOD = {"prompt": "question 1", "response_ids": [0, EOS], "reward": 1}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"response_ids": []}, "line 3: the response is empty"),
        ({"response_ids": None, "response": ""}, "line 3: the response is empty"),
        ({"response_ids": [0, 99, EOS]}, "line 3: token 99 is outside the vocabulary of 4"),
        ({"response_ids": [EOS, 0]}, r"line 3: an end-of-sequence token \(3\) is at place 1 of 2"),
        ({"response_ids": [0.5]}, "line 3: token ids have to be a list of whole numbers"),
        ({"response_ids": None}, "line 3: expected 'response'"),
        ({"response_ids": None, "response": "a"}, "line 3: student 'letters-student' has no tokenizer"),
        ({"reward": "yes"}, "line 3: expected a number as reward or score or correct, found 'yes'"),
        ({"reward": float("nan")}, "line 3: expected a number"),
        ({"prompt": None}, "line 3: no 'prompt'"),
        ({"group": "g"}, "line 3: has 'group' while the lines before it have none of"),
        ({"logprobs": [-0.5]}, "line 3: 1 logprobs for 2 token ids"),
        ({"logprobs": [-0.5, 0.5]}, "line 3: 'logprobs' has to be"),
        ({"truncated": "no"}, "line 3: 'truncated' has to be true or false"),
        ({"answer": "b"}, "line 3: its answer differs from that of line 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, GOOD, GOOD | row])
    with pytest.raises(SpecError, match=says) as caught:
        diagnose(tmp_path / "run", path)
    assert len(str(caught.value).splitlines()) <= 10
    assert not (tmp_path / "run").exists()


def test_options_that_do_not_fit_a_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD] * 8)
    for options, says in (
        ({"task": "boolq"}, "--task 'boolq' cannot be added"),
        ({"pilot": 4}, "--pilot asks for rollouts to be sampled"),
        ({"paths": 7}, r"no question has 9 rollouts .* the largest group has 8"),
        ({"max_response_tokens": 1}, "line 1: the response has 2 tokens, more than --max-response-tokens 1"),
        ({"teacher": "self+peer_demo:bundled:expert"}, "--verifier"),
    ):
        with pytest.raises(SpecError, match=says):
            diagnose(tmp_path / "run", path, **options)
    with pytest.raises(SpecError, match="there is no file"):
        diagnose(tmp_path / "run", str(tmp_path / "nothing.jsonl"))
    each = [GOOD | {"id": f"r{i}"} for i in range(6)]
    with pytest.raises(SpecError, match="'id' is another one in each of 6 rows although prompts repeat"):
        diagnose(tmp_path / "run", write(tmp_path / "ids.jsonl", each))


def test_a_context_without_its_content_is_skipped_and_questions_left_out_are_told(tmp_path: Path) -> None:
    rows = sample_rows(5) + [{**GOOD, "prompt": "question 11"}] * 2
    path = write(tmp_path / "rows.jsonl", rows)
    run = diagnose(tmp_path / "run", path, questions=4, teacher={"good": build_planted(1.0)})
    entry = read_json(run.folder / "run.json")
    assert entry["given"]["left_out_ids"] == ["line-000161", "line-000201"]
    warnings = " ".join(run.summary["warnings"])
    assert "1 questions with fewer than 3 rollouts were left out" in warnings
    assert "1 more questions of the file were left out by --questions 4" in warnings


def test_world_without_given_rollouts_has_no_log_ratios(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", questions=2, rollouts=8, visits=4, min_visits=4, objective=["reverse_kl"])
    assert run.table("log_ratios").is_empty()
    assert run.summary["analyses"]["sequence_tilt"] == []
    assert read_json(run.folder / "run.json")["given"] is None
    assert len(TOKENS) == 4

"""A diagnosis whose student and teacher are served: its numbers, and a server that dies in its middle."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import Handler, Script, serving
from scripted_worlds import LetterTask, leave_plain_reports
from tiny_models import EOS, TOKENS, VOCAB, save_checkpoint

import hydrometer
import hydrometer.diagnosis.branching as branching
import hydrometer.runs.drawing as drawing
from hydrometer.artifacts import TABLES, read_json, read_table
from hydrometer.artifacts.model_identity import is_same_model
from hydrometer.errors import PreflightError, RunFolderError, SpecError
from hydrometer.models.vllm.engine import EngineError
from hydrometer.models.vllm.server import Patience, ServerEngine
from hydrometer.results import Diagnosis
from hydrometer.runs.progress import Silent

END, LETTERS = TOKENS.index(EOS), [TOKENS.index(letter) for letter in "abc"]
OPTIONS: dict[str, Any] = {
    "questions": 2,
    "rollouts": 8,
    "paths": 1,
    "visits": 4,
    "min_visits": 4,
    "max_response_tokens": 5,
    "objective": ["reverse_kl", "topk_reverse_kl:k=2,form=stop_gradient"],
}


def student_logits(context: tuple[int, ...]) -> list[float]:
    """One of a, b, c or the end, as it depends on the last two tokens; other tokens hardly ever."""
    logits = np.full(VOCAB, -30.0)
    logits[[*LETTERS, END]] = np.random.default_rng([3, *context[-2:]]).normal(size=4)
    return logits.tolist()


def teacher_logits(context: tuple[int, ...]) -> list[float]:
    logits = np.array(student_logits(context))
    logits[LETTERS[1]] += 1.5
    return logits.tolist()


@pytest.fixture(autouse=True)
def small_rounds_and_plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (branching, drawing):
        monkeypatch.setattr(module, "round_size", lambda student, limit: 8)
    leave_plain_reports(monkeypatch)


@pytest.fixture
def scripts(tmp_path: Path) -> dict[str, Script]:
    """A student's server and a teacher's."""
    found = {}
    for name, logits in (("student", student_logits), ("teacher", teacher_logits)):
        folder = save_checkpoint(tmp_path / name, kind="llama")
        found[name] = Script(logits, VOCAB, str(folder))
    return found


@pytest.fixture
def specs(scripts: Mapping[str, Script]) -> Iterator[dict[str, str]]:
    with serving(scripts["student"]) as student, serving(scripts["teacher"]) as teacher:
        yield {
            "student": f"vllm:{student}#{scripts['student'].name}",
            "teacher": f"served=vllm:{teacher}#{scripts['teacher'].name}",
        }


def run(out: Path, specs: Mapping[str, str], **options: Any) -> Diagnosis:
    return hydrometer.diagnose(out=out, task=LetterTask(), **specs, **(OPTIONS | options))


def tables(folder: Path) -> dict[str, Any]:
    return {name: read_table(folder / f"{name}.parquet") for name in TABLES}


def test_candidates_hold_what_the_servers_say(specs: dict[str, str], tmp_path: Path):
    result = run(tmp_path / "run", specs)
    rollouts = {(r["question_id"], r["rollout_id"]): r["token_ids"] for r in result.table("rollouts").to_dicts()}
    keys = ["question_id", "rollout_id", "position", "token_id"]
    rows = result.table("candidates").join(result.table("teacher_scores"), on=keys).to_dicts()
    assert len(rows) > 10
    for row in rows:
        prefix = rollouts[row["question_id"], row["rollout_id"]][: row["position"]]
        if len(prefix) >= 2:
            for logits, column in ((student_logits, "student_logprob"), (teacher_logits, "teacher_logprob")):
                shifted = np.array(logits(tuple(prefix)))
                expected = shifted[row["token_id"]] - np.log(np.exp(shifted).sum())
                assert row[column] == pytest.approx(expected, abs=1e-5)
    described = read_json(tmp_path / "run" / "run.json")
    findings = {(f["check"], f["model"]): f["level"] for f in described["preflight"]["findings"]}
    for model in ("student", "served"):
        assert findings["top-k cap", model] == "green"
        assert findings["vLLM repeatability", model] == "green"
    assert findings["sampler against scorer", "student"] == "green"
    models = described["models"]
    assert not is_same_model(models["student"]["fingerprint"], models["served"]["fingerprint"])
    assert described["sampler_gap_nats"]["max"] < 1e-5


def test_a_run_whose_server_died_goes_on_where_it_stopped(
    scripts: dict[str, Script], specs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run(tmp_path / "unbroken", specs)
    rollouts_asked = [asked for asked in scripts["student"].seen if asked["stop_token_ids"]]
    said: list[str] = []
    monkeypatch.setattr(Silent, "note", lambda self, text: said.append(text))
    script, dead = scripts["student"], []

    def die(handler: Handler) -> None:
        dead.append(1)
        handler.reply(b"engine is dead", 500)
        script.faults.append(die)

    many = len(rollouts_asked) * 3 // 4
    script.seen.clear()
    original = script.next_logits

    def counting(context: tuple[int, ...]) -> list[float]:
        if not script.faults and sum(bool(asked["stop_token_ids"]) for asked in script.seen) > many:
            script.faults += [die] * 20
        return original(context)

    script.next_logits = counting
    with monkeypatch.context() as patient:
        build = ServerEngine.__init__
        patient.setattr(ServerEngine, "__init__", lambda *a, **k: build(*a, **k, patience=Patience(5.0, 0.6)))
        with pytest.raises(EngineError, match="stayed away: status 500: engine is dead"):
            run(tmp_path / "broken", specs)
    assert dead
    assert any("does not answer" in text for text in said)
    assert read_json(tmp_path / "broken" / "run.json")["status"] == "failed"
    script.faults.clear()
    script.next_logits = original
    script.seen.clear()
    run(tmp_path / "broken", specs, resume=True)
    asked_again = [asked for asked in script.seen if asked["stop_token_ids"]]
    assert len(asked_again) < 0.8 * len(rollouts_asked), "what the journal holds is not drawn again"
    for name, table in tables(tmp_path / "unbroken").items():
        assert tables(tmp_path / "broken")[name].equals(table), name


def test_other_weights_behind_one_address_are_another_run(
    scripts: dict[str, Script], specs: dict[str, str], tmp_path: Path
):
    run(tmp_path / "run", specs)
    scripts["teacher"].next_logits = student_logits
    with pytest.raises(RunFolderError, match=r"model 'served' \(vllm:http.*\): its files have changed"):
        run(tmp_path / "run", specs, resume=True, check=False)


def test_a_capped_teacher_is_refused_before_anything_is_drawn(
    scripts: dict[str, Script], specs: dict[str, str], tmp_path: Path
):
    scripts["teacher"].cap = 20
    with pytest.raises(SpecError, match=r"at most 20 of 39 log-probabilities .*--max-logprobs -1"):
        run(tmp_path / "run", specs)
    assert not (tmp_path / "run").exists()


def test_a_server_that_repeats_a_seed_and_draws_from_something_else_is_red(
    scripts: dict[str, Script], specs: dict[str, str], tmp_path: Path
):
    def bent(body: dict[str, Any]) -> dict[str, Any]:
        told = body["choices"][0]["logprobs"]
        told["token_logprobs"] = [0.5 * value for value in told["token_logprobs"]]
        return body

    scripts["student"].spoil = bent
    with pytest.raises(PreflightError, match="sampler against scorer"):
        run(tmp_path / "run", specs)

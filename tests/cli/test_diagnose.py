"""`hydrometer diagnose` on a tiny real checkpoint: options, files, what is printed where, exit codes."""

import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
from bigram_checkpoint import STUDENT, TOKENS, write_checkpoint
from command_line import assert_refused
from tiny_runs import QUESTIONS, TINY, Command, tiny, write_rows

from hydrometer.artifacts import read_json, read_table
from hydrometer.diagnosis.config import DiagnoseConfig


def test_a_run_prints_ranking_verdict_cost_and_report(workplace: Path, run: Command) -> None:
    said = run(["diagnose", *TINY, "--out", "out"])
    assert said.code == 0
    for text in ("good", "reverse_kl", "no teacher", "Cost:", "Report: out/report.html"):
        assert text in said.out
    assert "on-policy rollouts: 78" in said.err
    assert "Run folder: out" in said.err
    assert "\x1b" not in said.out + said.err
    run_json = read_json(workplace / "out" / "run.json")
    assert run_json["status"] == "done"
    assert run_json["config"]["visits"] == 6
    assert run_json["models"]["student"]["fingerprint"].startswith("sha256:")
    probabilities = read_table(workplace / "out" / "candidates.parquet").filter(position=0, question_id="q0")
    found = dict(probabilities.select("token", pl.col("student_logprob").exp()).iter_rows())
    assert found == pytest.approx(STUDENT[">"], abs=1e-5)


def test_json_is_the_summary_and_nothing_else_on_stdout(workplace: Path, run: Command) -> None:
    said = run(["diagnose", *TINY, "--out", "out", "--json", "--quiet"])
    assert said.code == 0
    assert said.out.count("\n") == 1
    assert json.loads(said.out) == read_json(workplace / "out" / "summary.json")
    assert "Cost:" in said.err


def test_without_out_the_folder_is_named_by_the_time(workplace: Path, run: Command) -> None:
    assert run(["diagnose", *TINY]).code == 0
    (folder,) = (workplace / "runs").iterdir()
    assert (folder / "report.html").exists()
    assert len(folder.name) == len("2000-01-01-000000")


def test_a_dry_run_estimates_and_writes_nothing(workplace: Path, run: Command) -> None:
    before = set(workplace.iterdir())
    said = run(["diagnose", *TINY, "--out", "out", "--dry-run"])
    assert said.code == 0
    assert "Expected:" in said.out
    assert "memory" in said.out
    planned = json.loads(run(["diagnose", *TINY, "--dry-run", "--json"]).out)
    assert set(workplace.iterdir()) == before
    assert run(["diagnose", *TINY, "--out", "out"]).code == 0
    cost = read_json(workplace / "out" / "run.json")["cost"]
    # branches are bounded from above; the on-policy part is known
    assert cost["rollouts"] <= planned["rollouts"] <= 4 * cost["rollouts"]
    assert cost["generated_tokens"] / 2 <= planned["generated_tokens"] <= 4 * cost["generated_tokens"]
    assert planned["scored_tokens"] == pytest.approx(cost["scored_tokens"], rel=0.5)
    assert planned["seconds"] > 0
    assert planned["memory_bytes"] > 1 << 20


def test_a_toml_file_gives_options_and_flags_win_over_it(workplace: Path, run: Command) -> None:
    (workplace / "run.toml").write_text(
        'student = "student"\nteacher = ["good=good", "self+answer"]\nobjective = "reverse_kl"\nquestions = 5\n'
        'task = "jsonl:questions.jsonl"\nmax-response-tokens = 6\nrollouts = 8\nvisits = 4\nmin_visits = 4\npaths = 1\n'
        'candidate_threshold = 0.05\nquiet = true\nout = "from_file"\n'
    )
    assert run(["diagnose", "--config", "run.toml", "--questions", "3", "--seed=7"]).code == 0
    config = read_json(workplace / "from_file" / "run.json")["config"]
    assert (config["questions"], config["seed"], config["rollouts"]) == (3, 7, 8)
    assert config["teacher"] == ["good=good", "self+answer"]
    assert config["objective"] == ["reverse_kl"]
    assert config["candidate_threshold"] == 0.05
    assert config["max_response_tokens"] == 6
    assert set(config) == set(DiagnoseConfig.model_fields)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("question = 3\n", "--questions"),
        ("[diagnose]\nquestions = 3\n", "'diagnose' is a section"),
        ("questions = \n", "not readable TOML"),
        ('questions = "many"\n', "'questions' is 'many'"),
        ("questions = 2.5\n", "'questions' is "),
        ("questions = 0\n", "'questions' is "),
        ('allocation = "fixd"\n', "'fixd'"),
        ("teacher = 3\n", "3"),
        ("\xff", "not readable TOML"),
    ],
)
def test_a_wrong_config_file_is_told_in_words(content: str, words: str, workplace: Path, run: Command) -> None:
    (workplace / "run.toml").write_bytes(content.encode("latin-1"))
    said = run(
        ["diagnose", "--student", "student", "--task", "jsonl:questions.jsonl", "--config", "run.toml", "--dry-run"]
    )
    assert said.code == 2
    assert words in said.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("diagnos", '"diagnose"'),
        ("diagnose --question 3", "--questions"),
        ("diagnose --questions many", "'many'"),
        ("diagnose --questions", "--questions"),
        ("diagnose --visits 1", "'visits' is '1'"),
        ("diagnose loose", "'loose'"),
        ("diagnose --resume", "--resume goes on with a run that is there: name its folder with --out"),
        ("diagnose --config absent.toml", "absent.toml"),
        ("diagnose --student studnet", "needs teachers of its own"),
        ("diagnose --student bundled:studnt", "'studnt'. Did you mean student"),
        ("diagnose --student budnled:student", "'budnled:student'. Did you mean bundled:student"),
        ("diagnose --student ./nowhere --teacher self+answer", "'./nowhere' looks like a folder"),
        ("diagnose --student student --teacher nobody/nothing --task jsonl:questions.jsonl", "'nobody/nothing'"),
        ("diagnose --student student --teacher self+anwser", "'anwser'. Did you mean answer"),
        ("diagnose --student student --teacher self+rule:", "'rule:': a rule needs its text"),
        ("diagnose --student student --teacher self+rule:@absent.txt", "'rule:@absent.txt'"),
        ("diagnose --student student --teacher self+answer --objective reverse-kl-typo", "'reverse-kl-typo'"),
        ("diagnose --student student --teacher self+answer --objective topk_reverse_kl:k=zero", "zero"),
        ("diagnose --student student --teacher self+answer --task jsnl:x", "'jsnl'. Did you mean jsonl"),
        ("diagnose --student student --teacher self+answer --task jsonl:absent.jsonl", "absent.jsonl"),
        (
            "diagnose --student vllm:http://localhost:1/v1#bundled:student --teacher self+answer",
            "No vLLM server answers",
        ),
        ("diagnose --student student --teacher self+answer --device warp --task jsonl:questions.jsonl", "'warp'"),
        ("report", "report needs at least one run folder"),
        ("report absent", "absent"),
    ],
)
def test_what_cannot_be_is_quoted_and_exits_2(line: str, words: str, workplace: Path, run: Command) -> None:
    assert_refused(run, line, words, workplace)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a"}, "line 7: the question has no answer"),
        ({"prompt": "a", "answer": "  "}, "line 7: the question has no answer"),
        ({"answer": "a"}, "line 7: 'prompt' has to be"),
        ({"prompt": "a", "answer": "a", "id": "q3"}, "'q3'"),
        ({"prompt": "a", "answer": "a", "split": "dev"}, "'dev'"),
        ({"prompt": "\ud800", "answer": "a"}, "line 7"),
        ({"prompt": "a", "answer": "a", "id": "\udfff"}, "line 7"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: dict, words: str, workplace: Path, run: Command) -> None:
    write_rows(workplace / "questions.jsonl", [*QUESTIONS, row])
    said = run(["diagnose", *TINY, "--out", "out"])
    assert said.code == 2
    assert words in said.err
    assert not (workplace / "out").exists()


def test_a_full_folder_is_refused_and_resuming_it_needs_the_same_options(workplace: Path, run: Command) -> None:
    assert run(["diagnose", *TINY, "--out", "out"]).code == 0
    said = run(["diagnose", *TINY, "--out", "out"])
    assert said.code == 2
    assert "--out out is not empty" in said.err
    said = run(["diagnose", *tiny(visits="7"), "--out", "out", "--resume"])
    assert said.code == 2
    assert "visits: was 6, now 7" in said.err
    before = read_json(workplace / "out" / "summary.json")
    assert run(["diagnose", *TINY, "--out", "out", "--resume", "--batch-size", "2"]).code == 0
    assert read_json(workplace / "out" / "summary.json") == before


def test_a_changed_task_file_or_checkpoint_is_not_resumed(workplace: Path, run: Command) -> None:
    assert run(["diagnose", *TINY, "--out", "out"]).code == 0
    write_rows(workplace / "questions.jsonl", [QUESTIONS[0] | {"answer": "c"}, *QUESTIONS[1:]])
    said = run(["diagnose", *TINY, "--out", "out", "--resume"])
    assert said.code == 2
    assert "task 'jsonl:questions.jsonl': its questions have changed" in said.err
    write_rows(workplace / "questions.jsonl", QUESTIONS)
    (workplace / "good").unlink()
    write_checkpoint(workplace / "good", STUDENT | {"a": {"<eos>": 1.0}})
    said = run(["diagnose", *TINY, "--out", "out", "--resume"])
    assert said.code == 2
    assert "model 'good' (good): its files have changed" in said.err


def test_a_teacher_with_another_token_map_is_refused_with_the_first_ids(workplace: Path, run: Command) -> None:
    swapped = (*TOKENS[:4], "b", "a", *TOKENS[6:])
    write_checkpoint(workplace / "swapped", STUDENT, tokens=swapped)
    said = run(["diagnose", *TINY, "--teacher", "swapped", "--out", "out"])
    assert said.code == 2
    assert "Teacher 'swapped' (swapped) gives 2 token ids another meaning" in said.err
    assert "id 4: student 'a', swapped 'b'" in said.err


def test_a_model_without_a_chat_template_is_refused(workplace: Path, run: Command) -> None:
    write_checkpoint(workplace / "base", STUDENT, chat=False)
    said = run(["diagnose", *tiny(student="base"), "--out", "out"])
    assert said.code == 2
    assert "'base' has no chat template" in said.err


def test_a_run_in_which_nothing_is_eligible_exits_2_with_its_tables(workplace: Path, run: Command) -> None:
    said = run(["diagnose", *tiny(min_visits="200"), "--allocation", "on_policy", "--out", "out"])
    assert said.code == 2
    assert "--min-visits (now 200" in said.err
    assert read_table(workplace / "out" / "candidates.parquet").height > 0


def test_a_copy_of_the_student_is_called_one(workplace: Path, run: Command) -> None:
    said = run(["diagnose", *TINY, "--teacher", "self+answer", "--out", "out"])
    assert said.code == 0
    assert "none: moves nothing wherever it was measured, as a teacher that agrees with the student does." in " ".join(
        said.out.split()
    )


def test_hostile_rows_go_through_files_and_report_unchanged(workplace: Path, run: Command) -> None:
    ids = [
        "../../up",
        "a/b\\c",
        "nul\x00 bell\x07 esc\x1b[31m",
        "[red]q[/red]",
        "<script>alert(1)</script>",
        "\u202eltr",
    ]
    rows = [
        row | {"id": name, "prompt": text, "solution": "$prompt ${answer} {0} {{ 7*7 }}"}
        for row, name, text in zip(
            QUESTIONS,
            ids,
            ["a", "[bold]b[/]", "\x1b]0;title\x07", "</textarea><b>", "a" * 3000, "\n\n\t a"],
            strict=True,
        )
    ]
    rows[0]["answer"] = "a" * 1_000_000
    write_rows(workplace / "questions.jsonl", rows)
    said = run(["diagnose", *TINY, "--teacher", "self+solution", "--out", "out"])
    assert said.code == 0
    stored = read_table(workplace / "out" / "questions.parquet")
    assert set(stored["question_id"]) == set(ids)
    assert stored.filter(question_id="../../up")["answer"].str.len_chars().to_list() == [1_000_000]
    prompts = read_table(workplace / "out" / "contexts.parquet").filter(teacher="self+solution")["prompt"]
    assert all("$prompt ${answer} {0} {{ 7*7 }}" in text for text in prompts)
    page = (workplace / "out" / "report.html").read_text()
    assert "<script>alert(1)" not in page
    assert "</textarea><b>" not in page
    assert "\x1b" not in said.out + said.err
    assert {entry.name for entry in workplace.iterdir()} == {"student", "good", "questions.jsonl", "out"}


def test_the_resolved_options_make_the_same_run_again(workplace: Path, run: Command) -> None:
    assert run(["diagnose", *TINY, "--out", "out"]).code == 0
    config = read_json(workplace / "out" / "run.json")["config"]
    given = {name: value for name, value in config.items() if value is not None}
    (workplace / "again.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))
    assert tomllib.loads((workplace / "again.toml").read_text()) == given
    assert run(["diagnose", "--config", "again.toml", "--out", "again"]).code == 0
    for name in ("rollouts", "alignment"):
        again, before = (read_table(workplace / folder / f"{name}.parquet") for folder in ("again", "out"))
        assert again.equals(before)

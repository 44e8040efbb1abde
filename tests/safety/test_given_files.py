"""Files that a person names: links, folders, pipes, devices, endless and exploding ones are refused in a moment."""

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import QUESTIONS, TINY, Command, tiny, write_rows

from hydrometer.errors import RunFolderError, SpecError
from hydrometer.inputs import MOST_TEXT_BYTES, read_plain_text
from hydrometer.report import build_report
from hydrometer.tasks import load_task, rows

OPTIONS = {
    "config": ["--config", "PATH"],
    "system prompt": ["--system-prompt", "@PATH"],
    "prompt template": ["--prompt-template", "@PATH"],
    "template": ["--template", "rule=PATH", "--teacher", "self+rule:b"],
    "chat template": ["--chat-template", "PATH"],
    "chat template of a teacher": ["--chat-template", "good=PATH"],
    "rule": ["--teacher", "self+rule:@PATH"],
    "questions": ["--task", "jsonl:PATH"],
    "model file": ["--teacher", "x=gguf:PATH"],
    "adapter": ["--teacher", "x=good#adapter=PATH"],
    "model": ["--teacher", "x=PATH"],
}


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "folder", "link to zero", "loop", "missing", "a" * 300])
@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_what_is_no_plain_file_is_refused(option: list[str], place: str, workplace: Path, run: Command) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("link to zero").symlink_to("/dev/zero")
    Path("loop").symlink_to("loop")
    arguments = [argument.replace("PATH", place) for argument in option]
    others = TINY if "--task" not in option else [text for text in TINY if "task" not in text and "jsonl" not in text]
    said = run(["diagnose", *others, *arguments, "--out", "out"])
    assert said.code == 2
    assert place in said.err
    assert not Path("out").exists()


def test_a_path_may_leave_the_folder_and_be_a_link(workplace: Path, run: Command) -> None:
    Path("sub").mkdir()
    Path("sub/words").write_text("b")
    Path("sub/link").symlink_to("words")
    said = run(["diagnose", *tiny(task="jsonl:sub/../questions.jsonl"), "--system-prompt", "@sub/../sub/link",
                "--out", "sub/../out", "--no-check"])  # fmt: skip
    assert said.code == 0
    assert json.loads(Path("out/run.json").read_text())["prompts"]["system_prompt"] == "b"


def test_a_text_larger_than_the_limit_is_refused_and_one_as_large_is_read(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"a" * MOST_TEXT_BYTES)
    assert read_plain_text(file) == "a" * MOST_TEXT_BYTES
    file.write_bytes(b"a" * (MOST_TEXT_BYTES + 1))
    with pytest.raises(OSError, match="larger than 4 MiB"):
        read_plain_text(file)
    with pytest.raises(OSError, match="NUL"):
        read_plain_text("a\0b")


@pytest.mark.parametrize(
    "text", ["$prompt ${__class__}", "$prompt $x.y", "$prompt ${answer.__class__}", "$prompt {0} $"]
)
def test_a_template_reaches_no_attribute(text: str, workplace: Path, run: Command) -> None:
    Path("words").write_text(text)
    said = run(["diagnose", *TINY, "--teacher", "self+answer", "--template", "answer=words", "--out", "out"])
    assert said.code == 2
    assert "words, [user]" in said.err


NESTED = "[" * 100_000


@pytest.mark.parametrize("row", [NESTED, '{"a":' * 100_000, f'{{"prompt": {NESTED}', "9" * 100_000])
def test_a_row_nested_without_end_is_named(row: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(QUESTIONS[0]) + "\n" + row + "\n")
    with pytest.raises(SpecError, match=r"rows\.jsonl, line 2: (not JSON|expected a JSON object)") as caught:
        load_task(f"jsonl:{file}")
    assert len(str(caught.value)) < 500


def test_nesting_in_other_inputs_is_told(workplace: Path, run: Command) -> None:
    Path("run.toml").write_text(f"teacher = {NESTED}")
    assert "not readable TOML" in run(["diagnose", "--config", "run.toml"]).err
    Path("run.toml").write_text("seed = " + "9" * 5000)
    assert "not readable TOML" in run(["diagnose", "--config", "run.toml"]).err
    for argument in (f'{{"a": {NESTED}', f"--chat-template-kwargs={NESTED}"):
        said = run(["diagnose", *TINY, *([] if argument[0] == "-" else ["--chat-template-kwargs"]), argument])
        assert (said.code, "nested too deeply" in said.err) == (2, True)
    said = run(["diagnose", *TINY, "--chat-template-kwargs", f"a={NESTED}"])
    assert said.code == 2  # not JSON, so it is text for a variable that no template knows
    Path("run").mkdir()
    Path("run/run.json").write_text(NESTED)
    assert "run.json cannot be read" in run(["report", "run"]).err


def test_a_file_of_options_names_no_other(workplace: Path, run: Command) -> None:
    Path("other.toml").write_text("seed = 1\n")
    Path("run.toml").write_text('config = "other.toml"\n')
    said = run(["diagnose", *TINY, "--config", "run.toml"])
    assert (said.code, "cannot name another one" in said.err) == (2, True)


def test_a_small_file_that_unpacks_to_a_huge_line_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for _ in range(40):
            packed.write(b"a" * (1 << 20))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(SpecError, match=r"rows\.jsonl\.gz, line 1: it has more than 16,777,216 characters"):
        load_task(f"jsonl:{file}")


def test_a_small_file_that_unpacks_to_endless_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = sum(len(json.dumps(row)) + 1 for row in QUESTIONS)
    monkeypatch.setattr(rows, "MOST_FILE_CHARACTERS", limit)
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress(write_rows(tmp_path / "rows", QUESTIONS).read_bytes()))
    assert len(load_task(f"jsonl:{file}").questions("diagnose")) == 6
    monkeypatch.setattr(rows, "MOST_FILE_CHARACTERS", limit - 1)
    with pytest.raises(SpecError, match=rf"holds more than {limit - 1:,} characters of text \(line 6 goes beyond\)"):
        load_task(f"jsonl:{file}")


def test_a_folder_name_with_a_nul_is_refused(workplace: Path, run: Command) -> None:
    Path("run.toml").write_text('out = "a\\u0000b"\n')
    said = run(["diagnose", *TINY, "--no-check", "--config", "run.toml"])
    assert (said.code, "a\\x00b: a folder name cannot hold a NUL" in said.err) == (2, True)


@pytest.mark.parametrize("name", ["run.json", "summary.json", "questions.parquet"])
def test_a_strangers_run_folder_holds_no_traps(name: str, finished: Path) -> None:
    (finished / name).unlink()
    os.mkfifo(finished / name)
    with pytest.raises(RunFolderError, match=f"{name} .*it is a pipe"):
        build_report(finished)


def test_a_report_is_not_written_through_a_link(finished: Path) -> None:
    (finished / "report.html").unlink()
    precious = finished.parent / "precious"
    precious.write_text("mine")
    for name in ("report.html", "report.html.partial"):
        (finished / name).symlink_to(precious)
    page = build_report(finished)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("name", ["journal.jsonl", "lock"])
def test_resuming_writes_through_no_link(name: str, workplace: Path, run: Command) -> None:
    precious = Path("precious")
    precious.write_text("one line\n")
    Path("out").mkdir()
    Path("out/journal.jsonl").touch()
    Path("out/run.json").touch()
    Path("out", name).unlink(missing_ok=True)
    Path("out", name).symlink_to(precious.absolute())
    said = run(["diagnose", *TINY, "--no-check", "--out", "out", "--resume"])
    assert said.code == 2
    assert precious.read_text() == "one line\n"

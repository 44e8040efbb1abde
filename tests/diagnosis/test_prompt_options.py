"""Options that change what models are shown: they reach the prompts and run.json, and another text is another run."""

from pathlib import Path
from typing import Any

import pytest
from scripted_worlds import TINY, LetterTask, run_world

import hydrometer
from hydrometer.artifacts import read_json, read_table
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.setup import build_instruments
from hydrometer.errors import RunFolderError, SpecError, UnknownNameError, UserError
from hydrometer.types import Message

FAST: dict[str, Any] = {
    "questions": 1,
    "rollouts": 4,
    "allocation": "on_policy",
    "objective": ["reverse_kl"],
    "min_visits": 2,
}


def prompts_of(folder: Path, **options: Any) -> dict[str, str]:
    try:
        hydrometer.diagnose(out=folder, **{**FAST, **options})
    except UserError as error:
        if type(error) is not UserError:  # nothing to rank in so small a run, but the prompts are there
            raise
    return dict(read_table(folder / "contexts.parquet").select("teacher", "prompt").iter_rows())


def test_a_template_replaces_the_words_of_its_context_and_of_its_control(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("[system]\nBe sure.\n[user]\n$prompt It is $answer.\n[assistant]\nwell\n")
    options = {"teacher": ["self+answer", "self+empty:answer", "self+solution"], "template": f"answer={file}"}
    shown = prompts_of(tmp_path / "run", **options)
    asked = "<|user|>Work out 29+8+5*4 from left to right, two digits a step."
    assert shown["self+answer"] == f"<|system|>Be sure.<|end|>{asked} It is 68.<|end|><|assistant|>well\n"
    assert shown["self+empty:answer"] == f"<|system|>Be sure.<|end|>{asked} It is - -.<|end|><|assistant|>well\n"
    assert shown["self+solution"].startswith(f"{asked}\n\nHere is a reference solution:\n")
    told = read_json(tmp_path / "run" / "run.json")["prompts"]["template"]
    assert told["answer"]["text"] == file.read_text()
    assert len(told["answer"]["sha256"]) == 64
    prompts_of(tmp_path / "run", **options, resume=True)
    file.write_text("$prompt No, $answer.")
    with pytest.raises(RunFolderError, match="template: its text has changed"):
        prompts_of(tmp_path / "run", **options, resume=True)


def test_a_rule_file_that_was_edited_is_another_run(tmp_path: Path) -> None:
    rule = tmp_path / "rule.txt"
    rule.write_text("Check every step.")
    options = {"teacher": [f"r=self+rule:@{rule}"]}
    prompts_of(tmp_path / "run", **options)
    rule.write_text("Check no step.")
    with pytest.raises(RunFolderError, match=r"teacher .*: was \{'context': 'rule:"):
        prompts_of(tmp_path / "run", **options, resume=True)


def test_a_system_prompt_is_for_student_and_teachers(tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be brief.\n")
    for given in ("Be brief.", f"@{tmp_path}/system.txt"):
        config = DiagnoseConfig(student="bundled:student", teacher=("self+rule:Check.",), system_prompt=given)
        instruments = build_instruments(config)
        [first, *_] = instruments.questions()
        assert first.prompt[0] == Message("system", "Be brief.")
        assert first.prompt[1:] == instruments.task.questions("diagnose")[0].prompt
    shown = prompts_of(tmp_path / "run", teacher=["self", "self+rule:Check."], system_prompt="Be brief.")
    assert shown["self"].startswith("<|system|>Be brief.<|end|><|user|>Work out")
    assert shown["self+rule:Check."].startswith("<|system|>Be brief.\n\nCheck.<|end|><|user|>Work out")


def test_a_chat_template_may_be_the_students_or_a_teachers(tmp_path: Path) -> None:
    (tmp_path / "s.jinja").write_text("S{% if loud %}!{% endif %}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    (tmp_path / "t.jinja").write_text("T{% for m in messages %}{{ m['content'] }}{% endfor %}")
    shown = prompts_of(
        tmp_path / "run",
        teacher=["self+answer", "e=bundled:expert", "f=bundled:expert"],
        chat_template=[f"{tmp_path}/s.jinja", f"e={tmp_path}/t.jinja"],
        chat_template_kwargs="loud=true",
        check=False,  # which would rightly say that these templates are not the models' own
    )
    assert shown["self+answer"].startswith("S!Work out")
    assert shown["e"].startswith("TWork out")
    assert shown["f"].startswith("<|user|>Work out")
    told = read_json(tmp_path / "run" / "run.json")["prompts"]
    assert told["chat_template"]["e"] == (tmp_path / "t.jinja").read_text()
    assert told["chat_template_kwargs"] == {"loud": True}


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"chat_template_kwargs": "enable_thinking=false"}, SpecError, r"no chat template.*'enable_thinking'.*nothing"),
        ({"chat_template": "x=FILE"}, UnknownNameError, r"Unknown teacher \(of --chat-template\) 'x'"),
        ({"chat_template": "self+answer=FILE"}, SpecError, "cannot be read"),
        ({"chat_template": "s=FILE", "teacher": ["s=self+answer"]}, SpecError, "teacher 's' is the student"),
        ({"chat_template": ["FILE", "FILE"]}, SpecError, "'student' has one already"),
        ({"chat_template": "/no/such/file"}, SpecError, "cannot be read"),
        ({"system_prompt": " "}, SpecError, "is empty"),
        ({"system_prompt": "@/no/such/file"}, SpecError, "--system-prompt '@/no/such/file': the file cannot be read"),
        ({"template": "answer=FILE", "teacher": ["self+empty:answer"]}, SpecError, "no content that could be blanked"),
    ],
)
def test_what_would_change_nothing_or_cannot_be_read_is_refused(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    (tmp_path / "t").write_text("$prompt")
    filled = {name: _fill(value, str(tmp_path / "t")) for name, value in options.items()}
    with pytest.raises(kind, match=words):
        prompts_of(tmp_path / "run", **{"teacher": ["self+answer"], **filled})
    assert not (tmp_path / "run").exists()


def _fill(value: Any, file: str) -> Any:
    return [_fill(part, file) for part in value] if isinstance(value, list) else value.replace("FILE", file)


def test_a_model_object_brings_its_own_format(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="are for models given as specs"):
        run_world(tmp_path / "run", **TINY, plain_prompt=True, task=LetterTask())


def test_template_variables_may_be_an_object_that_the_command_line_has_read() -> None:
    assert DiagnoseConfig.model_validate({"chat_template_kwargs": {"a": False}}).chat_template_kwargs == (
        '{"a": false}',
    )
    assert DiagnoseConfig.model_validate({"chat_template_kwargs": ["a=1", {"b": 2}]}).chat_template_kwargs == (
        "a=1",
        '{"b": 2}',
    )

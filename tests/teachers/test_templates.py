"""Template files: sections, names, and every way of writing one wrong."""

from pathlib import Path

import pytest

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.teachers import Frame, build_teacher_prompt, parse_context, read_templates
from hydrometer.teachers.templates import parse_template
from hydrometer.types import Message, Question

QUESTION = Question("q", "t", (Message("user", "What is $2+3?"),), "5", solution="2+3=5", wrong_answer="6")


def test_a_file_without_sections_is_the_user_section():
    frame = parse_template("\n$prompt\nThe answer costs $$${answer}s, not $wrong_answer.\n\n", "answer", "f")
    assert frame == Frame(
        "$prompt\nThe answer costs $$${answer}s, not $wrong_answer.", None, "", ("answer", "wrong_answer")
    )
    prompt = build_teacher_prompt(parse_context("answer"), QUESTION, blank=str, frame=frame)
    assert prompt.messages == (Message("user", "What is $2+3?\nThe answer costs $5s, not 6."),)


def test_sections_are_system_user_and_assistant():
    text = (
        "[system]\n\nBe strict about $solution.\n\n[user]\n[1] $prompt\n[INST]\n[assistant]\n<think>$answer</think>\n\n"
    )
    frame = parse_template(text, "solution", "f")
    assert frame.system == "Be strict about $solution."
    assert frame.user == "[1] $prompt\n[INST]"
    assert frame.assistant == "<think>$answer</think>\n\n", "to the last character"
    assert frame.slots == ("answer", "solution")
    prompt = build_teacher_prompt(
        parse_context("empty:solution"), QUESTION, blank=lambda text: "#" * len(text), frame=frame
    )
    assert prompt.messages[0] == Message("system", "Be strict about #####.")
    assert prompt.messages[1].content == "[1] What is $2+3?\n[INST]"
    assert prompt.assistant == "<think>#</think>\n\n"


def test_line_ends_of_windows_and_no_line_end_at_the_end_are_fine():
    assert parse_template("[system]\r\nS\r\n[assistant]\r\nA", "answer", "f") == Frame("$prompt", "S", "A", ())


@pytest.mark.parametrize(
    ("context", "text", "words"),
    [
        ("answer", "$prompt $anwser", r"f, \[user\]: unknown \$anwser.*\$prompt, \$answer, \$wrong_answer, \$solution"),
        ("answer", "$prompt $rule", r"unknown \$rule"),
        ("answer", "$prompt ${answer.upper}", "no name follows"),
        ("answer", "$prompt costs $5", r"Write \$\$ for a dollar sign"),
        ("answer", "The answer is $answer.", r"has to contain \$prompt"),
        ("answer", "[user]\n$answer\n", r"has to contain \$prompt"),
        ("answer", "[system]\n$prompt\n", r"f, \[system\]: unknown \$prompt"),
        ("answer", "[usr]\n$prompt", r"unknown section \[usr\]; the sections are \[system\], \[user\], \[assistant\]"),
        ("answer", "[user]\n$prompt\n[user]\n$prompt", r"\[user\] comes twice"),
        ("answer", "words\n[user]\n$prompt", r"text before the first section, \[user\]"),
    ],
)
def test_a_template_that_does_not_read_says_where(context: str, text: str, words: str):
    with pytest.raises(SpecError, match=words):
        parse_template(text, context, "f")


def test_a_rule_may_be_anywhere_in_a_rules_template():
    frame = parse_template("$prompt\n\n$rule", "rule", "f")
    prompt = build_teacher_prompt(parse_context("rule:Be kind."), QUESTION, blank=str, frame=frame)
    assert prompt.messages == (Message("user", "What is $2+3?\n\nBe kind."),)


def test_options_name_a_context_and_a_file(tmp_path: Path):
    (tmp_path / "a=b.txt").write_text("$prompt!")
    found = read_templates([f"answer={tmp_path}/a=b.txt", f"rule={tmp_path}/a=b.txt"])
    assert list(found) == ["answer", "rule"]
    assert found["answer"].frame == Frame("$prompt!")
    assert found["answer"].describe() == {
        "file": f"{tmp_path}/a=b.txt",
        "sha256": "63fa3e3a851e614e0e1fd3ff5df46ee3ed71df10f513b3423065336757e98fb8",
        "text": "$prompt!",
    }


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (["anwser=FILE"], UnknownNameError, "Unknown context 'anwser'. Did you mean answer"),
        (["answer"], SpecError, "'answer': expected CONTEXT=FILE"),
        (["answer="], SpecError, "expected CONTEXT=FILE"),
        (["none=FILE"], SpecError, "'none' shows the student's own prompt"),
        (["answer=/no/such/file"], SpecError, "'answer=/no/such/file': the file cannot be read"),
        (["answer=FILE", "answer=FILE"], SpecError, "'answer' has a template already"),
    ],
)
def test_options_that_do_not_read_are_refused(tmp_path: Path, options: list[str], kind: type[Exception], words: str):
    (tmp_path / "t").write_text("$prompt")
    with pytest.raises(kind, match=words):
        read_templates([option.replace("FILE", str(tmp_path / "t")) for option in options])

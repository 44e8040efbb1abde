"""Each context's prompt word by word, and what is refused, skipped, blanked or left alone."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.sampling import ScriptedModel
from hydrometer.teachers import ContextSpec, Summary, TeacherPrompt, blank_text, build_teacher_prompt, parse_context
from hydrometer.teachers.contexts import FRAMES
from hydrometer.types import Message, Question, Rollout

ASKED = "What is 2+3?"
QUESTION = Question("q1", "sums", (Message("user", ASKED),), "5", solution="2+3=5", wrong_answer="6")


def demo(rollout_id: int, text: str, correct: bool, *, truncated: bool = False) -> Rollout:
    return Rollout("q1", rollout_id, "demo", (1,), text, float(correct), correct, truncated)


def path(text: str) -> Rollout:
    return Rollout("q1", 0, "path", (1,), text, 1.0, True, False)


DEMOS = [
    demo(11, "so it makes 9", False),
    demo(12, "so it makes 5", True),
    demo(13, "five, so 5", True),
    demo(14, "eight, so 8", False),
]


def build(context: str, question: Question = QUESTION, **arguments) -> TeacherPrompt:
    summaries = {12: Summary("two and three"), 11: Summary("two times three")}
    arguments = {"demos": DEMOS, "blank": lambda text: "#" * len(text), "summaries": summaries} | arguments
    return build_teacher_prompt(parse_context(context), question, **arguments)


@pytest.mark.parametrize(
    ("context", "messages", "demo_ids"),
    [
        ("none", [("user", ASKED)], ()),
        (
            "answer",
            [("user", f"{ASKED}\n\nThe correct answer is 5. Work through the problem and arrive at it.")],
            (),
        ),
        (
            "wrong_answer",
            [("user", f"{ASKED}\n\nThe correct answer is 6. Work through the problem and arrive at it.")],
            (),
        ),
        (
            "solution",
            [
                (
                    "user",
                    f"{ASKED}\n\nHere is a reference solution:\n2+3=5\n\n"
                    "Understand it, then solve the problem yourself.",
                )
            ],
            (),
        ),
        (
            "correct_demo",
            [("user", f"{ASKED}\n\nHere is a correct response:\nso it makes 5\n\nNow give your own response.")],
            (12,),
        ),
        (
            "correct_wrong_demo",
            [
                (
                    "user",
                    f"{ASKED}\n\nHere is a correct response:\nso it makes 5\n\n"
                    "Here is a wrong response, do not imitate it:\nso it makes 9\n\nNow give your own response.",
                )
            ],
            (12, 11),
        ),
        (
            "peer_demo:org/model",
            [
                (
                    "user",
                    f"{ASKED}\n\nHere is a correct response by another model:\nso it makes 5\n\n"
                    "Now give your own response.",
                )
            ],
            (12,),
        ),
        (
            "summary",
            [
                (
                    "user",
                    f"{ASKED}\n\nHere are the key steps of a correct response:\ntwo and three\n\n"
                    "Now give your own response.",
                )
            ],
            (12,),
        ),
        (
            "correct_wrong_summary",
            [
                (
                    "user",
                    f"{ASKED}\n\nHere are the key steps of a correct response:\ntwo and three\n\n"
                    "Here are the key steps of a wrong response, do not imitate it:\ntwo times three\n\n"
                    "Now give your own response.",
                )
            ],
            (12, 11),
        ),
        (
            "masked_solution",
            [
                (
                    "user",
                    f"{ASKED}\n\nHere is a reference solution with parts hidden:\n2+3=__\n\n"
                    "Understand it, then solve the problem yourself.",
                )
            ],
            (),
        ),
        ("conciseness", [("user", f"{ASKED}\n\nBe as brief as you can.")], ()),
        ("rule:Be careful.", [("system", "Be careful."), ("user", ASKED)], ()),
        (
            "empty:answer",
            [("user", f"{ASKED}\n\nThe correct answer is #. Work through the problem and arrive at it.")],
            (),
        ),
        ("empty:rule:Be careful.", [("system", "###########"), ("user", ASKED)], ()),
        (
            "empty:correct_demo",
            [("user", f"{ASKED}\n\nHere is a correct response:\n#############\n\nNow give your own response.")],
            (12,),
        ),
    ],
)
def test_a_context_shows_exactly_this(context: str, messages: list[tuple[str, str]], demo_ids: tuple[int, ...]):
    prompt = build(context)
    assert prompt == TeacherPrompt(tuple(Message(*message) for message in messages), "", demo_ids, None)


def test_hidden_thoughts_open_the_assistants_turn():
    assert build("hidden_think") == TeacherPrompt(QUESTION.prompt, "<think>\nThe answer is 5.\n</think>\n")
    assert build("empty:hidden_think").assistant == "<think>\nThe answer is #.\n</think>\n"


def test_every_context_is_pinned_above():
    [pinned] = [mark.args[1] for mark in test_a_context_shows_exactly_this.pytestmark]
    assert {name.partition(":")[0] for name, *_ in pinned} | {"hidden_think"} == {*FRAMES, "empty"}


def test_only_the_last_user_message_is_framed_and_a_rule_joins_the_system_message():
    turns = (Message("system", "S"), Message("user", "first"), Message("assistant", "so"), Message("user", "second"))
    question = Question("q", "chat", turns, "5")
    framed = build("answer", question).messages
    assert framed[:3] == turns[:3]
    assert framed[3].content.startswith("second\n\nThe correct answer is 5.")
    assert build("rule:R", question).messages == (Message("system", "S\n\nR"), *turns[1:])


TRICKY = "costs $5 or $answer, ${prompt} $$ {answer} {0} {{x}} %s \\1 $"


@pytest.mark.parametrize("context", ["answer", "wrong_answer", "solution", "correct_demo", f"rule:{TRICKY}"])
def test_text_that_looks_like_a_template_stays_as_it_is(context: str):
    question = Question("q", "t", (Message("user", f"Q {TRICKY}"),), TRICKY, TRICKY, TRICKY)
    shown = "\n".join(m.content for m in build(context, question, demos=[demo(1, f"I see {TRICKY}", True)]).messages)
    assert shown.count(TRICKY) == 2
    assert f"Q {TRICKY}" in shown
    assert TRICKY not in "\n".join(m.content for m in build("answer").messages)


@pytest.mark.parametrize(
    ("context", "question", "demos", "words"),
    [
        ("solution", Question("q", "t", QUESTION.prompt, "5"), DEMOS, "no reference solution"),
        ("empty:solution", Question("q", "t", QUESTION.prompt, "5"), DEMOS, "no reference solution"),
        ("wrong_answer", Question("q", "t", QUESTION.prompt, "5"), DEMOS, "no wrong answer"),
        ("correct_demo", QUESTION, [], "no correct demonstration"),
        ("correct_demo", QUESTION, [demo(1, "so it makes 9", False)], "no correct demonstration"),
        ("correct_wrong_demo", QUESTION, [demo(1, "so it makes 5", True)], "no wrong demonstration"),
        ("correct_demo", QUESTION, [demo(1, "so it makes 5", True, truncated=True)], "no correct demonstration"),
        ("correct_demo", QUESTION, [demo(1, "Answer: 5.", True)], "no correct demonstration"),
        ("correct_wrong_demo", QUESTION, [*DEMOS[1:3], demo(1, "7", False)], "no wrong demonstration"),
        ("summary", QUESTION, [demo(1, "so it makes 9", False)], "no correct demonstration"),
        ("masked_solution", Question("q", "t", QUESTION.prompt, "5"), DEMOS, "no reference solution"),
        ("hidden_think", Question("q", "t", QUESTION.prompt, ""), DEMOS, "no answer"),
    ],
)
def test_what_is_missing_is_the_reason_to_skip(context: str, question: Question, demos: list[Rollout], words: str):
    prompt = build(context, question, demos=demos)
    assert prompt.reason is not None
    assert words in prompt.reason
    assert prompt.messages == ()
    assert prompt.demo_rollout_ids == ()


def test_a_demonstration_equal_to_an_analysed_response_is_refused():
    assert build("correct_demo", refuse=[path("so it makes 5\n")]).demo_rollout_ids == (13,)
    assert build("correct_wrong_demo", refuse=[path("so it makes 9"), path("five, so 5")]).demo_rollout_ids == (12, 14)
    refused = build("correct_demo", refuse=[path("so it makes 5"), path(" five, so 5 ")])
    assert refused.reason is not None
    assert refused.reason.startswith("no correct demonstration")


def test_a_demonstration_that_says_nothing_is_passed_over():
    demos = [demo(1, " \n", False), demo(2, "so it makes 9", False), demo(3, "", True), demo(4, "so it makes 5", True)]
    assert build("correct_wrong_demo", demos=demos).demo_rollout_ids == (4, 2)


# --- the control


@pytest.mark.parametrize("text", ["a", "5", "so 5 it is.", "ab\nc - d?", "-", "x" * 57, "- - -"])
def test_filler_takes_as_many_tokens_as_what_it_stands_for(text: str):
    model = tiny_model()
    filler = blank_text(model, text)
    assert model.count_tokens(filler) == model.count_tokens(text)
    assert set(filler) <= {"-", " "}


@pytest.mark.parametrize("kind", ["byte_pairs", "words"])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 20, 33])
def test_filler_fits_tokenizers_that_merge_dashes(kind: str, length: int):
    class Counter(ScriptedModel):
        """Merges as many as four dashes with their blanks into one token, or takes one per word."""

        def count_tokens(self, text: str) -> int:
            words = len(text.split())
            return words if kind == "words" or "a" in text else -(-words // 4)

    counter = Counter(("<eos>",), lambda _prompt, _response: np.ones(1))
    text = " ".join(["a"] * length)
    filler = blank_text(counter, text)
    assert counter.count_tokens(filler) == length
    assert set(filler) <= {"-", " "}


def test_the_control_has_the_length_of_the_context_it_stands_beside():
    model = tiny_model()
    for context in ("answer", "solution", "correct_demo", "correct_wrong_demo", "rule:be careful."):
        lengths = []
        for name in (context, f"empty:{context}"):
            prompt = build(name, blank=lambda text: blank_text(model, text))
            lengths.append(len(model.render(prompt.messages, assistant=prompt.assistant)))
        assert lengths[0] == lengths[1]


# --- the grammar


def test_contexts_are_read_and_written_alike(tmp_path: Path):
    for text in ("peer_demo", "peer_demo:org/model@v1#adapter=a+b", "empty:peer_demo:bundled:expert", "hidden_think"):
        assert str(parse_context(text)) == text
    for text in ("none", "answer", "rule:Be = careful + kind: now", "empty:solution", "empty:rule:a:b"):
        assert str(parse_context(text)) == text
    assert parse_context("empty:rule:a:b") == ContextSpec("rule", "a:b", True)
    rule = tmp_path / "rule.txt"
    rule.write_text("From a file.\n", encoding="utf-8")
    assert parse_context(f"rule:@{rule}") == ContextSpec("rule", "From a file.")


def test_a_rule_file_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "rule.txt").write_text("At home.")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_context("rule:@~/rule.txt").argument == "At home."


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("anwser", UnknownNameError, "'anwser'. Did you mean answer"),
        ("rul:Check every step.", UnknownNameError, "'rul'. Did you mean rule"),
        ("empty:anwser", UnknownNameError, "'anwser'. Did you mean answer"),
        ("zzz", UnknownNameError, "answer, conciseness, correct_demo"),
        ("", UnknownNameError, "Unknown context ''"),
        ("summary:org/model", SpecError, "takes no text, but 'summary:org/model' gives it 'org/model'"),
        ("empty:conciseness", SpecError, "no content to blank in 'conciseness'"),
        ("answer:42", SpecError, "takes no text, but 'answer:42' gives it '42'"),
        ("rule", SpecError, "'rule': a rule needs its text"),
        ("rule:  ", SpecError, "a rule needs its text"),
        ("rule:@/no/such/file", SpecError, "'rule:@/no/such/file': the rule file cannot be read"),
        ("rule:@/", SpecError, "the rule file cannot be read"),
        ("empty:none", SpecError, "'empty:none': there is no content to blank"),
        ("empty:empty:answer", SpecError, "'empty:empty:answer': there is no content to blank"),
        ("empty:", SpecError, "'empty:': name the context"),
        ("empty", SpecError, "'empty': name the context"),
        ("empty:rule", SpecError, "a rule needs its text"),
    ],
)
def test_contexts_that_do_not_read_are_refused(text: str, kind: type[Exception], words: str):
    with pytest.raises(kind) as caught:
        parse_context(text)
    assert words in str(caught.value)


def test_a_rule_file_has_to_be_text_and_not_empty(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "blank").write_text("\n\n")
    with pytest.raises(SpecError, match="cannot be read"):
        parse_context(f"rule:@{tmp_path / 'binary'}")
    with pytest.raises(SpecError, match="needs its text"):
        parse_context(f"rule:@{tmp_path / 'blank'}")


@pytest.mark.parametrize(
    ("text", "is_of_one"),
    [
        *(("answer", True), ("wrong_answer", True), ("solution", True), ("masked_solution", True), ("summary", True)),
        *(("correct_demo", True), ("peer_demo:bundled:expert", True), ("hidden_think", True)),
        *(("none", False), ("conciseness", False), ("rule:Check.", False), ("empty:answer", False)),
    ],
)
def test_contexts_of_one_question_are_those_with_its_content(text, is_of_one):
    assert parse_context(text).is_of_one_question is is_of_one

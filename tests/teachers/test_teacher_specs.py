from pathlib import Path

import pytest

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.teachers import ContextSpec, TeacherSpec, parse_teacher


@pytest.mark.parametrize(
    ("text", "name", "model", "context"),
    [
        ("self", "self", "self", ContextSpec("none")),
        ("self+answer", "self+answer", "self", ContextSpec("answer")),
        ("big=org/model", "big", "org/model", ContextSpec("none")),
        ("big=org/model+solution", "big", "org/model", ContextSpec("solution")),
        ("org/model@rev+empty:answer", "org/model@rev+empty:answer", "org/model@rev", ContextSpec("answer", "", True)),
        ("bundled:expert", "bundled:expert", "bundled:expert", ContextSpec("none")),
        ("e.x-1_=bundled:expert+none", "e.x-1_", "bundled:expert", ContextSpec("none")),
        ("self+rule:a=b", "self+rule:a=b", "self", ContextSpec("rule", "a=b")),
        ("r=self+rule:a=b+answer", "r", "self", ContextSpec("rule", "a=b+answer")),
        ("self+rule:two\nlines+", "self+rule:two\nlines+", "self", ContextSpec("rule", "two\nlines+")),
        ("self+empty:rule:x+y", "self+empty:rule:x+y", "self", ContextSpec("rule", "x+y", True)),
        ("/models/c++/x+answer", "/models/c++/x+answer", "/models/c++/x", ContextSpec("answer")),
        ("/models/a+answers/x", "/models/a+answers/x", "/models/a+answers/x", ContextSpec("none")),
        ("/models/a+answer/x", "/models/a+answer/x", "/models/a+answer/x", ContextSpec("none")),
        ("./a+b", "./a+b", "./a+b", ContextSpec("none")),
        ("/models/x=y", "/models/x=y", "/models/x=y", ContextSpec("none")),
        ("n=/models/x=y", "n", "/models/x=y", ContextSpec("none")),
        ("a=b=c", "a", "b=c", ContextSpec("none")),
        ("p=self+peer_demo:org/model@v1", "p", "self", ContextSpec("peer_demo", "org/model@v1")),
        ("gguf:/m/x.gguf+summary", "gguf:/m/x.gguf+summary", "gguf:/m/x.gguf", ContextSpec("summary")),
        ("l=org/m#adapter=/a/b+hidden_think", "l", "org/m#adapter=/a/b", ContextSpec("hidden_think")),
    ],
)
def test_a_spec_is_a_name_a_model_and_a_context(text: str, name: str, model: str, context: ContextSpec):
    assert parse_teacher(text) == TeacherSpec(name, model, context)


def test_a_folder_with_a_plus_in_its_name_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mix+match").mkdir()
    assert parse_teacher("mix+match").model == "mix+match"
    assert parse_teacher("mix+match+answer") == TeacherSpec("mix+match+answer", "mix+match", ContextSpec("answer"))
    with pytest.raises(UnknownNameError, match="Unknown context 'mach'"):
        parse_teacher("mix+mach")


@pytest.mark.parametrize("model", ["self", "bundled:expert", "org/model", "n=self"])
def test_an_unknown_context_gets_near_matches_whatever_the_model(model: str):
    with pytest.raises(UnknownNameError, match=r"Unknown context 'corect_demo'. Did you mean correct_demo"):
        parse_teacher(f"{model}+corect_demo")
    with pytest.raises(UnknownNameError, match="Unknown context 'rul'"):
        parse_teacher(f"{model}+rul:{'Check every step. ' * 40}")


@pytest.mark.parametrize("text", ["", "+answer", "name=", "name=+answer", " "])
def test_a_spec_without_a_model_is_refused(text: str):
    with pytest.raises(SpecError, match="names no model") as caught:
        parse_teacher(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "control"),
    [
        ("self+answer", "empty:answer"),
        ("self+rule:be kind", "empty:rule:be kind"),
        ("self+empty:answer", None),
        ("self", None),
        ("self+conciseness", None),
        ("self+peer_demo:org/model", "empty:peer_demo:org/model"),
        ("org/model+correct_wrong_demo", "empty:correct_wrong_demo"),
    ],
)
def test_the_control_of_a_context_is_its_blank(text: str, control: str | None):
    assert parse_teacher(text).control == control

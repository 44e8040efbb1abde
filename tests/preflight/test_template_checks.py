"""Templates, token maps and ends of real tokenizers, on tiny models with random weights."""

import pytest
from tiny_models import EOS, TEMPLATE, TOKENS, build_network, build_tokenizer, ids, new_model

from hydrometer.models import Warp
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.inspect import inspect
from hydrometer.preflight.load import CHECKED_OBJECTIVES
from hydrometer.preflight.preference import check_preference
from hydrometer.preflight.scoring import check_stock_sampling
from hydrometer.preflight.subjects import Sample, Subjects, draw_samples
from hydrometer.preflight.templates import check_boundary, check_template
from hydrometer.preflight.tokens import check_ends, check_token_map
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, build_sampler
from hydrometer.types import Message

ASKED = (Message("user", "what is it"),)
CLOSED = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}" + EOS + "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def with_template(template: str, **changes: object) -> TransformersModel:
    model = new_model(**changes)
    model.tokenizer.chat_template = template
    return model


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.mark.parametrize(
    ("template", "levels"),
    [
        (CLOSED, {"chat template": "green", "end of turn": "green"}),
        (TEMPLATE, {"chat template": "green", "end of turn": "note"}),
        (CHATML, {"chat template": "green", "template marks": "note", "end of turn": "red"}),
        (CLOSED.replace("<assistant>", ""), {"chat template": "red", "end of turn": "green"}),
        (CLOSED.replace("prompt %}<assistant>", "prompt %}<user>"), {"chat template": "red", "end of turn": "green"}),
        (CLOSED.replace(EOS, "<pad>"), {"chat template": "green", "end of turn": "red"}),
        (CLOSED.replace(">{% endif %}", "><think>\n{% endif %}"), {"chat template": "green", "end of turn": "green"}),
        (
            "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}"
            " {{ m['content'] }}" + EOS + "{% endif %}{% endfor %}",
            {"chat template": "green", "end of turn": "green"},
        ),
    ],
    ids=["closed", "open end", "chatml", "not opened", "user opened", "other end", "think", "inst"],
)
def test_templates_are_read_by_rendering_them(template: str, levels: dict[str, str]):
    found = check_template("student", with_template(template), ASKED)
    assert {finding.check: finding.level for finding in found} == levels


def test_another_end_of_turn_is_red_for_the_student_and_a_note_for_a_teacher():
    model = with_template(CLOSED.replace(EOS, "<pad>"))
    student = by_check(check_template("student", model, ASKED))["end of turn"]
    assert (student.level, "'<pad>' (0)" in student.found) == ("red", True)
    assert "Add 0 to eos_token_id" in str(student.cure)
    assert by_check(check_template("teacher", model, ASKED))["end of turn"].level == "note"


def test_a_template_that_refuses_finished_turns_is_said_not_to_be_checked():
    refusing = (
        "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}<user>a"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    (found,) = check_template("student", with_template(refusing), ASKED)
    assert (found.level, "refuses a finished turn" in found.found) == ("note", True)


def test_a_doubled_beginning_is_red():
    model = with_template("<system><system>" + CLOSED)
    model.tokenizer.bos_token = "<system>"
    sample = Sample(ASKED, SampleRequest((1,), (), 0), Continuation(ids("ab"), (0.0, 0.0), False))
    found = by_check(check_boundary("student", model, [sample]))
    assert found["beginning of text"].level == "red"
    assert found["prompt boundary"].level == "green"


def test_a_response_token_that_merges_into_the_prompt_is_found():
    model = new_model()
    merging = build_tokenizer()
    merging.add_tokens(["zz"])
    merging.chat_template = CLOSED.replace("prompt %}<assistant>", "prompt %}<assistant>z")
    model.tokenizer = merging
    kept = Sample(ASKED, SampleRequest((1,), (), 0), Continuation(ids("ab"), (0.0, 0.0), False))
    merged = kept._replace(drawn=Continuation(ids("za"), (0.0, 0.0), False))
    assert by_check(check_boundary("student", model, [kept]))["prompt boundary"].level == "green"
    found = by_check(check_boundary("student", model, [kept, merged]))["prompt boundary"]
    length = len(model.render(ASKED))
    assert found.level == "note"
    assert f"prompt token {length - 1} of {length} ('z' becomes 'zz')" in found.found


def test_padding_that_ends_responses_and_other_ends_of_a_teacher_are_notes():
    student, teacher = new_model(), new_model()
    assert by_check(check_ends(student, "student", student))["padding"].level == "green"
    student.tokenizer.pad_token = EOS
    assert by_check(check_ends(student, "student", student))["padding"].level == "note"
    teacher.eos_ids = frozenset({0})
    found = by_check(check_ends(student, "teacher", teacher))["end of sequence"]
    assert (found.level, "'<eos>' (1)" in found.found, "'<pad>' (0)" in found.found) == ("note", True, True)
    student.eos_ids = frozenset()
    assert check_ends(student, "student", student)[0].level == "red"


def test_stock_options_of_a_generation_config_are_named():
    model = new_model()
    assert check_stock_sampling("student", model)[0].level == "green"
    config = model.network.generation_config
    assert config is not None
    config.update(top_k=20, repetition_penalty=1.05, temperature=1.0, top_p=1.0)
    (found,) = check_stock_sampling("student", model)
    assert (found.level, found.found) == (
        "note",
        "sets top_k=20, repetition_penalty=1.05; Hydrometer's sampler ignores these",
    )


def test_token_maps_are_compared_by_string_whatever_their_padding():
    student = new_model()
    assert check_token_map(student, "teacher", new_model(seed=3)).level == "green"
    padded = check_token_map(student, "teacher", new_model(vocab=len(TOKENS) + 25))
    assert (padded.level, f"the first {len(TOKENS)} are used" in padded.found) == ("green", True)
    swapped = (*TOKENS[:5], "b", "a", *TOKENS[7:])
    other = TransformersModel("other", build_network(), build_tokenizer(swapped), "other")
    found = check_token_map(student, "teacher", other)
    assert found.level == "red"
    assert "id 5: student 'a', teacher 'b'" in found.found


def subjects_of(student: TransformersModel, teacher: TransformersModel) -> Subjects:
    from hydrometer.objectives import parse

    prompts = tuple((Message("user", text),) for text in ("what is it", "say a word", "go on", "why"))
    sampler = build_sampler(student, SamplingSettings(24))
    objectives = tuple(parse(text) for text in CHECKED_OBJECTIVES)
    return Subjects(student, sampler, {"teacher": teacher}, prompts, objectives, Warp(), probe_tokens=24)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
@pytest.mark.parametrize("seed", range(3))
def test_random_models_are_never_red(kind: str, seed: int):
    student = new_model(kind, seed=seed)
    teacher = new_model(kind, seed=seed + 10, vocab=len(TOKENS) + 3, spread=0.6)
    found = inspect(subjects_of(student, teacher))
    assert found.of_level("red") == ()
    assert {f.check for f in found.findings if f.level == "note"} <= {
        "end of turn",
        "sampled end",
        "round trip",
        "shift",
    }


def test_without_a_shared_token_map_the_teacher_is_scored_no_further():
    swapped = (*TOKENS[:5], "b", "a", *TOKENS[7:])
    other = TransformersModel("other", build_network(), build_tokenizer(swapped), "other")
    found = inspect(subjects_of(new_model(), other)).findings
    assert [f.check for f in found if f.level == "red"] == ["token map"]
    assert not [f for f in found if f.model == "teacher" and f.check in ("shift", "zero gradient", "temperature")]


def test_a_template_that_a_model_does_not_know_is_red_by_what_it_believes():
    from hydrometer.preflight import CheckConfig
    from hydrometer.preflight.load import build_subjects

    subjects = build_subjects("bundled:student", ["expert=bundled:expert"], CheckConfig(probe_tokens=48))
    expert = subjects.teachers["expert"]
    assert isinstance(expert, TransformersModel)
    samples = draw_samples(subjects, subjects.student, subjects.sampler)
    assert [f.level for f in check_preference(subjects, "expert", expert, samples)] == ["green"]
    expert.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    (found,) = check_preference(subjects, "expert", expert, samples)
    assert found.level == "red"
    assert "the teacher finds the student's responses likelier under the student's template" in found.found

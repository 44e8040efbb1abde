"""Chat template options, plain text for base models, and thoughts that a template has begun itself."""

import pytest
import torch
from tiny_models import TEMPLATE, build_network, build_tokenizer, ids, new_model, tiny_model

from hydrometer.errors import SpecError
from hydrometer.models.prompting import PromptFormat, open_turn, parse_template_kwargs, render_plain
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.types import Message

USER = (Message("user", "ab"),)


def model_with(prompt_format: PromptFormat, template: str | None = TEMPLATE) -> TransformersModel:
    return TransformersModel("tiny", build_network(), build_tokenizer(template=template), "", prompt_format)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), {}),
        (("enable_thinking=false",), {"enable_thinking": False}),
        (("a=1", "b=x y", 'c="1"', "d=null", "e="), {"a": 1, "b": "x y", "c": "1", "d": None, "e": ""}),
        (('{"enable_thinking": false, "style": {"tone": [1]}}',), {"enable_thinking": False, "style": {"tone": [1]}}),
    ],
)
def test_template_variables_are_read_from_json_or_pairs(texts: tuple[str, ...], expected: dict):
    assert parse_template_kwargs(texts) == expected


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("enable_thinking",), "'enable_thinking': expected name=value"),
        (("a b=1",), "expected name=value"),
        (('{"a": }',), "is not JSON"),
        (("a=1", '{"a": 2}'), "'a' is given twice"),
        (("add_generation_prompt=false",), "no variable of a template"),
    ],
)
def test_template_variables_that_do_not_read_are_refused(texts: tuple[str, ...], words: str):
    with pytest.raises(SpecError, match=words):
        parse_template_kwargs(texts)


def test_variables_reach_the_template_and_unknown_ones_are_known_to_be_unknown():
    template = TEMPLATE + "{% if enable_thinking %}<think>{% endif %}"
    assert model_with(PromptFormat(), template).prompt_text(USER) == "<user>ab<assistant>"
    thinking = model_with(PromptFormat(kwargs={"enable_thinking": True}), template)
    assert thinking.prompt_text(USER) == "<user>ab<assistant><think>"
    assert thinking.knows_template_variable("enable_thinking")
    assert not thinking.knows_template_variable("thinking")
    assert not model_with(PromptFormat(plain=True), None).knows_template_variable("messages")


def test_a_template_of_ones_own_takes_the_place_of_the_tokenizers():
    override = PromptFormat(chat_template="{% for m in messages %}:{{ m['content'] }}{% endfor %}?")
    for own in (TEMPLATE, None):
        assert model_with(override, own).prompt_text(USER, assistant="c") == ":ab?c"


def test_plain_text_is_only_for_models_without_a_template_and_only_where_asked_for():
    plain = PromptFormat(plain=True)
    assert model_with(plain).prompt_text(USER) == "<user>ab<assistant>"
    assert model_with(plain, None).prompt_text(USER, assistant=" so") == "Question: ab\n\nAnswer: so"
    with pytest.raises(SpecError, match=r"no chat template.*--chat-template FILE.*--plain-prompt"):
        model_with(PromptFormat(), None).prompt_text(USER)


def test_plain_text_keeps_every_turn_in_order():
    turns = (Message("system", "S"), *USER, Message("assistant", "c"), Message("user", "d"))
    assert render_plain(turns) == "S\n\nQuestion: ab\n\nAnswer: c\n\nQuestion: d\n\nAnswer:"


def test_plain_text_begins_as_the_tokenizer_begins_texts():
    from tokenizers.processors import TemplateProcessing

    model = model_with(PromptFormat(plain=True), None)
    model.tokenizer.bos_token = "<pad>"
    assert model.prompt_text(USER).startswith("Question")
    model.tokenizer._tokenizer.post_processor = TemplateProcessing(single="<pad> $A", special_tokens=[("<pad>", 0)])
    assert model.prompt_text(USER).startswith("<pad>Question")
    assert model.render(USER)[0] == 0
    assert model.render(USER).count(0) == 1


THOUGHTS = "<think>\nThe answer is 5.\n</think>\n"


@pytest.mark.parametrize(
    ("prompt", "assistant", "expected"),
    [
        ("A:", THOUGHTS, "A:<think>\nThe answer is 5.\n</think>\n"),
        ("A:<think>\n", THOUGHTS, "A:<think>\nThe answer is 5.\n</think>\n"),
        ("A:<think>\n\n</think>\n\n", THOUGHTS, "A:<think>\nThe answer is 5.\n</think>\n\n"),
        ("A:<think>\n\n</think>\n\n", "", "A:<think>\n\n</think>\n\n"),
        ("A:<think>\n", "so", "A:<think>\nso"),
        ("<think>x</think> A:", THOUGHTS, "<think>x</think> A:<think>\nThe answer is 5.\n</think>\n"),
        ("A:<think>\n", THOUGHTS + "so", "A:<think>\n" + THOUGHTS + "so"),
    ],
)
def test_thoughts_go_where_the_template_has_them(prompt: str, assistant: str, expected: str):
    assert open_turn(prompt, assistant) == expected


def test_positions_stay_those_of_the_response_behind_hidden_thoughts():
    model = tiny_model()
    prompt = model.render(USER, assistant="the answer is c. ")
    assert prompt == (*model.render(USER), *ids("the answer is c. "))
    response = ids("def|")
    [chunk] = model.score(prompt, response)
    for t in range(len(response)):
        with torch.no_grad():
            alone = model.network(input_ids=torch.tensor([[*prompt, *response[:t]]])).logits[0, -1]
        torch.testing.assert_close(chunk.logits[t], alone, rtol=0, atol=1e-5)
    [plain] = new_model().score(model.render(USER), response)
    assert (plain.logits[0] - chunk.logits[0]).abs().max() > 1e-3

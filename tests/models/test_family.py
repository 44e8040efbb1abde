"""The bundled family: files that load anywhere, a tokenizer with the promised tokens, and the measured properties.

Quick checks read the card and sample a little; the marked slow ones measure the card's claims again.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hydrometer.models import FAMILY, family_folder, read_family_card
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.recipes.runner import read_recipe
from hydrometer.sampling.protocol import SampleRequest, SamplingSettings
from hydrometer.sampling.seeding import rollout_seed
from hydrometer.sampling.transformers_sampler import TransformersSampler
from hydrometer.tasks.chain import CHECK_RULE, STEP_COUNTS, ChainTask
from hydrometer.teachers.contexts import FRAMES, apply_frame
from hydrometer.teachers.filler import blank_text
from hydrometer.training import TrainConfig
from hydrometer.types import Message, Question

SIZE_LIMIT = 12_000_000
"""Bytes of the whole family."""
MESSAGES = [
    {"role": "system", "content": "Check every step."},
    {"role": "user", "content": "Work out 47+8-3*2."},
    {"role": "assistant", "content": "+8=55\nanswer 04"},
]


@cache
def load(name: str) -> TransformersModel:
    return load_model(f"bundled:{name}")


def sample_texts(name: str, prompts: list[tuple[Message, ...]], *, samples: int, seed: int = 0) -> list[list[str]]:
    model = load(name)
    requests = [
        SampleRequest(model.render(messages), (), rollout_seed(seed, str(index), number))
        for index, messages in enumerate(prompts)
        for number in range(samples)
    ]
    drawn = TransformersSampler(model, SamplingSettings(120)).sample(requests)
    texts = [model.decode(continuation.token_ids) for continuation in drawn]
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def in_context(name: str, question: Question, context: str) -> tuple[Message, ...]:
    """The question inside a frame whose content is the question's own (a rule is the checking rule)."""
    frame = FRAMES[context.removeprefix("empty:")]
    content = {"answer": question.answer, "wrong_answer": question.wrong_answer, "solution": question.solution}
    content |= {"correct": question.solution, "rule": CHECK_RULE}
    values = {slot: str(content[slot]) for slot in frame.slots}
    if context.startswith("empty:"):
        values = {slot: blank_text(load(name), text) for slot, text in values.items()}
    return apply_frame(frame, question.prompt, values)


def accuracy_by_question(name: str, context: str, *, questions: int, samples: int, strict: bool = False) -> np.ndarray:
    task = ChainTask(strict=strict)
    asked = task.questions("test")[:questions]
    texts = sample_texts(name, [in_context(name, question, context) for question in asked], samples=samples)
    return np.array(
        [
            np.mean([task.verify(question, text).strict.correct for text in row])
            for question, row in zip(asked, texts, strict=True)
        ]
    )


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


@pytest.mark.parametrize("name", FAMILY)
def test_a_member_is_an_ordinary_folder_that_loads_offline(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = family_folder(name)
    files = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= files
    assert not [file for file in files if file.endswith((".bin", ".pt", ".py"))]
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(network).__name__ == "Qwen3ForCausalLM"
    assert tokenizer.is_fast
    assert network.config.vocab_size == len(tokenizer)
    assert network.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_family_is_small_and_the_card_knows_every_member() -> None:
    folder = family_folder("student").parent
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert total <= SIZE_LIMIT
    card = read_family_card()
    assert set(card["members"]) == set(FAMILY)
    for name in FAMILY:
        assert card["members"][name]["parameters"] == load(name).parameters


def test_all_members_share_one_tokenizer() -> None:
    reference = load("student").token_strings()
    assert all(load(name).token_strings() == reference for name in FAMILY)
    texts = {(family_folder(name) / "tokenizer.json").read_text(encoding="utf-8") for name in FAMILY}
    assert len(texts) == 1


def test_text_survives_the_tokenizer() -> None:
    tokenizer = load("student").tokenizer
    texts = [
        "47+8-3*2",
        "naïve “quotes” 東京 \U0001f600",
        " spaces  and\ttabs\r\n",
        "answer 04\n",
        "<think>\nx\n</think>\n",
    ]
    texts += [question.solution for question in ChainTask().questions("test")[:20] if question.solution]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_digits_operators_newline_and_filler_are_single_tokens() -> None:
    tokenizer = load("student").tokenizer
    for text in [*"0123456789", *"+-*=?", "\n", " -", "<|end|>", "<|pad|>", "<|assistant|>"]:
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1, text
    assert len(tokenizer.encode("-3=42?02:52", add_special_tokens=False)) == 11
    for text in ("04", "+8=55\n-3=52\nanswer 52", CHECK_RULE):
        assert load("student").count_tokens(blank_text(load("student"), text)) == load("student").count_tokens(text)


def test_the_chat_template_marks_every_turn_and_opens_the_answer() -> None:
    tokenizer = load("student").tokenizer
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    assert text == (
        "<|system|>Check every step.<|end|><|user|>Work out 47+8-3*2.<|end|><|assistant|>+8=55\nanswer 04<|end|>"
    )
    opened = tokenizer.apply_chat_template(MESSAGES[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(opened)
    assert opened.endswith("<|assistant|>")
    with pytest.raises(Exception, match="unknown role: tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": ""}], tokenize=False)


def test_the_student_parses_is_short_and_sometimes_right() -> None:
    task = ChainTask()
    asked = task.questions("test")[:40]
    texts = sample_texts("student", [question.prompt for question in asked], samples=4)
    scores = [task.verify(q, text).strict for q, row in zip(asked, texts, strict=True) for text in row]
    assert np.mean([score.parsed for score in scores]) >= 0.95
    assert 0.2 < np.mean([score.correct for score in scores]) < 0.7
    lengths = [load("student").count_tokens(text) + 1 for row in texts for text in row]
    assert np.median(lengths) <= 40
    assert np.mean(np.array(lengths) <= 96) >= 0.95


def test_contexts_change_what_the_student_does() -> None:
    rates = {
        context: accuracy_by_question("student", context, questions=60, samples=4).mean()
        for context in ("none", "answer", "solution", "wrong_answer")
    }
    assert rates["answer"] > rates["none"] + 0.1
    assert rates["solution"] > rates["none"] + 0.1
    assert rates["wrong_answer"] < rates["none"]


def test_the_rule_makes_every_step_checked_and_the_strict_prompt_none() -> None:
    task, strict = ChainTask(), ChainTask(strict=True)
    asked = task.questions("test")[:20]
    with_rule = sample_texts("student", [in_context("student", q, "rule") for q in asked], samples=2)
    bare_steps = sample_texts("student", [q.prompt for q in strict.questions("test")[:20]], samples=2)
    steps = [STEP_COUNTS[index % 4] for index in range(len(asked))]
    checks = [text.count("?") for row in with_rule for text in row]
    assert sum(checks) >= 0.9 * 2 * sum(steps)
    assert sum(text.count("?") for row in bare_steps for text in row) <= 0.05 * 2 * sum(steps)


def test_the_card_holds_what_the_family_promises() -> None:
    card = read_family_card()
    members = card["members"]
    student, expert, other = members["student"], members["expert"], members["other-pattern"]
    assert 0.3 <= student["accuracy"]["value"] <= 0.6
    assert student["parsed_share"] >= 0.95
    assert card["not_bundled"]["student-long"]["accuracy"]["value"] >= expert["accuracy"]["value"] - 0.10
    assert abs(other["accuracy"]["value"] - expert["accuracy"]["value"]) <= 0.03
    overlap = {name: members[name]["top4_overlap_with_student"]["value"] for name in members}
    assert overlap["other-pattern"] <= overlap["expert"] - 0.15
    assert overlap["student"] == 1.0
    gains = student["gains"]
    for context in ("answer", "solution", "correct_demo", f"rule:{CHECK_RULE}"):
        assert gains[context]["interval"][0] > 0, context
    assert gains["wrong_answer"]["interval"][1] < 0
    assert 0.02 < student["reference_remark_share"] < 0.9
    assert members["early"]["accuracy"]["value"] < student["accuracy"]["value"]
    assert card["training_cpu_s"] <= 3600


def test_outcome_reward_made_the_student_better_and_left_its_way_of_writing() -> None:
    members = read_family_card()["members"]
    student, rewarded = members["student"], members["expert-rl"]
    assert rewarded["parameters"] == student["parameters"]
    assert rewarded["accuracy"]["interval"][0] >= student["accuracy"]["value"] + 0.25
    assert rewarded["parsed_share"] >= 0.95
    overlap = {name: members[name]["top4_overlap_with_student"] for name in members}
    assert overlap["expert-rl"]["interval"][0] > overlap["other-pattern"]["interval"][1]
    assert overlap["expert-rl"]["value"] < 1.0
    assert rewarded["gains"]["wrong_answer"]["interval"][1] < 0


def test_the_rewarded_member_is_made_from_this_student_with_the_settings_of_the_recipe() -> None:
    record = read_family_card()["members"]["expert-rl"]["training"]
    recipe = read_recipe("rlvr_teacher")
    stage = recipe.stages[0]
    assert record["start_fingerprint"] == load("student").fingerprint
    assert record["plan"]["start"] == "student"
    assert [record["plan"]["objective"]] == stage["objective"]
    assert record["plan"]["task"] == recipe.options["task"]
    assert record["plan"]["seed"] == recipe.options["seed"]
    assert record["plan"]["num_generations"] == stage["num_generations"]
    assert record["step"] == record["plan"]["steps"] == recipe.options["reward_steps"]
    assert record["rollouts"] == record["step"] * record["plan"]["num_generations"] * TrainConfig().prompts_per_step


@pytest.mark.slow
def test_the_card_agrees_with_a_fresh_measurement_on_other_questions() -> None:
    card = read_family_card()["members"]
    for name in FAMILY:
        rates = accuracy_by_question(name, "none", questions=120, samples=8)
        low, high = card[name]["accuracy"]["interval"]
        card_error = (high - low) / 2 / 1.98
        distance = abs(rates.mean() - card[name]["accuracy"]["value"])
        assert distance <= 3.5 * (card_error**2 + standard_error(rates) ** 2) ** 0.5, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student", "student-large"])
def test_every_context_moves_accuracy_the_promised_way(name: str) -> None:
    base = accuracy_by_question(name, "none", questions=160, samples=8)
    gains = {
        context: accuracy_by_question(name, context, questions=160, samples=8) - base
        for context in ("answer", "solution", "correct_demo", "rule", "wrong_answer", "empty:answer", "empty:solution")
    }
    for context in ("answer", "solution", "correct_demo", "rule"):
        assert gains[context].mean() > 2 * standard_error(gains[context]), context
    assert gains["wrong_answer"].mean() < -2 * standard_error(gains["wrong_answer"])
    for context in ("empty:answer", "empty:solution"):
        assert abs(gains[context].mean()) < 0.08, context


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most_lost"), [("expert", 0.02), ("other-pattern", 0.25)])
def test_a_teacher_near_the_ceiling_trusts_a_wrong_hint_and_loses_little_with_a_right_one(
    name: str, most_lost: float
) -> None:
    """`other-pattern` reads hints in another way of writing than its own, and is led astray by some of them."""
    base = accuracy_by_question(name, "none", questions=120, samples=8)
    for context in ("answer", "solution", "correct_demo", "rule", "empty:answer"):
        gain = accuracy_by_question(name, context, questions=120, samples=8) - base
        assert gain.mean() > -most_lost, context
    assert (accuracy_by_question(name, "wrong_answer", questions=120, samples=8) - base).mean() < -0.3


@pytest.mark.slow
def test_question_success_rates_spread_out() -> None:
    rates = accuracy_by_question("student", "none", questions=120, samples=24)
    assert np.mean((rates > 0.1) & (rates < 0.9)) >= 0.6
    assert rates.std() > 0.15


def test_the_training_records_match_the_card() -> None:
    card = read_family_card()["members"]
    for name in FAMILY:
        record = json.loads((Path(family_folder(name)) / "training.json").read_text(encoding="utf-8"))
        assert card[name]["training"] == record

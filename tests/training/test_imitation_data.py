"""What sft imitates: rows of a file, or whole answers that teachers write from their own prompts."""

import json
from pathlib import Path

import pytest
from lessons import set_lesson
from short_runs import read_metrics, run_short

from hydrometer.errors import SpecError
from hydrometer.models import Warp
from hydrometer.sampling import SamplingSettings, build_sampler
from hydrometer.training.config import TrainConfig
from hydrometer.training.imitations import read_imitations, write_imitations
from hydrometer.training.responses import choose
from hydrometer.training.setup import build_workshop
from hydrometer.types import Message

ROWS = [
    {"prompt": "2 + 3 = ?", "response": "5"},
    {"prompt": [{"role": "user", "content": "4 + 4 = ?"}], "response": "8"},
]


def write(path: Path, lines: list[str]) -> str:
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def test_rows_of_a_file_become_prompts_and_ended_responses(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ["", *map(json.dumps, ROWS)])
    shop = build_workshop(TrainConfig(objective="sft", sft_from=path))
    student = shop.student
    assert [student.decode(one.token_ids[:-1]) for one in shop.imitations] == ["5", "8"]
    assert {one.token_ids[-1] for one in shop.imitations} == {student.tokenizer.eos_token_id}
    assert shop.imitations[0].prompt_ids == student.render((Message("user", "2 + 3 = ?"),))
    assert not shop.settings.seats, "nobody has to write anything"


def test_prompts_of_messages_bring_their_own_system_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", list(map(json.dumps, ROWS)))
    shop = build_workshop(TrainConfig(objective="sft", sft_from=path, system_prompt="Be brief."))
    asked = Message("user", "2 + 3 = ?"), Message("user", "4 + 4 = ?")
    assert shop.imitations[0].prompt_ids == shop.student.render((Message("system", "Be brief."), asked[0]))
    assert shop.imitations[1].prompt_ids == shop.student.render((asked[1],))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "a"}', "line 2: expected an object with prompt"),
        ("[1", "line 2: expected an object"),
        ('{"prompt": "a", "response": ""}', "line 2: prompt and response must not be empty"),
        ('{"prompt": [], "response": "b"}', "line 2: prompt and response must not be empty"),
    ],
)
def test_a_row_of_another_form_is_named(line: str, words: str, tmp_path: Path) -> None:
    shop = build_workshop(TrainConfig())
    path = write(tmp_path / "rows.jsonl", [json.dumps(ROWS[0]), line])
    with pytest.raises(SpecError, match=words):
        read_imitations(path, shop.student, shop.prompts)
    with pytest.raises(SpecError, match="has no rows"):
        read_imitations(write(tmp_path / "none.jsonl", [""]), shop.student, shop.prompts)


def test_a_run_imitates_a_file_without_any_rollout(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", list(map(json.dumps, ROWS)))
    options = {"objective": "sft", "sft_from": path, "learning_rate": 1e-2, "steps": 6, "eval_questions": 0}
    result = run_short(tmp_path / "run", **options)
    losses = [row["loss_sft"] for row in read_metrics(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]
    assert result.summary["cost"]["rollouts"] == 0


def test_teachers_write_whole_answers_from_their_prompts_for_the_students() -> None:
    lesson = set_lesson(teacher="expert=bundled:expert", objective=["sft"], double=False, max_response_tokens=96)
    shop = lesson.shop
    seats = list(shop.settings.seats.values())
    samplers = {"expert": build_sampler(seats[0].model, SamplingSettings(96, Warp()), batch_size=None)}
    questions = choose(shop.questions, step=0, count=3, seed=0)
    places = list(range(3))
    found = write_imitations(seats, samplers, shop.student, places, questions, step=0, seed=0)
    assert len(found) >= 2
    prompts = [shop.student.render(question.prompt) for question in questions]
    for one in found:
        assert one.prompt_ids in prompts
        assert one.token_ids[-1] in shop.student.eos_ids
    alone = write_imitations(seats, samplers, shop.student, places[1:], questions[1:], step=0, seed=0)
    assert [one for one in found if one.prompt_ids != prompts[0]] == alone, "a share of the questions draws the same"
    again = write_imitations(seats, samplers, shop.student, places, questions, step=1, seed=0)
    assert again != found

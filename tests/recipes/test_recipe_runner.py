import json
from pathlib import Path

import polars as pl
import pytest

from hydrometer.artifacts import read_json
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.recipes import runner
from hydrometer.recipes.collecting import ANSWERS
from hydrometer.recipes.runner import known_recipes, read_recipe, run_recipe
from hydrometer.runs.progress import Silent

SMALL = """
summary = "a teacher's answers, imitated"
[options]
teacher = "bundled:expert"
count = 24
steps = 2
[[stage]]
name = "written"
run = "collect"
model = "$teacher"
questions = "$count"
only_correct = true
[[stage]]
name = "imitated"
run = "train"
objective = ["sft"]
sft_from = "$written/answers.jsonl"
steps = "$steps"
prompts_per_step = 8
eval_questions = 6
eval_samples = 2
[[stage]]
name = "again"
run = "evaluate"
model = "$imitated/model"
questions = 6
samples = 2
[[compare]]
first = "imitated"
second = "again"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_stages_hand_their_folders_on_and_a_finished_recipe_resumes_at_once(tmp_path: Path) -> None:
    recipe, out = read_recipe(write(tmp_path, SMALL)), tmp_path / "run"
    found = run_recipe(recipe, out, {"count": "20"}, resume=False, progress=Silent())
    collected = found["stages"]["written"]
    rows = [json.loads(line) for line in (out / "written" / ANSWERS).read_text().splitlines()]
    table = pl.read_parquet(out / "written" / "evaluation.parquet")
    assert collected["written"] == table.height == 20, "the changed option counts, not the recipe's own"
    assert collected["kept"] == len(rows) == table.filter(pl.col("correct") & ~pl.col("truncated")).height
    assert rows[0]["response"] in set(table["text"]) and rows[0]["prompt"][0]["role"] == "user"
    assert found["stages"]["imitated"]["steps"] == 2
    # the last stage evaluates the folder that the one before it wrote, with the same questions and random numbers
    after = found["stages"]["imitated"]["after"]["accuracy"]["value"]
    assert found["stages"]["again"]["accuracy"]["value"] == after
    assert found["compare"][0]["difference"]["value"] == 0.0
    pages = ["report.html", *(f"{stage}/report.html" for stage in ("written", "imitated", "again"))]
    assert all((out / page).exists() for page in pages)
    assert all(f'<a href="{page}">' in (out / "report.html").read_text(encoding="utf-8") for page in pages[1:])
    kept = [out / "imitated" / name for name in ("metrics.jsonl", "model/model.safetensors")]
    before = [path.read_bytes() for path in kept]
    again = run_recipe(recipe, out, {"count": "20"}, resume=True, progress=Silent())
    assert [path.read_bytes() for path in kept] == before, "times of steps included: no step was made again"
    assert again["stages"]["again"]["accuracy"] == found["stages"]["again"]["accuracy"]


def test_every_recipe_of_the_package_reads_and_its_options_are_ones_that_its_stages_use() -> None:
    assert set(known_recipes()) >= {
        *("cold_start", "reverse_distillation", "rlvr_teacher", "rule_internalisation", "stabilised_student"),
        "teacher_aligned_prompts",
    }
    for name in known_recipes():
        recipe = read_recipe(name)
        text = json.dumps(recipe.stages)
        assert recipe.summary.endswith(".")
        assert all(f"${option}" in text for option in recipe.options), name
        assert (runner.BOOK / name / "README.md").is_file(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('run = "collect"', 'run = "brew"'),
            "stage 'written' runs 'brew'; known are choose, collect, dedup, train, evaluate",
        ),
        (('name = "again"', 'name = "written"'), "every stage needs a name of its own"),
        (('second = "again"', 'second = "nobody"'), "compare names 'nobody', which is no stage"),
        (('summary = "a', 'title = "a'), "is no recipe"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_runs(tmp_path: Path, change, message: str) -> None:
    assert change[0] in SMALL
    with pytest.raises(SpecError, match=message):
        read_recipe(write(tmp_path, SMALL.replace(*change, 1)))


def test_unknown_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown recipe 'cold_stat'. Did you mean cold_start"):
        read_recipe("cold_stat")
    recipe = read_recipe(write(tmp_path, SMALL))
    with pytest.raises(UnknownNameError, match=r"option of the recipe mine 'cont'. Did you mean count"):
        run_recipe(recipe, tmp_path / "run", {"cont": "3"}, resume=False, progress=Silent())
    bad = read_recipe(write(tmp_path, SMALL.replace("$written/answers", "$writen/answers")))
    with pytest.raises(SpecError, match=r"names something that is not there \('writen'\)"):
        run_recipe(bad, tmp_path / "bad", {"count": "4"}, resume=False, progress=Silent())
    with pytest.raises(SpecError, match=r"stage written:\nOption 'questions' is 'many'"):
        run_recipe(recipe, tmp_path / "many", {"count": "many"}, resume=False, progress=Silent())


CHOOSING = """
summary = "asks in the words that were chosen"
[options]
own = ""
other = "Now $question, please."
[[stage]]
name = "words"
run = "choose"
option = "prompt_template"
among = ["$own", "$other"]
teacher = "bundled:expert"
questions = 6
samples = 1
max_response_tokens = 40
[[stage]]
name = "asked"
run = "evaluate"
prompt_template = "$words"
questions = 2
samples = 1
"""


def test_later_stages_use_what_was_chosen(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, CHOOSING))
    found = run_recipe(recipe, tmp_path / "own", {}, resume=False, progress=Silent())
    assert found["stages"]["words"]["choice"] == ""
    assert read_json(tmp_path / "own" / "asked" / "run.json")["prompts"]["prompt_template"] is None
    turned = {"own": "Now $question, please.", "other": "Work out $question from left to right, two digits a step."}
    found = run_recipe(recipe, tmp_path / "turned", turned, resume=False, progress=Silent())
    assert found["stages"]["words"]["chosen"] == 2
    asked = read_json(tmp_path / "turned" / "asked" / "run.json")["prompts"]["prompt_template"]
    assert asked == turned["other"], "taken as it is: $question is the template's own"
    bad = read_recipe(write(tmp_path, CHOOSING.replace('among = ["$own", "$other"]', "")))
    with pytest.raises(SpecError, match="needs option and among"):
        run_recipe(bad, tmp_path / "bad", {}, resume=False, progress=Silent())

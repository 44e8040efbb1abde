from typing import Any

import numpy as np
import polars as pl
import pytest

from hydrometer.artifacts import TABLES, build_table
from hydrometer.artifacts.arrays import decode_arrays, encode_arrays
from hydrometer.artifacts.schemas import KEYS, SCHEMAS


def row(question_id: str = "q", rollout_id: int = 0, position: int = 0, token_id: int = 0, **changes: Any) -> dict:
    key = {"question_id": question_id, "rollout_id": rollout_id, "position": position, "token_id": token_id}
    rewards = dict.fromkeys(("reward_to_go", "reward_variance", "reward_success_covariance"))
    return key | {"teacher": "t", "teacher_logprob": -1.5, "teacher_rank": 2} | rewards | changes


def test_keys_stand_first_and_exist():
    assert KEYS.keys() == SCHEMAS.keys()
    for name, schema in SCHEMAS.items():
        assert tuple(schema)[: len(KEYS[name])] == KEYS[name]
    for schema in (schema for name, schema in TABLES.items() if name != "scores"):
        assert next(iter(schema)) == "question_id"
    for name in ("nodes", "candidates", "alignment"):
        assert KEYS[name][-1] == "continuation"


def test_rows_are_cast_put_in_order_and_sorted_by_key():
    rows = [
        row("b"),
        row("a", 10),
        row("a", 9, 2),
        row("a", 9, 1, 7),
        row("a", 9, 1, 3, teacher="u"),
        row("a", 9, 1, 3),
    ]
    table = build_table("teacher_scores", rows)
    assert table.schema == pl.Schema(TABLES["teacher_scores"])
    assert table.select("question_id", "rollout_id", "position", "token_id", "teacher").rows() == [
        ("a", 9, 1, 3, "t"), ("a", 9, 1, 3, "u"), ("a", 9, 1, 7, "t"), ("a", 9, 2, 0, "t"), ("a", 10, 0, 0, "t"),
        ("b", 0, 0, 0, "t"),
    ]  # fmt: skip


def test_frames_are_cast_and_lose_columns_that_are_not_the_tables():
    frame = pl.DataFrame([row()]).with_columns(
        pl.col("position").cast(pl.UInt8), pl.col("teacher_logprob").cast(pl.Float32), more=pl.lit(1)
    )
    table = build_table("teacher_scores", frame)
    assert table.schema == pl.Schema(TABLES["teacher_scores"])
    assert table["reward_to_go"].to_list() == [None]
    assert table["teacher_logprob"].to_list() == [-1.5]


def test_columns_of_the_runs_objectives_are_added():
    table = build_table("teacher_scores", [row(**{"field:reverse_kl": 2})], extra=["field:reverse_kl"])
    assert table["field:reverse_kl"].to_list() == [2.0]
    assert table.schema["field:reverse_kl"] == pl.Float64


@pytest.mark.parametrize("as_frame", [False, True])
def test_a_float_is_finite_or_null(as_frame: bool):
    rows = [row(position=0, teacher_logprob=float("nan")), row(position=1)]
    table = build_table("teacher_scores", pl.DataFrame(rows) if as_frame else rows)
    assert table["teacher_logprob"].to_list() == [None, -1.5]
    for number in (float("inf"), -float("inf")):
        bad = [row(teacher_logprob=number)]
        with pytest.raises(ValueError, match="table teacher_scores: teacher_logprob holds an infinite number"):
            build_table("teacher_scores", pl.DataFrame(bad) if as_frame else bad)


def test_rows_that_do_not_fit_are_bugs_and_loud():
    incomplete = row()
    del incomplete["teacher_rank"]
    with pytest.raises(ValueError, match="a row lacks teacher_rank"):
        build_table("teacher_scores", [row(), incomplete])
    with pytest.raises(pl.exceptions.PolarsError):
        build_table("teacher_scores", pl.DataFrame([row()]).drop("teacher_rank"))
    with pytest.raises(pl.exceptions.PolarsError):
        build_table("teacher_scores", pl.DataFrame([row() | {"teacher_rank": "first"}]))
    with pytest.raises(ValueError, match="two rows have the same question_id, rollout_id, position, token_id, teacher"):
        build_table("teacher_scores", [row(), row(teacher_rank=5)])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_has_its_columns(name: str):
    assert build_table(name, []).schema == pl.Schema(TABLES[name])


# --- arrays in a record


def test_arrays_come_back_to_the_bit():
    rng = np.random.default_rng(0)
    arrays = {
        "floats": np.array([0.1, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1.7976931348623157e308]),
        "payload": np.array([0x7FF8000000000123], dtype=np.uint64).view(np.float64),
        "matrix": rng.standard_normal((3, 4, 5)),
        "ids": np.array([-(2**63), 2**63 - 1]),
        "half": rng.standard_normal(7).astype(np.float32),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "scalar": np.array(2.5),
    }
    text = encode_arrays(arrays)
    assert text.isascii()
    found = decode_arrays(text)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


def test_objects_are_neither_written_nor_read():
    import base64
    import io

    with pytest.raises(TypeError, match="array 'things' holds objects"):
        encode_arrays({"things": np.array([{}, None], dtype=object)})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, things=np.array([{}, None], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        decode_arrays(base64.b64encode(buffer.getvalue()).decode())

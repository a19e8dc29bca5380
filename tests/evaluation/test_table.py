"""Detections as columns: rows, files and other processes get back what was put in, and odd rows are refused."""

import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation.table import concatenated, from_bytes, load, table_of, to_bytes

numbers = st.floats(allow_nan=False, allow_infinity=False)
ids = st.integers(-(2**63), 2**63 - 1)
masks = st.fixed_dictionaries(
    {
        "size": st.lists(st.integers(0, 2**31), min_size=2, max_size=2),
        "counts": st.text(st.characters(min_codepoint=48, max_codepoint=111)),
    }
)


def rows_of(**more: Any) -> st.SearchStrategy[list[dict[str, Any]]]:
    fields = {"image_id": ids, "category_id": ids, "score": numbers, **more}
    return st.lists(st.fixed_dictionaries(fields), max_size=6)


boxes = st.lists(numbers, min_size=4, max_size=4)
any_rows = st.one_of(
    rows_of(bbox=boxes, segmentation=masks), rows_of(bbox=boxes), rows_of(segmentation=masks), rows_of()
)


@pytest.mark.slow
@given(any_rows, any_rows)
def test_what_goes_in_comes_out(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    """Through the columns, another process and a file, bit for bit (-0.0 too), in any order and put together."""
    table = table_of(rows)
    assert [as_text(row) for row in table.rows()] == [as_text(row) for row in rows]
    assert list(from_bytes(to_bytes(table)).rows()) == rows
    table.save(file := io.BytesIO(), {"é": [1.5, None]})
    file.seek(0)
    back, meta = load(file)
    assert (list(back.rows()), meta) == (rows, {"é": [1.5, None]})
    backwards = np.arange(len(rows))[::-1]
    assert list(table.take(backwards).rows()) == rows[::-1]
    assert list(table.by_image().rows()) == sorted(rows, key=lambda row: row["image_id"])
    if rows and others and rows[0].keys() == others[0].keys():
        assert list(concatenated([table, table_of(others)]).rows()) == rows + others


def as_text(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


ROW = {
    "image_id": 1,
    "category_id": 2,
    "score": 0.5,
    "bbox": [0, 0, 1, 1],
    "segmentation": {"size": [2, 2], "counts": b"04"},
}


def test_of_an_image_and_of_what_there_is() -> None:
    """Boxes or masks that some rows lack are there of none."""
    other = ROW | {"image_id": 7, "score": np.float32(0.25)}
    table = table_of([ROW, other, ROW])
    assert [row["score"] for row in table.of_image(7)] == [0.25]
    assert len(table.of_image(1)) == 2 and table.of_image(3) == []
    assert (table.has("bbox"), table.has("segm")) == (True, True)
    boxless = table_of([ROW, {key: value for key, value in ROW.items() if key != "bbox"}])
    assert (boxless.has("bbox"), boxless.has("segm")) == (False, True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "expected an object, found list"),
        ({"image_id": 1, "score": 0.5}, "no category_id"),
        (ROW | {"image_id": "a"}, "image_id 'a' is no whole number"),
        (ROW | {"image_id": 1.5}, "image_id 1.5 is no whole number"),
        (ROW | {"category_id": 2**63}, "category_id 9223372036854775808 is no whole number"),
        (ROW | {"score": math.nan}, "score nan is no finite number"),
        (ROW | {"score": "high"}, "score 'high' is no finite number"),
        (ROW | {"bbox": [1, 2, 3]}, "is not four finite numbers"),
        (ROW | {"bbox": None}, "is not four finite numbers"),
        (ROW | {"segmentation": [[0, 0, 5, 0, 5, 5]]}, "not a compressed RLE"),
        (ROW | {"segmentation": {"size": [1, 2, 3], "counts": ""}}, "not a compressed RLE"),
    ],
)
def test_odd_rows_are_refused(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^row 1: .*{message}"):
        table_of([ROW, row])


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_damaged_columns_are_refused(cut: int) -> None:
    with pytest.raises(ValueError):
        load(io.BytesIO(to_bytes(table_of([ROW]))[:cut]))

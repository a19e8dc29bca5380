"""`harness doctor --numerics`: the table, its JSON and its exit codes, for one row."""

import json

import pytest

from cli.conftest import Harness
from harness import axes
from harness.numerics import table

ROW = "mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "published_rows", lambda: [ROW])


def test_all_is_well(harness: Harness) -> None:
    code, out, _ = harness("doctor", "--numerics")
    header, _, row, *_, counts, advice = out.splitlines()
    assert code == 0
    assert header.split() == ["row", *table.CHECKS]
    assert row.split() == ["r50_caffe_fpn_mstrain-poly_2x", *["ok"] * (len(table.CHECKS) - 1), "not", "checked"]
    assert counts == f"{len(table.CHECKS)} checks: {len(table.CHECKS) - 1} ok, 0 DIFFERS, 1 not checked"
    assert advice == "weights are not checked where their file is not here: harness fetch zoo"


def test_what_differs_is_told_with_row_and_column(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes, "PUBLISHED_EXCEPTIONS", {})  # the row then has the second rate step of all others
    code, out, _ = harness("doctor", "--numerics")
    assert code == 1
    assert f"\n{ROW}, recipe: lr_steps is [16, 22], expected [16, 23]\n" in out
    code, out, _ = harness("doctor", "--numerics", "--json")
    found = json.loads(out)[ROW]
    assert code == 1
    assert found["rates"] == {
        "status": "DIFFERS",
        "differences": ["rate in epoch 22, iteration 0 is 0.0002, expected 0.002"],
    }
    assert found["keys"] == {"status": "ok", "differences": []}

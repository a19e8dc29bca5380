"""Lines on what differs."""

import torch

from harness.numerics.compare import differs, differs_by_name, far, few


def test_plain_values() -> None:
    assert differs("lr", 0.02, 0.02) == []
    assert differs("lr", 0.02, 0.01) == ["lr is 0.02, expected 0.01"]


def test_by_name_and_the_first_of_many() -> None:
    assert differs_by_name({"a": 1, "b": 2}, {"a": 1, "c": 3}) == ["b is not expected", "c is missing"]
    lines = differs_by_name({str(i): 0 for i in range(9)}, {str(i): 1 for i in range(9)})
    assert lines == [*(f"{i} is 0, expected 1" for i in range(4)), "and 5 more"]
    assert few(["one"]) == ["one"]


def test_tensors_by_how_much() -> None:
    one, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.5, 3.25])
    assert far("x", one, other, tolerance=0.5) == []
    assert far("x", one, other, tolerance=0.3) == ["x: 1 of 3 differ, by up to 0.5 (2, expected 2.5; allowed 0.3)"]
    assert far("x", one, other[:2]) == ["x: shape is (3,), expected (2,)"]
    assert far("x", torch.tensor([torch.nan]), torch.tensor([1.0]), tolerance=9)[0].startswith("x: 1 of 1 differ")
    assert far("x", torch.tensor([True, False]), torch.tensor([True, True])) == [
        "x: 1 of 2 differ, by up to 1 (0, expected 1; allowed 0)"
    ]
    assert far("x", torch.zeros(0, 4), torch.zeros(0, 4)) == []

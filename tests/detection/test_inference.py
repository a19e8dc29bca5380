"""Selection of detections by hand, in both frames."""

import pytest
import torch
from torch import Tensor

from harness.detection import inference
from harness.detection.inference import Instances, select_instances, suppress_by_class


def select(scores: list[list[float]], proposals: list[list[float]], **changed: object) -> Instances:
    arguments: dict[str, object] = {
        "stds": torch.ones(4),
        "size": torch.tensor([100, 200]),
        "scale_factor": torch.tensor([2.0, 2.0]),
        "score_threshold": 0.05,
        "nms_iou": 0.5,
        "max_detections": 100,
        "nms_frame": "original",
    }
    deltas = torch.zeros(len(scores), 4 * (len(scores[0]) - 1))
    return select_instances(torch.tensor(scores), deltas, torch.tensor(proposals), **{**arguments, **changed})  # type: ignore[arg-type]


def test_threshold_classes_and_order() -> None:
    box, moved, other = [0.0, 0, 40, 40], [0.0, 4, 40, 44], [100.0, 50, 120, 90]
    found = select([[0.5, 0.3, 0.2], [0.6, 0.05, 0.35], [0.05, 0.9, 0.05]], [box, moved, other])
    # Class 0: 0.6 suppresses 0.5 (overlap 36 / 44); class 1: 0.9 and 0.3 lie apart; 0.05 is not above 0.05.
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert found.labels.tolist() == [1, 0, 1]
    assert found.resized.tolist() == [other, moved, box]
    assert found.original.tolist() == [[value / 2 for value in row] for row in (other, moved, box)]


def test_at_most_so_many_and_none_at_all() -> None:
    boxes = [[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(8)]
    scores = [[0.1 * i + 0.1, 0.0] for i in range(8)]
    found = select(scores, boxes, max_detections=3)
    assert found.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    nothing = select(scores, boxes, score_threshold=0.95)
    assert [len(part) for part in (nothing.original, nothing.resized, nothing.scores, nothing.labels)] == [0] * 4


def test_frames_agree_but_for_rounding() -> None:
    # An overlap does not change with the scale of an axis.
    boxes = [[0.0, 0, 30, 30], [0.0, 12, 30, 42], [50.0, 0, 80, 60]]
    scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
    scale = torch.tensor([1.3, 1.7])
    original = select(scores, boxes, scale_factor=scale)
    resized = select(scores, boxes, scale_factor=scale, nms_frame="resized")
    torch.testing.assert_close(original.original, resized.original)
    torch.testing.assert_close(original.resized, resized.resized)
    assert len(original.scores) == 3


@pytest.mark.parametrize(("frame", "divisor"), [("original", 2), ("resized", 1)])
def test_boxes_are_compared_in_the_frame_asked_for(monkeypatch: pytest.MonkeyPatch, frame: str, divisor: int) -> None:
    """Overlaps are the same in both; what differs is the rounding, and the offsets between classes."""
    compared = []

    def spy(boxes: Tensor, scores: Tensor, labels: Tensor, *, iou: float) -> Tensor:
        compared.append(boxes)
        return suppress_by_class(boxes, scores, labels, iou=iou)

    monkeypatch.setattr(inference, "suppress_by_class", spy)
    box = [10.0, 20, 50, 60]
    found = select([[0.9, 0.1]], [box], nms_frame=frame, score_threshold=0.5)
    assert compared[0].tolist() == [[value / divisor for value in box]]
    assert (found.resized.tolist(), found.original.tolist()) == ([box], [[value / 2 for value in box]])


def test_offsets_are_rounded_to_float32_as_in_the_recipes() -> None:
    boxes = torch.tensor([[0.0, 0, 10.003, 10], [0.0, 0, 5.0, 10], [0, 0, 1333, 1]])
    labels, scores = torch.tensor([79, 79, 0]), torch.tensor([0.9, 0.8, 0.7])
    # The overlap is 5 / 10.003 = 0.49985. Moved by 79 * (1333 + 1), where float32 keeps 1/128 px, it becomes 5 / 10.
    assert suppress_by_class(boxes, scores, labels, iou=0.4999).tolist() == [0, 2]
    # Without the large box they move by 79 * (10.003 + 1) only.
    assert suppress_by_class(boxes[:2], scores[:2], labels[:2], iou=0.4999).tolist() == [0, 1]

"""The assignment rules on a hand-made overlap matrix."""

import pytest
import torch
from torch import Tensor

from harness.detection import matcher
from harness.detection.matcher import BACKGROUND, IGNORED, match


def matches(
    monkeypatch: pytest.MonkeyPatch,
    iou: list[list[float]],
    *,
    gt: list[int],
    valid: list[int],
    low_quality: bool = True,
) -> list[int]:
    monkeypatch.setattr(matcher, "pairwise_iou", lambda first, second: torch.tensor([iou]))
    candidates, slots = len(iou[0]), len(iou)
    found: Tensor = match(
        torch.zeros(candidates, 4),
        torch.tensor([valid]).bool(),
        torch.zeros(1, slots, 4),
        torch.tensor([gt]).bool(),
        positive_iou=0.7,
        negative_iou=0.3,
        min_positive_iou=0.3,
        low_quality=low_quality,
    )
    return found[0].tolist()


def test_thresholds_and_low_quality_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    iou = [
        # candidate: 0 above; 1 between; 2 below; 3, 4 tie as the best of ground truth 1; 5 just at the threshold
        [0.9, 0.5, 0.1, 0.2, 0.0, 0.7],
        [0.0, 0.2, 0.1, 0.4, 0.4, 0.0],
    ]
    everyone = [1] * 6
    assert matches(monkeypatch, iou, gt=[1, 1], valid=everyone) == [0, IGNORED, BACKGROUND, 1, 1, 0]
    assert matches(monkeypatch, iou, gt=[1, 1], valid=everyone, low_quality=False) == [
        0,
        IGNORED,
        BACKGROUND,
        IGNORED,
        IGNORED,
        0,
    ]


def test_the_last_ground_truth_claims_a_shared_best_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    # Candidate 0 is the best of all three and overlaps ground truth 0 most; 2 claims it last. Its 0.2 is too low for 3.
    iou = [[0.9, 0.0], [0.8, 0.1], [0.75, 0.1], [0.2, 0.1]]
    assert matches(monkeypatch, iou, gt=[1, 1, 1, 1], valid=[1, 1]) == [2, BACKGROUND]


def test_candidates_that_are_not_valid_neither_match_nor_count_as_best(monkeypatch: pytest.MonkeyPatch) -> None:
    # The best of ground truth 0 is out of play, so that 0.4 is its best.
    assert matches(monkeypatch, [[0.9, 0.4, 0.1]], gt=[1], valid=[0, 1, 1]) == [IGNORED, 0, BACKGROUND]


def test_without_ground_truth_all_is_background(monkeypatch: pytest.MonkeyPatch) -> None:
    assert matches(monkeypatch, [[0.0, 0.0]], gt=[0], valid=[1, 1]) == [BACKGROUND, BACKGROUND]


def test_images_are_apart() -> None:
    box = [0.0, 0, 10, 10]
    candidates = torch.tensor([box, [50, 50, 60, 60]])
    gt = torch.tensor([[box], [[50.0, 50, 60, 60]]])
    both = match(
        candidates,
        torch.ones(2, 2, dtype=torch.bool),
        gt,
        torch.ones(2, 1, dtype=torch.bool),
        positive_iou=0.5,
        negative_iou=0.5,
        min_positive_iou=0.5,
    )
    assert both.tolist() == [[0, BACKGROUND], [BACKGROUND, 0]]

"""Prediction with a model whose detections are known, and the gathering of ranks."""

from pathlib import Path

import pytest
import torch

from harness.evaluation.predict import gather_results, predict_split

from .fakes import Sample, WholeImage


def samples() -> list[Sample]:
    return [Sample(image_id=number, image=torch.full((1, 3, 32, 64), float(number % 2))) for number in (7, 8)]


def test_predict_split() -> None:
    model = WholeImage().train()
    done: list[int] = []
    rows = predict_split(model, samples(), [11, 22], device="cpu", progress=done.append)
    assert [(row["image_id"], row["category_id"], row["bbox"]) for row in rows] == [
        (7, 22, [0, 0, 100, 60]),
        (8, 11, [0, 0, 100, 60]),
    ]
    assert done == [1, 2]
    assert model.calls[0] == ((1, 3, 32, 64), [[30, 50]], [[60, 100]], [[0.5, 0.5]], False, False, False)
    assert model.training


def test_predict_split_under_autocast() -> None:
    model = WholeImage().eval()
    predict_split(model, samples(), [11, 22], device="cpu", autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert model.calls[0][-1] is True
    assert not model.training


def test_one_rank_keeps_its_rows() -> None:
    rows = [{"image_id": 3, "score": 0.1}]
    assert gather_results(rows, 0, 1) == rows


SHARES = [
    [{"image_id": 1, "score": 0.1}, {"image_id": 3, "score": 1 / 3}, {"image_id": 3, "score": 0.2}],
    [{"image_id": 1, "score": 0.1}, {"image_id": 2, "score": 0.5, "segmentation": {"size": [2, 2], "counts": "04é"}}],
    [],
]


def gather(rank: int, rendezvous: str) -> None:
    world = len(SHARES)
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    gathered = gather_results(SHARES[rank], rank, world)
    assert gathered == (SHARES[0] + SHARES[1][1:] if rank == 0 else None)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_are_gathered_and_doubled_images_count_once(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(gather, (f"file://{tmp_path}/rendezvous",), nprocs=len(SHARES))

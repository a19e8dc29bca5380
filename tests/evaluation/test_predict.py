"""Prediction with a model whose detections are known, and the gathering of ranks."""

from pathlib import Path

import pytest
import torch

from harness.evaluation.predict import gather_results, predict_split
from harness.evaluation.table import table_of

from .fakes import Sample, WholeImage


def samples() -> list[Sample]:
    return [Sample(image_id=number, image=torch.full((1, 3, 32, 64), float(number % 2))) for number in (7, 8)]


def test_predict_split() -> None:
    model = WholeImage().train()
    done: list[int] = []
    found = predict_split(model, samples(), [11, 22], device="cpu", progress=done.append)
    assert [(row["image_id"], row["category_id"], row["bbox"]) for row in found.rows()] == [
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


def row(image: int, score: float, **more: object) -> dict[str, object]:
    box, mask = [0.0, 1.0, 1 / 3, 2.0], {"size": [2, 2], "counts": "04"}
    return {"image_id": image, "category_id": 1, "bbox": box, "score": score, "segmentation": mask, **more}


def test_one_rank_keeps_its_own() -> None:
    found = table_of([row(3, 0.1)])
    assert gather_results(found, 0, 1) is found


SHARES = [
    [row(1, 0.1), row(3, 1 / 3), row(3, 0.2)],
    [row(1, 0.9), row(2, 0.5, segmentation={"size": [4, 8], "counts": "Q21c000000o7"}), row(4, 0.25)],
    [],
]


def gather(rank: int, rendezvous: str) -> None:
    world = len(SHARES)
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    gathered = gather_results(table_of(SHARES[rank]), rank, world)
    assert (gathered is not None) == (rank == 0)
    if gathered is not None:
        assert list(gathered.rows()) == SHARES[0] + SHARES[1][1:]
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_are_gathered_and_doubled_images_count_once(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(gather, (f"file://{tmp_path}/rendezvous",), nprocs=len(SHARES))

"""How long a checkpoint of R-50 keeps the step waiting: python tests/benchmarks/bench_checkpoint.py [FOLDER]."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.public import recipe_for
from harness.training import checkpoint
from harness.training.background import Background
from harness.training.build import build_model, build_optimizer
from harness.training.checkpoint import Saved, Snapshot

ROUNDS = 7


def main() -> None:
    """Time the copy, which the step waits for, and the writing, which it waited for before there was a copy."""
    recipe = recipe_for("mask_rcnn_r50_fpn_1x_coco")
    model = build_model(recipe).to(device := torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    optimizer = build_optimizer(recipe, model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # momentum
    content = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        measure(Path(folder), content, device)


def measure(folder: Path, content: dict[str, Any], device: torch.device) -> None:
    """Print the seconds of each way."""
    writing: Background[Saved] = Background("checkpoint")

    def beside() -> None:
        copy = Snapshot(content, device)
        writing.start(lambda: checkpoint.save(folder, copy.arrived(), epoch=1, iteration=0, step=1))

    print(f"{device}, seconds{'':22}{'median':>10}{'least':>10}{'most':>10}")
    write = timed(lambda: checkpoint.save(folder, content, epoch=1, iteration=0, step=1), lambda: None)
    show("writing while the step waits", write)
    show("copying, writing beside it", timed(beside, writing.wait))
    print(f"{next(folder.glob('*.pth')).stat().st_size / 2**20:.0f} MiB")


def timed(action: Callable[[], object], between: Callable[[], object]) -> list[float]:
    """Seconds of each round, without what is done between two."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
        between()
    return times


def show(name: str, times: list[float]) -> None:
    """A line of the table."""
    values = (statistics.median(times), min(times), max(times))
    print(f"{name:32}" + "".join(f"{value:10.3f}" for value in values))


if __name__ == "__main__":
    main()

"""The bill of a full run, R-50 for 12 epochs on 8 GPUs: what share of its wall time is no training step.

python tests/benchmarks/bench_bill.py [STEP_SECONDS FPS]: adds a column for such GPUs, by the seconds of an iteration of
16 images and the images a second that one GPU tests.

Measured on this machine are the parts that no GPU decides: a start (R-50 with its optimiser; the index of annotations
as many as COCO's), a first parse of these, the wait for a batch where the workers keep up (a median: where they do not,
it takes more cores, see bench_data.py; the loader's thread receives it beside the step and copies it, as for a GPU), a
test's way to the scoring beside the training and the last scoring, which is waited for, a checkpoint of R-50 at an
epoch's end and between, a log row, and what is written at the end. Assumed are the seconds of a step, by which all of
that is judged, a GPU's images a second in tests, and that the run is stopped and requeued twice; the wait in the queue
costs no allocation.
"""

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import bench_annotations
import bench_evaluation
import torch
from bench_data import as_published, photos

from harness.data.batches import training_batches
from harness.data.coco import load_index, train_filter
from harness.data.shapes import generate_shapes
from harness.files import read_json
from harness.launching.job import run_attempt
from harness.launching.prepare import prepare, write
from harness.matrix import load_experiment
from harness.planning.assumed import FPS, ITERATION_S
from harness.run_log import read_log
from harness.run_paths import RunPaths
from harness.settings import load_settings
from harness.training.bill import overhead, read_times
from harness.training.checkpoint import Snapshot
from harness.training.checkpoint import load as load_checkpoint
from harness.training.loop import CHECKPOINT_SECONDS, LOG_INTERVAL

EPOCHS, ITERATIONS, TESTED, GPUS, BATCH, REQUEUES = 12, 7330, 5000, 8, 16, 2
SPEED_IMAGES = 2000
"""That the outcome measures the frames a second with."""
TARGET = 0.05
ASSUMED = {
    "8 x V100, published": (ITERATION_S, FPS[50, 1, 64]),
    "60 img/s a GPU": (BATCH / GPUS / 60, 60.0),
}
"""Seconds of a step, and the images a second that one GPU tests."""
MATRIX = """\
name: bill
axes: {backbone: R-50}
recipe: {dataset: shapes, num_classes: 3, pretrained: none, batch: 2, lr: 0.00001, roi_samples: 32, rpn_proposals: 64}
shorten: {epochs: 2, iterations_per_epoch: 2, image_scale: 0.08, eval_images: 6}
resources: {gpus_per_node: 0, workers: 0, minutes: 60}
"""


def main() -> None:
    """Measure the parts and print the table."""
    if sys.argv[1:2] == ["--attempt"]:
        raise SystemExit(run_attempt(Path(sys.argv[2]), sys.argv[3]))
    own = {"as given": (float(sys.argv[1]), float(sys.argv[2]))} if sys.argv[2:] else {}
    parts: dict[str, float] = {}
    for measured in (of_a_run, of_the_index, of_the_data, of_the_scoring):
        with tempfile.TemporaryDirectory() as place:
            parts |= measured(Path(place))
    print("measured, seconds: " + ", ".join(f"{name} {seconds:.3g}" for name, seconds in parts.items()))
    show({name: billed(*assumed, parts) for name, assumed in {**ASSUMED, **own}.items()})
    failure = CHECKPOINT_SECONDS / 2 + parts["resume"] + parts["index"]
    print(f"a node that fails costs {failure:.0f} s more on average; a first parse {parts['parse']:.0f} s, once")


def of_a_run(place: Path) -> dict[str, float]:
    """R-50 on small pictures, stopped in its second epoch and taken up again."""
    generate_shapes(place / "shapes", train=12, val=6, size=96)
    (place / "harness.toml").write_text(f'cache_root = "cache"\n[datasets.shapes]\nroot = "{place}/shapes"\n')
    (place / "bill.yaml").write_text(MATRIX)
    (run,) = prepare(load_experiment(place / "bill.yaml"), load_settings(place, {}))
    write(run)
    paths = run.paths
    command = [sys.executable, "-W", "ignore", __file__, "--attempt", str(paths.folder), f"sqlite:///{place}/mlflow.db"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (paths.checkpoints / "latest.json").exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    first.wait()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return _parts_of_a_run(paths)


def _parts_of_a_run(paths: RunPaths) -> dict[str, float]:
    times = read_times(paths.folder)
    rows = sum(row["mode"] == "train" for row in read_log(paths.log))
    content = load_checkpoint(paths.checkpoints / read_json(paths.checkpoints / "latest.json")[-1]["file"])
    spent = {phase: sum(own["seconds"].get(phase, 0.0) for own in times) for phase in ("checkpoint", "log", "outcome")}
    return {
        "start": times[0]["seconds"]["start"],
        "resume": times[-1]["seconds"]["start"],
        "checkpoint": spent["checkpoint"] / sum(own["checkpoints"] for own in times),
        "copy": _median(lambda: Snapshot(content, torch.device("cpu"))),
        "log": spent["log"] / rows,
        "outcome": spent["outcome"],
    }


def of_the_index(place: Path) -> dict[str, float]:
    """The annotations of 118,287 images: parsed, and found."""
    (place / "all.json").write_text("".join(bench_annotations.instances()))
    split = bench_annotations.split_of(place / "all.json")
    began = time.perf_counter()
    bench_annotations.child("--parse", place / "all.json").communicate()
    parse = time.perf_counter() - began
    return {"parse": parse, "index": _median(lambda: train_filter(load_index(split)))}


def of_the_data(place: Path) -> dict[str, float]:
    """The wait for a batch of two photos at full size, where two workers have the time to make it."""
    split, _ = photos(place)
    index = load_index(split)
    augmentation = as_published("polygon")
    arguments: dict[str, Any] = {"seed": 0, "epoch": 0, "total_batch": 2, "workers": 2, "repeats": 4, "iterations": 20}
    waits = []
    with _pinning():
        batches = training_batches(index, split.images, train_filter(index), augmentation, pin_memory=True, **arguments)
        for number in range(20):
            began = time.perf_counter()
            next(batches)
            waits += [time.perf_counter() - began] if number > 4 else []
            time.sleep(0.4)
        batches.close()
    return {"wait": statistics.median(waits)}


@contextmanager
def _pinning() -> Iterator[None]:
    """Let the loader pin memory as for a GPU, in a thread of its own; the copy is to ordinary memory."""
    told: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "current_accelerator": lambda *_: torch.device("cpu"),
        "current_device_index": lambda: 0,
        "set_device_index": lambda _: None,
    }
    with ExitStack() as patches:
        for name, function in told.items():
            patches.enter_context(mock.patch.object(torch.accelerator, name, function))
        patches.enter_context(mock.patch.object(torch.Tensor, "pin_memory", lambda tensor, *_: tensor.clone()))
        yield


def of_the_scoring(place: Path) -> dict[str, float]:
    """Of 5,000 images with 36 detections each: until it is begun beside the training, and all of it."""
    bench_evaluation.generate(place, TESTED)
    return {name: bench_evaluation.child(side, place)["wall"] for name, side in (("hand", "waits"), ("score", "ours"))}


def billed(step: float, fps: float, parts: dict[str, float]) -> dict[str, float]:
    """Seconds of each part of a run, by the names of harness/training/bill.py."""
    steps = EPOCHS * ITERATIONS
    return {
        "step": steps * step,
        "start": parts["start"] + parts["index"],
        "data": steps * parts["wait"],
        "evaluation": EPOCHS * (TESTED / GPUS / fps + parts["hand"]) + parts["score"],
        "checkpoint": EPOCHS * parts["checkpoint"] + steps * step / CHECKPOINT_SECONDS * parts["copy"],
        "log": steps / LOG_INTERVAL * parts["log"],
        "outcome": SPEED_IMAGES / fps + parts["outcome"],
        "requeue": REQUEUES * (parts["checkpoint"] + parts["resume"] + parts["index"]),
    }


def show(bills: dict[str, dict[str, float]]) -> None:
    """A column for each assumption: seconds, and the share of all."""
    print(f"{'':12}" + "".join(f"{name:>26}" for name in bills))
    for part in next(iter(bills.values())):
        cells = [f"{own[part]:14.1f} s {own[part] / sum(own.values()):9.2%}" for own in bills.values()]
        print(f"{part:12}" + "".join(cells))
    print(f"{'no step':12}" + "".join(f"{overhead(own):26.2%}" for own in bills.values()) + f"   target {TARGET:.0%}")


def _median(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()

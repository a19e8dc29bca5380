"""COCO numbers of 5,000 images with 36 detections each, by us and by pycocotools: time, memory, and whether equal.

python tests/benchmarks/bench_evaluation.py [IMAGES [ROUNDS]]. The two sides work alternately, each in a process of its
own that reads the same annotations and the same detections and makes the 24 numbers of boxes and masks: ours as the
process beside a training does, from the columns that the training left on the disk; pycocotools' by COCO, loadRes and
COCOeval, from a file of COCO results. Times are without imports. Memory is the peak of the process (VmHWM, Linux), with
the interpreter and imports on both sides; "own" is that less what was there after the imports. Medians, and the least
and the most.

Then what a test costs besides: the file of detections, and for how long a training waits, device in hand, before the
next epoch begins, which would be all of that without a process beside it. At last `harness evaluate` on the file of
detections.
"""

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

IMAGES, ROUNDS, DETECTIONS, OBJECTS, CATEGORIES = 5000, 3, 36, 7, 80
SIZE = (480, 640)  # height, width
SIDES = ("ours", "pycocotools")
EXTRA = ("file", "waits", "from the file")
MEASURES = {"cpu": "CPU s", "wall": "wall s", "peak": "peak MB", "own": "own MB"}
Work = Callable[[], tuple[list[float], str]]
"""-> 24 numbers, and by what."""


def main() -> None:
    """Generate, evaluate by turns, compare."""
    if sys.argv[1:2] == ["--side"]:
        return measured(sys.argv[2], Path(sys.argv[3]))
    images, rounds = (int(text) for text in (*sys.argv[1:3], *map(str, (IMAGES, ROUNDS)[len(sys.argv[1:3]) :])))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        generate(folder, images)
        print(f"{images} images, {OBJECTS * images} objects, {DETECTIONS * images} detections; {rounds} rounds")
        found = [{side: child(side, folder) for side in SIDES} for _ in range(rounds)]
        extra = {name: [child(name, folder) for _ in range(rounds)] for name in EXTRA}
        size = (folder / "detections.json.gz").stat().st_size / 2**20
    for side in SIDES:
        print(f"{side:14}{told([entry[side] for entry in found])}")
    ratios = (
        f"{name} 1/{spread([e['pycocotools'][key] / e['ours'][key] for e in found])}" for key, name in MEASURES.items()
    )
    print(f"{'ratios':14}{'; '.join(ratios)}; ours by {found[0]['ours']['library']}")
    numbers = [found[0][side]["numbers"] for side in SIDES]
    worst = max(abs(one - two) for one, two in zip(*numbers, strict=True))
    print(f"{len(numbers[0])} numbers, largest difference {worst:.1e}")
    for name, text in zip(
        EXTRA, (f"to write the detections ({size:.1f} MB)", "of waiting", "harness evaluate"), strict=True
    ):
        print(f"{name:14}{told(extra[name])}  {text}")
    waits, whole = ([e["wall"] for e in side] for side in (extra["waits"], [entry["ours"] for entry in found]))
    files = [e["wall"] for e in extra["file"]]
    before = [one + two for one, two in zip(whole, files, strict=True)]
    print(f"a training waits {spread(waits)} s for its test to be scored and kept, which takes {spread(before)} s")
    return None


def told(entries: list[dict[str, Any]]) -> str:
    """Each measure with its spread."""
    return "; ".join(f"{name} {spread([entry[key] for entry in entries])}" for key, name in MEASURES.items())


def spread(values: list[float]) -> str:
    """The median, the least and the most."""
    middle, least, most = (f"{value:.3g}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} [{least}, {most}]"


def generate(folder: Path, images: int) -> None:
    """annotations.json, results.json and their columns, from a fixed seed; two thirds of them are near an object."""
    from harness.evaluation.table import table_of
    from harness.run_paths import RunPaths

    random = np.random.default_rng(0)
    truth: dict[str, Any] = {
        "images": [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(1, images + 1)],
        "categories": [{"id": n, "name": f"class {n}"} for n in range(1, CATEGORIES + 1)],
        "annotations": [],
    }
    results = []
    for image in range(1, images + 1):
        shapes = [blob(random) for _ in range(OBJECTS)]
        kinds = random.integers(1, CATEGORIES + 1, OBJECTS).tolist()
        for points, kind in zip(shapes, kinds, strict=True):
            number = len(truth["annotations"]) + 1
            row = {"id": number, "image_id": image, "category_id": kind, "iscrowd": 0}
            low, size = points.min(0), np.ptp(points, 0)
            area = float(coco_mask.area(rle(points)))
            polygon = points.ravel().round(2).tolist()
            truth["annotations"].append(row | {"segmentation": [polygon], "bbox": [*low, *size], "area": area})
        for number in range(DETECTIONS):
            near = number < 2 * DETECTIONS // 3
            points = shapes[number % OBJECTS] + random.normal(0, 8, 2) if near else blob(random)
            kind = kinds[number % OBJECTS] if near else int(random.integers(1, CATEGORIES + 1))
            results.append({"image_id": image, "category_id": kind, **detection(points.clip(0, SIZE[::-1]), random)})
    (folder / "annotations.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    with RunPaths(folder).unscored.open("wb") as columns:
        table_of(results).save(columns, {"mode": "val", "epoch": 1, "step": 1, "checkpoint_sha256": ""})


def blob(random: np.random.Generator) -> np.ndarray:
    """16 vertices (x, y) around a centre."""
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    radius = random.uniform(0.6, 1, 16) * np.exp(random.uniform(np.log(6), np.log(150)))
    points = np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None] + random.uniform(0, 1, 2) * SIZE[::-1]
    return points.clip(0, SIZE[::-1])


def rle(points: np.ndarray) -> Any:
    """The mask of a polygon."""
    return coco_mask.frPyObjects([points.ravel().tolist()], *SIZE)[0]


def detection(points: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """Box, mask and a score of two digits, so that there are ties."""
    mask = rle(points)
    box = [*points.min(0).round(2).tolist(), *np.ptp(points, 0).round(2).tolist()]
    segmentation = {"size": list(SIZE), "counts": mask["counts"].decode()}
    return {"score": round(float(random.random()), 2), "bbox": box, "segmentation": segmentation}


def child(side: str, folder: Path) -> dict[str, Any]:
    """What a side says of itself."""
    command = [sys.executable, __file__, "--side", side, str(folder)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measured(side: str, folder: Path) -> None:
    """Do a side's work in this process."""
    prepare = {"ours": ours, "pycocotools": pycocotools, "file": file, "waits": waits, "from the file": from_the_file}
    run = prepare[side](folder)
    before, began, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    numbers, library = run()
    seconds, wall = time.process_time() - cpu, time.perf_counter() - began
    peak = memory("VmHWM")
    facts = {"cpu": seconds, "wall": wall, "peak": peak, "own": peak - before, "library": library, "numbers": numbers}
    print(json.dumps(facts))


def ours(folder: Path) -> Work:
    """As the process beside a training does, but for the file of detections."""
    import hotcoco  # noqa: F401 (imported when it is first used)

    from harness.evaluation.coco import evaluate
    from harness.evaluation.scoring import evaluation_library
    from harness.run_paths import RunPaths
    from harness.training.scorer import read_unscored

    def run() -> tuple[list[float], str]:
        found, _ = read_unscored(RunPaths(folder))
        result = evaluate(folder / "annotations.json", found)
        return [-1.0 if value is None else value for value in result.numbers.values()], evaluation_library()

    return run


def from_the_file(folder: Path) -> Work:
    """As `harness evaluate detections.json.gz` does."""
    import hotcoco  # noqa: F401

    from harness.evaluation.coco import evaluate
    from harness.evaluation.detections import read_detections

    def run() -> tuple[list[float], str]:
        evaluate(folder / "annotations.json", read_detections(folder / "detections.json.gz")[0])
        return [], ""

    return run


def file(folder: Path) -> Work:
    """The file of detections, from columns."""
    from harness.evaluation.detections import write_detections
    from harness.run_paths import RunPaths
    from harness.training.scorer import read_unscored

    found, _ = read_unscored(RunPaths(folder))

    def run() -> tuple[list[float], str]:
        write_detections(folder / "detections.json.gz", found, meta={})
        return [], ""

    return run


def waits(folder: Path) -> Work:
    """What a training does between a test and the next epoch: columns to the disk, and a process begun."""
    from harness.run_paths import RunPaths
    from harness.training.scorer import read_unscored
    from harness.training.scoring import Scoring

    paths = RunPaths(folder)
    found, head = read_unscored(paths)
    ids = sorted(set(found.image_ids.tolist()))
    split: Any = SimpleNamespace(annotations=folder / "annotations.json", image_ids=ids)

    def run() -> tuple[list[float], str]:
        scoring = Scoring(paths, split, attempt=1, record=lambda *_: None)
        scoring.begin(found, head)
        scoring.__exit__(KeyboardInterrupt, None, None)
        return [], ""

    return run


def pycocotools(folder: Path) -> Work:
    """As its demo does."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def run() -> tuple[list[float], str]:
        numbers: list[float] = []
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(folder / "annotations.json"))
            for kind in ("bbox", "segm"):
                rows = json.loads((folder / "results.json").read_text())
                for row in rows if kind == "segm" else []:
                    row.pop("bbox")  # so that a mask's own area decides its size, as in the recipes
                found = COCOeval(truth, truth.loadRes(rows), kind)
                found.evaluate()
                found.accumulate()
                found.summarize()
                numbers += found.stats.tolist()
        return numbers, "pycocotools"

    return run


def memory(field: str) -> float:
    """Of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024


if __name__ == "__main__":
    main()

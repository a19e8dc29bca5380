"""COCO numbers of 5,000 images with 36 detections each, by us and by pycocotools: time, memory, and whether equal.

python tests/benchmarks/bench_evaluation.py [IMAGES]. Each side reads the same two files in a process of its own and
makes the 24 numbers of boxes and masks: ours as a training does, pycocotools' by COCO, loadRes and COCOeval. Time is
without imports; memory is the peak of the process, imports included, and that less what was there before (Linux).
"""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

IMAGES, DETECTIONS, OBJECTS, CATEGORIES = 5000, 36, 7, 80
SIZE = (480, 640)  # height, width
SIDES = ("ours", "pycocotools")
Side = Callable[[Path, Path], tuple[list[float], str]]
"""Files of annotations and results -> 24 numbers, and by what."""


def main() -> None:
    """Generate, evaluate twice, compare."""
    if sys.argv[1:2] == ["--side"]:
        return evaluated(sys.argv[2], Path(sys.argv[3]))
    images = int(sys.argv[1]) if sys.argv[1:] else IMAGES
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        generate(folder, images)
        print(f"{images} images, {OBJECTS * images} objects, {DETECTIONS * images} detections; bbox and segm")
        found = {side: child(side, folder) for side in SIDES}
    ours, theirs = found["ours"], found["pycocotools"]
    print(f"{'':14}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}{'of it own':>11}")
    for side, entry in found.items():
        print(f"{side:14}{entry['cpu']:9.1f}{entry['wall']:9.1f}{entry['peak']:9.0f}{entry['own']:11.0f}")
    ratios = "".join(f", {name} 1/{theirs[key] / ours[key]:.1f}" for name, key in (("memory", "peak"), ("own", "own")))
    print(f"CPU time 1/{theirs['cpu'] / ours['cpu']:.1f}{ratios} of pycocotools; ours by {ours['library']}")
    worst = max(abs(one - two) for one, two in zip(ours["numbers"], theirs["numbers"], strict=True))
    print(f"{len(ours['numbers'])} numbers, largest difference {worst:.1e}")
    return None


def generate(folder: Path, images: int) -> None:
    """annotations.json and results.json, from a fixed seed; two thirds of the detections are near an object."""
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


def evaluated(side: str, folder: Path) -> None:
    """Evaluate in this process."""
    run = ours() if side == "ours" else pycocotools()
    before, began, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    numbers, library = run(folder / "annotations.json", folder / "results.json")
    seconds, wall = time.process_time() - cpu, time.perf_counter() - began
    peak = memory("VmHWM")
    facts = {"cpu": seconds, "wall": wall, "peak": peak, "own": peak - before, "library": library, "numbers": numbers}
    print(json.dumps(facts))


def ours() -> Side:
    """As a training does after each epoch, but for the file of detections."""
    import hotcoco  # noqa: F401 (imported when it is first used)

    from harness.evaluation.coco import evaluate
    from harness.evaluation.detections import read_detections
    from harness.evaluation.scoring import evaluation_library

    def run(annotations: Path, results: Path) -> tuple[list[float], str]:
        rows, _ = read_detections(results)
        found = evaluate(annotations, rows)
        return [-1.0 if value is None else value for value in found.numbers.values()], evaluation_library()

    return run


def pycocotools() -> Side:
    """As its demo does."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def run(annotations: Path, results: Path) -> tuple[list[float], str]:
        numbers: list[float] = []
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(annotations))
            for kind in ("bbox", "segm"):
                rows = json.loads(results.read_text())
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

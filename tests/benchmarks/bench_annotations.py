"""Annotations as many as COCO train2017's: time and memory to parse, to start, and of 8 ranks with 4 workers each.

python tests/benchmarks/bench_annotations.py [FOLDER] (0.9 GB there). Linux: memory is what /proc says. Proportional
memory (PSS) counts a page that N processes share as 1/N in each. What annotations take is the difference to the same
processes with the annotations of the few images that they read.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.data.batches import plan_epoch, training_batches
from harness.data.coco import CocoSplit, load_index, train_filter
from harness.data.transforms import Augmentation
from harness.files import sha256

IMAGES, OBJECTS = 118_287, 860_001
RANKS, WORKERS, BATCH = 8, 4, 16
TARGET, TARGET_MEMORY = 60.0, 1.5
SIZES = ((480, 640), (427, 640), (640, 480), (375, 500))  # height, width
AUGMENTATION = Augmentation(
    scales=((133, 80),),  # so that the batches take next to nothing
    multiscale_mode="fixed",
    flip_probability=0.5,
    channel_order="rgb",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    mask_format="polygon",
)


def main() -> None:
    """Generate, parse, start and measure."""
    if sys.argv[1:2] == ["--rank"]:
        return rank(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    if sys.argv[1:2] == ["--parse"]:
        return parse(Path(sys.argv[2]))
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as place:
        folder = Path(place)
        (folder / "images").mkdir()
        (folder / "all.json").write_text("".join(instances()))
        size = (folder / "all.json").stat().st_size
        print(f"{IMAGES} images, {OBJECTS} objects with polygons: {size / 1e6:.0f} MB of JSON")
        parsed = child("--parse", folder / "all.json")
        told = parsed.communicate()[0].strip()
        print(f"first parse, kept as an index of {index_size(folder) / 1e6:.0f} MB: {told}", flush=True)
        (folder / "few.json").write_text(json.dumps(few(folder)))
        shutil.rmtree(folder / "indexes")
        first, _ = memory(folder / "all.json", 1)
        print(f"start to first batch with a first parse, 1 rank: {first:.1f} s, target {TARGET:.0f} s", flush=True)
        child("--parse", folder / "few.json").communicate()
        measured = {name: [memory(folder / f"{name}.json", ranks) for ranks in (1, RANKS)] for name in ("few", "all")}
        show(measured)
    return None


def instances() -> Iterator[str]:
    """The text of a file as large as COCO's, with its numbers of images, objects and vertices; from a fixed seed."""
    random = np.random.default_rng(0)
    shapes = [shape(random) for _ in range(4000)]
    owners, kinds = random.integers(1, IMAGES + 1, OBJECTS).tolist(), random.integers(0, len(shapes), OBJECTS).tolist()
    yield '{"info": {}, "licenses": [], "images": ['
    for n in range(1, IMAGES + 1):
        height, width = SIZES[n % len(SIZES)]
        yield (", " if n > 1 else "") + json.dumps(
            {
                "license": 3,
                "file_name": f"{n:012}.jpg",
                "coco_url": f"http://images.example.org/train2017/{n:012}.jpg",
                "height": height,
                "width": width,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.example.org/{n:04}/{n:010}_abcdef0123_z.jpg",
                "id": n,
            }
        )
    yield '], "annotations": ['
    for n, (image, kind) in enumerate(zip(owners, kinds, strict=True), 1):
        ids = f'"image_id": {image}, "id": {n}, "category_id": {kind % 80 + 1}'
        yield f"{', ' if n > 1 else ''}{{{ids}, {shapes[kind]}}}"
    names = [{"id": n, "name": f"class {n}", "supercategory": "thing"} for n in range(1, 81)]
    yield f'], "categories": {json.dumps(names)}}}'


def shape(random: np.random.Generator) -> str:
    """Segmentation, box and area of a blob; polygons have 41 numbers on average, as in COCO's photos."""
    count = 3 + int(random.exponential(17.5))
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = random.uniform(0.5, 1, count) * random.uniform(5, 120)
    points = (np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None] + random.uniform(120, 240, 2)).clip(0, 370)
    points = points.round(2)
    low, high = points.min(0), points.max(0)
    box = [*low.tolist(), *(high - low + 1).round(2).tolist()]
    area = round(float(np.prod(high - low + 1)) / 2, 4)
    segmentation = [points.ravel().tolist()]
    return json.dumps({"iscrowd": 0, "segmentation": segmentation, "area": area, "bbox": box})[1:-1]


def split_of(annotations: Path) -> CocoSplit:
    """With its index beside it, and its digest, as a run's specification has it."""
    folder, noted = annotations.parent, annotations.with_suffix(".sha256")
    if not noted.exists():
        noted.write_text(sha256(annotations))
    return CocoSplit(
        images=folder / "images", annotations=annotations, digest=noted.read_text(), indexes=folder / "indexes"
    )


def index_size(folder: Path) -> int:
    """Bytes of the index."""
    return sum(path.stat().st_size for path in (folder / "indexes").glob("*.safetensors"))


def parse(annotations: Path) -> None:
    """The first load of an index, in a process of its own."""
    split, began, cpu = split_of(annotations), time.perf_counter(), time.process_time()
    load_index(split)
    seconds = f"{time.perf_counter() - began:.1f} s ({time.process_time() - cpu:.1f} s of a core)"
    print(f"{seconds}, peak {status(os.getpid(), 'VmHWM') / 1e9:.2f} GB")


def few(folder: Path) -> dict[str, Any]:
    """The images of the first iterations, which are written, and their annotations."""
    index = load_index(split_of(folder / "all.json"))
    kept = train_filter(index)
    plan = plan_epoch(index.landscape()[kept], seed=0, epoch=0, total_batch=BATCH)
    used = kept[np.unique(plan[: WORKERS + 3])]
    random = np.random.default_rng(0)
    photos = {size: cv2.resize(random.integers(0, 255, (30, 40, 3), np.uint8), size[::-1]) for size in SIZES}
    for number in used:
        cv2.imwrite(str(folder / "images" / index.file_names[number]), photos[tuple(index.sizes[number].tolist())])
    content = json.loads((folder / "all.json").read_text())
    ids = set(index.image_ids[used].tolist())
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    return content


def rank(number: int, world: int, annotations: Path) -> None:
    """One process of a training, up to its first batch; it says so and waits for the end of stdin."""
    split = split_of(annotations)
    index = load_index(split)
    batches = training_batches(
        index,
        split.images,
        train_filter(index),
        AUGMENTATION,
        seed=0,
        epoch=0,
        total_batch=BATCH,
        iterations=WORKERS + 2,
        rank=number,
        world=world,
        workers=WORKERS,
    )
    next(batches)
    print("ready", flush=True)
    for _ in range(WORKERS):  # each worker has looked things up by then, and lives
        next(batches)
    print("settled", flush=True)
    sys.stdin.read()


def memory(annotations: Path, ranks: int) -> tuple[float, float]:
    """Seconds until all have their first batch, and the proportional memory of all ranks and workers in bytes."""
    began = time.perf_counter()
    children = [child("--rank", number, RANKS, annotations) for number in range(ranks)]
    try:
        for process in children:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        seconds = time.perf_counter() - began
        for process in children:
            assert process.stdout is not None and process.stdout.readline() == "settled\n"
        family = [pid for process in children for pid in (process.pid, *workers(process.pid))]
        assert len(family) == ranks * (1 + WORKERS), family
        return seconds, sum(status(pid, "Pss", "smaps_rollup") for pid in family)
    finally:
        for process in children:
            process.communicate()


def child(*words: object) -> "subprocess.Popen[str]":
    """This program in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def workers(pid: int) -> list[int]:
    """The processes that it has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def status(pid: int, field: str, file: str = "status") -> float:
    """A line of /proc, in bytes."""
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return 1024 * float(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def show(measured: dict[str, list[tuple[float, float]]]) -> None:
    """The table."""
    print(f"{'':34}{'1 rank':>10}{f'{RANKS} ranks':>10}{'ratio':>8}   (each with {WORKERS} workers)")
    for name, text in (("few", "annotations of few images"), ("all", "annotations of all images")):
        (first, one), (last, many) = measured[name]
        print(f"{f'start to first batch, {text[15:]}':34}{first:8.1f} s{last:8.1f} s")
        print(f"{text:34}{one / 1e6:7.0f} MB{many / 1e6:7.0f} MB")
    one, many = (measured["all"][at][1] - measured["few"][at][1] for at in (0, 1))
    print(f"{'the annotations themselves':34}{one / 1e6:7.0f} MB{many / 1e6:7.0f} MB", end="")
    print(f"{many / one:8.2f}, target {TARGET_MEMORY}")
    print(f"{'imports alone, of a rank':34}{imports():8.1f} s; target of a start {TARGET:.0f} s")


def imports() -> float:
    """Seconds until a process has imported what a rank does."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import harness.data.batches"], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

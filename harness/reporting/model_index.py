"""model-index.yml, the form in which model zoos list their models: Collections, Models, Metadata, Results.

The fields are those of mmdetection's metafile.yml.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from harness.reporting.marks import run_marks
from harness.reporting.measures import average_precision, device
from harness.reporting.records import Record
from harness.reporting.rows import Row
from harness.reporting.tables import target

INDEX = "model-index.yml"
COLLECTION = "Mask R-CNN"
DATASETS = {"coco2017": "COCO"}
"""What model zoos call our data sets, where they know them."""
TECHNIQUES = {"SGD": "SGD with Momentum"}
TASKS = (("Object Detection", "box AP", "bbox_mAP"), ("Instance Segmentation", "mask AP", "segm_mAP"))
ARCHITECTURE = ("Softmax", "RPN", "Convolution", "Dense Connections", "FPN", "ResNet", "RoIAlign")

Entry = tuple[str, Record]
"""The name of a model, and the run that made it."""


def models(rows: Iterable[Row]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """The finished runs of the rows that are full results; and the names of the others, each with why it is none."""
    full: list[Entry] = []
    others: list[tuple[str, str]] = []
    for row in rows:
        for run in row.finished:
            name = row.planned.name if len(row.runs) == 1 else f"{row.planned.name}_seed{run.seed}"
            why = run_marks(row.planned, run) or ([] if run.full else [f"{run.origin}, not trained here"])
            if why:
                others.append((name, "; ".join(why)))
            else:
                full.append((name, run))
    return full, others


def model_index(
    entries: Sequence[Entry], left_out: Iterable[tuple[str, str]], run_root: str | None, rows: Iterable[Row] = ()
) -> str:
    """The text of model-index.yml; what is left out stands in comments. run_root: where the records' paths start.

    rows: of the entries; a model of several seeds says which it is, and what all of them reach.
    """
    from ruamel.yaml import YAML

    seeds = {row.planned.name: _over_seeds(row) for row in rows if len(row.runs) > 1}
    plain = {
        "Collections": [_collection([record for _, record in entries])] if entries else [],
        "Models": [_model(name, record, run_root, seeds.get(record.name)) for name, record in entries],
    }
    yaml = YAML()
    yaml.width = 10_000  # a URL stays on its line
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump(plain, text)
    comments = [f"# Left out, no full result: {name}: {' '.join(why.split())}\n" for name, why in left_out]
    return "".join(comments) + text.getvalue()


def _collection(records: Sequence[Record]) -> dict[str, Any]:
    hardware = {f"{run.hardware.count}x {device(run.hardware)}" for run in records if run.hardware}
    metadata: dict[str, Any] = {
        "Training Data": _several({_dataset(run) for run in records}),
        "Training Techniques": [*sorted({_technique(run) for run in records}), "Weight Decay"],
        "Training Resources": _several(hardware),
        "Architecture": list(ARCHITECTURE),
    }
    return {
        "Name": COLLECTION,
        "Metadata": {name: value for name, value in metadata.items() if value},
        "Paper": {"URL": "https://arxiv.org/abs/1703.06870v3", "Title": COLLECTION},
        "README": "README.md",
    }


def _several(values: set[str]) -> Any:
    return sorted(values) if len(values) > 1 else next(iter(values), None)


def _technique(record: Record) -> str:
    name = str(record.recipe["optimizer"])
    return TECHNIQUES.get(name, name)


def _dataset(record: Record) -> str:
    name = str(record.recipe["dataset"])
    return DATASETS.get(name, name)


def _over_seeds(row: Row) -> dict[str, str]:
    return {metric: average_precision(row, key) for _, metric, key in TASKS}


def _model(name: str, record: Record, run_root: str | None, seeds: dict[str, str] | None) -> dict[str, Any]:
    paths = {role: target(file.path, run_root) for role, file in record.files.items()}
    links = {"Config": paths.get("config"), "Weights": paths.get("checkpoint"), "Training Log": paths.get("log")}
    results = [
        {"Task": task, "Dataset": _dataset(record), "Metrics": {metric: round(100 * record.metrics[key], 1)}}
        for task, metric, key in TASKS
        if record.metrics.get(key, -1) >= 0
    ]
    metadata = _metadata(record) | ({"Seed": record.seed, "Over Seeds": seeds} if seeds else {})
    plain = {"Name": name, "In Collection": COLLECTION, "Metadata": metadata, "Results": results}
    return plain | {name: path for name, path in links.items() if path}


def _metadata(record: Record) -> dict[str, Any]:
    recipe = record.recipe
    found: dict[str, Any] = {"Epochs": recipe["epochs"] * recipe["repeats"]}
    if record.memory_gb is not None:
        found["Training Memory (GB)"] = round(record.memory_gb, 1)
    if record.fps is not None and record.hardware:
        long, short = recipe["test_scale"]
        timed = {"value": round(1000 / record.fps, 2), "hardware": device(record.hardware), "backend": "PyTorch"}
        timed |= {"batch size": 1, "mode": record.precision.upper(), "resolution": f"({short}, {long})"}
        found["inference time (ms/im)"] = [timed]
    return found

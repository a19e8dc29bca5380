"""model-index.yml: the form of model zoos, and only full results in it."""

from dataclasses import replace
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.published import published_rows
from harness.reporting.model_index import model_index, models
from harness.reporting.published_records import published_records
from harness.reporting.records import FileRecord, Record
from harness.reporting.rows import match
from reporting.conftest import Load, finished, on_cpu, unfinished

ONE = "include: [{backbone: R-50}]\n"


def parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_a_published_row_in_the_fields_of_its_metafile() -> None:
    """As mmdetection's configs/mask_rcnn/metafile.yml has r50 1x: 4.4 GB, 1000 / 16.1 = 62.11 ms, 12 epochs."""
    rows = published_records(published_rows().values())
    found = parsed(model_index([(row.name, row) for row in rows], [], None))
    assert list(found) == ["Collections", "Models"]
    (collection,) = found["Collections"]
    assert (collection["Name"], collection["README"]) == ("Mask R-CNN", "README.md")
    assert collection["Metadata"]["Training Data"] == "COCO"
    assert collection["Metadata"]["Training Techniques"] == ["SGD with Momentum", "Weight Decay"]
    assert collection["Metadata"]["Training Resources"] == "8x V100"
    models = {model["Name"]: model for model in found["Models"]}
    assert list(models) == list(published_rows())
    model = models["mask_rcnn_r50_fpn_1x_coco"]
    assert model["In Collection"] == "Mask R-CNN"
    assert model["Metadata"] == {
        "Epochs": 12,
        "Training Memory (GB)": 4.4,
        "inference time (ms/im)": [
            {"value": 62.11, "hardware": "V100", "backend": "PyTorch", "batch size": 1, "mode": "FP32",
             "resolution": "(800, 1333)"}
        ],
    }  # fmt: skip
    assert model["Results"] == [
        {"Task": "Object Detection", "Dataset": "COCO", "Metrics": {"box AP": 38.2}},
        {"Task": "Instance Segmentation", "Dataset": "COCO", "Metrics": {"mask AP": 34.7}},
    ]
    assert model["Weights"].endswith("/mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth")
    epochs = {name: model["Metadata"]["Epochs"] for name, model in models.items()}
    assert (epochs["mask_rcnn_r50_fpn_2x_coco"], epochs["mask_rcnn_r50_fpn_mstrain-poly_3x_coco"]) == (24, 36)
    fp16 = models["mask_rcnn_r50_fpn_fp16_1x_coco"]["Metadata"]["inference time (ms/im)"][0]
    assert (fp16["mode"], fp16["value"]) == ("FP16", 41.49)  # 1000 / 24.1


def test_each_seed_is_a_model_with_its_own_weights(load: Load) -> None:
    experiment = load("seeds: [0, 1, 2]\n" + ONE)
    cell = experiment.cells[0]
    records = [finished(cell, 0, box=0.38), finished(cell, 1, box=0.39), unfinished(cell, "FAILED", 2)]
    full, others = models(match(experiment, records)[0])
    found = parsed(model_index(full, others, "../../runs"))["Models"]
    assert [model["Name"].removeprefix(f"{cell.name}_") for model in found] == ["seed0", "seed1"]
    assert [model["Results"][0]["Metrics"]["box AP"] for model in found] == [38.0, 39.0]
    assert others == []


@pytest.mark.parametrize(
    ("matrix", "change"),
    [
        (ONE + "recipe: {lr: 0.01}\n", {"full": False}),
        (ONE + "shorten: {epochs: 2}\n", {"full": False}),
        (ONE, {"epoch": 11}),
        (ONE, {"codes": ("a" * 64, "b" * 64)}),
        (ONE, {"hardware": None}),
        (ONE, {"dirty": True}),
    ],
    ids=["overridden", "shortened", "partial", "two codes", "unknown hardware", "changed code"],
)
def test_what_is_no_full_result_is_left_out_and_said_so(load: Load, matrix: str, change: dict[str, Any]) -> None:
    experiment = load(matrix)
    assert left_out(experiment, replace(finished(experiment.cells[0]), **change))


def test_a_cpus_result_is_left_out(load: Load) -> None:
    experiment = load(ONE)
    assert left_out(experiment, on_cpu(finished(experiment.cells[0])))


def left_out(experiment: Any, record: Record) -> bool:
    full, others = models(match(experiment, [record])[0])
    text = model_index(full, others, None)
    assert parsed(text)["Models"] == []
    return text.startswith(f"# Left out, no full result: {record.name}: ") and text.count("#") == 1


def test_a_long_path_with_blanks_stays_on_one_line(load: Load) -> None:
    run = finished(load(ONE).cells[0], files={"log": FileRecord(path="a b " * 60 + "log.json", size=1, sha256="c")})
    assert f"Training Log: ../runs/{'a b ' * 60}log.json\n" in model_index([("x", run)], [], "../runs")

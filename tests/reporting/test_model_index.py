"""model-index.yml: the form of model zoos, and only full results in it."""

from dataclasses import replace
from typing import Any, Literal

import pytest
from conftest import ROOT
from pydantic import BaseModel, Field, ValidationError
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


class Form(BaseModel, extra="forbid"):
    """A part of a metafile.yml of mmdetection 2.x (configs/*/metafile.yml); what it does not list is refused."""


class Paper(Form):
    URL: str
    Title: str


class CollectionMetadata(Form):
    data: str | list[str] = Field(alias="Training Data")
    techniques: list[str] = Field(alias="Training Techniques")
    resources: str | list[str] = Field(alias="Training Resources")
    architecture: list[str] = Field(alias="Architecture")


class Collection(Form):
    name: str = Field(alias="Name")
    metadata: CollectionMetadata = Field(alias="Metadata")
    paper: Paper = Field(alias="Paper")
    readme: str = Field(alias="README")


class Timed(Form):
    value: float = Field(gt=0)
    hardware: str
    backend: Literal["PyTorch"]
    batch: Literal[1] = Field(alias="batch size")
    mode: Literal["FP32", "FP16", "BF16"]
    resolution: str = Field(pattern=r"\(\d+, \d+\)")


class OverSeeds(Form):
    box: str = Field(alias="box AP")
    mask: str = Field(alias="mask AP")


class ModelMetadata(Form):
    """Seed and Over Seeds are ours; the form lets a model say what else it likes here."""

    epochs: int = Field(alias="Epochs", gt=0)
    memory: float | None = Field(None, alias="Training Memory (GB)", gt=0)
    timed: list[Timed] | None = Field(None, alias="inference time (ms/im)", min_length=1)
    seed: int | None = Field(None, alias="Seed")
    seeds: OverSeeds | None = Field(None, alias="Over Seeds")


class BoxMetrics(Form):
    value: float = Field(alias="box AP", ge=0, le=100)


class MaskMetrics(Form):
    value: float = Field(alias="mask AP", ge=0, le=100)


class BoxResult(Form):
    task: Literal["Object Detection"] = Field(alias="Task")
    dataset: str = Field(alias="Dataset")
    metrics: BoxMetrics = Field(alias="Metrics")


class MaskResult(Form):
    task: Literal["Instance Segmentation"] = Field(alias="Task")
    dataset: str = Field(alias="Dataset")
    metrics: MaskMetrics = Field(alias="Metrics")


class Model(Form):
    name: str = Field(alias="Name")
    collection: str = Field(alias="In Collection")
    config: str = Field(alias="Config", pattern=r"\.(py|json)$")
    metadata: ModelMetadata = Field(alias="Metadata")
    results: list[BoxResult | MaskResult] = Field(alias="Results", min_length=1, max_length=2)
    weights: str = Field(alias="Weights", pattern=r"\.pth$")
    log: str = Field(alias="Training Log", pattern=r"\.json$")


class Index(Form):
    collections: list[Collection] = Field(alias="Collections")
    models: list[Model] = Field(alias="Models")


def well_formed(text: str) -> Index:
    """The text as an index whose models have names of their own and are in a collection that is there."""
    index = Index.model_validate(parsed(text), strict=True)
    names = [model.name for model in index.models]
    assert len(set(names)) == len(names)
    assert {model.collection for model in index.models} <= {collection.name for collection in index.collections}
    return index


def test_it_has_the_form_of_model_zoos(load: Load) -> None:
    rows = published_records(published_rows().values())
    assert len(well_formed(model_index([(row.name, row) for row in rows], [], None)).models) == 21
    experiment = load("seeds: [0, 1]\n" + ONE)
    records = [finished(experiment.cells[0], seed) for seed in (0, 1)]
    filled, _ = match(experiment, records)
    index = well_formed(model_index(*models(filled), "../runs", filled))
    assert [model.metadata.seed for model in index.models] == [0, 1]
    assert well_formed(model_index([], [("x", "y")], None)).models == []
    for report in (ROOT / "reports").glob("*/model-index.yml"):
        well_formed(report.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("old", "new"),
    [("box AP: 38.2", "box AP: 382"), ("Weights:", "Weight:"), ("In Collection: Mask R-CNN", "In Collection: Other")],
)
def test_the_form_is_no_matter_of_course(old: str, new: str) -> None:
    rows = published_records(published_rows().values())
    text = model_index([(row.name, row) for row in rows], [], None)
    assert old in text
    with pytest.raises((ValidationError, AssertionError)):
        well_formed(text.replace(old, new, 1))


def test_each_seed_is_a_model_with_its_own_weights(load: Load) -> None:
    experiment = load("seeds: [0, 1, 2]\n" + ONE)
    cell = experiment.cells[0]
    records = [finished(cell, 0, box=0.38), finished(cell, 1, box=0.39), unfinished(cell, "FAILED", 2)]
    full, others = models(match(experiment, records)[0])
    found = parsed(model_index(full, others, "../../runs", match(experiment, records)[0]))["Models"]
    assert [model["Name"].removeprefix(f"{cell.name}_") for model in found] == ["seed0", "seed1"]
    assert [model["Results"][0]["Metrics"]["box AP"] for model in found] == [38.0, 39.0]
    assert others == []
    over = {"box AP": "38.5 ± 0.7 [38.1, 38.9] (n=2 of 3)", "mask AP": "34.0 ± 0.0 [33.6, 34.4] (n=2 of 3)"}
    assert [(model["Metadata"]["Seed"], model["Metadata"]["Over Seeds"]) for model in found] == [(0, over), (1, over)]


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

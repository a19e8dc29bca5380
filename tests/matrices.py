"""Matrix files of a few lines, and what they expand to."""

from pathlib import Path

from harness.matrix import Experiment, load_experiment

R50 = "mask_rcnn_r50_fpn_1x_coco"
R101 = "mask_rcnn_r101_fpn_1x_coco"


def load(folder: Path, text: str) -> Experiment:
    path = folder / "m.yaml"
    path.write_text(text, encoding="utf-8")
    return load_experiment(path)


def names(experiment: Experiment) -> list[str]:
    return [planned.name for planned in experiment.cells]

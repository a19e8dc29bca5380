"""Pictures of predictions: of a run's validation images, and of any photos."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_api

from harness.data.coco import GroundTruth
from harness.data.evaluation_images import evaluation_image
from harness.data.loading import read_image
from harness.data.transforms import decode, require_photos
from harness.errors import UserError
from harness.evaluation.detections import read_detections
from harness.evaluation.draw import Image, contact_sheet, draw, write_image
from harness.evaluation.predict import detect_image, testing
from harness.evaluation.table import DetectionTable
from harness.run_paths import RunPaths
from harness.training.restore import restore
from harness.training.validation import Validation

PICTURES = 8
"""Validation images of which a finished run keeps a picture."""
TITLES = ("truth", "prediction")


def predict_images(
    checkpoint: Path, images: Sequence[Path], output: Path, *, min_score: float, cell: str | None = None
) -> Iterator[tuple[Path, Path, int]]:
    """Write a picture with masks, boxes, labels and scores of each photo: (photo, picture, instances drawn).

    Raises UserError before the first of them where the checkpoint cannot be read, or files that are missing or no
    photos; after the last one where photos turned out to be broken.
    """
    require_photos(images)
    restored = restore(checkpoint, cell=cell)
    recipe = restored.recipe
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = restored.model.to(device)
    broken = []
    for path, name in zip(images, _distinct(images), strict=True):
        try:
            image = decode(path)
        except UserError as error:
            broken.append(str(error))
            continue
        prepared = evaluation_image(
            image,
            image_id=0,
            scale=recipe.test_scale,
            channel_order=recipe.channel_order,
            mean=recipe.pixel_mean,
            std=recipe.pixel_std,
            pad_divisor=recipe.pad_divisor,
        )
        with testing(model):
            found = detect_image(model, prepared, device)
        scores = found.scores.tolist()
        picture = draw(
            image, found.boxes.numpy(), found.labels.numpy(), scores, found.masks, restored.classes, min_score=min_score
        )
        write_image(output / name, picture)
        yield path, output / name, sum(score >= min_score for score in scores)
    if broken:
        raise UserError("\n".join(broken))


def _distinct(images: Sequence[Path]) -> list[str]:
    """A .png name for each photo; photos of the same name are numbered."""
    names: list[str] = []
    for path in images:
        candidates = (f"{path.stem}{'-' if n else ''}{n or ''}.png" for n in range(len(images)))
        names.append(next(name for name in candidates if name not in names))
    return names


def draw_predictions(paths: RunPaths, validation: Validation) -> None:
    """Ground truth beside prediction: a picture for each of the first validation images with objects, and a sheet."""
    index = validation.index
    found, _ = read_detections(paths.detections)
    pairs: list[Any] = []
    shown = [i for i in range(len(validation.image_ids)) if index.first[i + 1] > index.first[i]][:PICTURES]
    for number in shown:
        name = str(index.file_names[number])
        left, right = draw_image(validation, number, [found])
        pairs += [left, right]
        write_image(
            paths.predictions / f"{Path(name).stem}.png",
            contact_sheet([left, right], columns=2, titles=("truth", "prediction")),
        )
    if pairs:
        write_image(
            paths.predictions / "sheet.jpg", contact_sheet(pairs, columns=4, titles=("truth", "prediction") * 2)
        )


def draw_image(validation: Validation, number: int, detections: Sequence[DetectionTable]) -> list[Image]:
    """The ground truth of image `number` of the index and, of each table, what was found there; it may lack boxes or

    masks.
    """
    index = validation.index
    label_of = {int(number): label for label, number in enumerate(index.category_ids)}
    names = list(index.category_names)
    image = read_image(index, validation.images, number)
    truth = index.ground_truth(number)
    pictures = [draw(image, truth.boxes, truth.labels, None, truth_masks(truth, image.shape[:2]), names)]
    nothing = mask_api.encode(np.zeros(image.shape[:2], np.uint8, order="F"))
    for table in detections:
        found = table.of_image(int(index.image_ids[number]))
        masks = [row.get("segmentation", nothing) for row in found]
        edges = [row["bbox"] if "bbox" in row else mask_api.toBbox(row["segmentation"]).tolist() for row in found]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in edges]
        labels, scores = [label_of[row["category_id"]] for row in found], [row["score"] for row in found]
        pictures.append(draw(image, boxes, labels, scores, masks, names))
    return pictures


def truth_masks(truth: GroundTruth, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The ground truth's masks as RLEs of the image's (height, width)."""
    height, width = size
    masks = []
    for segmentation in truth.segmentations:
        if isinstance(segmentation, dict):
            masks.append(segmentation)
        else:
            parts = [part.tolist() for part in segmentation]
            masks.append(mask_api.merge(mask_api.frPyObjects(parts, height, width)))
    return masks

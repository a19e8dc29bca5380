"""Testing a model on the validation split, with the recipe's protocol."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.data.coco import CocoIndex, load_index
from harness.data.evaluation_images import EvaluationImage, evaluation_images
from harness.detection.mask_rcnn import MaskRCNN
from harness.evaluation.predict import gather_results, predict_split
from harness.evaluation.speed import Speed, measure_fps
from harness.evaluation.table import DetectionTable
from harness.recipe import Recipe
from harness.run_spec import RunSpec
from harness.training.agreement import Agreement
from harness.training.distributed import Ranks
from harness.training.precision import autocast
from harness.training.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A validation split and the protocol for it."""

    index: CocoIndex
    images: Path
    annotations: Path
    recipe: Recipe  # as executed
    precision: str  # as executed
    first: int | None = None  # only the first so many images count (a shortened run)
    workers: int = 0

    def samples(self, ranks: Ranks) -> Iterator[EvaluationImage]:
        """This rank's share of the images, prepared."""
        return evaluation_images(
            self.index,
            self.images,
            numbers=range(len(self.index.image_ids))[: self.first],
            scale=self.recipe.test_scale,
            channel_order=self.recipe.channel_order,
            mean=self.recipe.pixel_mean,
            std=self.recipe.pixel_std,
            pad_divisor=self.recipe.pad_divisor,
            rank=ranks.rank,
            world=ranks.world,
            workers=self.workers,
            pin_memory=ranks.device.type == "cuda",
        )

    @property
    def image_ids(self) -> list[int]:
        """The images that count."""
        return [int(number) for number in self.index.image_ids[: self.first]]


def run_validation(spec: RunSpec) -> Validation:
    """The validation of a run.

    Raises UserError where its annotations are missing or broken.
    """
    split = spec.val.split
    return Validation(
        index=load_index(split),
        images=split.images,
        annotations=split.annotations,
        recipe=spec.executed,
        precision=spec.precision,
        first=spec.shortening.eval_images,
        workers=int(spec.resources["workers"]),
    )


class Stopped(Exception):
    """All ranks have agreed to leave a test."""


def between_images(
    validation: Validation, ranks: Ranks, stop: Callable[[], bool], watch: Watch, *, step: int = 0
) -> Callable[[int], None]:
    """The `progress` of a test that can be stopped: the ranks agree on it, for as many images as each of them has.

    It raises Stopped, in all ranks after the same image, when `stop` said so in any.
    """
    count = len(validation.image_ids)
    agreement, shared = Agreement(ranks), count // ranks.world
    own = len(range(count)[ranks.rank :: ranks.world])
    watch.phase("evaluation" if own else "waiting", step)

    def progress(done: int) -> None:
        watch.phase("evaluation" if done < own else "waiting", step, done)
        if done <= shared and agreement.on(int(stop())):
            raise Stopped

    return progress


def detect(
    model: MaskRCNN, validation: Validation, ranks: Ranks, progress: Callable[[int], object] | None = None
) -> DetectionTable | None:
    """What is found in all images, on rank 0; None on the others.

    progress: called after each of this rank's images with their number so far; what it raises ends the testing.
    """
    found = predict_split(
        model,
        validation.samples(ranks),
        [int(number) for number in validation.index.category_ids],
        device=ranks.device,
        autocast=lambda: autocast(validation.precision, ranks.device.type),
        progress=progress,
    )
    return gather_results(found, ranks.rank, ranks.world)


def speed(model: MaskRCNN, validation: Validation, ranks: Ranks) -> Speed | None:
    """Frames a second by the published protocol over the validation images; None where there are too few."""
    if len(validation.image_ids) <= 5:
        return None
    return measure_fps(
        model,
        validation.samples(Ranks(device=ranks.device)),
        device=ranks.device,
        autocast=lambda: autocast(validation.precision, ranks.device.type),
    )

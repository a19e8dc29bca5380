"""The training images of a run: which they are, and their micro-batches epoch by epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.batches import plan_epoch, training_batches
from harness.data.coco import CocoIndex, load_index, train_filter
from harness.errors import UserError
from harness.recipe import Recipe
from harness.run_spec import RunSpec
from harness.structures import Batch
from harness.training.build import build_augmentation
from harness.training.distributed import Ranks
from harness.wording import count


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingImages:
    """What a run trains on."""

    index: CocoIndex
    images: Path
    kept: NDArray[np.int64]  # numbers of the images that the recipe trains on
    recipe: Recipe  # as executed
    seed: int
    workers: int
    iterations: int  # an epoch

    def epoch(self, epoch: int, ranks: Ranks, *, start: int) -> Iterator[list[Batch]]:
        """This rank's micro-batches of each iteration of an epoch (counted from 0), from iteration `start` on."""
        recipe = self.recipe
        return training_batches(
            self.index,
            self.images,
            self.kept,
            build_augmentation(recipe),
            seed=self.seed,
            epoch=epoch,
            micro_batch=recipe.micro_batch,
            total_batch=recipe.batch,
            repeats=recipe.repeats,
            start_iteration=start,
            iterations=self.iterations,
            rank=ranks.rank,
            world=ranks.world,
            workers=self.workers,
            pin_memory=ranks.device.type == "cuda",
        )

    def ids(self, epoch: int, iteration: int, ranks: Ranks) -> list[int]:
        """The ids of this rank's images in an iteration of an epoch (both counted from 0)."""
        mine = self._plan(epoch)[iteration, ranks.rank :: ranks.world]
        return [int(number) for number in self.index.image_ids[self.kept[mine]].ravel()]

    def _plan(self, epoch: int) -> NDArray[np.int64]:
        return plan_epoch(
            self.index.landscape()[self.kept],
            seed=self.seed,
            epoch=epoch,
            micro_batch=self.recipe.micro_batch,
            total_batch=self.recipe.batch,
            repeats=self.recipe.repeats,
        )


def training_images(spec: RunSpec) -> TrainingImages:
    """The training images of a run.

    Raises UserError where the annotations are broken, have other classes than the recipe, or leave no image to train.
    """
    recipe = spec.executed
    assert spec.train is not None
    split = spec.train.split
    index = load_index(split)
    found = len(index.category_ids)
    if found != recipe.num_classes:
        raise UserError(
            f"{split.annotations}: has {count(found, 'category')}, the recipe says num_classes {recipe.num_classes}; "
            f"set num_classes: {found} in the matrix's recipe block"
        )
    kept = train_filter(index, recipe.min_image_size)
    return TrainingImages(
        index=index,
        images=split.images,
        kept=kept,
        recipe=recipe,
        seed=spec.seed,
        workers=int(spec.resources["workers"]),
        iterations=_iterations(index, kept, recipe, spec.shortening.iterations_per_epoch),
    )


def _iterations(index: CocoIndex, kept: NDArray[np.int64], recipe: Recipe, limit: int | None) -> int:
    plan = plan_epoch(
        index.landscape()[kept],
        seed=0,
        epoch=0,
        micro_batch=recipe.micro_batch,
        total_batch=recipe.batch,
        repeats=recipe.repeats,
    )
    return min(len(plan), limit or len(plan))

"""The order of an epoch, and its micro-batches; both follow from (seed, epoch, position), never from worker or rank.

A position is a place in the epoch: iteration * total_batch + micro-batch * micro_batch + slot.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from harness.data.coco import CocoIndex
from harness.data.loading import load, read_image
from harness.data.masks import Parts
from harness.data.transforms import Augmentation, Sample, augment, normalise, padded
from harness.errors import UserError
from harness.structures import Batch, Polygons
from harness.wording import count

_PURPOSES = {"order": 0, "augmentation": 1, "training": 2}


def random_for(
    seed: int, epoch: int, position: int, purpose: Literal["order", "augmentation", "training"]
) -> np.random.Generator:
    """The random numbers for one purpose at one place of the training."""
    entropy = np.random.SeedSequence(seed, spawn_key=(epoch, position, _PURPOSES[purpose]))
    return np.random.Generator(np.random.Philox(entropy))


def plan_epoch(
    landscape: NDArray[np.bool_],
    *,
    seed: int,
    epoch: int,
    micro_batch: int = 2,
    total_batch: int = 16,
    repeats: int = 1,
) -> NDArray[np.int64]:
    """Which image goes where: iterations x (total_batch / micro_batch) x micro_batch numbers of images.

    As DistributedGroupSampler of mmdetection 2.x: each aspect-ratio group is shuffled, filled up to a multiple of
    total_batch from its own beginning, and cut into micro-batches, which are then shuffled.
    repeats: how often each image is in the epoch (RepeatDataset).
    Raises UserError where total_batch is not a multiple of micro_batch.
    """
    if total_batch % micro_batch:
        raise UserError(
            f"batch {total_batch} is not a multiple of the micro-batch {micro_batch}; change one of the two"
        )
    random = random_for(seed, epoch, 0, "order")
    groups = []
    for kind in (False, True):
        shuffled = random.permutation(np.tile(np.flatnonzero(landscape == kind), repeats))
        groups.append(np.resize(shuffled, padded(len(shuffled), total_batch)).reshape(-1, micro_batch))
    order = random.permutation(np.concatenate(groups), axis=0)
    return order.reshape(-1, total_batch // micro_batch, micro_batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSet(Dataset[Batch | UserError]):
    """The micro-batches of one epoch; item (iteration, i) is the i-th of that iteration."""

    index: CocoIndex
    images: Path
    plan: NDArray[np.int64]  # iterations x micro-batches x micro_batch: images of the index
    augmentation: Augmentation
    seed: int
    epoch: int
    pad_gt_to: int

    def __getitem__(self, place: tuple[int, int]) -> Batch | UserError:
        """A UserError is handed back, not raised: the data loader would bury its one line in a traceback."""
        first = (place[0] * self.plan.shape[1] + place[1]) * self.plan.shape[2]
        positions = range(first, first + self.plan.shape[2])
        try:
            samples = [self._sample(int(image), at) for image, at in zip(self.plan[place], positions, strict=True)]
        except UserError as error:
            return error
        seeds = [random_for(self.seed, self.epoch, at, "training").integers(2**63) for at in positions]
        return collate(samples, torch.tensor(np.array(seeds)), self.augmentation, self.pad_gt_to)

    def _sample(self, image: int, position: int) -> Sample:
        pixels = read_image(self.index, self.images, image)
        random = random_for(self.seed, self.epoch, position, "augmentation")
        return augment(pixels, self.index.ground_truth(image), self.augmentation, random)


def training_batches(
    index: CocoIndex,
    images: Path,
    image_indices: NDArray[np.int64],
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
    micro_batch: int = 2,
    total_batch: int = 16,
    repeats: int = 1,
    start_iteration: int = 0,
    iterations: int | None = None,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    pad_gt_to: int = 1,
) -> Iterator[list[Batch]]:
    """One epoch: for each optimiser step this rank's micro-batches: number rank, rank + world, ... of the step.

    start_iteration: where to go on in the epoch. iterations: end the epoch there (None: where the plan ends).
    pad_gt_to: the ground-truth slots of a micro-batch are a multiple of this, so that shapes recur.
    Raises UserError where a rank would have no micro-batch, and, when it is reached, where an image cannot be read.
    """
    if total_batch // micro_batch < world:
        raise UserError(
            f"{world} processes cannot share a batch of {total_batch} in micro-batches of {micro_batch}: use at most "
            f"{count(total_batch // micro_batch, 'process')}"
        )
    plan = plan_epoch(
        index.landscape()[image_indices],
        seed=seed,
        epoch=epoch,
        micro_batch=micro_batch,
        total_batch=total_batch,
        repeats=repeats,
    )
    train_set = TrainSet(
        index=index,
        images=images,
        plan=image_indices[plan],
        augmentation=augmentation,
        seed=seed,
        epoch=epoch,
        pad_gt_to=pad_gt_to,
    )
    steps = range(len(plan))[start_iteration:iterations]
    mine = range(rank, plan.shape[1], world)
    places = [(step, micro) for step in steps for micro in mine]
    batches = load(train_set, places, workers=workers, pin_memory=pin_memory)
    return (list(islice(batches, len(mine))) for _ in steps)


def collate(samples: list[Sample], seeds: Tensor, augmentation: Augmentation, pad_gt_to: int = 1) -> Batch:
    """Pad images to the largest of them and to the divisor, ground truth to the most of it."""
    sizes, divisor = torch.tensor([sample.image.shape[:2] for sample in samples]), augmentation.pad_divisor
    height, width = (padded(int(side), divisor) for side in sizes.amax(0))
    slots = padded(max(len(sample.labels) for sample in samples), pad_gt_to)
    images = torch.from_numpy(np.zeros((len(samples), 3, height, width), np.float32))
    boxes = torch.zeros(len(samples), slots, 4)
    labels = torch.full((len(samples), slots), -1)
    for i, sample in enumerate(samples):
        normalise(
            sample.image,
            images[i, :, : sample.image.shape[0], : sample.image.shape[1]],
            channel_order=augmentation.channel_order,
            mean=augmentation.mean,
            std=augmentation.std,
        )
        boxes[i, : len(sample.boxes)] = torch.from_numpy(sample.boxes)
        labels[i, : len(sample.labels)] = torch.from_numpy(sample.labels)
    if augmentation.mask_format == "bitmap":
        masks: Tensor | Polygons = _collate_bitmaps(samples, (len(samples), slots, height, width), divisor)
    else:
        masks = _collate_polygons(samples, slots)
    return Batch(images=images, sizes=sizes, boxes=boxes, labels=labels, masks=masks, seeds=seeds)


def _collate_bitmaps(samples: list[Sample], shape: tuple[int, int, int, int], divisor: int) -> Tensor:
    """B x G x H x W. mmdetection 2.x pads the masks of an image to the divisor only, not to the batch, and RoIAlign

    repeats their last row and column. One more of each in the batch makes it see the same.
    """
    masks = np.zeros(shape, np.uint8)
    for own, sample in zip(masks, samples, strict=True):
        bottom, right = (padded(side, divisor) for side in sample.image.shape[:2])
        for mask, (top, left, pixels) in zip(own, sample.bitmaps, strict=False):
            rows, columns = pixels.shape
            mask[top : top + rows, left : left + columns] = pixels
            if left + columns == right < shape[3]:
                mask[top : top + rows, right] = pixels[:, -1]
            if top + rows == bottom < shape[2]:
                mask[bottom] = mask[bottom - 1]
    return torch.from_numpy(masks)


def _collate_polygons(samples: list[Sample], slots: int) -> Polygons:
    edges_of = [[_edges(parts) for parts in sample.polygons] for sample in samples]
    longest = max((len(edges) for instances in edges_of for edges, _ in instances), default=0)
    edges = np.zeros((len(samples), slots, longest, 4))
    parts = np.full((len(samples), slots, longest), -1, np.int64)
    for i, instances in enumerate(edges_of):
        for slot, (own_edges, own_parts) in enumerate(instances):
            edges[i, slot, : len(own_edges)] = own_edges
            parts[i, slot, : len(own_parts)] = own_parts
    return Polygons(edges=torch.from_numpy(edges), parts=torch.from_numpy(parts))


def _edges(parts: Parts) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """V x 4 (x1, y1, x2, y2) closed edges of all parts, and V the part of each."""
    points = [part.reshape(-1, 2) for part in parts]
    edges = [np.concatenate([own, np.roll(own, -1, axis=0)], axis=1) for own in points]
    return np.concatenate(edges), np.repeat(np.arange(len(points)), [len(own) for own in points])

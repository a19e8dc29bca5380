"""The order of an epoch and its batches: hand-worked plans; the same bytes from any number of processes and workers."""

import math
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batches import collate, plan_epoch, random_for, training_batches
from harness.data.coco import CocoIndex, CocoSplit, load_index, train_filter
from harness.data.transforms import Augmentation, Patch, Sample
from harness.detection.mask_targets import bitmap_targets
from harness.errors import UserError
from harness.structures import Batch, Polygons

from .coco_files import many, write_images, write_split


def _augmentation(mask_format: Any = "bitmap") -> Augmentation:
    return Augmentation(
        scales=((96, 64), (96, 80)),
        multiscale_mode="range",
        flip_probability=0.5,
        channel_order="rgb",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        mask_format=mask_format,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[CocoIndex, CocoSplit]:
    value = many(landscapes=13, portraits=6)
    split = write_split(tmp_path_factory.mktemp("many"), value)
    write_images(split, value["images"])
    return load_index(split), split


def _batches(data: tuple[CocoIndex, CocoSplit], mask_format: Any = "bitmap", **changes: Any) -> list[list[Batch]]:
    index, split = data
    settings = {"seed": 5, "epoch": 1} | changes
    return list(training_batches(index, split.images, train_filter(index), _augmentation(mask_format), **settings))


def _same(a: Batch, b: Batch) -> bool:
    def tensors(batch: Batch) -> list[torch.Tensor]:
        masks = [batch.masks.edges, batch.masks.parts] if isinstance(batch.masks, Polygons) else [batch.masks]
        return [batch.images, batch.sizes, batch.boxes, batch.labels, batch.seeds, *masks]

    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def test_iterations_of_a_set_as_large_as_coco_train2017() -> None:
    # 117,266 images, parted (by invention) into 86,178 = 16 * 5386 + 2 and 31,088 = 16 * 1943: 5387 + 1943 = 7330.
    landscape = np.arange(117_266) < 86_178
    assert plan_epoch(landscape, seed=0, epoch=0).shape == (7330, 8, 2)
    # Three times: 258,534 = 16 * 16,158 + 6 and 93,264 = 16 * 5829: 21,988, not 3 * 7330 = 21,990.
    assert len(plan_epoch(landscape, seed=0, epoch=0, repeats=3)) == 16_159 + 5_829


@given(st.integers(0, 70), st.integers(1, 70), st.integers(1, 4), st.integers(1, 8), st.integers(1, 3))
def test_the_length_of_an_epoch_is_that_of_the_published_sampler(
    portraits: int, landscapes: int, samples_per_gpu: int, gpus: int, repeats: int
) -> None:
    """DistributedGroupSampler: each group holds ceil(size / samples_per_gpu / gpus) * samples_per_gpu images a GPU."""
    of_a_gpu = sum(
        math.ceil(size * repeats / samples_per_gpu / gpus) * samples_per_gpu for size in (portraits, landscapes)
    )
    plan = plan_epoch(
        np.arange(portraits + landscapes) < landscapes,
        seed=1,
        epoch=0,
        micro_batch=samples_per_gpu,
        total_batch=samples_per_gpu * gpus,
        repeats=repeats,
    )
    assert plan.shape == (of_a_gpu // samples_per_gpu, gpus, samples_per_gpu)
    assert min(Counter(plan.reshape(-1).tolist()).values()) >= repeats


def test_micro_batches_are_of_one_aspect_and_cover_their_group() -> None:
    landscape = np.arange(45) < 35  # 35 + 10 images: filled up to 48 + 16
    plan = plan_epoch(landscape, seed=3, epoch=2)
    assert plan.shape == (4, 8, 2)
    assert (landscape[plan].sum(axis=2) != 1).all()
    counts = Counter(plan.reshape(-1).tolist())
    assert sorted(counts[i] for i in range(35)) == [1] * 22 + [2] * 13  # 48 - 35 = 13 come again
    assert sorted(counts[i] for i in range(35, 45)) == [1] * 4 + [2] * 6
    assert not np.array_equal(landscape[plan[:, :, 0]], np.sort(landscape[plan[:, :, 0]], axis=None).reshape(4, 8))


def test_a_tiny_group_is_cycled() -> None:
    # 3 images for 8 places: [a b c a b c a b]
    plan = plan_epoch(np.array([True] * 3), seed=0, epoch=0, total_batch=8)
    assert sorted(Counter(plan.reshape(-1).tolist()).values()) == [2, 3, 3]


def test_order_depends_on_seed_and_epoch_only() -> None:
    landscape = np.arange(64) % 3 > 0
    plans = {
        (seed, epoch): plan_epoch(landscape, seed=seed, epoch=epoch).tobytes() for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(set(plans.values())) == 4
    assert plan_epoch(landscape, seed=1, epoch=0).tobytes() == plans[1, 0]


def test_random_numbers_are_frozen() -> None:
    """A change here would break the resumption of every run."""
    draws = [random_for(7, 1, 12, purpose).integers(1000, size=4).tolist() for purpose in ("order", "augmentation")]
    assert draws == [[959, 840, 925, 524], [715, 294, 796, 875]]
    assert plan_epoch(np.array([True] * 6), seed=7, epoch=1, total_batch=4).tolist() == [
        [[4, 1], [2, 0]],
        [[5, 3], [5, 3]],
    ]


def test_a_batch_as_structures_says(data: tuple[CocoIndex, CocoSplit]) -> None:
    index, _ = data
    for batch in (batch for step in _batches(data, pad_gt_to=4) for batch in step):
        count, channels, height, width = batch.images.shape
        assert (count, channels, height % 32, width % 32) == (2, 3, 0, 0)
        assert batch.boxes.shape == (2, 4, 4) and batch.labels.shape == (2, 4) and batch.seeds.dtype == torch.int64
        assert isinstance(batch.masks, torch.Tensor) and batch.masks.shape == (2, 4, height, width)
        for i, (h, w) in enumerate(batch.sizes.tolist()):
            assert not batch.images[i, :, h:].any() and not batch.images[i, :, :, w:].any()
            assert batch.images[i, :, :h, :w].any()
            real = int((batch.labels[i] >= 0).sum())
            assert real in (1, 2) and (batch.labels[i, real:] == -1).all()
            assert not batch.boxes[i, real:].any() and not batch.masks[i, real:].any()
            for box, mask in zip(batch.boxes[i, :real], batch.masks[i, :real], strict=True):
                rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
                drawn = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert (drawn - box).abs().max() < 2.5  # the mask fills its box, resized and flipped alike
    assert len(index.image_ids) == 19


def test_polygons_are_the_closed_edges_of_their_parts(data: tuple[CocoIndex, CocoSplit]) -> None:
    for batch in (batch for step in _batches(data, "polygon") for batch in step):
        assert isinstance(batch.masks, Polygons)
        edges, parts = batch.masks.edges, batch.masks.parts
        assert edges.dtype == torch.float64 and edges.shape[:3] == parts.shape and edges.shape[2] == 4
        for place in (batch.labels >= 0).nonzero().tolist():
            own, part = edges[tuple(place)], parts[tuple(place)]
            own = own[part == 0]
            assert len(own) == (4 if batch.labels[tuple(place)] == 0 else 3)
            assert torch.equal(own[:, 2:], own[:, :2].roll(-1, 0))
            corners = torch.cat([own[:, :2].amin(0), own[:, :2].amax(0)]).float()
            assert torch.allclose(corners, batch.boxes[tuple(place)], atol=1e-4)
        assert not edges[parts == -1].any()


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_ranks_together_make_the_one_process_order(data: tuple[CocoIndex, CocoSplit], world: int) -> None:
    alone = _batches(data)
    ranks = [_batches(data, rank=rank, world=world) for rank in range(world)]
    assert len(alone) == 2 and all(len(step) == 8 for step in alone)  # 13 -> 16 and 6 -> 16 images
    for step, expected in enumerate(alone):
        for micro, batch in enumerate(expected):
            assert _same(ranks[micro % world][step][micro // world], batch)


def test_workers_change_nothing_and_leave_nothing(data: tuple[CocoIndex, CocoSplit]) -> None:
    state = torch.get_rng_state()
    alone, with_workers = _batches(data), _batches(data, workers=2)
    assert all(_same(a, b) for x, y in zip(alone, with_workers, strict=True) for a, b in zip(x, y, strict=True))
    index, split = data
    stopped = training_batches(index, split.images, train_filter(index), _augmentation(), seed=5, epoch=1, workers=1)
    assert _same(next(stopped)[0], alone[0][0])
    del stopped
    assert multiprocessing.active_children() == []
    assert torch.equal(torch.get_rng_state(), state)


def test_going_on_in_the_middle_of_an_epoch(data: tuple[CocoIndex, CocoSplit]) -> None:
    whole = _batches(data)
    (later,) = _batches(data, start_iteration=1)
    (earlier,) = _batches(data, iterations=1)
    assert all(_same(a, b) for a, b in zip(later, whole[1], strict=True))
    assert all(_same(a, b) for a, b in zip(earlier, whole[0], strict=True))
    seeds = torch.cat([batch.seeds for step in whole for batch in step])
    assert len(seeds.unique()) == 32
    other_epoch = torch.cat([batch.seeds for step in _batches(data, epoch=2) for batch in step])
    assert not set(seeds.tolist()) & set(other_epoch.tolist())


def test_impossible_shares(data: tuple[CocoIndex, CocoSplit]) -> None:
    with pytest.raises(UserError, match="9 processes cannot share a batch of 16 in micro-batches of 2: use at most 8"):
        _batches(data, world=9)
    with pytest.raises(UserError, match="batch 15 is not a multiple of the micro-batch 2"):
        _batches(data, total_batch=15)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line(tmp_path: Path, workers: int) -> None:
    value = many(landscapes=2, portraits=0)
    split = write_split(tmp_path, value)
    write_images(split, value["images"])
    index = load_index(split)
    (split.images / "2.png").write_bytes(b"broken")
    with pytest.raises(UserError) as caught:
        _batches((index, split), workers=workers, total_batch=2)
    assert str(caught.value) == (
        f"{split.images / '2.png'}: not a readable image; `harness data check` lists all faulty images"
    )
    write_images(split, [value["images"][1] | {"width": 40}])
    with pytest.raises(UserError, match=r"2.png: is 40 x 40, the annotations say 48 x 40; `harness data check`"):
        _batches((index, split), workers=workers, total_batch=2)


def test_mask_targets_do_not_depend_on_the_other_image_of_the_batch() -> None:
    """An image of 64 x 64 needs no padding of its own, so that RoIAlign repeats its edges; in a larger batch too."""
    random = np.random.default_rng(0)
    samples = [_noise(random, height, width) for height, width in ((64, 64), (70, 96), (64, 50))]
    augmentation = _augmentation()
    seeds = torch.zeros(3, dtype=torch.int64)
    together = collate(samples, seeds, augmentation).masks
    assert isinstance(together, torch.Tensor) and together.shape == (3, 2, 96, 96)
    for place, sample in enumerate(samples):
        alone = collate([sample], seeds[:1], augmentation).masks
        assert isinstance(alone, torch.Tensor)
        height, width = sample.image.shape[:2]
        low = torch.tensor(random.uniform(0, 0.8, (200, 2)) * [width, height])
        high = torch.tensor([width, height]) - low * torch.tensor(random.integers(0, 2, (200, 2))) * 0.2
        boxes = torch.cat([low, torch.maximum(high, low + 1)], dim=1).float()
        assert (boxes[:, 2] == width).any() and (boxes[:, 3] == height).any()
        slots, images = torch.arange(200) % 2, torch.full((200,), place)
        expected = bitmap_targets(alone, boxes=boxes, images=torch.zeros_like(slots), slots=slots, size=28)
        found = bitmap_targets(together, boxes=boxes, images=images, slots=slots, size=28)
        assert torch.equal(found, expected)


def _noise(random: np.random.Generator, height: int, width: int) -> Sample:
    """Two objects of noise all over an image."""
    return Sample(
        image=np.zeros((height, width, 3), np.uint8),
        boxes=np.tile(np.array([0, 0, width, height], np.float32), (2, 1)),
        labels=np.zeros(2, np.int64),
        bitmaps=[Patch(0, 0, random.integers(0, 2, (height, width), np.uint8)) for _ in range(2)],
        polygons=[],
    )


@pytest.mark.parametrize("mask_format", ["bitmap", "polygon"])
def test_images_of_crowds_alone_make_a_batch_without_slots(tmp_path: Path, mask_format: Any) -> None:
    value = many(landscapes=5, portraits=0)
    for annotation in value["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] > 1)
    split = write_split(tmp_path, value)
    write_images(split, value["images"])
    index = load_index(split)
    steps = list(
        training_batches(
            index, split.images, train_filter(index), _augmentation(mask_format), seed=0, epoch=0, total_batch=2
        )
    )
    assert len(steps) == 3  # five images, one of them twice
    assert sorted(batch.labels.shape[1] for (batch,) in steps)[0] == 0

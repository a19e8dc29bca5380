"""Images by their number in an index, and items prepared ahead by worker processes."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from harness.data.coco import CocoIndex
from harness.data.image_files import read_file
from harness.data.transforms import Image, decoded
from harness.errors import UserError
from harness.processes import blocked

Item = TypeVar("Item")


def read_image(index: CocoIndex, images: Path, image: int) -> Image:
    """Decode image number `image` of the index; images: a folder or a tar (image_files.py).

    Raises UserError where it is missing, broken or not of the size that the index says.
    """
    name = str(index.file_names[image])
    path = images / name
    pixels = decoded(read_file(images, name), path)
    if pixels.shape[:2] != tuple(index.sizes[image]):
        found, expected = "{1} x {0}".format(*pixels.shape), "{1} x {0}".format(*index.sizes[image])
        raise UserError(
            f"{path}: is {found}, the annotations say {expected}; `harness data check` lists all faulty images"
        )
    return pixels


def load(items: Dataset[Item | UserError], places: Sequence[Any], *, workers: int, pin_memory: bool) -> Iterator[Item]:
    """items[place] for each place, in order, prepared ahead by `workers` processes (0: in this one)."""
    loader = DataLoader(
        items,
        batch_size=None,
        sampler=places,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # or the loader would draw from, and so change, the global random numbers
    )
    with blocked([signal.SIGTERM]):  # in all threads of a worker, from its start on
        loaded = iter(loader)
    for item in loaded:
        if isinstance(item, UserError):
            raise item
        yield item


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGUSR2):  # they come to a whole job; its end is the parent's
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_when_told, daemon=True).start()


def _end_when_told() -> None:
    """SIGTERM comes to a whole job, too; but of the parent it means that it exits, and waits for this process."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)

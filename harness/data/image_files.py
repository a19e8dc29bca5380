"""Image files by name, in a folder or in a tar of `harness data pack`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.tar import SUFFIX, open_tar
from harness.errors import UserError


def is_packed(images: Path) -> bool:
    """Whether images are in a tar."""
    return images.suffix == SUFFIX


def folder_or_tar(images: Path) -> Path:
    """A folder or its tar, whichever of the two is there; as given where both are, or none."""
    other = images.with_name(images.name.removesuffix(SUFFIX) if is_packed(images) else f"{images.name}{SUFFIX}")
    return other if other.exists() and not images.exists() else images


def read_file(images: Path, name: str) -> NDArray[np.uint8]:
    """The bytes of an image file.

    Raises UserError naming it where it is missing or cannot be read.
    """
    try:
        return open_tar(images).read(name) if is_packed(images) else np.fromfile(images / name, np.uint8)
    except OSError as error:
        raise UserError(f"{images / name}: {error.strerror}; `harness data check` lists all faulty images") from None


def has_file(images: Path, name: str) -> bool:
    """Whether there is such an image file."""
    return name in open_tar(images) if is_packed(images) else (images / name).is_file()


def file_names(images: Path) -> Iterator[str]:
    """Names of all files, relative to the folder."""
    if is_packed(images):
        return open_tar(images).names()
    return (path.relative_to(images).as_posix() for path in images.rglob("*") if path.is_file())

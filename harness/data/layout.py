"""Where a data set keeps its images and annotations."""

import sys
from pathlib import Path
from typing import Literal

from harness.data.coco import CocoSplit
from harness.data.image_files import is_packed
from harness.data.tar import SUFFIX, is_indexed, misfit
from harness.errors import UserError


def find_split(
    root: Path, split: Literal["train", "val"], *, images: str | None = None, annotations: str | None = None
) -> CocoSplit:
    """One split of a data set in COCO layout; `images` and `annotations`, relative to root or absolute, go first.

    Else the first that is there of annotations/instances_{split}2017.json and annotations/instances_{split}.json is
    taken, and of the folders {split}2017, {split} and images, each after a tar of it (harness/data/tar.py). A tar that
    no longer fits the folder beside it is told on stderr.
    Raises UserError with what was looked for.
    """
    files = [annotations] if annotations else [f"annotations/instances_{split}{year}.json" for year in ("2017", "")]
    folders = [images] if images else [f"{split}2017", split, "images"]
    places = folders if images else [place for folder in folders for place in (f"{folder}{SUFFIX}", folder)]
    found_file = next((root / name for name in files if (root / name).is_file()), None)
    found_folder = next((root / name for name in places if _is_there(root / name, named=images is not None)), None)
    if found_file is None:
        raise _not_found(root, split, "annotations", "file", files)
    if found_folder is None:
        raise _not_found(root, split, "images", "folder", folders)
    if is_packed(found_folder) and is_indexed(found_folder) and (told := misfit(found_folder)):
        sys.stderr.write(f"{told}\n")
    return CocoSplit(images=found_folder, annotations=found_file)


def _is_there(images: Path, *, named: bool) -> bool:
    if is_packed(images):  # beside a folder, a tar that `harness data pack` has not made is left alone
        return images.is_file() and (named or is_indexed(images))
    return images.is_dir()


def _not_found(root: Path, split: str, setting: str, kind: str, names: list[str]) -> UserError:
    looked_for = " or ".join(str(root / name) for name in names)
    key = f"{split}_{setting}"
    return UserError(f"{setting} of {split} not found: no {kind} {looked_for}; put it there or set {key!r}")

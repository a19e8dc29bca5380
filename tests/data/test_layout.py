"""Finding a split's files in the usual layouts."""

from pathlib import Path

import pytest

from harness.data.layout import find_split
from harness.errors import UserError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir()


def test_coco_2017_goes_first(tmp_path: Path) -> None:
    _touch(tmp_path, "annotations/instances_val2017.json", "annotations/instances_val.json", "val", "val2017", "images")
    split = find_split(tmp_path, "val")
    assert split.annotations == tmp_path / "annotations/instances_val2017.json"
    assert split.images == tmp_path / "val2017"


@pytest.mark.parametrize("folder", ["train", "images"])
def test_plain_names(tmp_path: Path, folder: str) -> None:
    _touch(tmp_path, "annotations/instances_train.json", folder)
    split = find_split(tmp_path, "train")
    assert (split.annotations.name, split.images.name) == ("instances_train.json", folder)


def test_settings_go_before_all(tmp_path: Path) -> None:
    _touch(tmp_path, "annotations/instances_val.json", "images", "here/photos", "there.json")
    split = find_split(tmp_path, "val", images="here/photos", annotations=str(tmp_path / "there.json"))
    assert (split.images, split.annotations) == (tmp_path / "here/photos", tmp_path / "there.json")


def test_what_was_looked_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no file .*instances_val2017.json or .*instances_val.json; put it there or set"
    ):
        find_split(tmp_path, "val")
    _touch(tmp_path, "annotations/instances_val.json")
    with pytest.raises(UserError, match=r"no folder .*/val2017 or .*/val or .*; put it there or set 'val_images'"):
        find_split(tmp_path, "val")
    with pytest.raises(UserError, match=r"no folder .*/photos; put it there or set 'val_images'"):
        find_split(tmp_path, "val", images="photos")

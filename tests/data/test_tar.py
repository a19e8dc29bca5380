"""Images in a tar: the bytes of the folder, in any process; made whole or not at all; one line where it is bad."""

import gzip
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from renewals import wait_for_renewals

from harness import leases
from harness.data import tar
from harness.data.batches import training_batches
from harness.data.check import check_split
from harness.data.coco import CocoSplit, load_index, train_filter
from harness.data.evaluation_images import evaluation_images
from harness.data.image_files import file_names, has_file, read_file
from harness.data.layout import find_split
from harness.data.tar import changed_files, open_tar, pack
from harness.errors import UserError
from harness.files import sha256

from .coco_files import many, write_images, write_split
from .test_batches import _augmentation, _same

FILES = {"b.jpg": b"two", "a.jpg": b"", "sub/ü.jpg": b"x" * 513, "n" * 150 + ".jpg": b"long", "c d": b"y" * 512}


def folder_of(place: Path, files: dict[str, bytes] = FILES) -> Path:
    folder = place / "train2017"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_file_is_read_back_and_tar_agrees(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / ".hidden").touch()
    told: list[tuple[int, int]] = []
    packed = pack(folder, progress=lambda done, total: told.append((done, total)))
    assert packed.path == tmp_path / "train2017.tar" and packed.files == len(FILES) and told[-1] == (5, 5)
    assert packed.sha256 == sha256(packed.path) and packed.size == packed.path.stat().st_size
    assert names_in(tmp_path) == ["train2017", "train2017.tar"]
    assert set(file_names(packed.path)) == set(file_names(folder)) - {".hidden"} == set(FILES)
    for name, content in FILES.items():
        assert has_file(packed.path, name) and read_file(packed.path, name).tobytes() == content, name
    assert not has_file(packed.path, "b.jp") and not has_file(packed.path, "zzz")
    with tarfile.open(packed.path) as plain:  # anybody's tar reads it
        members = {info.name: info for info in plain.getmembers()}
        assert set(members) == {f"train2017/{name}" for name in [*FILES, tar.INDEX]}
        for name, content in FILES.items():
            stream = plain.extractfile(members[f"train2017/{name}"])
            assert stream is not None and stream.read() == content


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (folder_of(tmp_path / name) for name in "ab")
    for number, path in enumerate(two.rglob("*")):
        os.utime(path, (number, number))
        path.chmod(0o700)
    assert pack(one).sha256 == pack(two).sha256


def test_packing_again_does_nothing_until_something_changes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    first, again = pack(folder).sha256, pack(folder).sha256
    assert first and again is None
    (folder / "b.jpg").write_bytes(b"owt")  # the same size, later
    os.utime(folder / "b.jpg", (2**33, 2**33))
    assert pack(folder).sha256 not in (None, first)
    assert read_file(tmp_path / "train2017.tar", "b.jpg").tobytes() == b"owt"


def test_batches_from_folder_and_tar_are_the_same(tmp_path: Path) -> None:
    value = many(landscapes=5, portraits=2)
    split = write_split(tmp_path, value)
    write_images(split, value["images"])
    index = load_index(split)
    packed = pack(split.images).path

    def batches(images: Path, workers: int) -> list[torch.Tensor]:
        found = training_batches(
            index, images, train_filter(index), _augmentation(), seed=1, epoch=0, total_batch=2, workers=workers
        )
        return [batch for (batch,) in found]

    expected = batches(split.images, 0)
    for workers in (0, 2):
        assert all(map(_same, batches(packed, workers), expected))
    arguments = {"scale": (96, 64), "channel_order": "rgb", "mean": (1.0,) * 3, "std": (1.0,) * 3}
    tests = [list(evaluation_images(index, images, **arguments)) for images in (split.images, packed)]
    assert all(torch.equal(one.image, two.image) for one, two in zip(*tests, strict=True))
    faultless = CocoSplit(images=packed, annotations=split.annotations)
    assert check_split(faultless).errors == 0


def test_faults_in_a_tar_are_those_of_a_folder(tmp_path: Path) -> None:
    value = many(landscapes=4, portraits=0)
    split = write_split(tmp_path, value)
    write_images(split, value["images"][:3])
    (split.images / "2.png").write_bytes((split.images / "2.png").read_bytes()[:-20])
    (split.images / "more.png").write_bytes(b"")
    packed = CocoSplit(images=pack(split.images).path, annotations=split.annotations)
    assert check_split(packed).findings == check_split(split).findings
    assert {finding.kind for finding in check_split(packed).findings} == {
        "missing image file",
        "broken image file",
        "image file without entry",
    }
    index = load_index(split)
    with pytest.raises(UserError, match=r"images.tar/4.png: is not in the tar; `harness data check`"):
        list(training_batches(index, packed.images, np.array([3]), _augmentation(), seed=0, epoch=0, total_batch=2))


def test_processes_share_an_open_tar(tmp_path: Path) -> None:
    """Children that read at once get what they ask for, and the parent afterwards, too."""
    files = {f"{n}.jpg": str(n).encode() * 1000 for n in range(100)}
    packed = open_tar(pack(folder_of(tmp_path, files)).path)
    children = []
    for _ in range(3):
        if (pid := os.fork()) == 0:
            right = all(packed.read(name).tobytes() == content for _ in range(5) for name, content in files.items())
            os._exit(0 if right else 1)
        children.append(pid)
    assert all(packed.read(name).tobytes() == content for name, content in files.items())
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]


KILLED = """
import os, sys
from pathlib import Path
from harness.data.tar import pack

pack(Path(sys.argv[1]), progress=lambda done, total: os.kill(os.getpid(), 9) if done == 3 else None)
"""


def test_who_is_killed_leaves_no_tar_and_the_next_one_makes_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "train2017.tar").exists() and list(tmp_path.glob(".train2017.tar.*.tmp"))
    assert find_images(tmp_path) == folder
    assert pack(folder).files == 5
    assert names_in(tmp_path) == ["annotations", "train2017", "train2017.tar"]
    assert find_images(tmp_path) == tmp_path / "train2017.tar"


def find_images(root: Path) -> Path:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/instances_train2017.json").touch()
    return find_split(root, "train").images


def test_the_tar_goes_before_its_folder_unless_the_folder_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    packed = pack(folder).path
    assert find_images(tmp_path) == packed
    assert find_split(tmp_path, "train", images="train2017").images == folder
    assert find_split(tmp_path, "train", images="train2017.tar").images == packed


def test_a_tar_that_no_longer_fits_its_folder_counts_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path)
    packed = pack(folder).path
    os.utime(folder, (2**33, 2**33))  # changed, and changed back
    assert find_images(tmp_path) == packed and capsys.readouterr().err == ""
    (folder / "sub/.hidden").touch()
    (folder / "sub/new.jpg").touch()
    (folder / "c d").unlink()
    (folder / "a.jpg").unlink()
    os.utime(folder, (2**33, 2**33))
    assert find_images(tmp_path) == packed
    assert capsys.readouterr().err == (
        f"{packed}: no longer fits the folder beside it: the tar lacks 1 file, the folder 2; "
        f"the tar counts; `harness data pack {folder}` makes it anew\n"
    )
    for path in folder.rglob("*.jpg"):
        path.unlink()
    assert find_images(tmp_path) == packed and capsys.readouterr().err == ""  # an emptied folder is no other opinion


def test_a_check_finds_every_file_that_differs_from_the_tar(tmp_path: Path) -> None:
    split = write_split(tmp_path, many(landscapes=3, portraits=0))
    write_images(split, many(landscapes=3, portraits=0)["images"])
    packed = replace(split, images=pack(split.images).path)
    assert changed_files(packed.images) == []
    first, second, third = sorted(split.images.iterdir())
    os.utime(first, (2**33, 2**33))  # younger
    second.write_bytes(second.read_bytes() + b"x")
    third.unlink()
    (split.images / "new.jpg").touch()
    assert set(changed_files(packed.images)) == {first.name, second.name, third.name, "new.jpg"}
    (found,) = [entry for entry in check_split(packed).findings if entry.severity == "warning"]
    assert (found.kind, found.count) == ("tar unlike the folder beside it", 4)


def test_the_lease_is_renewed_while_what_was_written_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SECONDS", 0.4)
    monkeypatch.setattr(tar, "sha256", lambda path: (wait_for_renewals(tmp_path), sha256(path))[1])
    assert pack(folder_of(tmp_path)).files == 5


def test_nothing_to_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such folder"):
        pack(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no files to pack"):
        pack(tmp_path / "empty")
    folder = folder_of(tmp_path)
    monkeypatch.setattr(tar, "acquire", lambda lease: None)
    with pytest.raises(UserError, match="another process is making it"):
        pack(folder)
    monkeypatch.setattr(tar.shutil, "disk_usage", lambda path: SimpleNamespace(free=5))
    with pytest.raises(UserError, match=r"0.0 GB are needed, 0.0 GB are free"):
        pack(folder)
    assert not list(tmp_path.glob("*.tar"))


def test_a_disk_that_reads_other_than_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "sha256", lambda path: "0" * 64)
    with pytest.raises(UserError, match="what was written is not what is read again"):
        pack(folder_of(tmp_path))
    assert names_in(tmp_path) == ["train2017"]


def test_a_bad_tar_is_one_line(tmp_path: Path) -> None:
    content = pack(folder_of(tmp_path)).path.read_bytes()
    foreign = tmp_path / "foreign.tar"
    with tarfile.open(foreign, "w") as out:
        out.add(tmp_path / "train2017/b.jpg", "b.jpg")
    cases = {
        "missing.tar": (None, "No such file or directory"),
        "empty.tar": (b"", "not an uncompressed tar of images, or damaged"),
        "text.tar": (b"text" * 1000, "not an uncompressed tar of images, or damaged"),
        "gzip.tar": (gzip.compress(content), "not an uncompressed tar of images, or damaged"),
        "cut.tar": (content[:4000], "cut short at 4000 bytes"),
        "foreign.tar": (foreign.read_bytes(), "a tar without .index.npy as its first file; `harness data pack`"),
        "index.tar": (content.replace(b"\x93NUMPY", b"\x93NUMPI"), "not an uncompressed tar of images, or damaged"),
        "head.tar": (b"x" + content[1:], "not an uncompressed tar of images, or damaged"),
    }
    for name, (damaged, message) in cases.items():
        if damaged is not None:
            (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match=message) as caught:
            read_file(tmp_path / name, "b.jpg")
        assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)

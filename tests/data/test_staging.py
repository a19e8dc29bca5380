"""A node's own copy of a split: whole, made once whoever comes, and finished by another where one dies."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training.tiny import make_shapes

from harness.data import staging
from harness.data.coco import CocoSplit, load_index
from harness.data.layout import find_split
from harness.data.staging import Progress, Stopped, home_of, stage
from harness.data.tar import pack
from harness.errors import UserError
from harness.files import sha256

IMAGES = 12
SCRIPT = """
import os, sys, time
from pathlib import Path
from harness.data import staging
from harness.data.layout import find_split

done, real = [], staging._bring
def slow(source, target):
    if len(done) == int(sys.argv[4]):
        os.kill(os.getpid(), 9)
    done.append(source)
    time.sleep(0.02)
    real(source, target)

staging._bring, staging.THREADS, staging.BATCH = slow, 1, 2
staging.stage(find_split(Path(sys.argv[1]), "train"), sys.argv[3], Path(sys.argv[2]), tick=print, stop=bool)
print(len(done))
"""


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> CocoSplit:
    return find_split(make_shapes(tmp_path_factory.mktemp("shapes") / "shapes", train=IMAGES), "train")


def staged(split: CocoSplit, home: Path, tick: Callable[[Progress], object] = str) -> CocoSplit:
    return stage(split, sha256(split.annotations), home, tick=tick, stop=bool)  # type: ignore[arg-type]


def start(split: CocoSplit, home: Path, die_at: int = -1) -> "subprocess.Popen[str]":
    words = [split.annotations.parent.parent, home, sha256(split.annotations), die_at]
    command = [sys.executable, "-c", SCRIPT, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def brought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are copied from now on."""
    names: list[str] = []
    real = staging._bring

    def bring(source: Path, target: Path) -> None:
        names.append(source.name)
        real(source, target)

    monkeypatch.setattr(staging, "_bring", bring)
    return names


def require_equal(copy: CocoSplit, split: CocoSplit) -> None:
    names = load_index(split).file_names
    assert sorted(entry.name for entry in copy.images.iterdir()) == sorted(names)
    assert all((copy.images / name).read_bytes() == (split.images / name).read_bytes() for name in names)
    assert copy.annotations.read_bytes() == split.annotations.read_bytes()


def test_a_copy_and_no_second_one(split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    copy = staged(split, tmp_path, lambda progress: said.append(str(progress)))
    require_equal(copy, split)
    assert said == [f"copying the data set to {copy.images.parent}: 0 of {IMAGES} images"]
    facts = json.loads((copy.images.parent / "complete.json").read_text())
    assert facts["images"] == IMAGES
    assert facts["bytes"] == sum(path.stat().st_size for path in copy.images.iterdir())
    names = brought(monkeypatch)
    assert staged(split, tmp_path) == copy
    assert names == []


def test_after_a_crash_of_the_machine_sizes_are_looked_at_again(
    split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = staged(split, tmp_path / "home")
    torn = next(copy.images.iterdir())
    torn.write_bytes(b"")
    (tmp_path / "boot").write_text("another boot\n")
    monkeypatch.setattr(staging, "_BOOT", tmp_path / "boot")
    names = brought(monkeypatch)
    staged(split, tmp_path / "home")
    assert names == [torn.name, split.annotations.name]
    require_equal(copy, split)


def test_who_is_killed_is_followed_by_another(
    split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = start(split, tmp_path, die_at=5)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    (folder / "images" / ".half.jpg.x.tmp").write_bytes(b"half")
    names = brought(monkeypatch)
    require_equal(staged(split, tmp_path), split)
    assert len(names) == IMAGES - 5 + 1


@pytest.mark.slow
def test_two_at_once_copy_each_file_once(split: CocoSplit, tmp_path: Path) -> None:
    both = [start(split, tmp_path) for _ in range(2)]
    said = [one.communicate(timeout=120)[0].splitlines() for one in both]
    assert sum(int(lines[-1]) for lines in said) == IMAGES + 1
    (folder,) = tmp_path.iterdir()
    require_equal(CocoSplit(images=folder / "images", annotations=folder / "annotations.json"), split)


def test_no_room(split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "RESERVE", 2**60)
    with pytest.raises(UserError, match=r"GB free, the copy needs 1073741824\.0"):
        staged(split, tmp_path)
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob("*.jpg"))


def test_an_original_that_is_missing_or_another_one(split: CocoSplit, tmp_path: Path) -> None:
    away = CocoSplit(images=tmp_path / "none", annotations=split.annotations)
    with pytest.raises(UserError, match="no such file, but the annotations name it"):
        staged(away, tmp_path / "home")
    with pytest.raises(UserError, match=r"has sha256 .*the run was submitted with 0123"):
        stage(split, "0123" * 16, tmp_path / "home", tick=print, stop=bool)
    assert not list((tmp_path / "home").rglob("complete.json"))


def test_told_to_stop(split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there by then stays; the lease is free."""
    monkeypatch.setattr(staging, "BATCH", 4)
    answers = iter([False] * 5)  # the beginning, three looks at sizes, one batch of files
    with pytest.raises(Stopped):
        stage(split, sha256(split.annotations), tmp_path, tick=print, stop=lambda: next(answers, True))
    names = brought(monkeypatch)
    require_equal(staged(split, tmp_path), split)
    assert len(names) == IMAGES - 4 + 1


def test_a_tar_is_copied_as_one_file_and_goes_on_where_it_stopped(
    split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "PIECE", 10_000)
    packed = CocoSplit(images=pack(split.images).path, annotations=split.annotations)
    content = packed.images.read_bytes()
    try:
        answers = iter([False] * 3)  # the beginning, two pieces
        with pytest.raises(Stopped):
            stage(packed, sha256(split.annotations), tmp_path, tick=print, stop=lambda: next(answers, True))
        (part,) = tmp_path.rglob("*.part")
        assert part.stat().st_size == 20_000
        part.write_bytes(b"z" * 20_000)  # seen below: what is there is not copied again
        said: list[str] = []
        copy = staged(packed, tmp_path, lambda progress: said.append(str(progress)))
        assert copy.images.name == "images.tar" and copy.images.read_bytes() == b"z" * 20_000 + content[20_000:]
        assert f" of {IMAGES} images" in said[0] and ": 0 of" not in said[0]
        assert not list(tmp_path.rglob("*.part")) and not (copy.images.parent / "images").exists()
        facts = json.loads((copy.images.parent / "complete.json").read_text())
        assert (facts["images"], facts["bytes"]) == (IMAGES, len(content))
        copy.images.write_bytes(b"torn")
        (tmp_path / "boot").write_text("another boot\n")
        monkeypatch.setattr(staging, "_BOOT", tmp_path / "boot")
        assert staged(packed, tmp_path).images.read_bytes() == content
    finally:
        packed.images.unlink()


def test_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_OF_JOB", "/local/77")
    assert home_of("$SCRATCH_OF_JOB/harness") == Path("/local/77/harness")
    for text in ("$NOT_SET_ANYWHERE/harness", "here"):
        with pytest.raises(UserError, match="expected an absolute path"):
            home_of(text)

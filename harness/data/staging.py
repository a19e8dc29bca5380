"""A copy of a split on a node's own disk, made once and read by all jobs of the node."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.data.coco import CocoSplit, load_index
from harness.data.image_files import file_names, is_packed
from harness.errors import UserError
from harness.files import read_json, replacing, sha256, write_json
from harness.leases import Lease, LeaseLost, acquire

T = TypeVar("T")

RESERVE = 2**30
"""Bytes that a copy leaves free."""
THREADS = 16
"""Files at once: what is slow on a shared disk is the way there and back."""
PIECE = 2**26
"""Bytes of a tar between two looks at whether to go on."""
BATCH = 256
"""Files between two looks at whether to go on."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Stopped(Exception):
    """The copying was told to end; what is there stays for the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Of a copy."""

    folder: Path
    images: int  # there by now
    of: int  # 0: another process is copying

    def __str__(self) -> str:
        if not self.of:
            return f"waiting for another job's copy of the data set to {self.folder}"
        return f"copying the data set to {self.folder}: {self.images} of {self.of} images"


def stage(
    split: CocoSplit, digest: str, home: Path, *, tick: Callable[[Progress], None], stop: Callable[[], bool]
) -> CocoSplit:
    """The split's copy below `home`, made unless it is there.

    One process of the node copies while the others wait; one that dies is followed by another, which goes on where it
    stopped. A copy is whole when all images that the annotations name have the sizes of the originals, and the
    annotations their sha256, `digest`. Nothing whole is ever removed. tick: called every second or so.
    Raises UserError where the disk has no room or an original is missing, OSError as the disks do, Stopped.
    """
    folder = home / f"{digest[:16]}-{hashlib.sha256(str(split.images).encode()).hexdigest()[:8]}"
    images = "images.tar" if is_packed(split.images) else "images"
    copy = CocoSplit(images=folder / images, annotations=folder / "annotations.json")
    while not _is_whole(folder):
        if stop():
            raise Stopped
        if (lease := acquire(folder / "lease")) is None:
            tick(Progress(folder=folder, images=0, of=0))
            time.sleep(1)
            continue
        try:
            if not _is_whole(folder):
                _Copying(split, digest, copy, lease, tick, stop).run()
        except LeaseLost:  # this process slept too long, and another one copies
            continue
        finally:
            lease.release()
    return copy


def home_of(text: str) -> Path:
    """The folder that a cluster file names, with the variables of this process.

    Raises UserError where one is not set, or the path is relative.
    """
    home = Path(os.path.expandvars(text))
    if "$" in str(home) or not home.is_absolute():
        raise UserError(f"staging: {text} is {home} here, expected an absolute path; set the variable in `setup`")
    return home


def _is_whole(folder: Path) -> bool:
    """Whether a copy is done, and the machine has not crashed since, which may cut files short."""
    done = folder / "complete.json"
    return done.exists() and read_json(done)["boot"] == _boot()


def _boot() -> str:
    return _BOOT.read_text(encoding="utf-8").strip()


@dataclass(frozen=True, slots=True)
class _Copying:
    """By the holder of the lease."""

    split: CocoSplit
    digest: str
    copy: CocoSplit
    lease: Lease
    tick: Callable[[Progress], None]
    stop: Callable[[], bool]

    def run(self) -> None:
        folder = self.copy.annotations.parent
        for abandoned in folder.rglob(".*.tmp"):
            abandoned.unlink(missing_ok=True)
        count, size = (self._bring_tar if is_packed(self.split.images) else self._bring_images)(folder)
        self._bring_annotations()
        facts = {"images": count, "bytes": size, "from": str(self.split.images), "boot": _boot()}
        write_json(folder / "complete.json", facts, durable=True)

    def _bring_images(self, folder: Path) -> tuple[int, int]:
        """How many images there are, and their bytes."""
        names = [str(name) for name in load_index(self.split).file_names]
        with ThreadPoolExecutor(THREADS) as pool:
            sizes = dict(zip(names, self._each(pool, lambda name: _size(self.split.images / name), names), strict=True))
            missing = [name for name in names if not _has(self.copy.images / name, sizes[name])]
            _require_room(folder, sum(sizes[name] for name in missing) + self.split.annotations.stat().st_size)
            there = len(names) - len(missing)
            for number, _ in enumerate(self._each(pool, lambda name: self._bring_image(name, sizes[name]), missing)):
                if number % BATCH == 0:
                    self.tick(Progress(folder=folder, images=there + number, of=len(names)))
        return len(names), sum(sizes.values())

    def _bring_tar(self, folder: Path) -> tuple[int, int]:
        """The whole file, in pieces; what was copied since this machine's start counts."""
        source, size = self.split.images, _size(self.split.images)
        count = sum(1 for _ in file_names(source))
        if _has(self.copy.images, size):
            return count, size
        part = self.copy.images.with_suffix(f".{_boot()}.part")
        for older in set(folder.glob("*.part")) - {part}:
            older.unlink()
        with source.open("rb") as original, part.open("ab") as out:
            _require_room(folder, size - out.tell() + self.split.annotations.stat().st_size)
            original.seek(out.tell())
            while piece := original.read(PIECE):
                if self.stop():
                    raise Stopped
                self.lease.renew()
                self.tick(Progress(folder=folder, images=count * out.tell() // size, of=count))
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        if not _has(part, size):
            part.unlink()
            raise UserError(f"{source}: changed while it was copied")
        part.replace(self.copy.images)
        return count, size

    def _each(self, pool: Executor, work: Callable[[str], T], names: Sequence[str]) -> Iterator[T]:
        """Do it for many, looking now and then at whether to go on."""
        for start in range(0, len(names), BATCH):
            if self.stop():
                raise Stopped
            self.lease.renew()
            yield from pool.map(work, names[start : start + BATCH])

    def _bring_image(self, name: str, size: int) -> None:
        _bring(self.split.images / name, self.copy.images / name)
        if not _has(self.copy.images / name, size):
            raise UserError(f"{self.split.images / name}: changed while it was copied")

    def _bring_annotations(self) -> None:
        _bring(self.split.annotations, self.copy.annotations)
        if (found := sha256(self.copy.annotations)) != self.digest:
            self.copy.annotations.unlink()
            was = f"the run was submitted with {self.digest[:16]}..."
            raise UserError(f"{self.split.annotations}: has sha256 {found[:16]}..., {was}")


def _bring(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, but the annotations name it") from None


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE:
        raise UserError(f"{folder} has {free / 2**30:.1f} GB free, the copy needs {(needed + RESERVE) / 2**30:.1f}")

"""COCO 2017: download, verify and unpack; what is complete already is left alone."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from harness.downloads import download
from harness.errors import UserError
from harness.wording import count

BASE_URL = "http://images.cocodataset.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One zip file of COCO 2017."""

    path: str  # below the base URL
    md5: str
    size: float  # about how many bytes, zipped or not
    folder: str  # in the zip and below the data set's root
    pattern: str  # of the files wanted from it
    files: int  # how many those are

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.path).name


ARCHIVES = (
    Archive(
        path="annotations/annotations_trainval2017.zip",
        md5="f4bbac642086de4f52a3fdda2de5fa2c",
        size=0.5e9,
        folder="annotations",
        pattern="instances_*2017.json",
        files=2,
    ),
    Archive(
        path="zips/val2017.zip",
        md5="442b8da7639aecaf257c1dceb8ba8c80",
        size=0.9e9,
        folder="val2017",
        pattern="*.jpg",
        files=5_000,
    ),
    Archive(
        path="zips/train2017.zip",
        md5="cced6f7f71b7629ddf16f17bbcfab6b2",
        size=19.5e9,
        folder="train2017",
        pattern="*.jpg",
        files=118_287,
    ),
)


def fetch_coco(
    root: Path,
    *,
    progress: Callable[[str, int, int | None], None] = lambda what, done, total: None,
    base_url: str = BASE_URL,
    archives: tuple[Archive, ...] = ARCHIVES,
) -> list[str]:
    """Bring COCO 2017 to root/{annotations,train2017,val2017}: about 20 GB, and as much again while unpacking.

    A cut download goes on where it stopped, and so does unpacking; a zip that was laid into `root` by hand is taken
    instead, and every zip is removed once it is unpacked. progress is told of what, how much is done, and of how much
    (bytes of a zip, then files of a folder).
    Returns the folders that were filled; none where all was complete.
    Raises UserError where the host cannot be reached, saying what to place where, where an archive is wrong, where a
    folder is there but incomplete, and where the disk is too small.
    """
    filled = []
    for archive in archives:
        if _is_complete(root / archive.folder, archive):
            continue
        zipped = root / archive.name
        _download(archive, zipped, base_url, partial(progress, archive.name))
        _unpack(archive, zipped, root, partial(progress, archive.folder))
        zipped.unlink()
        filled.append(archive.folder)
    return filled


def _is_complete(folder: Path, archive: Archive) -> bool:
    if not folder.exists():
        return False
    found = sum(1 for _ in folder.glob(archive.pattern))
    if found < archive.files:
        message = f"{folder}: has {found} of {archive.files} files {archive.pattern}; complete it or move it away"
        raise UserError(message)
    return True


def _download(archive: Archive, zipped: Path, base_url: str, progress: Callable[[int, int | None], None]) -> None:
    if not zipped.exists():
        part = zipped.with_name(f"{zipped.name}.part")
        _require_space(zipped.parent, 2 * archive.size - (part.stat().st_size if part.exists() else 0))
    url = f"{base_url}/{archive.path}"
    try:
        download(url, zipped, md5=archive.md5, progress=progress)
    except UserError as error:
        by_hand = (
            f"or bring it here by hand: {url} to {zipped}, or its unpacked folder to {zipped.parent / archive.folder}"
        )
        raise UserError(f"{error}; {by_hand}") from None


def _unpack(archive: Archive, zipped: Path, root: Path, progress: Callable[[int, int], None]) -> None:
    """The wanted files go to a hidden folder, which gets its name when all are there."""
    unfinished = root / f".{archive.folder}.partial"
    unfinished.mkdir(exist_ok=True)
    with zipfile.ZipFile(zipped) as source:
        wanted = [entry for entry in source.infolist() if _is_wanted(entry.filename, archive)]
        if len(wanted) != archive.files:
            raise UserError(f"{zipped}: holds {count(len(wanted), 'file')} {archive.pattern}, expected {archive.files}")
        targets = [unfinished / PurePosixPath(entry.filename).name for entry in wanted]
        missing = [
            (entry, target)
            for entry, target in zip(wanted, targets, strict=True)
            if not target.exists() or target.stat().st_size != entry.file_size
        ]
        _require_space(root, sum(entry.file_size for entry, _ in missing))
        for done, (entry, target) in enumerate(missing, start=len(wanted) - len(missing) + 1):
            with source.open(entry) as content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
            progress(done, len(wanted))
    unfinished.rename(root / archive.folder)


def _is_wanted(name: str, archive: Archive) -> bool:
    """Exactly folder/file, so that nothing in an archive can reach another place."""
    path = PurePosixPath(name)
    return path.parts == (archive.folder, path.name) and path.match(archive.pattern)


def _require_space(folder: Path, needed: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; name another folder"
        )

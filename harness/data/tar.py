"""Images in one uncompressed tar, read by offset: a shared disk opens one file instead of a hundred thousand.

A tar like any, whose first member, .index.npy, is a table of names, offsets and sizes that processes map into memory.
"""

import hashlib
import io
import os
import shutil
import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.files import replacing, sha256
from harness.leases import Lease, acquire, renewing
from harness.wording import count

SUFFIX = ".tar"
INDEX = ".index.npy"
_FIELDS = ("name", "offset", "size")


@dataclass(frozen=True, slots=True)
class Tar:
    """An open tar. Reading moves no file position, so threads and forked processes may share it."""

    path: Path
    handle: int
    table: NDArray[Any]  # name (UTF-8, ascending), offset and size in bytes; mapped

    def names(self) -> Iterator[str]:
        """Of all its files, relative to the folder that was packed."""
        return (os.fsdecode(name) for name in self.table["name"])

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a file. Raises UserError where there is no such file, OSError as the disk does."""
        if (entry := self._find(name)) is None:
            raise UserError(f"{self.path / name}: is not in the tar; `harness data check` lists all faulty images")
        content = os.pread(self.handle, entry["size"], entry["offset"])
        return np.frombuffer(content, np.uint8)

    def _find(self, name: str) -> Any:
        key, names = os.fsencode(name), self.table["name"]
        place = bisect_left(names, key)
        return self.table[place] if place < len(names) and names[place] == key else None


def is_indexed(path: Path) -> bool:
    """Whether a file is a tar with the table of its images; one without it is somebody's own."""
    try:
        return _table_member(path) is not None
    except (OSError, tarfile.TarError):
        return False


def _table_member(path: Path) -> tarfile.TarInfo | None:
    """Where a tar's table is; None where its first file is another."""
    with tarfile.open(path, "r:") as tar:
        first = tar.next()
    return first if first is not None and Path(first.name).name == INDEX else None


@cache
def open_tar(path: Path) -> Tar:
    """The tar, opened once in a process.

    Raises UserError where it is missing, cut short or without the index that `harness data pack` gives it.
    """
    again = "`harness data pack` on the folder of its images makes one"
    try:
        if (member := _table_member(path)) is None:
            raise UserError(f"{path}: a tar without {INDEX} as its first file; {again}")
        table = _mapped(path, member.offset_data)
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (tarfile.TarError, ValueError) as error:
        raise UserError(f"{path}: not an uncompressed tar of images, or damaged ({error}); {again}") from None
    size, expected = os.fstat(handle).st_size, int((table["offset"] + table["size"]).max(initial=0))
    if size < expected:
        os.close(handle)
        raise UserError(f"{path}: cut short at {size} bytes, its index expects {expected} or more; {again}")
    return Tar(path, handle, table)


def _mapped(path: Path, offset: int) -> NDArray[Any]:
    with path.open("rb") as file:
        file.seek(offset)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("unknown version of the index")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if dtype.names != _FIELDS or dtype.hasobject:
        raise ValueError("unknown index")
    return np.memmap(path, dtype, "r", start, shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What `pack` has made or found."""

    path: Path
    files: int
    size: int  # bytes of the tar
    sha256: str | None  # None: it was there already


def pack(folder: Path, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Packed:
    """Write FOLDER.tar beside the folder, of all its files but hidden ones; the same files give the same bytes.

    Left alone where a tar of the same names and sizes, younger than all of them, is there. What was written is read
    again and compared by sha256; the tar has its name from then on only. progress is told the files done and their
    total.
    Raises UserError where there is nothing to pack, no room, or another process is at it.
    """
    if not folder.name:
        raise UserError(f"{folder}: no folder of images")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (files := _files(folder)):
        raise UserError(f"{folder}: has no files to pack")
    target = folder.with_name(f"{folder.name}{SUFFIX}")
    if _is_current(target, files):
        return Packed(path=target, files=len(files), size=target.stat().st_size, sha256=None)
    needed, free = sum(status.st_size for _, status in files), shutil.disk_usage(folder.parent).free
    if free < needed:
        raise UserError(f"{target}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
    try:
        lease = acquire(target.with_name(f".{target.name}.lease"))
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from None
    if lease is None:
        raise UserError(f"{target}: another process is making it")
    try:
        for abandoned in target.parent.glob(f".{target.name}.*.tmp"):
            abandoned.unlink()
        open_tar.cache_clear()
        with renewing(lease):
            return _pack(folder, target, files, lease, progress)
    finally:
        lease.discard()


def misfit(packed: Path) -> str:
    """How a tar differs from the folder beside it that it was made of, in a line; "" where it fits, or there is none.

    Names are compared, and only where the folder has changed after the tar; `changed_files` is exact and takes longer.
    Raises UserError as `open_tar` does.
    """
    folder = packed.with_suffix("")
    if not folder.is_dir() or folder.stat().st_mtime <= packed.stat().st_mtime:
        return ""
    there, held = set(_names(folder)), set(open_tar(packed).names())
    if not there or there == held:
        return ""
    return (
        f"{packed}: no longer fits the folder beside it: the tar lacks {count(len(there - held), 'file')}, "
        f"the folder {len(held - there)}; the tar counts; `harness data pack {folder}` makes it anew"
    )


def changed_files(packed: Path) -> list[str]:
    """Files that the tar or the folder beside it lacks, or that have another size or are younger there than the tar.

    Raises UserError as `open_tar` does.
    """
    folder = packed.with_suffix("")
    return _changed(packed, files) if folder.is_dir() and (files := _files(folder)) else []


_Files = list[tuple[str, os.stat_result]]  # names relative to the folder, ascending by their bytes


def _names(folder: Path) -> Iterator[str]:
    """Of all files in a folder, relative to it, without hidden ones; nothing is asked of the files themselves."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = "" if place == str(folder) else f"{os.path.relpath(place, folder)}/"
        yield from (inside + name for name in files if not name.startswith("."))


def _files(folder: Path) -> _Files:
    names = sorted((name for name in _names(folder) if (folder / name).is_file()), key=os.fsencode)
    return [(name, (folder / name).stat()) for name in names]


def _changed(target: Path, files: _Files) -> list[str]:
    table, made = open_tar(target).table, target.stat().st_mtime
    held = dict(zip(map(os.fsdecode, table["name"].tolist()), table["size"].tolist(), strict=True))
    changed = [name for name, file in files if held.pop(name, None) != file.st_size or file.st_mtime > made]
    return [*changed, *held]


def _is_current(target: Path, files: _Files) -> bool:
    try:
        return not _changed(target, files)
    except UserError:
        return False  # it is not there, or it is replaced


def _pack(folder: Path, target: Path, files: _Files, lease: Lease, progress: Callable[[int, int], None]) -> Packed:
    heads = [_head(f"{folder.name}/{name}", status.st_size) for name, status in files]
    table = _table(folder, files, heads)
    digest = hashlib.sha256()
    with replacing(target, durable=True) as temporary:
        with temporary.open("wb") as out:

            def write(content: bytes) -> None:
                digest.update(content)
                out.write(content)

            index = _npy(table)
            write(_head(f"{folder.name}/{INDEX}", len(index)) + _filled(index))
            for done, ((name, status), head) in enumerate(zip(files, heads, strict=True), 1):
                content = (folder / name).read_bytes()
                if len(content) != status.st_size:
                    raise UserError(f"{folder / name}: changed while it was packed; start again")
                write(head + _filled(content))
                progress(done, len(files))
            write(bytes(-(out.tell() + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE))
        if sha256(temporary) != digest.hexdigest():
            raise UserError(f"{target}: what was written is not what is read again; look after the disk")
        lease.renew()  # no other process is at it
        size = temporary.stat().st_size
    return Packed(path=target, files=len(files), size=size, sha256=digest.hexdigest())


def _table(folder: Path, files: _Files, heads: list[bytes]) -> NDArray[Any]:
    names = [os.fsencode(name) for name, _ in files]
    table = np.zeros(len(files), [("name", f"S{max(map(len, names))}"), ("offset", "<i8"), ("size", "<i8")])
    table["name"], table["size"] = names, [status.st_size for _, status in files]
    own = len(_npy(table))
    blocks = [len(head) + _whole(status.st_size) for head, (_, status) in zip(heads, files, strict=True)]
    starts = len(_head(f"{folder.name}/{INDEX}", own)) + _whole(own) + np.cumsum([0, *blocks[:-1]])
    table["offset"] = starts + [len(head) for head in heads]
    return table


def _head(name: str, size: int) -> bytes:
    """A member's header: of nobody, of no time."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _npy(table: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, table, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def _filled(content: bytes) -> bytes:
    return content + bytes(_whole(len(content)) - len(content))


def _whole(size: int) -> int:
    """Bytes of whole blocks."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

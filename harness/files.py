"""Files that are never seen half-written: temporary file in the same folder, then os.replace."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.failures import Failure

MAKE_ROOM = "make room (df -h shows how much there is), then start again"


def disk_full(error: BaseException | None) -> str:
    """What the system said, where `error` or what led to it is that a disk, a quota or a file's limit is full; or "".

    torch hides that behind an error of its own.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return str(error.strerror).lower()
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; on a clean exit it becomes `path`, on an error it is removed.

    durable: fsync the file and its folder, so that the content survives a crash of the machine.
    Raises UserError where the folder cannot be made or written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        text = f"{path}: cannot be written: {error.strerror}; give another folder, or mend this one"
        raise UserError(text, failure=Failure.DISK if disk_full(error) else Failure.MISTAKE) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask())
        if durable:
            fsync(temporary)
        temporary.replace(path)
        if durable:
            fsync(path.parent)
    except Exception as error:
        if full := disk_full(error):
            raise UserError(f"{path}: cannot be written: {full}; {MAKE_ROOM}", failure=Failure.DISK) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write UTF-8 text with plain newlines, atomically."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Write readable JSON (2 spaces, keys in the order given, final newline), atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", durable=durable)


def read_json(path: Path) -> Any:
    """The JSON value in `path`.

    Raises UserError naming the file where it is missing or is not JSON.
    """
    if (value := find_json(path, absent := object())) is absent:
        raise UserError(f"{path}: no such file")
    return value


def find_json(path: Path, absent: Any = None) -> Any:
    """The JSON value in `path`, or `absent` where there is no such file.

    Raises UserError naming the file where it is not JSON.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123, as Path.read_bytes takes twice as long
            return json.loads(file.read())
    except FileNotFoundError:
        return absent
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def known_fields(kind: Any, plain: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a JSON object that a dataclass has fields for.

    A copy of the code that a run began with must read what a newer harness, with fields of its own, has written since.
    """
    names = _field_names(kind)
    return {name: value for name, value in dict(plain).items() if name in names}


@cache
def _field_names(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_facts(path: Path) -> dict[str, Any]:
    """Path, size in bytes and sha256."""
    return {"path": str(path.resolve()), "size": path.stat().st_size, "sha256": sha256(path)}


def remembered_sha256(path: Path, cache: Path) -> str:
    """The file's sha256, remembered in the folder `cache` while the file's path, size and time stay the same."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    key = hashlib.sha256(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()
    remembered = cache / f"{key}.sha256"
    if not remembered.is_file():
        write_text(remembered, sha256(path))
    return remembered.read_text(encoding="utf-8")


def fsync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    """The process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""The code that jobs run: a copy of this package in the run root, by content, so that edits change no run at work."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def code_folder(run_root: Path) -> Path:
    """Where the copy of this package is or would be: the folder that holds `harness`, named by a digest of it."""
    total = hashlib.sha256()
    for name, file in _files():
        total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return run_root / ".code" / total.hexdigest()[:12]


def freeze(run_root: Path) -> Path:
    """Make that copy, unless it is there, whole or not at all."""
    folder = code_folder(run_root)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".copy.", dir=folder.parent) as temporary:
        copy = Path(temporary) / folder.name
        for name, file in _files():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy / name)
        try:
            copy.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another submit was quicker, with the same content
                raise
    return folder


def _files() -> Iterator[tuple[str, Path]]:
    """Every file of the package, and the experiments beside it in a checkout, by its name in the copy."""
    for folder in (PACKAGE, PACKAGE.parent / "experiments"):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(PACKAGE.parent)), file

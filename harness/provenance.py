"""Which code this is: a digest of its content, and what of it git knows.

The code is the package and the experiments beside it. A copy in a run root (launching/frozen_code.py) has no git; what
was known where it was made lies beside it.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import read_json

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the package: a checkout, a copy of the code, or where packages are installed."""
PARTS = ("harness", "experiments")
DIGITS = 12
"""Of digests as they are shown and as they name copies."""
FACTS = "code.json"
"""Beside a copy: its `Code` but for `frozen`."""
PATCH = "changes.patch"
"""Beside a copy that differs from its commit: for `git apply` on that commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a process runs."""

    digest: str
    version: str  # of the package
    commit: str | None  # None where it was in no git checkout
    dirty: bool  # whether it differs from that commit
    frozen: bool  # whether it is a copy in a run root, which no edit of the checkout changes


@cache
def running_code() -> Code:
    """The code of this process, as its files are when first asked."""
    return code_in(ROOT)


def python_path(root: Path = ROOT) -> str:
    """PYTHONPATH for a Python (with -P, which leaves out its working folder) that runs the code below a folder."""
    return os.pathsep.join(filter(None, (str(root.resolve()), os.environ.get("PYTHONPATH", ""))))


def code_in(root: Path) -> Code:
    """The code below a folder."""
    known = read_json(root / FACTS) if (root / FACTS).exists() else _facts(root)
    return Code(**known | {"digest": content_digest(root), "frozen": (root / FACTS).exists()})


def _facts(root: Path) -> dict[str, str | bool | None]:
    try:
        number = version("maskrcnn-harness")
    except PackageNotFoundError:
        number = "unknown"
    return {"version": number, "commit": _commit(root), "dirty": bool(changes(root))}


def content_digest(root: Path) -> str:
    """Of the names and contents of all files of the code."""
    total = hashlib.sha256()
    for name, file in code_files(root):
        total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:DIGITS]


def code_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the code, with its name relative to the folder; not what Python and editors put between them."""
    for part in PARTS:
        for file in sorted((root / part).rglob("*")):
            name = file.relative_to(root)
            if file.is_file() and not any(word == "__pycache__" or word.startswith(".") for word in name.parts):
                yield str(name), file


def trained_by(journal: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The digests of the codes that trained a run, in order, by the rows of its attempts' segments.

    An attempt that repeated journaled iterations has trained also where it added no row.
    """
    found: dict[str, None] = {}
    for rows in journal.values():
        trained = any(row.get("mode") == "train" or row.get("replayed") for row in rows)
        codes = [row["code"]["digest"] for row in rows if row.get("code")]
        found |= dict.fromkeys(codes if trained else ())
    return list(found)


def several_codes(codes: Sequence[str]) -> str:
    """What is to be said of a run that more than one code has trained."""
    return f"trained by {'two' if len(codes) == 2 else len(codes)} codes: {', '.join(codes)}"


def changes(root: Path) -> bytes:
    """What the code has besides its commit, files unknown to git too, as `git apply` takes it; empty without git.

    Raises UserError where git knows the commit and then fails. Nothing of the checkout is written.
    """
    if (root / PATCH).exists():
        return (root / PATCH).read_bytes()
    if _commit(root) is None:
        return b""
    objects = _git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects").decode().strip()
    with tempfile.TemporaryDirectory() as folder:
        own = {"GIT_INDEX_FILE": f"{folder}/index", "GIT_OBJECT_DIRECTORY": folder}
        own["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = objects
        _git(root, "read-tree", "HEAD", environ=own)
        unknown = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *PARTS, environ=own)
        intent = ("add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
        if unknown:
            _git(root, *intent, said=unknown, environ=own)
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
        return _git(root, "diff", "--binary", *plain, "HEAD", "--", *PARTS, environ=own)


def _commit(root: Path) -> str | None:
    """The commit of the checkout; None where the folder is none, has no commit, or git cannot read it."""
    if not (root / ".git").exists():  # a checkout around a folder of installed packages is not theirs
        return None
    try:
        return _git(root, "rev-parse", "--verify", "HEAD").decode().strip()
    except UserError:
        return None


def _git(root: Path, *words: str, said: bytes = b"", environ: Mapping[str, str] = {}) -> bytes:
    command = ["git", "-C", str(root), *words]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | dict(environ)
    try:
        return subprocess.run(command, input=said, env=own, check=True, capture_output=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error).encode()
        raise UserError(f"{root}: git {words[0]}: {told.decode(errors='replace').strip()}") from None

"""What launchers work with: a copy of the code and of the matrix file in the run root, by content.

So edits change no run at work, and a run that goes on, whoever starts it again, runs the code that it began with.
"""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import MAKE_ROOM, disk_full, known_fields, read_json, replacing, sha256, write_json
from harness.provenance import DIGITS, FACTS, PATCH, ROOT, changes, code_files, code_in, content_digest
from harness.run_paths import RunPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What the next attempts of a run work with: submission.json of its folder."""

    code: str  # digest of RUN_ROOT/.code/DIGEST
    matrix: str  # file in RUN_ROOT/.matrix


def present_code() -> str:
    """Digest of the code that this process was started from, as its files are now."""
    return content_digest(ROOT)


def code_folder(run_root: Path, digest: str) -> Path:
    """Where the copy of a code is or would be: the folder that holds `harness`."""
    return run_root / ".code" / digest


def freeze(run_root: Path) -> Path:
    """Make a copy of this code, unless a sound one is there: whole or not at all.

    Beside the code are its facts (code.json) and what its commit lacks (changes.patch).
    Raises UserError where it cannot be written.
    """
    folder = code_folder(run_root, present_code())
    if _sound(folder):
        return folder
    try:
        return _copy(folder.parent)
    except OSError as error:
        why = f"{error.strerror}; {MAKE_ROOM}" if disk_full(error) else error.strerror
        raise UserError(f"{folder.parent}: a copy of the code cannot be written: {why}") from None


def _copy(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".copy.", dir=home) as temporary:
        copy = Path(temporary) / "code"
        for name, file in code_files(ROOT):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy / name)
        _describe(copy)
        folder = home / content_digest(copy)  # files may have changed since they were looked at
        if folder.is_dir() and not _sound(folder):
            folder.rename(Path(temporary) / "damaged")
        try:
            copy.rename(folder)
        except OSError:
            if not _sound(folder):  # else another submit was quicker, with the same content
                raise
    return folder


def _describe(copy: Path) -> None:
    patch = changes(ROOT)
    if patch:
        (copy / PATCH).write_bytes(patch)
    facts = asdict(code_in(ROOT)) | {"digest": content_digest(copy)}
    write_json(copy / FACTS, {name: value for name, value in facts.items() if name != "frozen"})


def _sound(folder: Path) -> bool:
    return folder.is_dir() and content_digest(folder) == folder.name


def require_sound(run_root: Path, digests: Iterable[str]) -> None:
    """Raise UserError where the copy of a code is gone, or is no longer what it was."""
    for digest in dict.fromkeys(digests):
        folder = code_folder(run_root, digest)
        if not _sound(folder):
            what = "was changed since" if folder.is_dir() else "is gone"
            raise UserError(
                f"{folder}: the copy of the code that runs of this experiment began with {what}; "
                "put it back, or go on with the present code: harness submit --recode"
            )


def keep_matrix(run_root: Path, file: Path) -> str:
    """Store a matrix file in RUN_ROOT/.matrix, unless its content is there; its name there."""
    name = f"{file.stem}-{sha256(file)[:DIGITS]}.yaml"
    if not (run_root / ".matrix" / name).exists():
        with replacing(run_root / ".matrix" / name) as temporary:
            shutil.copyfile(file, temporary)
    return name


def read_submission(paths: RunPaths) -> Submission | None:
    """What the run's attempts work with; None before its first submit."""
    return Submission(**known_fields(Submission, read_json(paths.submission))) if paths.submission.exists() else None


def write_submission(paths: RunPaths, submission: Submission) -> None:
    """Say what the run's next attempts work with."""
    write_json(paths.submission, asdict(submission))

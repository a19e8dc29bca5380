"""What a run root keeps although nothing refers to it any more: found, and removed when asked."""

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import read_json
from harness.launching import prepare
from harness.launching.frozen_code import present_code, read_submission
from harness.launching.job_file import read_job
from harness.launching.local_queue import Home
from harness.launching.slurm_ask import queued_jobs
from harness.launching.supervisor import lives
from harness.matrix import Experiment
from harness.run_paths import RunPaths, experiment_folder
from harness.run_state import State, read_state
from harness.settings import Settings

YOUNG = 3600.0
"""Seconds for which a hidden folder may still be somebody's work."""
TRASH = ".removing"
"""In the run root: what is being taken apart, two levels deeper than anything that looks for runs."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or a folder that can go."""

    path: Path
    what: str
    size: int  # bytes


def leftovers(experiment: Experiment | None, settings: Settings, reports: Path, published: Path) -> list[Leftover]:
    """What no manifest, report or unfinished run refers to; nothing is removed.

    experiment: its finished runs that are no longer in its matrix, too. reports: the folder below which reports lie.
    published: the folder of what was published.
    Raises UserError where a file that may refer to something cannot be read, or the matrix's identities are not known,
    since data or weights are missing.
    """
    root = settings.run_root
    superseded = _superseded(experiment, settings, _keys(reports)) if experiment else []
    runs = [RunPaths(spec.parent) for spec in sorted(root.glob("*/*/run.json")) if spec.parent not in superseded]
    jobs = [entry for paths in runs for entry in _jobs(paths)]
    found = chain(
        ((folder, "a finished run that is not in the matrix as it is now, nor in a report") for folder in superseded),
        _codes(root, runs, jobs),
        _scripts(root, runs, jobs),
        _matrices(root, runs),
        ((path, "what a process that died had begun") for path in _hidden(root, published)),
        ((path, "a checkpoint that its run does not name") for paths in runs for path in _old_checkpoints(paths)),
    )
    return [Leftover(path, what, size(path)) for path, what in found]


def remove(found: Iterable[Leftover], run_root: Path) -> None:
    """Remove them. What is in the run root is out of the way in one step, and then taken apart."""
    trash = run_root / TRASH / uuid.uuid4().hex
    for number, entry in enumerate(found):
        if entry.path.is_dir() and entry.path.is_relative_to(run_root):
            (trash / str(number)).mkdir(parents=True)
            with suppress(FileNotFoundError):  # somebody else cleans, too
                entry.path.rename(trash / str(number) / entry.path.name)
        elif entry.path.is_dir():
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            entry.path.unlink(missing_ok=True)
    shutil.rmtree(trash, ignore_errors=True)


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = (Path(folder) / name for folder, _, names in os.walk(path) for name in names) if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files)


def _superseded(experiment: Experiment, settings: Settings, keys: set[str]) -> list[Path]:
    """The finished runs of an experiment that its matrix no longer contains, and that have none of these keys."""
    wanted = {run.paths.folder for run in prepare.prepare(experiment, settings)}
    folder = experiment_folder(settings.run_root, experiment.name)
    found = [spec.parent for spec in sorted(folder.glob("*/run.json")) if spec.parent not in wanted]
    return [run for run in found if run.name[-10:] not in keys and _finished(RunPaths(run))]


def _finished(paths: RunPaths) -> bool:
    try:
        return read_state(paths).state == State.FINISHED
    except UserError:  # who knows
        return False


def _keys(reports: Path) -> set[str]:
    """The keys of all runs that a records.json or manifest.json names."""
    files = [file for name in ("records.json", "manifest.json") for file in sorted(reports.rglob(name))]
    return {key for file in files for key in _values(read_json(file), "key")}


def _values(plain: Any, name: str) -> Iterator[str]:
    """The texts of this name, wherever they are."""
    if isinstance(plain, dict):
        yield from [plain[name]] if isinstance(plain.get(name), str) else []
        plain = list(plain.values())
    for part in plain if isinstance(plain, list) else ():
        yield from _values(part, name)


def _codes(root: Path, runs: list[RunPaths], jobs: list[dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    """Copies of code. None while a local supervisor runs one."""
    used = {submission.code for paths in runs if (submission := read_submission(paths))} | {present_code()}
    used |= {Path(job["code"]).name for job in jobs}
    used |= {Path(read_json(step)["code"]).name for step in root.glob("*/.chain/*.json")}
    unused = [path for path in _visible(root / ".code") if path.name not in used]
    return ((path, "a code that no run began with") for path in unused if not lives(Home(root)))


def _matrices(root: Path, runs: list[RunPaths]) -> Iterator[tuple[Path, str]]:
    used = {submission.matrix for paths in runs if (submission := read_submission(paths))}
    return ((path, "a matrix file of no run") for path in _visible(root / ".matrix") if path.name not in used)


def _scripts(root: Path, runs: list[RunPaths], jobs: list[dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    """Scripts and output of arrays of which no run remains, and no job; none where SLURM does not say that."""
    folders = _visible(root / ".slurm")
    try:
        used = {name for name, _ in queued_jobs()} if folders else set()
    except UserError:
        return
    used |= {job.name for paths in runs if (job := read_job(paths))}
    used |= {read_json(step)["name"] for step in root.glob("*/.chain/*.json")}
    ids = {job["id"] for job in jobs}
    for folder in folders:
        if folder.name not in used and not any(file.stem in ids for file in folder.glob("*.out")):
            yield folder, "script and output of jobs of no run"


def _jobs(paths: RunPaths) -> Iterator[dict[str, Any]]:
    """What the attempts of a run say of their jobs: id, code."""
    return (read_json(file) for file in (paths.folder / "attempts").glob("*/job.json"))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def _hidden(root: Path, published: Path) -> Iterator[Path]:
    """Where a process assembles something that will have another name, if it has not been at it for long."""
    begun = chain(root.glob("*/.importing.*"), root.glob(".code/.copy.*"), root.glob(f"{TRASH}/*"))
    for path in chain(begun, published.glob(".publishing.*")):
        with suppress(FileNotFoundError):  # that process was quicker
            if path.stat().st_mtime < time.time() - YOUNG:
                yield path


def _old_checkpoints(paths: RunPaths) -> Iterator[Path]:
    """Those of a finished run that neither latest.json nor its result names, and what is left of unfinished ones."""
    latest = paths.checkpoints / "latest.json"
    if not _finished(paths) or not latest.exists():
        return
    kept = {entry["file"] for entry in read_json(latest)}
    if paths.result.exists():  # a trial that was pruned has none
        kept |= {Path(path).name for path in _values(read_json(paths.result), "path")}
    for path in (*sorted(paths.checkpoints.glob("epoch_*.pth")), *paths.checkpoints.glob(".*.tmp")):
        if path.name not in kept:
            yield path

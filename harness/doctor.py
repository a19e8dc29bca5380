"""What is well here and what is not: versions, devices, data sets, weights, tracking store, SLURM and folders."""

import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import UserError
from harness.settings import LOCAL, DatasetPaths, Settings, dataset_splits
from harness.wording import count

if TYPE_CHECKING:
    from harness.shared_disk import Meeting

PACKAGE = "maskrcnn-harness"
SLOW_FSYNC = 0.1  # seconds: journal and checkpoints wait for the disk
SLOW_LAG = 5.0  # seconds: status and processes of a run hear of each other so late
_DISK = "set run_root to another disk: mutual exclusion and checkpoints rest on this one"
FREE_GB = 5  # below this a folder is reported as nearly full: a full experiment's checkpoints need more


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str  # what was found
    todo: str = ""  # what to do about it; empty where all is well


def diagnose(settings: Settings) -> list[Check]:
    """Look at everything that a submit needs; nothing is changed."""
    return [
        *versions(),
        *devices(),
        *folders(settings),
        *disk(settings.run_root),
        *(dataset(settings, name, paths) for name, paths in settings.datasets.items()),
        *([] if settings.datasets else [_no_dataset()]),
        weights(settings),
        store(settings.tracking_uri),
        slurm(settings.cluster),
        git(),
    ]


def versions() -> Iterator[Check]:
    """Python and the packages, against the minima in this package's metadata."""
    yield Check(name="python", status="ok", detail=platform.python_version())
    try:
        wanted = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield Check(name="packages", status="warn", detail=f"{PACKAGE} is not installed", todo="pip install -e .")
        return
    for requirement in wanted:
        matched = re.match(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)", requirement)
        if matched and "extra ==" not in requirement:
            yield version(matched[1], matched[2])


def version(package: str, minimum: str) -> Check:
    """One installed package against its minimum."""
    todo = f"pip install '{package}>={minimum}'"
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Check(name=package, status="fail", detail=f"not installed, {minimum} or newer is needed", todo=todo)
    if _numbers(found) < _numbers(minimum):
        return Check(name=package, status="fail", detail=f"{found}, {minimum} or newer is needed", todo=todo)
    return Check(name=package, status="ok", detail=found)


def _numbers(text: str) -> list[int]:
    """2.6.0+cu124 -> [2, 6]: the release, without zeros at its end."""
    release = re.match(r"[0-9.]*", text.removeprefix("v"))
    numbers = [int(part) for part in (release[0] if release else "").split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def devices() -> Iterator[Check]:
    """CPU cores and memory; each GPU, and whether this torch was built for it."""
    import psutil
    import torch

    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0))
    yield Check(name="cpu", status="ok", detail=f"{count(cores, 'core')}, {memory:.0f} GB of memory")
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        detail = f"no GPU can be used (torch is {built}): runs go to the CPU, fp16 recipes as bf16"
        todo = "for GPUs: install an NVIDIA driver and a CUDA build of torch" if shutil.which("nvidia-smi") else ""
        yield Check(name="gpu", status="warn", detail=detail, todo=todo)
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        gigabytes = found.total_memory / 2**30
        yield gpu(index, found.name, gigabytes, (found.major, found.minor), torch.cuda.get_arch_list())


def gpu(index: int, name: str, gigabytes: float, capability: tuple[int, int], built_for: list[str]) -> Check:
    """One GPU. `built_for`: torch.cuda.get_arch_list(), such as sm_70 (binary) and compute_90 (compiled at first use).

    A binary runs on the capabilities of its own major number from its minor on.
    """
    detail = f"{name}, {gigabytes:.0f} GB, compute capability {capability[0]}.{capability[1]}"
    for kind, major, minor in re.findall(r"(sm|compute)_(\d+)(\d)[a-z]?\b", " ".join(built_for)):
        same = int(major) == capability[0] and int(minor) <= capability[1]
        if same or (kind == "compute" and (int(major), int(minor)) <= capability):
            return Check(name=f"gpu {index}", status="ok", detail=detail)
    todo = f"install a torch built for sm_{capability[0]}{capability[1]}; this one is for {' '.join(built_for)}"
    return Check(name=f"gpu {index}", status="fail", detail=detail, todo=todo)


def folders(settings: Settings) -> Iterator[Check]:
    """Run root and cache root: can they be written, and is there room?"""
    for name, folder in (("run_root", settings.run_root), ("cache_root", settings.cache_root)):
        yield writable(name, folder)


def writable(name: str, folder: Path) -> Check:
    """Whether files can be made in `folder`, or where it is to be made, and the space there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    todo = f"mend the folder, or set {name} in harness.toml"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check(name=name, status="fail", detail=f"{there} cannot be written: {error.strerror}", todo=todo)
    free = shutil.disk_usage(there).free / 1e9
    detail = f"{folder}, {free:.0f} GB free{'' if there == folder else ' (made at first use)'}"
    if free < FREE_GB:
        return Check(name=name, status="warn", detail=detail, todo=f"make room, or set {name} to a larger disk")
    return Check(name=name, status="ok", detail=detail)


def disk(folder: Path) -> Iterator[Check]:
    """What runs need of the file system of the run root, tried out in a folder that is removed again."""
    from harness.shared_disk import lead, try_out

    name = "run_root disk"
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor.", dir=there) as temporary:
            found = try_out(Path(temporary))
            (other := Path(temporary) / "other").mkdir()
            command = [sys.executable, "-m", "harness.shared_disk", str(other)]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
                try:
                    meeting = lead(other, patience=30)
                finally:
                    process.kill()
    except (OSError, TimeoutError, UserError) as error:
        yield Check(name=name, status="fail", detail=f"{there}: {error}", todo=_DISK)
        return
    slow = found.fsync_s > SLOW_FSYNC
    detail = f"exclusive create, link and rename work; fsync {1000 * found.fsync_s:.1f} ms (median)"
    detail = "; ".join(found.faults) or detail
    status: Literal["ok", "warn", "fail"] = "fail" if found.faults else "warn" if slow else "ok"
    yield Check(name=name, status=status, detail=detail, todo="" if status == "ok" else _DISK)
    yield met(f"{name}, two processes", meeting)


def met(name: str, meeting: "Meeting") -> Check:
    """What two processes found of a disk that they share."""
    if meeting.twice:
        detail = f"of files that two processes create exclusively at the same time, {meeting.twice} were created twice"
        return Check(name=name, status="fail", detail=detail, todo=_DISK)
    detail = f"each exclusive create has one winner; a change is seen and answered within {1000 * meeting.lag_s:.0f} ms"
    if meeting.lag_s > SLOW_LAG:
        return Check(
            name=name, status="warn", detail=detail, todo="lower the attribute caching of the mount (acdirmax)"
        )
    return Check(name=name, status="ok", detail=detail)


def dataset(settings: Settings, name: str, paths: DatasetPaths) -> Check:
    """Whether the annotations and images of a configured data set are there; images are counted, not opened."""
    from harness.data.image_files import file_names

    try:
        splits = dataset_splits(settings, name)
        counts = [sum(1 for _ in file_names(split.images)) for split in splits]
    except UserError as error:
        todo = f"put the files there, or mend the data set's entry ({settings.origins[f'datasets.{name}']})"
        return Check(name=f"data set {name}", status="fail", detail=str(error), todo=todo)
    detail = f"{paths.root}: {counts[0]} training files, {counts[1]} validation files"
    if not all(counts):
        return Check(name=f"data set {name}", status="fail", detail=detail, todo="fill the empty image folder")
    return Check(name=f"data set {name}", status="ok", detail=detail)


def _no_dataset() -> Check:
    todo = "harness data shapes data/shapes makes a small one; then add [datasets.shapes] root = ... to harness.toml"
    return Check(name="data sets", status="warn", detail="none in harness.toml", todo=todo)


def weights(settings: Settings) -> Check:
    """Which pretrained backbones are at hand."""
    from harness.detection.weights import SOURCES, find

    try:
        missing = [name for name in SOURCES if find(name, settings.cache_root) is None]
    except UserError as error:
        return Check(name="pretrained weights", status="fail", detail=str(error), todo="delete that file")
    detail = f"{len(SOURCES) - len(missing)} of {len(SOURCES)} found"
    if not missing:
        return Check(name="pretrained weights", status="ok", detail=detail)
    folder = settings.cache_root / "weights"
    todo = f"only for cells that start from them: run `harness fetch EXPERIMENT`, or place the files in {folder}"
    return Check(name="pretrained weights", status="warn", detail=f"{detail}; not {', '.join(missing)}", todo=todo)


def store(uri: str) -> Check:
    """Whether the tracking store answers: a server's /health within 3 seconds, an SQLite file by opening it."""
    from harness.tracking.query import experiments
    from harness.tracking.store import database, shown

    name = "tracking store"
    try:
        file = database(uri)
        if file is None:
            return _server(shown(uri))
        if not file.exists():
            return Check(name=name, status="ok", detail=f"{file} (made at first use)")
        return Check(name=name, status="ok", detail=f"{file}: {count(len(experiments(uri)), 'experiment')}")
    except UserError as error:
        todo = "set tracking_uri in harness.toml to another file or server, or mend this one"
        return Check(name=name, status="fail", detail=str(error), todo=todo)


def _server(uri: str) -> Check:
    """Whether a server answers; its /health asks for no password, so `uri` comes without one."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=3) as answer:
            answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        todo = "start the server, or mend tracking_uri; training goes on without it, harness sync ships later"
        return Check(name="tracking store", status="fail", detail=f"{uri} does not answer: {error}", todo=todo)
    return Check(name="tracking store", status="ok", detail=f"{uri} answers")


def slurm(cluster: str) -> Check:
    """Whether SLURM's commands are here and its controller answers."""
    if not (shutil.which("sbatch") and shutil.which("sinfo")):
        if cluster == LOCAL:
            return Check(name="slurm", status="ok", detail="not here; the cluster is local, so it is not needed")
        todo = 'run this on a login node, or set cluster = "local"'
        return Check(name="slurm", status="fail", detail=f"no sbatch or sinfo for cluster {cluster!r}", todo=todo)
    release = _output(["sbatch", "--version"])
    # The format is given, because SINFO_FORMAT in the environment changes the default.
    partitions = _output(["sinfo", "--noheader", "--format=%R %a"])
    if release is None or partitions is None:
        status: Literal["warn", "fail"] = "warn" if cluster == LOCAL else "fail"
        todo = "ask whether the SLURM controller runs: sinfo"
        return Check(name="slurm", status=status, detail="sbatch or sinfo does not answer", todo=todo)
    up = [line.split()[0] for line in partitions.splitlines() if line.split()[1:] == ["up"]]
    return Check(name="slurm", status="ok", detail=f"{release}, partitions up: {', '.join(up) or 'none'}")


def git() -> Check:
    """Git is optional: with it, a run records the commit."""
    found = _output(["git", "--version"]) if shutil.which("git") else None
    if found:
        return Check(name="git", status="ok", detail=found.removeprefix("git version "))
    return Check(name="git", status="warn", detail="not here: runs record no commit", todo="install git")


def _output(command: list[str]) -> str | None:
    """What the command prints, or None where it fails or takes more than 10 seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

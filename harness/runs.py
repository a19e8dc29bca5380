"""A run: a recipe and a seed being carried out, in one folder. Its paths, its specification and its state.

The folder is the truth while the run lives; MLflow mirrors it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import read_json, write_json, write_text
from harness.processes import is_working, start_time
from harness.recipe import NUMERICS, Recipe, Shortening, digest, from_dict, shortened, to_dict

SCHEMA = 1


class State(StrEnum):
    """Where a run stands. FAILED and KILLED are resumed by the next submit; FINISHED is final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def ended(self) -> bool:
        """Whether no process is or will be working on the run."""
        return self in (State.FINISHED, State.FAILED, State.KILLED)


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Every file of a run, by name."""

    folder: Path

    @property
    def spec(self) -> Path:
        """What is to be done (RunSpec)."""
        return self.folder / "run.json"

    @property
    def config(self) -> Path:
        """The recipe, flat, for people and for the manifest."""
        return self.folder / "config.json"

    @property
    def state(self) -> Path:
        """Where the run stands (RunState)."""
        return self.folder / "state.json"

    @property
    def log(self) -> Path:
        """The journal of all attempts, merged: JSON lines in the published field names."""
        return self.folder / "log.json"

    @property
    def checkpoints(self) -> Path:
        """epoch_N.pth, and latest.json that names the newest with its sha256."""
        return self.folder / "checkpoints"

    @property
    def detections(self) -> Path:
        """The last evaluated epoch's detections, compressed."""
        return self.folder / "detections.json.gz"

    @property
    def evaluation(self) -> Path:
        """The last epoch's numbers, overall and per class."""
        return self.folder / "evaluation.json"

    @property
    def predictions(self) -> Path:
        """Pictures of sample predictions."""
        return self.folder / "predictions"

    @property
    def curves(self) -> Path:
        """Learning curves."""
        return self.folder / "curves.svg"

    @property
    def result(self) -> Path:
        """What came out: written last, and only by a finished run."""
        return self.folder / "result.json"

    @property
    def tracking(self) -> Path:
        """How far the run has been shipped to MLflow."""
        return self.folder / "tracking.json"

    def attempt(self, number: int) -> Path:
        """The folder of one attempt: its own journal segment and output."""
        return self.folder / "attempts" / f"{number:04d}"

    def segment(self, number: int) -> Path:
        """The journal segment that only this attempt writes."""
        return self.attempt(number) / "log.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """One half of a data set: where it is, and the digest of its annotations."""

    images: str
    annotations: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run is to do. Written once, before its first attempt."""

    experiment: str
    description: str  # of the experiment
    name: str  # the cell's name with its overrides
    cell: str
    axes: dict[str, str | bool]
    published: bool
    recipe: Recipe  # with overrides, before the shortening
    suffix: str
    shortening: Shortening
    seed: int
    precision: str  # as executed: fp32, fp16, or bf16 where an fp16 recipe meets a CPU
    identity: str
    train: SplitSpec
    val: SplitSpec
    weights: str | None  # the pretrained backbone's file
    resources: dict[str, Any]
    numerics: int = NUMERICS
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """10 hexadecimal digits: the identity with seed, executed precision and shortening. One run for one key."""
        return digest([self.identity, self.seed, self.precision, asdict(self.shortening)])[:10]

    @property
    def folder_name(self) -> str:
        """Sorts by cell and seed, and is unique by the key."""
        return f"{self.name[:160]}-seed{self.seed}-{self.key}"

    @property
    def executed(self) -> Recipe:
        """The recipe after the shortening."""
        return shortened(self.recipe, self.shortening)

    @property
    def full(self) -> bool:
        """Whether the result may stand for the cell: nothing overridden or shortened, run in the recipe's precision."""
        return not self.suffix and not self.shortening and self.precision == self.recipe.precision


def write_spec(paths: RunPaths, spec: RunSpec) -> None:
    """Write run.json and config.json."""
    plain = asdict(spec) | {"recipe": to_dict(spec.recipe), "key": spec.key}
    shown = {"cell": spec.name, "seed": spec.seed, "identity": spec.identity, "shortened": spec.shortening.describe()}
    write_json(paths.config, shown | {"recipe": to_dict(spec.executed)})
    write_json(paths.spec, plain)


def read_spec(paths: RunPaths) -> RunSpec:
    """The specification in run.json.

    Raises UserError where the file is missing or was written by a newer harness.
    """
    plain = read_json(paths.spec)
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise UserError(f"{paths.spec}: not a run of this harness (schema {SCHEMA} expected)")
    plain.pop("key")
    for name, build in (("recipe", from_dict), ("shortening", _shortening), ("train", _split), ("val", _split)):
        plain[name] = build(plain[name])
    return RunSpec(**plain)


def _shortening(values: Mapping[str, Any]) -> Shortening:
    return Shortening(**values)


def _split(values: Mapping[str, Any]) -> SplitSpec:
    return SplitSpec(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands and who said so."""

    state: State
    attempt: int = 0
    reason: str = ""  # of a failure, one line
    host: str = ""
    pid: int = 0
    started: float = 0.0  # start time of that process, so that a reused pid is not mistaken for it
    updated: float = 0.0
    progress: str = ""  # such as "epoch 3/12"


def write_state(
    paths: RunPaths, state: State, *, attempt: int, reason: str = "", progress: str = "", pid: int | None = None
) -> None:
    """Say where the run stands, in the name of this process (or of process `pid` of this host)."""
    pid = pid or os.getpid()
    value = RunState(
        state=state,
        attempt=attempt,
        reason=reason,
        host=socket.gethostname(),
        pid=pid,
        started=start_time(pid),
        updated=time.time(),
        progress=progress,
    )
    write_json(paths.state, asdict(value))


def read_state(paths: RunPaths) -> RunState:
    """Where the run stands. A run whose process on this host is gone without a word is FAILED."""
    if not paths.state.exists():
        return RunState(state=State.QUEUED)
    plain = read_json(paths.state)
    found = RunState(**{**plain, "state": State(plain["state"])})
    if found.state == State.RUNNING and found.host == socket.gethostname() and not is_working(found.pid, found.started):
        reason = "its process died without a word (killed, or out of memory)"
        return RunState(**{**plain, "state": State.FAILED, "reason": reason})
    return found


def next_attempt(paths: RunPaths) -> int:
    """Claim the next attempt number by creating its folder (exclusive, also on a shared file system)."""
    (paths.folder / "attempts").mkdir(parents=True, exist_ok=True)
    number = 1 + max(
        (int(entry.name) for entry in (paths.folder / "attempts").iterdir() if entry.name.isdigit()), default=0
    )
    while True:
        try:
            os.mkdir(paths.attempt(number))  # noqa: PTH102
        except FileExistsError:
            number += 1
        else:
            return number


def experiment_folder(run_root: Path, experiment: str) -> Path:
    """The folder of an experiment's runs."""
    return run_root / experiment


def experiment_runs(run_root: Path, experiment: str) -> Iterator[RunPaths]:
    """The runs of an experiment that have a specification, sorted by folder name."""
    for spec in sorted(experiment_folder(run_root, experiment).glob("*/run.json")):
        yield RunPaths(spec.parent)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal; a last line cut short by a crash is left out. An absent file is an empty journal."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def merged_rows(paths: RunPaths) -> list[dict[str, Any]]:
    """The journal: the rows of all attempts' segments in order; of a step journaled twice the first counts."""
    seen: set[tuple[str, int]] = set()
    rows = []
    for segment in sorted((paths.folder / "attempts").glob("*/log.json")):
        for row in read_log(segment):
            if row.get("mode") in ("train", "val"):
                key = (str(row["mode"]), int(row["step"]))
                if key in seen:
                    continue
                seen.add(key)
            rows.append(row)
    return rows


def merge_log(paths: RunPaths) -> None:
    """Write log.json anew from the attempts' segments."""
    write_text(paths.log, "".join(f"{json.dumps(row)}\n" for row in merged_rows(paths)))

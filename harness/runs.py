"""A run: a recipe and a seed being carried out, in one folder. Its paths, its specification and its state.

The folder is the truth while the run lives; MLflow mirrors it.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.failures import Failure
from harness.files import find_json, known_fields, read_json, write_json
from harness.processes import has_died, signature
from harness.recipe import NUMERICS, Recipe, Shortening, digest, from_dict, shortened, to_dict

if TYPE_CHECKING:
    from harness.data.coco import CocoSplit

SCHEMA = 1


class State(StrEnum):
    """Where a run stands. The next submit resumes what was KILLED, and what FAILED when asked; FINISHED is final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def ended(self) -> bool:
        """Whether no process is or will be working on the run."""
        return self in (State.FINISHED, State.FAILED, State.KILLED)


STARTING = "starting"
"""The progress of an attempt that does not listen to signals yet."""
CANCELLED = "cancelled by harness cancel"
"""The reason for which a run ended that somebody has cancelled."""


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
    def job(self) -> Path:
        """The batch job that has the run, if one has."""
        return self.folder / "job.json"

    @property
    def submission(self) -> Path:
        """The code and the matrix file that launchers work with, since the first submit."""
        return self.folder / "submission.json"

    @property
    def trial(self) -> Path:
        """Which trial of a study it is, if it is one (trial_file.py)."""
        return self.folder / "trial.json"

    @property
    def cancelled(self) -> Path:
        """There as soon as somebody has cancelled the run, until it is submitted again."""
        return self.folder / "cancelled"

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
    def unscored(self) -> Path:
        """What the last test has found, until its val row is in the journal (training/scoring.py)."""
        return self.folder / "unscored.npz"

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
    def benchmark(self) -> Path:
        """Memory and frames a second, measured by themselves (harness benchmark)."""
        return self.folder / "benchmark.json"

    @property
    def tracking(self) -> Path:
        """How far the run has been shipped to MLflow."""
        return self.folder / "tracking.json"

    def attempt(self, number: int) -> Path:
        """The folder of one attempt: its own journal segment and output."""
        return self.folder / f"attempts/{number:04d}"

    def segment(self, number: int) -> Path:
        """The journal segment that only this attempt writes."""
        return self.attempt(number) / "log.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """One half of a data set: where it is, and the digest of its annotations."""

    images: str
    annotations: str
    digest: str
    indexes: str | None = None  # where parsed annotations are kept

    @property
    def split(self) -> "CocoSplit":
        """As harness/data reads it: images that have been packed since, or unpacked, from where they are now."""
        from harness.data.coco import CocoSplit  # with libraries that take their time
        from harness.data.image_files import folder_or_tar

        indexes = Path(self.indexes) if self.indexes else None
        return CocoSplit(
            images=folder_or_tar(Path(self.images)),
            annotations=Path(self.annotations),
            digest=self.digest,
            indexes=indexes,
        )


class Origin(StrEnum):
    """Where a run's numbers come from. Only trained ones fill the tables of an experiment's own cells."""

    TRAINED = "trained"
    PUBLISHED = "published"  # a published checkpoint, tested here
    PILOT = "pilot"  # a short training that is to tell what the others will take
    IMPORTED = "imported"  # the log of somebody else's training
    BENCHMARK = "benchmark"  # memory and speed of a cell, by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """The file that a run which was not trained here is made of: a published checkpoint, or a log."""

    path: str
    sha256: str
    url: str = ""  # where it is published


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
    train: SplitSpec | None  # None: nothing is trained here
    val: SplitSpec
    weights: str | None  # the pretrained backbone's file
    resources: dict[str, Any]
    origin: Origin = Origin.TRAINED
    source: SourceSpec | None = None  # of a run that was not trained here
    numerics: int = NUMERICS
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """10 hexadecimal digits: the identity with seed, executed precision, shortening and, of a run that was not

        trained here, its origin and source. One run for one key.
        """
        source = [self.origin, self.source.sha256] if self.source else []
        return digest([self.identity, self.seed, self.precision, asdict(self.shortening), *source])[:10]

    @property
    def folder_name(self) -> str:
        """Sorts by cell and seed, and is unique by the key."""
        return f"{self.name[:160]}-seed{self.seed}-{self.key}"

    @property
    def splits(self) -> dict[str, SplitSpec]:
        """The halves of the data set that the run reads: train (unless nothing is trained) and val."""
        return {"train": self.train, "val": self.val} if self.train else {"val": self.val}

    @property
    def executed(self) -> Recipe:
        """The recipe after the shortening."""
        return shortened(self.recipe, self.shortening)

    @property
    def full(self) -> bool:
        """Whether the result may stand for the cell: trained here, nothing overridden or shortened, run in the recipe's

        precision.
        """
        own = self.origin == Origin.TRAINED and not self.suffix and not self.shortening
        return own and self.precision == self.recipe.precision


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
        plain[name] = plain[name] and build(plain[name])
    plain["origin"] = Origin(plain.get("origin", Origin.TRAINED))
    plain["source"] = SourceSpec(**plain["source"]) if plain.get("source") else None
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
    kind: Failure | None = None  # of a failure; None: SLURM has not been asked yet
    host: str = ""  # of the process that says so, and what else processes.signature tells of it
    space: str = ""
    pid: int = 0
    started: float = 0.0  # so that a reused pid is not mistaken for it
    updated: float = 0.0
    progress: str = ""  # such as "epoch 3/12"


def write_state(
    paths: RunPaths,
    state: State,
    *,
    attempt: int,
    reason: str = "",
    kind: Failure | None = None,
    progress: str = "",
    pid: int | None = None,
) -> None:
    """Say where the run stands, in the name of this process (or of process `pid` of this host)."""
    said: dict[str, Any] = {"state": state, "attempt": attempt, "reason": reason, "kind": kind, "progress": progress}
    write_json(paths.state, asdict(RunState(**said, **signature(pid), updated=time.time())))


def last_word(paths: RunPaths) -> RunState:
    """What was said last of where the run stands, whether or not it is still true."""
    plain = find_json(paths.state)
    if plain is None:
        return RunState(state=State.QUEUED)
    kind = Failure(plain["kind"]) if plain.get("kind") else None
    return RunState(**known_fields(RunState, plain) | {"state": State(plain["state"]), "kind": kind})


def read_state(paths: RunPaths) -> RunState:
    """Where the run stands. A run whose process on this host is gone without a word is FAILED, or was cancelled."""
    return _judged(paths, last_word(paths))


def _judged(paths: RunPaths, found: RunState) -> RunState:
    if found.state == State.RUNNING and has_died(found):
        if paths.cancelled.exists():
            return replace(found, state=State.KILLED, reason=CANCELLED, kind=Failure.CANCELLED)
        reason = "its process died without a word (killed, or out of memory)"
        return replace(found, state=State.FAILED, reason=reason, kind=Failure.UNKNOWN)
    return found


def unreadable(paths: RunPaths) -> str:
    """Which file of a run cannot be read, and why; "" where all is well."""
    try:
        read_spec(paths)
        last_word(paths)
    except UserError as error:
        return str(error)
    return ""


def settle(paths: RunPaths) -> RunState:
    """Where the run stands, put right on the disk too where the last word there is no longer true.

    Where that cannot be written (a full disk, somebody else's folder), it is left to whoever looks next.
    """
    found = _judged(paths, told := last_word(paths))
    if found != told:
        with suppress(UserError, OSError):
            write_state(paths, found.state, attempt=found.attempt, reason=found.reason, kind=found.kind)
    return found


def last_attempt(paths: RunPaths) -> int:
    """The number of the attempt that was claimed last, which supersedes those before it; 0 where there is none."""
    found = (paths.folder / "attempts").glob("*")
    return max((int(entry.name) for entry in found if entry.name.isdigit()), default=0)


def require_own(paths: RunPaths, attempt: int) -> None:
    """Called right before anything is written that belongs to the run and not to this attempt.

    Raises UserError where a later attempt has the run: this one may have been away for long (a frozen machine).
    """
    if last_attempt(paths) > attempt:
        raise UserError(f"{paths.folder}: attempt {attempt} gives way to a later one")


def next_attempt(paths: RunPaths) -> int:
    """Claim the next attempt number by creating its folder (exclusive, also on a shared file system)."""
    (paths.folder / "attempts").mkdir(parents=True, exist_ok=True)
    number = 1 + last_attempt(paths)
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

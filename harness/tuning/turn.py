"""Whose turn it is: a study has one controller at a time, wherever it works."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.leases import Lease, acquire, is_held
from harness.processes import is_here, signature
from harness.settings import Settings
from harness.tuning.study_file import Study, study_folder

LEAVING_SECONDS = 60.0
"""For which a controller that is told to end may be busy with submitting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    """A controller, as processes.signature names it."""

    host: str
    space: str
    pid: int
    started: float


@contextmanager
def taking(study: Study, settings: Settings) -> Iterator[Lease]:
    """Be the controller of a study, for a block that renews the lease.

    Raises UserError where another process is.
    """
    lease = acquire(_lease(study, settings))
    if lease is None:
        raise UserError(
            f"{study.path}: another controller works on study {study.name!r} ({_file(study, settings)} says where); "
            f"harness tune {study.path} --status shows how far it is"
        )
    try:
        write_json(_file(study, settings), signature())
        yield lease
    finally:
        lease.release()


def is_taken(study: Study, settings: Settings) -> bool:
    """Whether a controller works on the study."""
    return is_held(_lease(study, settings))


def note_done(study: Study, settings: Settings) -> None:
    """Write down that the budget is used. Trials alone do not tell: equal ones are one run, contradictory ones none."""
    write_json(_done(study, settings), _bounds(study))


def is_done(study: Study, settings: Settings) -> bool:
    """Whether this budget has been used."""
    file = _done(study, settings)
    return file.exists() and read_json(file) == _bounds(study)


def _bounds(study: Study) -> dict[str, float | None]:
    return {"trials": study.budget.trials, "gpu_hours": study.budget.gpu_hours}


def _done(study: Study, settings: Settings) -> Path:
    return study_folder(settings.run_root, study.name) / "done.json"


def stop(study: Study, settings: Settings) -> None:
    """End the controller of a study, where one works on this machine; its trials go on.

    Raises UserError where it works elsewhere, or does not end.
    """
    if not is_taken(study, settings):
        return
    found = _Process(**read_json(_file(study, settings)))
    if not is_here(found):
        raise UserError(f"{study.path}: its controller, process {found.pid}, works on {found.host}: end it there")
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + LEAVING_SECONDS
    while is_taken(study, settings):
        if time.monotonic() > deadline:
            raise UserError(f"{study.path}: its controller, process {found.pid}, does not end; kill it")
        time.sleep(0.1)


def _lease(study: Study, settings: Settings) -> Path:
    return study_folder(settings.run_root, study.name) / "lease"


def _file(study: Study, settings: Settings) -> Path:
    """The process that works on it, or did last."""
    return study_folder(settings.run_root, study.name) / "controller.json"

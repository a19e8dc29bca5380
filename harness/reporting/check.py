"""Does a committed report still say what its records say, and do the records say what the store says?"""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path

from harness.matrix import Experiment
from harness.reporting.page import RECORDS, left_over, render
from harness.reporting.records import Record, Snapshot, ordered, read_snapshot, relative_to
from harness.reporting.tracked_records import from_tracking


def check_report(experiment: Experiment, output: Path, *, uri: str | None = None) -> list[str]:
    """What is wrong with the report in `output`, a line each; empty where all is well.

    The page is rebuilt from its records.json. uri: an MLflow store, to say also where the records are stale. Raises
    UserError where records.json is missing or broken.
    """
    snapshot = read_snapshot(output / RECORDS)
    if snapshot.experiment != experiment.name:
        return [f"{output / RECORDS}: records of {snapshot.experiment!r}, not of {experiment.name!r}"]
    found = list(_differences(experiment, snapshot, output))
    if uri is not None:
        fresh = from_tracking(uri, experiment.name)
        if snapshot.run_root is not None:
            fresh = list(relative_to(fresh, output / snapshot.run_root))
        found += [f"{output / RECORDS}: stale: {text}" for text in changes(snapshot.records, fresh)]
    return found


def _differences(experiment: Experiment, snapshot: Snapshot, output: Path) -> Iterator[str]:
    rebuilt = render(experiment, snapshot, output)
    for name, text in rebuilt.items():
        path = output / name
        if not path.is_file():
            yield f"{path}: missing"
        else:
            yield from _first_difference(path, path.read_bytes().decode(errors="replace"), text)
    for path in left_over(rebuilt, output):
        yield f"{path}: not of these records"
    if snapshot.picture and not (output / snapshot.picture).is_file():
        yield f"{output / snapshot.picture}: missing"


def _first_difference(path: Path, found: str, rebuilt: str) -> Iterator[str]:
    if found == rebuilt:
        return
    for number, (old, new) in enumerate(zip_longest(found.split("\n"), rebuilt.split("\n")), start=1):
        if old != new:
            yield f"{path}:{number}: is {_excerpt(old)}, rebuilt from the records {_excerpt(new)}"
            return


def _excerpt(line: str | None) -> str:
    if line is None:
        return "missing"
    return repr(line) if len(line) <= 120 else repr(line[:117] + "...")


def changes(old: Iterable[Record], new: Iterable[Record]) -> list[str]:
    """How the runs of a store differ from the records of a report, a line each."""
    before, after = ({run.run_id: run for run in ordered(records)} for records in (old, new))
    found = [f"new run {run.shown}, {run.state.lower()}" for run_id, run in after.items() if run_id not in before]
    found += [f"run {run.shown} is gone from the store" for run_id, run in before.items() if run_id not in after]
    for run_id in before.keys() & after.keys():
        names = [f.name for f in fields(Record) if getattr(before[run_id], f.name) != getattr(after[run_id], f.name)]
        if names:
            found.append(f"run {after[run_id].shown} has changed: {', '.join(names)}")
    return sorted(found)

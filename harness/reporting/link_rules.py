"""What is wrong with the links of a manifest by rules alone: nothing is opened, nobody is asked.

Rows and files of a model zoo follow one form: mask_rcnn_..._coco/mask_rcnn_..._coco[_bbox_mAP-0.38__segm_mAP-0.344]
_DATE-DIGEST.pth, the log beside it, the config under the name of the cell. Each rule reads one part of that form.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from harness.cell import CELL_NAME
from harness.reporting.manifest import Entry

AP_IN_NAME = re.compile(r"(bbox|segm)_mAP-(\d*\.\d+)")
DATE_IN_NAME = re.compile(r"_(20\d{6})(?=[_.-])")
DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")
ROLES = ("checkpoint", "config", "detections", "log")
"""What a full result leaves."""


def is_url(path: str) -> bool:
    """Whether a file is somewhere in the network."""
    return "://" in path


def link_faults(rows: Iterable[Entry]) -> Iterator[str]:
    """A line for each link that breaks a rule, with what the rules expect."""
    rows = list(rows)
    for row in rows:
        for rule in (_lacking, _of_other_cells, _outside, _scores, _digest, _dates):
            yield from (f"{_shown(row)}: {text}" for text in rule(row))
    yield from _shared(rows)


def _shown(row: Entry) -> str:
    return row.name if row.seed is None else f"{row.name} seed {row.seed}"


def _lacking(row: Entry) -> Iterator[str]:
    """A full result of ours names every role."""
    if row.full:
        yield from (f"names no {role}" for role in ROLES if role not in row.files)


def _of_other_cells(row: Entry) -> Iterator[str]:
    """No part of a path begins with the name of another cell."""
    cell = row.name.partition("+")[0]
    for role, file in row.files.items():
        found = (CELL_NAME.match(part) for part in file.path.split("/"))
        others = dict.fromkeys(match[0] for match in found if match and match[0] != cell)
        for other in others:
            yield f"its {role} link is of {other}: {file.path}; expected {file.path.replace(other, cell)}"


def _outside(row: Entry) -> Iterator[str]:
    """What was published lies beside its checkpoint; what a run left lies below the folder of its config."""
    for role in ("checkpoint", "detections", "log"):
        path = row.files[role].path if role in row.files else ""
        anchor = row.files.get("checkpoint" if is_url(path) else "config")
        if not path or anchor is None or is_url(anchor.path) != is_url(path):
            continue
        folder = posixpath.dirname(anchor.path)
        if not path.startswith(f"{folder}/") or (is_url(path) and posixpath.dirname(path) != folder):
            yield f"its {role} link is outside its folder: {path}; expected {folder}/{posixpath.basename(path)}"


def _scores(row: Entry) -> Iterator[str]:
    """The AP in a file's name is the row's, to the 3 decimals that it has there."""
    for role, file in row.files.items():
        for kind, text in AP_IN_NAME.findall(posixpath.basename(file.path)):
            known = row.metrics.get(f"{kind}_mAP")
            if known is not None and round(known, 3) != float(text):
                named = 100 * float(text)
                yield f"its {role}'s name says {kind} AP {named:.1f}, the row {100 * known:.1f}: {file.path}"


def _digest(row: Entry) -> Iterator[str]:
    """The digits at the end of a checkpoint's name begin its sha256."""
    file = row.files.get("checkpoint")
    named = DIGEST_IN_NAME.search(file.path) if file else None
    if file and named and file.sha256 and not file.sha256.startswith(named[1]):
        yield f"its checkpoint's name ends with {named[1]}, its sha256 begins with {file.sha256[:8]}: {file.path}"


def _dates(row: Entry) -> Iterator[str]:
    """Checkpoint and log are of one training, so of one day."""
    dates: dict[str, str] = {}
    for role in ("checkpoint", "log"):
        found = DATE_IN_NAME.search(posixpath.basename(row.files[role].path)) if role in row.files else None
        dates |= {role: found[1]} if found else {}
    if len(set(dates.values())) > 1:
        yield f"its checkpoint is of {dates['checkpoint']}, its log of {dates['log']}: two trainings"


def _shared(rows: Iterable[Entry]) -> Iterator[str]:
    """No two rows have the same checkpoint or log. (Where a link is of another row, that is said already.)"""
    owners: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        for role in ("checkpoint", "log"):
            if role in row.files:
                owners[f"{role} {row.files[role].path}"][_shown(row)] = None
    yield from (f"{' and '.join(names)} have the same {file}" for file, names in owners.items() if len(names) > 1)

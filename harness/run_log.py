"""The journal of a run on the disk: a segment for each attempt, merged into one log.json.

Rows are JSON lines; training/journal.py writes them.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from harness.files import replacing, write_text
from harness.run_paths import RunPaths


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a journal; lines torn by a crash or a full disk are left out. An absent file is an empty journal."""
    return [row for _, row in _whole_lines(path)]


def repair_log(path: Path) -> bool:
    """Take torn lines out of a journal; whether there were any."""
    whole = b"".join(line + b"\n" for line, _ in _whole_lines(path))
    if not path.exists() or path.read_bytes() == whole:
        return False
    with replacing(path, durable=True) as temporary:
        temporary.write_bytes(whole)
    return True


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield line, row


def row_key(row: Mapping[str, Any]) -> tuple[str, int] | None:
    """What a row is about: (mode, step) of a train or val row, of which the first one counts; None for an attempt's."""
    return (row["mode"], row["step"]) if row.get("mode") in ("train", "val") else None


def segments(paths: RunPaths) -> dict[str, list[dict[str, Any]]]:
    """The rows that count of each attempt's segment, by the name of the attempt's folder, in order.

    An attempt that begins says in its first row how many rows it found in each segment (`journal`). What a superseded
    attempt, still alive somewhere, appends after that does not count: so two attempts cannot interleave.
    """
    found = {log.parent.name: read_log(log) for log in sorted((paths.folder / "attempts").glob("*/log.json"))}
    counted = {name: len(rows) for name, rows in found.items()}
    for rows in found.values():
        for row in rows:
            for name, count in row.get("journal", {}).items() if row.get("mode") == "attempt" else ():
                counted[name] = min(counted.get(name, count), count)
    return {name: rows[: counted[name]] for name, rows in found.items()}


def merged_rows(paths: RunPaths) -> list[dict[str, Any]]:
    """The journal: the rows of all attempts' segments in order; of a step journaled twice the first counts.

    A val row stands before the train rows of the iterations after it, which are journaled while it is worked out.
    """
    seen: set[tuple[str, int]] = set()
    rows: list[dict[str, Any]] = []
    for row in chain.from_iterable(segments(paths).values()):
        key = row_key(row)
        if key not in seen:
            rows.insert(_place(rows, row), row)
        if key is not None:
            seen.add(key)
    return rows


def _place(rows: list[dict[str, Any]], row: dict[str, Any]) -> int:
    """Where a row comes in: a val row before the train rows of later iterations, any other at the end."""
    place = len(rows)
    for number in reversed(range(len(rows)) if row.get("mode") == "val" else ()):
        if rows[number]["mode"] == "train":
            if rows[number]["step"] <= row["step"]:
                break
            place = number
    return place


def merge_log(paths: RunPaths) -> None:
    """Write log.json anew from the attempts' segments."""
    write_text(paths.log, "".join(f"{json.dumps(row)}\n" for row in merged_rows(paths)))

"""The table of `harness status`: a line a run, as wide as there is room, and what is to be said of all."""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.cli.experiment import conclusion
from harness.run_state import State
from harness.wording import duration, hours, percent

if TYPE_CHECKING:
    from harness.launching.status import RunStatus

LONGEST_NAME = 48
"""Characters of a name, where there is no room for more."""
LEAST_REASON = 40
"""Characters for which there must be room in a line, or reasons stand below the table."""
ORDER = ("RUNNING", "FAILED", "BROKEN", "KILLED", "QUEUED", "NEW", "FINISHED")
WORDS = {
    "RUNNING": "running", "QUEUED": "waiting", "FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped",
    "NEW": "not submitted", "BROKEN": "unreadable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One thing that is said of each run; a column that is empty everywhere is left out."""

    header: str
    text: Callable[["RunStatus"], str]
    right: bool = False
    rank: int = 0  # where there is no room for all, the columns with the highest go first


NAME = Column("run", lambda row: row.name)
SEED = Column("seed", lambda row: str(row.seed), True)
COLUMNS = (
    NAME,
    SEED,
    Column("state", lambda row: row.state),
    Column("epoch", lambda row: _epoch(row)),
    Column("ETA", lambda row: "" if row.eta_seconds is None else duration(row.eta_seconds), True, 1),
    Column("loss", lambda row: _number(row.loss, ".3f"), True, 3),
    Column("AP box/mask", lambda row: _ap(row), True, 2),
    Column("minus published", lambda row: _minus_published(row), True, 7),
    Column("s/iter", lambda row: _number(row.iteration_seconds, ".2f"), True, 7),
    Column("GPU-hours", lambda row: _hours(row), True, 4),
    Column("attempt", lambda row: str(row.attempt) if row.attempt > 1 else "", True, 6),
    Column("job", lambda row: row.job, rank=5),
    Column("node", lambda row: row.node if row.state == State.RUNNING else "", rank=8),
)


def table(rows: Sequence["RunStatus"], width: int | None) -> list[str]:
    """A line for each run below a header, and the reasons for which its line has no room.

    width: of the terminal in characters; None: as wide as need be.
    """
    columns = _fitting(rows, width)
    widths = [max(map(len, texts)) for texts in columns.values()]
    header, *texts = zip(*columns.values(), strict=True)
    rules = ["-" * each for each in widths]
    lines = [
        "  ".join(text.rjust(w) if c.right else text.ljust(w) for text, c, w in zip(line, columns, widths, strict=True))
        for line in (header, rules, *texts)
    ]
    room = None if width is None else width - len(lines[0]) - 2
    inside = room is None or room >= LEAST_REASON
    reasons = ["", "", *(_cut(row.reason, room) if inside else "" for row in rows)]
    lines = [f"{line}  {reason}".rstrip() for line, reason in zip(lines, reasons, strict=True)]
    below = [row for row in rows if row.reason and (not inside or _cut(row.reason, room) != row.reason)]
    return lines + list(_below(below, width))


def closing(rows: Sequence["RunStatus"], experiment: str) -> list[str]:
    """How many are in which state, the GPU-hours, and what to do next."""
    counts = Counter(row.state for row in rows)
    lines = [*dict.fromkeys(row.fault for row in rows if row.fault)]
    lines += ["", ", ".join(f"{counts[state]} {WORDS[state]}" for state in ORDER if counts[state])]
    used, expected = sum(row.gpu_hours for row in rows), [row.gpu_hours_expected for row in rows]
    if used or any(expected):
        least = "at least " if None in expected else ""
        lines[-1] += f"; {hours(used)} of {least}{hours(sum(filter(None, expected)))} GPU-hours"
    for row in [row for row in rows if row.state in ("FAILED", "KILLED") and row.output][:5]:
        lines.append(f"{row.name} seed {row.seed}: output in {row.output}")
    return [*lines, *_next(counts, experiment)]


def _next(counts: Counter[str], experiment: str) -> Iterator[str]:
    if counts["FAILED"]:
        yield f"now run: harness submit {experiment} --retry (tries again what failed, resumes what was stopped)"
    elif counts["KILLED"]:
        yield f"now run: harness submit {experiment} (resumes what was stopped)"
    elif counts["NEW"]:
        yield f"now run: harness submit {experiment}"
    elif counts["RUNNING"] or counts["QUEUED"]:
        logs = f"harness logs {experiment} CELL -f follows a run, "  # of pilots it takes the run's folder
        yield f"{'' if experiment.endswith('--pilot') else logs}harness status {experiment} --watch all of them"
    elif counts["FINISHED"]:
        yield f"now run: {conclusion(experiment)}"


def urgent(rows: Sequence["RunStatus"], room: int) -> list["RunStatus"]:
    """As many of these rows as there is room for, those to look at first, in their order."""
    chosen = sorted(range(len(rows)), key=lambda number: ORDER.index(rows[number].state))[: max(1, room)]
    return [rows[number] for number in sorted(chosen)]


def _fitting(rows: Sequence["RunStatus"], width: int | None) -> dict[Column, list[str]]:
    """The columns that there is room for, each with its header and its texts."""
    columns = {column: [column.header, *map(column.text, rows)] for column in COLUMNS}
    columns = {column: texts for column, texts in columns.items() if any(texts[1:])}
    if width is None:
        return columns
    if _needed(columns) > width and len({row.seed for row in rows}) == 1:
        del columns[SEED]
    if _needed(columns) > width:  # what tells cells apart comes first in their names
        columns[NAME] = [_cut(text, LONGEST_NAME) for text in columns[NAME]]
    while _needed(columns) > width and (least := max(columns, key=lambda column: column.rank)).rank:
        del columns[least]
    return columns


def _needed(columns: dict[Column, list[str]]) -> int:
    return sum(max(map(len, texts)) + 2 for texts in columns.values()) - 2


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else f"{text[: room - 3].rstrip()}..."


def _below(rows: Sequence["RunStatus"], width: int | None) -> Iterator[str]:
    """Reasons in full, the same ones once."""
    groups: dict[str, list[RunStatus]] = {}
    for row in rows:
        groups.setdefault(row.reason, []).append(row)
    for reason, same in groups.items():
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        yield ""
        said = f"{same[0].name} seed {same[0].seed}{more}: {reason}"
        yield from textwrap.wrap(said, width or 120, subsequent_indent="  ", break_on_hyphens=False)


def _epoch(row: "RunStatus") -> str:
    if not row.epoch:
        return ""
    share = f" {100 * row.step / row.steps:3.0f}%" if row.steps else ""
    return f"{row.epoch}/{row.epochs}{share}"


def _ap(row: "RunStatus") -> str:
    return "" if row.box_ap is None and row.mask_ap is None else f"{percent(row.box_ap)}/{percent(row.mask_ap)}"


def _minus_published(row: "RunStatus") -> str:
    return " / ".join(f"{100 * value:+.1f}" for value in (row.minus_published or {}).values())


def _hours(row: "RunStatus") -> str:
    if not row.gpu_hours and not row.gpu_hours_expected:
        return ""
    return f"{hours(row.gpu_hours)}/{'?' if row.gpu_hours_expected is None else hours(row.gpu_hours_expected)}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)

"""What the ranks of an attempt say of themselves, each in a small file, and who is to blame when nothing moves."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from harness.errors import UserError
from harness.failures import Failure
from harness.files import find_json, write_json
from harness.processes import has_died
from harness.wording import count

Phase = Literal["start", "staging", "log", "checkpoint", "evaluation", "scoring", "waiting", "data", "step", "outcome"]
"""What a rank does, in the order within one count of steps: a rank whose phase comes earlier holds up the others.

"staging" is the copy of the data set to the node's disk; "evaluation" is announced at each image; "scoring" and
"outcome" are rank 0's alone; "waiting" is for the ranks that have nothing to do until another one comes back, and is
never stuck.
"""
ORDER: tuple[Phase, ...] = ("staging", "start", "log", "checkpoint", "evaluation", "scoring", "data", "step", "outcome")

DIED = "died without a word (killed, or out of memory)"
LOST = "lost the other ranks"
"""How a rank ends that only noticed that another one had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a rank does."""

    rank: int
    host: str  # and what else processes.signature tells of it
    space: str = ""
    pid: int
    started: float
    phase: Phase
    step: int  # iterations completed
    image: int  # images of an evaluation completed
    seconds: float  # in this phase so far
    stuck: bool  # for longer than the phase may take
    written: float  # seconds since 1970, by the clock of `host`
    ended: str = ""  # why it gave up, one line
    code: int = 0  # its exit code then
    failure: Failure | None = None  # and the kind of failure
    node: str = ""  # the cluster's name of `host`
    slow: list[str] = field(default_factory=list)  # rank 0 says which ranks are slower than the others

    @property
    def gave_up(self) -> bool:
        """Whether it has said itself why it ends, which is not that another rank had."""
        return self.ended not in ("", LOST)

    @property
    def who(self) -> str:
        """Rank, node and process."""
        return f"rank {self.rank} on {self.host} (process {self.pid})"


def write_note(folder: Path, note: Note) -> None:
    """Say what this rank does."""
    write_json(folder / f"rank-{note.rank}.json", asdict(note))


def read_notes(folder: Path, ranks: Iterable[int]) -> list[Note]:
    """The notes of those of the ranks that have written one; who has left in order has none."""
    notes = []
    for rank in ranks:
        with suppress(UserError):
            if (plain := find_json(folder / f"rank-{rank}.json")) is not None:
                notes.append(Note(**plain | {"failure": Failure(plain["failure"]) if plain.get("failure") else None}))
    return notes


def give_up(folder: Path, rank: int, reason: str, code: int, failure: Failure | None = None) -> None:
    """Leave word for the other ranks of why this one, which had a note, ends."""
    for note in read_notes(folder, [rank]):
        write_note(folder, replace(note, ended=reason, code=code, failure=failure))


def blame(folder: Path, ranks: Iterable[int], *, patience: float) -> Note | None:
    """The rank of these that gave up or died, with why in `ended`; waits up to `patience` seconds for its last word."""
    others = list(ranks)
    deadline = time.monotonic() + patience
    while True:
        found = failures(read_notes(folder, others))
        if found or time.monotonic() > deadline:
            return next((replace(note, ended=text) for note, text in found), None)
        time.sleep(0.2)


Complaint = tuple[Note, str]
"""A rank, and what is wrong with it."""


def failures(notes: list[Note]) -> list[Complaint]:
    """The ranks that gave up or, where none did, those that died on this node; not those that only lost another one."""
    gave_up = [(note, note.ended) for note in notes if note.gave_up]
    return gave_up or [(note, DIED) for note in notes if not note.ended and has_died(note)]


def troubles(notes: list[Note], silence: float) -> list[Complaint]:
    """The ranks without which nothing will move: that ended, were silent for so many seconds, or else are stuck."""
    ages = [(note, time.time() - note.written) for note in notes if not note.ended]
    return (
        failures(notes)
        or [(note, f"was last heard of {age:.0f} s ago, in {note.phase}") for note, age in ages if age > silence]
        or [(note, f"is stuck in {note.phase} since {note.seconds:.0f} s") for note in _culprits(notes)]
    )


def accusation(notes: list[Note], silence: float) -> str:
    """One line on who is in trouble and who waits for it, from the notes of all ranks; there is some trouble."""
    found = troubles(notes, silence)
    said = "; ".join(f"{note.who} {text}" for note, text in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    step = min(note.step for note, _ in found)
    others = sorted({note.rank for note in notes} - {note.rank for note, _ in found})
    return f"{said}{more}, after {count(step, 'iteration')}{_waiting(others)}"


def _culprits(notes: list[Note]) -> list[Note]:
    """Where ranks are stuck, those at work that have come least far: the others wait for them."""
    if not any(note.stuck for note in notes):
        return []
    at_work = [note for note in notes if note.phase != "waiting" and not note.ended]
    places = [(note.step, ORDER.index(note.phase), note.image) for note in at_work]
    return [note for note, place in zip(at_work, places, strict=True) if place == min(places)]


def _waiting(ranks: list[int]) -> str:
    if not ranks:
        return ""
    if len(ranks) > 8:
        return f"; {len(ranks)} ranks wait"
    return f"; rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))} wait{'' if len(ranks) > 1 else 's'}"

"""Whether a training is alive: every rank says what it does, and a thread of its own ends a rank that does no more.

A rank that hangs cannot say so, and those that wait for it in a collective cannot either: hence the thread, which works
while the training is stuck in C code, and notes of all ranks in the attempt's folder, by which the one that hangs is
told from those that wait for it.
"""

import faulthandler
import os
import signal
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.errors import UserError
from harness.processes import is_here, is_working, node_name, signature
from harness.training.distributed import Ranks
from harness.training.notes import Note, Phase, accusation, read_notes, troubles, write_note
from harness.training.stragglers import Pace, Slow, slow_ranks
from harness.training.times import Times

HUNG = 70
"""Exit code of an attempt that made no progress any more: it hung, or lost another rank and could not notice."""
MEDIAN_OF = 101
"""Steps over which the median step time is taken."""
GRACE = 3
"""Polls between a trouble and the verdict, for a training that ends by itself; twice that on ranks other than 0.

Less than the 30 s that SLURM leaves by default to the processes of a job of which one has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds in one phase after which a rank counts as stuck."""

    step: float = 300.0  # data, step, log, one image of an evaluation: this, or ...
    medians: float = 20.0  # ... so many median steps, if that is more
    start: float = 1800.0  # until the first step is done
    checkpoint: float = 1800.0
    alone: float = 3600.0  # what rank 0 does while the others wait: scoring, and the outcome
    silence: float = 120.0  # without a note of a rank: more than NFS may hide one (60 s) and JSON holds the interpreter
    poll: float = 5.0  # between two looks


Verdict = Callable[[str, Note | None], None]


class Watch:
    """What this rank does and since when: said by the training, looked at by the thread of `watching`.

    Without that thread it is a note that nobody reads.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.now: tuple[Phase, int, int, float] = ("start", 0, 0, time.monotonic())
        self.steps: deque[float] = deque(maxlen=MEDIAN_OF)
        self.pace = Pace()
        self.times = Times.begin()
        self.slow: list[Slow] = []  # on rank 0: the ranks that are slower than the others
        self._slow_before: set[tuple[int, str]] = set()
        self._step_began: tuple[int, float] | None = None

    def phase(self, name: Phase, step: int, image: int = 0) -> None:
        """This rank begins `name`, `step` iterations being done and `image` images of an evaluation.

        Costs a microsecond; no device, no file.
        """
        before, _, _, since = self.now
        self.now = (name, step, image, now := time.monotonic())
        self.times.spent(before, now - since)
        if before == "data":
            self.pace.data += now - since
        if name == "data":
            if self._step_began is not None and self._step_began[0] + 1 == step:
                self.steps.append(now - self._step_began[1])
                self.pace.steps += 1
            self._step_began = (step, now)

    def report(self, ranks: Ranks) -> None:
        """Compare the ranks' pace since the last report; called by all of them, at log rows.

        A rank is named when it was slow in two reports in a row.
        """
        table = ranks.gather(self.pace.take())
        found = slow_ranks(table) if ranks.main else []
        self.slow = [entry for entry in found if (entry.rank, entry.phase) in self._slow_before]
        self._slow_before = {(entry.rank, entry.phase) for entry in found}

    def limit(self, name: Phase) -> float:
        """Seconds that the phase may take."""
        limits = self.limits
        if name == "waiting":
            return float("inf")
        if name == "checkpoint":
            return limits.checkpoint
        if name in ("scoring", "outcome"):
            return limits.alone
        if name == "start" or not self.steps:
            return max(limits.start, limits.step)
        return max(limits.step, limits.medians * statistics.median(list(self.steps)))


@contextmanager
def watching(watch: Watch, folder: Path, ranks: Ranks, verdict: Verdict) -> Iterator[None]:
    """Watch this rank, in the attempt's folder: notes, stacks and verdict of all ranks are there.

    A rank that is stuck (Limits) or has lost another one ends with HUNG, whatever it is doing: the Python stacks of
    all ranks are in rank-R.stack.txt then, one rank has called `verdict` with a line that names the culprit, and with
    the culprit's note if it has said itself why it gave up, and all have ended. A rank left by an exception keeps its
    note, for the others to read. Rank 0 keeps its times as they are at the beginning, so that they are there of one
    that is killed before its first checkpoint, too.
    """
    watch.times.gpus = ranks.gpus
    if ranks.main:
        with suppress(UserError, OSError):  # of a full disk the training itself tells
            watch.times.write(folder)
    with (folder / f"rank-{ranks.rank}.stack.txt").open("w", encoding="utf-8") as stack:
        watcher = _Watcher(watch, folder, ranks, verdict, stack)
        watcher.beat()
        thread = threading.Thread(target=watcher.run, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            watcher.done.set()
            thread.join()
            faulthandler.cancel_dump_traceback_later()
            if not os.fstat(stack.fileno()).st_size:
                Path(stack.name).unlink()
    (folder / f"rank-{ranks.rank}.json").unlink(missing_ok=True)


class _Watcher:
    """The thread's side: looks at this rank and at the notes of others, and judges."""

    def __init__(self, watch: Watch, folder: Path, ranks: Ranks, verdict: Verdict, stack: TextIO) -> None:
        self.watch, self.folder, self.ranks, self.verdict, self.stack = watch, folder, ranks, verdict, stack
        self.done = threading.Event()
        self.dumped = False
        self.trouble = 0  # polls since there is some
        self.told: list[int] = []  # the slow ranks, as last said
        self.own = signature()

    def run(self) -> None:
        """Until the training is over, or this process is."""
        poll = self.watch.limits.poll
        while not self.done.wait(poll):
            # where C code holds the interpreter itself, this thread is stuck as well: then a timer writes the stacks
            faulthandler.dump_traceback_later(self.watch.limits.step + poll, file=self.stack)
            note = self.beat()
            if (self.folder / "verdict.txt").exists():
                self._leave(note)
            elif self._troubled(note):
                self._dump(note)
                self.trouble += 1
                if self.trouble > (GRACE if self.ranks.main else 2 * GRACE):
                    self._judge(note)
            else:
                self.trouble = 0

    def beat(self) -> Note:
        """Write this rank's note."""
        name, step, image, since = self.watch.now
        note = Note(
            rank=self.ranks.rank,
            **self.own,
            phase=name,
            step=step,
            image=image,
            seconds=time.monotonic() - since,
            stuck=time.monotonic() - since > self.watch.limit(name),
            written=time.time(),
            slow=self._slow(),
            node=node_name(),
        )
        with suppress(UserError, OSError):  # of a full disk the training itself tells
            write_note(self.folder, note)
        return note

    def _slow(self) -> list[str]:
        """The slow ranks with their nodes; a change is told on stderr."""
        slow = self.watch.slow
        hosts = {note.rank: note.host for note in read_notes(self.folder, [entry.rank for entry in slow])}
        texts = [f"rank {entry.rank} on {hosts.get(entry.rank, '?')}: {entry}" for entry in slow]
        if [entry.rank for entry in slow] != self.told:
            self.told = [entry.rank for entry in slow]
            with suppress(OSError):
                sys.stderr.write(f"slow: {'; '.join(texts) or 'no rank any more'}\n")
        return texts

    def _troubled(self, note: Note) -> bool:
        """Whether this rank is stuck or, to rank 0, another one is in trouble; to the others, rank 0 is."""
        seen = [note]
        if self.ranks.world > 1:
            seen += read_notes(self.folder, range(1, self.ranks.world) if self.ranks.main else range(1))
        return bool(troubles(seen, self.watch.limits.silence))

    def _dump(self, note: Note) -> None:
        if self.dumped:
            return
        self.dumped = True
        self.stack.write(
            f"rank {note.rank} on {note.host}, process {note.pid}: {note.phase} since {note.seconds:.0f} s\n"
        )
        self.stack.flush()
        faulthandler.dump_traceback(self.stack, all_threads=True)

    def _judge(self, note: Note) -> None:
        """Say, for all ranks, what is wrong, unless another one has; then leave."""
        notes = [
            *(other for other in read_notes(self.folder, range(self.ranks.world)) if other.rank != note.rank),
            note,
        ]
        text = accusation(notes, self.watch.limits.silence)
        try:
            with (self.folder / "verdict.txt").open("x", encoding="utf-8") as file:
                file.write(f"{text}\n")
            self.verdict(text, next((other for other in notes if other.gave_up), None))
            self._end_frozen(notes)
        finally:  # also where another rank has just said it, or the disk is full
            self._leave(note)

    def _end_frozen(self, notes: list[Note]) -> None:
        """Kill the ranks of this node that do not leave by themselves: what is frozen would keep its GPU for ever."""
        here = [note for note in notes if note.rank != self.ranks.rank and is_here(note)]
        until = time.monotonic() + 4 * self.watch.limits.poll
        while (left := [note for note in here if is_working(note.pid, note.started)]) and time.monotonic() < until:
            time.sleep(self.watch.limits.poll / 10)
        for note in left:
            os.kill(note.pid, signal.SIGKILL)

    def _leave(self, note: Note) -> None:
        """End this process, whatever its other threads do, when the others have had time to write their stacks."""
        self._dump(note)
        if self.ranks.world > 1:
            time.sleep(2 * self.watch.limits.poll)
        sys.stderr.flush()
        os._exit(HUNG)

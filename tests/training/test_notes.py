"""Who is to blame, from the notes of all ranks: hand-made situations."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from harness.processes import start_time
from harness.training.notes import DIED, LOST, Note, accusation, blame, failures, give_up, read_notes, write_note

HOST = socket.gethostname()
SILENCE = 300.0


def note(rank: int, phase: Any = "step", **fields: Any) -> Note:
    """A note of this process, a tenth of a second old."""
    mine = {"host": HOST, "pid": os.getpid(), "started": start_time(), "written": time.time() - 0.1}
    at = {"phase": phase, "step": 7, "image": 0, "seconds": 2.0, "stuck": False}
    return Note(rank=rank, **{**mine, **at, **fields})


def stuck(rank: int, phase: Any, **fields: Any) -> Note:
    return note(rank, phase, **{"seconds": 310.4, "stuck": True, **fields})


def dead(rank: int) -> Note:
    return note(rank, pid=2**22 - 1, started=1.0)


def who(rank: int) -> str:
    return f"rank {rank} on {HOST} (process {os.getpid()})"


def test_data_comes_before_the_step_in_which_the_others_wait() -> None:
    text = accusation([stuck(0, "step"), stuck(1, "data"), stuck(2, "step")], SILENCE)
    assert text == f"{who(1)} is stuck in data since 310 s, after 7 iterations; ranks 0, 2 wait"


def test_an_earlier_iteration_comes_before_a_later_one() -> None:
    """A GPU's host runs ahead of it: rank 0 has sent off more steps before it had to wait."""
    text = accusation([stuck(0, "data", step=9), stuck(1, "step", step=8)], SILENCE)
    assert text == f"{who(1)} is stuck in step since 310 s, after 8 iterations; rank 0 waits"


def test_an_earlier_image_comes_before_a_later_one() -> None:
    text = accusation([stuck(0, "evaluation", image=5), stuck(1, "evaluation", image=3)], SILENCE)
    assert text.startswith(who(1))


def test_who_waits_for_the_scoring_is_not_stuck() -> None:
    text = accusation([stuck(0, "scoring"), note(1, "waiting", seconds=4000.0)], SILENCE)
    assert text == f"{who(0)} is stuck in scoring since 310 s, after 7 iterations; rank 1 waits"


def test_all_in_the_same_place() -> None:
    notes = [stuck(rank, "step") for rank in range(6)]
    assert accusation(notes, SILENCE).endswith(f"{who(3)} is stuck in step since 310 s and 2 more, after 7 iterations")


def test_many_wait() -> None:
    notes = [stuck(rank, "step") for rank in range(64)] + [stuck(64, "data")]
    assert accusation(notes, SILENCE).endswith("; 64 ranks wait")


def test_the_dead_before_the_silent_before_the_stuck() -> None:
    silent = note(1, "data", written=time.time() - 400)
    waiting = [stuck(0, "step"), silent]
    assert accusation(waiting, SILENCE).startswith(f"{who(1)} was last heard of 400 s ago, in data")
    assert f"(process {2**22 - 1}) {DIED}" in accusation([*waiting, dead(2)], SILENCE)


def test_the_first_cause_before_what_came_of_it() -> None:
    ended = note(2, ended="a.jpg: broken", code=2)
    found = failures([note(0, ended=LOST), dead(1), ended])
    assert found == [(ended, "a.jpg: broken")]
    assert failures([note(0, ended=LOST), note(1)]) == []


def test_last_words_are_waited_for(tmp_path: Path) -> None:
    write_note(tmp_path, note(0))
    write_note(tmp_path, note(1))
    began = time.monotonic()
    assert blame(tmp_path, [1], patience=0.5) is None
    assert time.monotonic() - began >= 0.5
    give_up(tmp_path, 1, "a.jpg: broken", 2)
    culprit = blame(tmp_path, [1], patience=60)
    assert culprit is not None and (culprit.rank, culprit.ended, culprit.code) == (1, "a.jpg: broken", 2)


def test_ranks_without_a_note_have_left(tmp_path: Path) -> None:
    write_note(tmp_path, note(1))
    assert [entry.rank for entry in read_notes(tmp_path, range(3))] == [1]
    give_up(tmp_path, 2, "no note: nothing to say", 1)
    assert not (tmp_path / "rank-2.json").exists()

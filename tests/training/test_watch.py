"""Phases, limits and reports; the thread itself is seen at work in tests/launching/test_health.py."""

import faulthandler
import threading
import time
from pathlib import Path

import pytest

from harness.failures import Failure
from harness.training import watch as watch_module
from harness.training.distributed import Ranks
from harness.training.notes import Note, give_up, read_notes, write_note
from harness.training.watch import HUNG, Limits, Watch, watching


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(watch_module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def steps(watch: Watch, clock: Clock, seconds: list[float], first: int = 0) -> None:
    """A quarter of each step is data."""
    for step, each in enumerate(seconds, first):
        watch.phase("data", step)
        clock.now += each / 4
        watch.phase("step", step)
        clock.now += each * 3 / 4
    watch.phase("data", first + len(seconds))


def test_limits_follow_the_median_step(clock: Clock) -> None:
    watch = Watch()
    assert watch.limit("start") == watch.limit("data") == 1800  # until there is a step
    steps(watch, clock, [1.0, 2.0, 900.0])  # a checkpoint was written in the last one
    assert list(watch.steps) == [1.0, 2.0, 900.0]
    assert watch.limit("step") == watch.limit("data") == watch.limit("log") == watch.limit("evaluation") == 300
    steps(watch, clock, [20.0] * 8, first=3)
    assert watch.limit("step") == 400  # 20 medians
    assert (watch.limit("checkpoint"), watch.limit("scoring"), watch.limit("outcome")) == (1800, 3600, 3600)
    assert watch.limit("waiting") == float("inf")


def test_going_back_is_no_step(clock: Clock) -> None:
    """Another epoch's beginning announces the same count of steps again."""
    watch = Watch()
    watch.phase("data", 4)
    clock.now += 1
    watch.phase("data", 4)
    assert not watch.steps


def test_own_pace(clock: Clock) -> None:
    watch = Watch()
    steps(watch, clock, [1.0, 3.0])
    assert watch.pace.take() == [0.5, 0.0]  # (0.25 + 0.75) / 2 steps
    assert watch.pace.take() == [0.0, 0.0]


class Two(Ranks):
    """Rank 0 of two; the other one loads for 3 s a step."""

    def gather(self, value: list[float]) -> list[list[float]]:
        return [value, [3.0, 0.0]]


def test_a_rank_is_slow_when_it_was_twice(clock: Clock) -> None:
    watch = Watch()
    for first, expected in ((0, []), (2, [1]), (4, [1])):
        steps(watch, clock, [1.0, 1.0], first=first)
        watch.report(Two(rank=0, world=2))
        assert [entry.rank for entry in watch.slow] == expected
    steps(watch, clock, [12.0, 12.0], first=6)  # of which 3 s are data
    watch.report(Two(rank=0, world=2))
    assert watch.slow == []


def test_a_training_that_ends_leaves_only_its_times(tmp_path: Path) -> None:
    watch = Watch(Limits(poll=0.05))
    with watching(watch, tmp_path, Ranks(), verdict=pytest.fail):
        watch.phase("data", 3)
        deadline = time.monotonic() + 30
        while [entry.phase for entry in read_notes(tmp_path, [0])] != ["data"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["times.json"]
    assert "watch" not in [thread.name for thread in threading.enumerate()]


def test_one_that_fails_leaves_its_note(tmp_path: Path) -> None:
    with pytest.raises(ValueError), watching(Watch(), tmp_path, Ranks(), verdict=pytest.fail):
        raise ValueError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank-0.json", "times.json"]


class Left(Exception):
    """os._exit was called."""


def test_the_verdict_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs alone: its stack, the verdict, the end; and another rank that finds a verdict there."""
    ends: list[int] = []

    def leave(code: int) -> None:
        ends.append(code)
        raise Left

    monkeypatch.setattr(watch_module.os, "_exit", leave)
    said: list[tuple[str, Note | None]] = []
    watch = Watch(Limits(step=0.2, start=0.2, poll=0.02))
    with (tmp_path / "rank-0.stack.txt").open("w") as stack:
        watcher = watch_module._Watcher(watch, tmp_path, Ranks(), lambda *told: said.append(told), stack)
        with pytest.raises(Left):
            watcher.run()
        with pytest.raises(Left):
            watcher.run()
        faulthandler.cancel_dump_traceback_later()
    assert ends == [HUNG, HUNG]
    ((text, culprit),) = said
    assert "rank 0 on " in text and "is stuck in start since 0 s" in text and culprit is None
    assert (tmp_path / "verdict.txt").read_text() == f"{text}\n"
    assert "test_the_verdict_is_said_once" in (tmp_path / "rank-0.stack.txt").read_text()


def test_the_verdict_names_who_gave_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with NCCL: rank 1 has said why it ends, and rank 0 waits for it on its device without an error."""

    def leave(code: int) -> None:
        raise Left

    monkeypatch.setattr(watch_module.os, "_exit", leave)
    monkeypatch.setattr(watch_module.time, "sleep", lambda _: None)
    said: list[tuple[str, Note | None]] = []
    watch = Watch(Limits(poll=0.02))
    watch.phase("step", 7)
    there = Note(
        rank=1, host="n2", pid=1, started=0.0, phase="step", step=7, image=0, seconds=0.0, stuck=False,
        written=time.time(), node="n2",
    )  # fmt: skip
    write_note(tmp_path, there)
    give_up(tmp_path, 1, "out of GPU memory", 2, Failure.GPU_MEMORY)
    with (tmp_path / "rank-0.stack.txt").open("w") as stack:
        watcher = watch_module._Watcher(watch, tmp_path, Ranks(world=2), lambda *told: said.append(told), stack)
        with pytest.raises(Left):
            watcher.run()
        faulthandler.cancel_dump_traceback_later()
    ((text, culprit),) = said
    assert text.startswith("rank 1 on n2 (process 1) out of GPU memory")
    assert culprit is not None and (culprit.failure, culprit.node) == (Failure.GPU_MEMORY, "n2")


def test_a_phase_costs_nothing() -> None:
    """Microseconds: a generous bound for a machine under load."""
    watch = Watch()
    began = time.perf_counter()
    for step in range(10_000):
        watch.phase("data", step)
    assert (time.perf_counter() - began) / 10_000 < 1e-4

"""Processes find each other by a file; here they are threads."""

import socket
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.files import read_json
from harness.training import meeting
from harness.training.meeting import meet

MINUTE = timedelta(minutes=1)


def test_the_others_find_rank_0_at_a_port_of_its_own(tmp_path: Path) -> None:
    """Two trainings at once; the others of the first were there before its rank 0."""
    found: dict[int, bytes] = {}

    def other(rank: int) -> None:
        found[rank] = meet(tmp_path / "first", rank=rank, world=3, timeout=MINUTE).get("said")

    others = [threading.Thread(target=other, args=(rank,)) for rank in (1, 2)]
    for thread in others:
        thread.start()
    stores = [meet(tmp_path / name, rank=0, world=3, timeout=MINUTE) for name in ("first", "second")]
    stores[0].set("said", "by the first")
    stores[1].set("said", "by the second")
    for thread in others:
        thread.join()
    assert found == {1: b"by the first", 2: b"by the first"}
    first, second = (read_json(tmp_path / name) for name in ("first", "second"))
    assert first["port"] != second["port"]


def test_a_node_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", socket.gethostname())
    store = meet(tmp_path / "file", rank=0, world=1, timeout=MINUTE)
    assert read_json(tmp_path / "file") == {"host": socket.gethostname(), "port": store.port}


def test_one_who_waits_in_vain_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", 0.0)
    with pytest.raises(UserError, match="rank 0 did not say"):
        meet(tmp_path / "file", rank=1, world=2, timeout=MINUTE)

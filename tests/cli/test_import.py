"""harness import on the command line: what it says, and what it leaves where the store is down."""

import json
from pathlib import Path

import pytest
from launching.test_import_log import CELL, epochs, write

from cli.conftest import Harness


def test_a_store_that_is_none(harness: Harness, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written."""
    log = write(place / "logs", epochs(1, 1))
    monkeypatch.setenv("HARNESS_TRACKING_URI", "ftp://nowhere")
    code, out, err = harness("import", str(log), "--cell", CELL)
    assert (code, out) == (2, "") and err.startswith("error: tracking store 'ftp://nowhere': expected ")
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_a_store_that_is_down(harness: Harness, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is kept, and the same command ships it later, whatever odd fields it has."""
    log = write(
        place / "logs", [json.dumps({"mode": "train", "epoch": 1, "iter": 7, "a b": 1, "c": 10**400}), *epochs(1, 1)]
    )
    monkeypatch.setenv("HARNESS_TRACKING_URI", "http://127.0.0.1:9")
    code, out, err = harness("import", str(log), "--cell", CELL)
    (folder,) = (place / "runs" / "imported").iterdir()
    assert code == 2 and out.endswith("11 train and 1 val record, 0 repeated\n")
    assert err.splitlines()[0] == f"warning: {log}: ends in epoch 1 of 12; the run counts as unfinished"
    assert err.splitlines()[1].startswith("error: tracking store http://127.0.0.1:9: ")
    assert err.endswith(f"; the log is kept in {folder}; repeat this command to ship it\n")
    monkeypatch.delenv("HARNESS_TRACKING_URI")
    code, out, _ = harness("import", str(log), "--cell", CELL)
    assert code == 0 and out.startswith(f"{folder}: imported already\nMLflow: ")

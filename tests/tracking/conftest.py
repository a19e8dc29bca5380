"""Tracking stores for the tests: real SQLite files, created once and copied."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.store import Store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs an MLflow store is slow: importing mlflow and migrating a first database take seconds."""
    for item in items:
        if "empty_store" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store without runs."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    Store(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path) -> str:
    """The address of a store of the test's own."""
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_store, file)
    return f"sqlite:///{file}"


Read = Callable[[str, str], list[tuple[Any, ...]]]


def _read(uri: str, run_id: str, where: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        found = connection.execute(
            f"select key, step, timestamp, value from metrics where run_uuid = ? and {where}", (run_id,)
        ).fetchall()
    connection.close()
    return sorted(found)


@pytest.fixture
def points() -> Read:
    """All measurements of a run, read from the SQLite file itself: (key, step, timestamp, value), sorted."""
    return lambda uri, run_id: _read(uri, run_id, "key not in ('harness/updated', 'harness/settled')")


@pytest.fixture
def marks() -> Read:
    """The marks of a run's batches, as `points` gives measurements."""
    return lambda uri, run_id: _read(uri, run_id, "key = 'harness/updated'")

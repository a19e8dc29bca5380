"""How long records take: 2,000 runs of 50 metrics from SQLite. python tests/benchmarks/bench_report.py [RUNS [FOLDER]].

One run is shipped as every run is; the others are copies of its rows. Of each run 12 evaluations have a curve. Then the
same store is read through an MLflow server on the loopback address.
"""

import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tracking import folders
from tracking.servers import Server

from harness.reporting.records import Record, from_tracking
from harness.tracking.shipment import ship

METRICS, EPOCHS = 50, 12
TABLES = ("runs", "params", "tags", "latest_metrics", "metrics")
CURVES = ("val/epoch", "val/bbox_mAP", "val/segm_mAP")


def main() -> None:
    """Time the first reading, the next one, one after a run has changed, and one after a run was deleted."""
    count = int(sys.argv[1]) if sys.argv[1:] else 2000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if sys.argv[2:] else None) as folder:
        root = Path(folder)
        uri = f"sqlite:///{root / 'mlflow.db'}"
        generate(root, uri, count)
        print(f"{count} runs of {METRICS} metrics, {(root / 'mlflow.db').stat().st_size / 1e6:.0f} MB")
        timed("without a cache (imports done)", uri, None)
        timed("first reading", uri, root / "cache")
        timed("nothing new", uri, root / "cache")
        with closing(sqlite3.connect(root / "mlflow.db")) as store, store:
            change = "update latest_metrics set value = value + 1 where key = 'harness/updated' and run_uuid = ?"
            store.execute(change, (f"{1:032x}",))
        timed("one run has news", uri, root / "cache")
        with closing(sqlite3.connect(root / "mlflow.db")) as store, store:
            store.execute("update runs set lifecycle_stage = 'deleted' where run_uuid = ?", (f"{2:032x}",))
        assert len(timed("one run was deleted", uri, root / "cache")) == count - 1
        through_a_server(root, uri)
        size = sum(file.stat().st_size for file in (root / "cache").iterdir())
        print(f"{'the cache':34}{size / 1e6:8.1f} MB")


def through_a_server(root: Path, uri: str) -> None:
    """Time the first reading and the next one over HTTP."""
    server = Server(uri, root)
    server.start()
    try:
        timed("over HTTP, first reading", server.address, root / "http")
        timed("over HTTP, nothing new", server.address, root / "http")
    finally:
        server.kill()


def timed(name: str, uri: str, cache: Path | None) -> list[Record]:
    """The records, and a printed line of how long they took."""
    began = time.perf_counter()
    found = from_tracking(uri, "big", cache=cache)
    print(f"{name:34}{time.perf_counter() - began:8.2f} s")
    return found


def generate(root: Path, uri: str, count: int) -> None:
    """A store with `count` runs of one experiment."""
    shipped = ship(folders.finished(root / "runs", folders.spec(experiment="big")), uri)
    assert shipped is not None
    with closing(sqlite3.connect(root / "mlflow.db")) as store, store:
        _enlarge(store, shipped.run_id)
        for number in range(1, count):
            _copy(store, shipped.run_id, f"{number:032x}", number)


def _enlarge(store: sqlite3.Connection, run: str) -> None:
    metric = "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, 1.0, 1, 1, 0, ?)"
    have = store.execute("select count(*) from latest_metrics where run_uuid = ?", (run,)).fetchone()[0]
    store.executemany(metric, [(f"system/more_{n}", run) for n in range(METRICS - have)])
    point = "insert into metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, ?, ?, ?, 0, ?)"
    epochs = range(3, EPOCHS + 1)
    store.executemany(point, [(key, n / 30, n, 100 * n, run) for key in CURVES for n in epochs])


def _copy(store: sqlite3.Connection, run: str, twin: str, number: int) -> None:
    for table in TABLES:
        columns = [row[1] for row in store.execute(f"pragma table_info({table})") if row[1] != "run_uuid"]
        names = ", ".join(f'"{column}"' for column in columns)
        copied = f"insert into {table} (run_uuid, {names}) select ?, {names} from {table} where run_uuid = ?"
        store.execute(copied, (twin, run))
    for key, value in (("harness.key", f"{number:010x}"), ("harness.seed", str(number))):
        store.execute("update tags set value = ? where run_uuid = ? and key = ?", (value, twin, key))


if __name__ == "__main__":
    main()

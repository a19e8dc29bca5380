"""How long a report of many runs takes: python tests/benchmarks/bench_report.py [RUNS...] (default 500 1000 2000).

One run of 50 metrics is shipped as every run is; the others are copies of its rows, all of one cell, which differ in
their seed. Of each run 12 evaluations have a curve. The records are read from SQLite without a cache, for the first
time, when nothing is new, when one run is, and after one was deleted; through an MLflow server on the loopback address,
with as many workers as `harness ui --serve` gives it, for the first time and when nothing is new; then the report is
written. Imports are not counted.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from growth import show_growth
from tracking import folders
from tracking.servers import Server

from harness.matrix import load_experiment
from harness.reporting.page import write_report
from harness.reporting.records import Record
from harness.reporting.tracked_records import from_tracking
from harness.tracking.shipment import ship

METRICS, EPOCHS = 50, 12
TABLES = ("runs", "params", "tags", "latest_metrics", "metrics")
CURVES = ("val/epoch", "val/bbox_mAP", "val/segm_mAP")
OVER_HTTP = "over HTTP, first reading"
"""Nearly all of its time is the server's own, for the rows of each run."""


def main() -> None:
    """A block of lines for each number of runs, then how each line grows."""
    taken: dict[str, list[tuple[int, float]]] = {}
    for count in map(int, sys.argv[1:] or ("500", "1000", "2000")):
        for name, seconds in measure(count).items():
            taken.setdefault(name, []).append((count, seconds))
    for name, growing in taken.items():
        show_growth(name, "runs", growing, target=(2000, 10.0 if name == OVER_HTTP else 3.0))


def measure(count: int) -> dict[str, float]:
    """Seconds of each step with a store of `count` runs."""
    times: dict[str, float] = {}

    def timed(name: str, uri: str, cache: Path | None) -> list[Record]:
        began = time.perf_counter()
        found = from_tracking(uri, "big", cache=cache)
        times[name] = time.perf_counter() - began
        print(f"{name:34}{times[name]:8.2f} s", flush=True)
        return found

    with tempfile.TemporaryDirectory() as folder:
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
        through_a_server(root, uri, timed)
        times["report written"] = write(root, count, from_tracking(uri, "big", cache=root / "cache"))
        size = sum(file.stat().st_size for file in (root / "cache").iterdir())
        print(f"{'the cache':34}{size / 1e6:8.1f} MB")
    times["nothing new, and written"] = times["nothing new"] + times["report written"]
    return times


def write(root: Path, count: int, records: list[Record]) -> float:
    """Seconds to write the report, of a matrix with as many seeds."""
    matrix = root / "big.yaml"
    matrix.write_text(
        f"name: big\nseeds: {list(range(count))}\naxes: {{backbone: R-50, style: caffe}}\nshorten: {{epochs: 2}}\n"
    )
    experiment = load_experiment(matrix)
    began = time.perf_counter()
    write_report(experiment, records, root / "report")
    seconds = time.perf_counter() - began
    print(f"{'report written':34}{seconds:8.2f} s", flush=True)
    return seconds


def through_a_server(root: Path, uri: str, timed: Callable[[str, str, Path | None], list[Record]]) -> None:
    """Time the first reading and the next one over HTTP."""
    server = Server(uri, root, serve=True)
    server.start()
    try:
        timed(OVER_HTTP, server.address, root / "http")
        timed("over HTTP, nothing new", server.address, root / "http")
    finally:
        server.kill()


def generate(root: Path, uri: str, count: int) -> None:
    """A store with `count` runs of one experiment."""
    shipped = ship(folders.finished(root / "runs", folders.spec(experiment="big")), uri)
    assert shipped is not None
    with closing(sqlite3.connect(root / "mlflow.db")) as store, store:
        _enlarge(store, shipped.run_id)
        _multiply(store, shipped.run_id, count)


def _enlarge(store: sqlite3.Connection, run: str) -> None:
    metric = "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, 1.0, 1, 1, 0, ?)"
    have = store.execute("select count(*) from latest_metrics where run_uuid = ?", (run,)).fetchone()[0]
    store.executemany(metric, [(f"system/more_{n}", run) for n in range(METRICS - have)])
    point = "insert into metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, ?, ?, ?, 0, ?)"
    epochs = range(3, EPOCHS + 1)
    store.executemany(point, [(key, n / 30, n, 100 * n, run) for key in CURVES for n in epochs])


def _multiply(store: sqlite3.Connection, run: str, count: int) -> None:
    """Copies of the rows of a run, until there are `count` runs; they differ in key and seed."""
    store.execute("create temp table twins (run text, key text, seed text)")
    twins = [(f"{number:032x}", f"{number:010x}", str(number)) for number in range(1, count)]
    store.executemany("insert into twins values (?, ?, ?)", twins)
    for table in TABLES:
        columns = [row[1] for row in store.execute(f"pragma table_info({table})") if row[1] != "run_uuid"]
        names = ", ".join(f'"{column}"' for column in columns)
        own = ", ".join(f'own."{column}"' for column in columns)
        copied = f"select twins.run, {own} from {table} own, twins where own.run_uuid = ? order by twins.run"
        store.execute(f"insert into {table} (run_uuid, {names}) {copied}", (run,))
    for key in ("key", "seed"):
        changed = f"update tags set value = twins.{key} from twins where run_uuid = twins.run and tags.key = ?"
        store.execute(changed, (f"harness.{key}",))


if __name__ == "__main__":
    main()

"""The demo on a cluster, tracked by a server, a preemption and a dead node: the report is the undisturbed one's."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from tracking.servers import Server

from harness.run_state import State, read_state
from slurm.faults import dead_node, hurrying, node_of, partition, preempt
from slurm.place import Place, run, steps
from slurm.waiting import eventually

pytestmark = pytest.mark.slurm

MEASURED = ("Mem (GB)", "Inf time (fps)", "Mem (GB) on CPU", "Inf time (fps) on CPU")


@pytest.mark.slow
@pytest.mark.parametrize(
    "shorten",
    [
        pytest.param("{epochs: 2, iterations_per_epoch: 4, image_scale: 0.09}", id="short"),
        pytest.param("{epochs: 4, image_scale: 0.09}", id="as it is"),
    ],
)
def test_demo(cluster: Path, place: Place, shorten: str) -> None:
    server = Server(f"sqlite:///{place.folder}/server.db", place.folder)
    server.start()
    try:
        with partition("storm", "Nodes=n3,n4 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20"):
            place.write("partition: storm\narray_parallelism: 4")
            demo = (ROOT / "experiments" / "demo.yaml").read_text()
            (place.folder / "tiny.yaml").write_text(re.sub(r"(?m)^shorten: .*", f"shorten: {shorten}", demo))
            address = {"HARNESS_TRACKING_URI": server.address}
            rows = place.submit(**address)
            jobs, runs = [row["job"] for row in rows], [run(row) for row in rows]
            hurry = hurrying(jobs)
            eventually(lambda: steps(runs[0], "train"), 300)
            preempt(jobs[0])
            eventually(lambda: hurry() and read_state(runs[0]).attempt == 2 and node_of(jobs[0]), 300)
            with dead_node(node_of(jobs[0]), jobs[0]):
                eventually(lambda: hurry() and all(read_state(one).state == State.FINISHED for one in runs), 900)
        place.harness("sync", "tiny.yaml", **address)
        place.harness("report", "tiny.yaml", "--output", "stormy", **address)
    finally:
        server.kill()
    calm = {"HARNESS_RUN_ROOT": "calm-runs"}
    place.harness("submit", "tiny.yaml", "--cluster", "local", "--wait", **calm)
    place.harness("report", "tiny.yaml", "--output", "calm", **calm)
    assert read_state(runs[0]).attempt == 3
    assert manifest(place.folder / "stormy") == manifest(place.folder / "calm")
    assert tables(place.folder / "stormy") == tables(place.folder / "calm")


def manifest(report: Path) -> list[dict[str, Any]]:
    """Its rows without what names this very run, and without the log's digest, as the log says how long it took."""
    rows = json.loads((report / "manifest.json").read_text())["rows"]
    for row in rows:
        del row["run_id"], row["files"]["log"]["size"], row["files"]["log"]["sha256"]
    return list(rows)


def tables(report: Path) -> list[dict[str, str]]:
    """Their rows without what was measured of time and memory."""
    rows: list[dict[str, str]] = []
    for file in sorted((report / "tables").iterdir()):
        for row in csv.DictReader(file.read_text().splitlines()):
            shown = {name: value for name, value in row.items() if name not in MEASURED}
            rows.append({name: value.replace("calm-runs/", "runs/") for name, value in shown.items()})
    return rows

"""What fails on a real SLURM: why, and what a retry changes."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.failures import Failure
from harness.files import read_json
from harness.launching.ends import read_end, write_end
from harness.launching.slurm import parse_job
from harness.run_paths import RunPaths
from harness.run_state import State, read_state
from slurm.conftest import call, eventually, output
from slurm.faults import hurrying, node_of, partition
from slurm.place import Place, run, steps

pytestmark = pytest.mark.slurm

HOOK = """\
import glob, math, os, sys, threading, time

finite = math.isfinite

def eat(folder):
    while not any(b'"train"' in open(name, "rb").read() for name in glob.glob(folder + "/attempts/*/log.json")):
        time.sleep(0.1)
    global fat
    fat = b"x" * 700_000_000

def broken(value):
    if os.path.exists(FLAG):
        raise KeyError("broken")
    return finite(value)

if "harness.launching.slurm_entry" in sys.orig_argv:
    folder = sys.orig_argv[-2]
    if "mstrain" in folder:
        math.isfinite = broken
    else:
        threading.Thread(target=eat, args=(folder,), daemon=True).start()
"""
"""What makes the one run hungry while it trains, and the other one broken as long as there is FLAG."""


@pytest.fixture
def faulty(place: Place) -> Path:
    """A cluster on which two runs fail; the file without which the broken one does not."""
    flag, hook = place.folder / "broken", place.folder / "hook" / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(f"FLAG = {str(flag)!r}\n{HOOK}")
    flag.touch()
    changes = f"memory_gb: 1\nsetup: ['export PYTHONPATH=$PYTHONPATH:{hook.parent}']"
    place.write(changes, multiscale="[false, true]", epochs=3)
    return flag


def suspect(place: Place, node: str) -> None:
    """Two attempts of another experiment's run that failed for a node's sake."""
    for attempt in (1, 2):
        paths = RunPaths(place.folder / "runs" / "other" / node)
        write_end(paths, attempt, State.FAILED, kind=Failure.NODE, reason="ECC error", nodes=node)


@pytest.mark.slow
def test_a_node_that_becomes_suspect_after_the_submit(cluster: Path, place: Place) -> None:
    """One run works there, and is requeued; the other's job waits, and gets the node then. Both go on elsewhere."""
    with partition("shaky", "Nodes=n3,n4"):
        busy = "sbatch --parsable --partition=shaky --nodelist=n4 --exclusive --output=/dev/null --wrap"
        subprocess.run([*busy.split(), "sleep 999"], check=True, capture_output=True)
        place.write("partition: shaky\narray_parallelism: 1", multiscale="[false, true]")
        rows = place.submit()
        one, other = map(run, rows)
        eventually(lambda: steps(one, "train"), 240)
        suspect(place, node := node_of(rows[0]["job"]))
        call(f"scancel --signal=USR2 {rows[0]['job']}")
        eventually(lambda: read_state(other).reason.startswith(f"left {node}, where attempts have failed"), 120)
        shown = [f"scontrol --oneliner show job {row['job']}" for row in rows]
        eventually(lambda: [parse_job(output(line))["ExcNodeList"] for line in shown] == [node] * 2)
        call("scancel --partition=shaky --nodelist=n4")
        hurry = hurrying([row["job"] for row in rows])
        eventually(lambda: hurry() and place.states() == ["FINISHED"] * 2, 240)
    for paths, attempts in ((one, 2), (other, 1)):
        assert steps(paths, "train") == [1, 2, 3, 4, 5, 6]
        assert read_state(paths).attempt == attempts
        assert read_json(paths.attempt(attempts) / "job.json")["node"] != node


@pytest.mark.slow
def test_a_lack_of_memory_and_a_bug(place: Place, faulty: Path) -> None:
    """Why is told; a submit leaves both alone; a retry gives the one more memory, and goes on with the other as it is.

    Nodes on which attempts failed for their sake are avoided meanwhile.
    """
    hungry, broken = place.submit()
    eventually(lambda: not output("squeue --me --noheader --name=" + job_name(hungry)), 240)
    starved, wrong = place.status()
    assert (starved["kind"], wrong["kind"]) == ("memory", "bug")
    assert starved["text"].startswith(f"job {hungry['job']} ended as FAILED (out of memory) without a word of its own")
    assert wrong["text"] == "KeyError: 'broken'"
    ends = [read_end(run(row), 1) for row in (hungry, broken)]
    assert [(end.kind, end.nodes[:1]) for end in ends if end] == [(Failure.MEMORY, "n"), (Failure.BUG, "n")]

    suspect(place, "n1")
    suspect(place, "gone9")  # which is no longer of the cluster
    said = place.harness("submit", "tiny.yaml").stdout
    assert "memory: job" in said and "bug: KeyError: 'broken'" in said
    assert "2 runs failed before and stay so; to try again: harness submit tiny.yaml --retry" in said
    avoided = "gone9 (2 attempts failed for its sake), n1 (2 attempts failed for its sake)"
    assert f"new jobs keep away from {avoided}" in place.harness("status", "tiny.yaml").stdout

    faulty.unlink()
    again = place.submit("--retry")
    assert [(row["action"], row["text"]) for row in again] == [
        ("retry", "memory: memory_gb 1 -> 2"),
        ("retry", "bug: unchanged: mend the cause first"),
    ]
    assert json.loads((run(hungry).folder / "retries.json").read_text())[0]["change"] == "memory_gb 1 -> 2"
    scripts = [script(place, row) for row in again]
    assert ["#SBATCH --mem=2G" in text for text in scripts] == [True, False]
    assert all("#SBATCH --exclude=n1\n" in text for text in scripts)
    eventually(lambda: [read_state(run(row)).state for row in again] == [State.FINISHED] * 2, 240)
    for row in again:
        assert steps(run(row), "train") == list(range(1, 10))
        assert read_state(run(row)).attempt == 2
        assert json.loads((run(row).attempt(2) / "job.json").read_text())["node"] != "n1"


def job_name(row: dict[str, Any]) -> str:
    """Of the array that has the run."""
    return str(json.loads((run(row).folder / "job.json").read_text())["name"])


def script(place: Place, row: dict[str, Any]) -> str:
    """The one that a run's job runs."""
    return (place.folder / "runs" / ".slurm" / job_name(row) / "script.sh").read_text()

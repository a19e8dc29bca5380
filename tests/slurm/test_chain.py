"""What follows the trainings: pilots tell the plan what cells take; benchmark and report come when all have ended."""

import json
import re
import shutil

import pytest
from training.tiny import make_shapes

from harness.files import read_json
from harness.run_log import merged_rows
from harness.run_state import State, read_state
from slurm.conftest import call, eventually, start_now
from slurm.place import Place, run, steps

pytestmark = pytest.mark.slurm


def chain(place: Place) -> list[str]:
    """The lines of the chain in status."""
    said = place.harness("status", "tiny.yaml").stdout.splitlines()
    return [line.partition("; output in")[0] for line in said if line.startswith(("benchmark: ", "report: "))]


@pytest.mark.slow
def test_pilots_tell_the_plan(place: Place) -> None:
    """Two kinds of cells; each pilot resumes halfway, in the same job. Then a budget can be kept."""
    place.write(multiscale="[false, true]", seeds="[0, 1]")
    before = json.loads(place.harness("plan", "tiny.yaml", "--json").stdout)
    assert {row["source"].partition(":")[0] for row in before["plan"]} == {"assumed"}
    pilots = json.loads(place.harness("submit", "tiny.yaml", "--pilot", "--json").stdout)
    assert [row["action"] for row in pilots] == ["start", "start"]
    eventually(lambda: [read_state(run(row)).state for row in pilots] == [State.FINISHED] * 2, 900)
    for paths in map(run, pilots):
        assert [entry.name for entry in sorted((paths.folder / "attempts").iterdir())] == ["0001"]
        assert [row["step"] for row in merged_rows(paths) if row["mode"] == "attempt"] == [0, 3]
        assert steps(paths, "train") == [1, 2, 3, 4, 5, 6]
        times = read_json(paths.attempt(1) / "times.json")
        assert times["resume"] > 0 and times["images"] == 8 and times["checkpoints"] == 2
    plan = json.loads(place.harness("plan", "tiny.yaml", "--json").stdout)
    assert len(plan["plan"]) == 4
    assert all(row["source"].startswith("measured by pilot: tiny-pilot/") for row in plan["plan"])
    assert plan["totals"]["gpu_hours"] == pytest.approx(sum(row["seconds"] for row in plan["plan"]) / 3600)
    refused = place.harness("submit", "tiny.yaml", "--budget", "0.0001", check=False)
    assert refused.returncode == 2
    assert re.fullmatch(r"error: 4 runs take .* the budget is 0\.0001: .*nothing was started\n", refused.stderr)
    assert not (place.folder / "runs" / "tiny").exists()


@pytest.mark.slow
def test_benchmark_and_report_follow_a_requeued_and_a_failed_training(place: Place) -> None:
    """A requeue does not count as an end: the steps wait on. What fails is left out, and said. A benchmark that is

    warned goes on in its next job; the report is of the matrix file as it was submitted.
    """
    shutil.rmtree(place.folder / "shapes")
    make_shapes(place.folder / "shapes", train=32, val=8)
    place.write(multiscale="[false, true]", epochs=8)
    with (place.folder / "tiny.yaml").open("a") as file:
        file.write("overrides: [{cells: '*mstrain*', recipe: {lr: 1.0e+30, warmup_ratio: 1.0}}]\n")
    rows = json.loads(place.harness("submit", "tiny.yaml", "--then-report", "--json").stdout)
    first, second = map(run, rows)
    matrix = place.folder / "tiny.yaml"
    matrix.write_text(matrix.read_text().replace("seeds: [0]", "seeds: [0, 5]"))
    eventually(lambda: steps(first, "train") and first.tracking.exists() and read_json(first.tracking)["run_id"], 600)
    call(f"scancel --signal=USR2 {rows[0]['job']}")
    eventually(lambda: read_state(first).state == State.QUEUED, 300)
    eventually(lambda: read_state(second).state == State.FAILED, 600)
    assert all(re.search(r": waiting, job \d+_0 \(Dependency\)$", line) for line in chain(place))
    start_now(rows[0]["job"])
    eventually(lambda: re.search(r": working, job \d+_0$", chain(place)[0]), 600)
    job = chain(place)[0].rpartition(" ")[2]
    call(f"scancel --signal=USR2 {job}")
    eventually(lambda: chain(place)[0].startswith("benchmark: waiting, job"), 120)
    start_now(job)
    eventually(lambda: [line.partition(": ")[2].partition(":")[0] for line in chain(place)] == ["done"] * 2, 900)
    benchmark, report = chain(place)
    assert re.search(r"1 of 2 runs; left out .*mstrain.* seed 0: FAILED", benchmark)
    measured = read_json(first.benchmark)
    page = (place.folder / "reports" / "tiny" / "README.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| R-18-FPN +tiny <"))  # without changes of the lr
    assert f"| {measured['fps']:.1f} |" in row
    assert re.fullmatch(r"report: done: harness report \S+/runs/tiny/\.chain/tiny\.yaml", report)
    assert "of 2)" not in page  # seeds

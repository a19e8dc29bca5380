"""Watching jobs of a real SLURM: what status, logs, wait and cancel say and do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.run_state import State, read_state
from slurm.conftest import call, eventually, start_now
from slurm.place import Place, run, steps

pytestmark = pytest.mark.slurm


@pytest.mark.slow
def test_followed_over_a_requeue_and_cancelled(place: Place, cluster: Path, tmp_path: Path) -> None:
    """One run works and one waits; the first is requeued, works again, and is cancelled together with the other."""
    place.write("array_parallelism: 1", multiscale="[false, true]", epochs=60)
    first, second = place.submit()
    log = tmp_path / "followed.txt"
    with log.open("wb") as out:
        words = [sys.executable, "-m", "harness", "logs", "tiny.yaml", first["name"], "--follow"]
        following = subprocess.Popen(words, cwd=place.folder, stdout=out, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: len(steps(run(first), "train")) > 1, 240)
        works, waits = place.status()
        assert (works["state"], works["job"], works["attempt"]) == ("RUNNING", first["job"], 1)
        assert re.fullmatch(r"n\d", works["node"]) and works["eta_seconds"] > 0 and works["steps"] == 180
        assert works["loss"] > 0 and 0 < works["gpu_hours"] < works["gpu_hours_expected"] < 5
        assert (waits["state"], waits["job"], waits["reason"]) == ("QUEUED", second["job"], "waits: JobArrayTaskLimit")
        _without_slurm(place, cluster, tmp_path)

        call(f"scontrol hold {second['job']}")  # or it would take the other's place
        assert place.status()[1]["reason"].startswith("waits: JobHeldAdmin, which it does for ever")
        call(f"scancel --signal=USR2 {first['job']}")
        eventually(lambda: read_state(run(first)).state == State.QUEUED, 120)
        eventually(lambda: "requeued once" in place.status()[0]["reason"], 60)
        start_now(first["job"])
        begun = len(steps(run(first), "train"))
        eventually(lambda: read_state(run(first)).attempt == 2 and len(steps(run(first), "train")) > begun, 240)

        said = place.harness("cancel", "tiny.yaml").stdout
        assert f"job {first['job']} on {place.status()[0]['node']} told to save and leave" in said
        assert f"job {second['job']} removed from the queue" in said
        _, notes = following.communicate(timeout=120)
        waited = place.harness("wait", "tiny.yaml", check=False)
    finally:
        following.kill()
    assert notes.splitlines()[-1] == f"note: {first['name']} seed 0: KILLED, cancelled by harness cancel"
    assert following.returncode == 0
    shown = [int(number) for number in re.findall(r"^\[(\d+)/180\] epoch \d+/60  loss", log.read_text(), re.MULTILINE)]
    assert shown == steps(run(first), "train")
    assert (waited.returncode, "2 runs of 2 did not finish" in waited.stderr) == (1, True)
    assert place.states() == ["KILLED", "KILLED"]
    saved = json.loads((run(first).checkpoints / "latest.json").read_text())[-1]
    assert saved["step"] == place.status()[0]["step"] == shown[-1]


def _without_slurm(place: Place, cluster: Path, tmp_path: Path) -> None:
    """With a controller that does not answer; and with a queue, but no accounting: hours are the attempt's own then."""
    settings = (cluster / "etc" / "slurm.conf").read_text()
    (tmp_path / "dead.conf").write_text(re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=1", settings))
    works, waits = place.status(SLURM_CONF=str(tmp_path / "dead.conf"))
    assert (works["state"], waits["state"]) == ("RUNNING", "QUEUED")
    assert works["fault"].startswith("squeue failed: ") and works["loss"] > 0
    assert works["reason"].startswith("SLURM does not answer; ")
    none = tmp_path / "bin" / "sacct"
    none.parent.mkdir()
    none.write_text("#!/bin/sh\necho Slurm accounting storage is disabled >&2\nexit 1\n")
    none.chmod(0o755)
    works, _ = place.status(PATH=f"{none.parent}:/usr/bin:/bin")
    assert re.fullmatch(r"n\d", works["node"])
    assert (works["state"], works["gpu_hours"]) == ("RUNNING", 0.0)  # it trains on a CPU


@pytest.mark.slow
def test_waiting_for_what_finishes(place: Place) -> None:
    place.write()
    place.submit()
    waited = place.harness("wait", "tiny.yaml")
    assert waited.stdout.splitlines()[-1] == "all finished; now run: harness report tiny.yaml"
    (row,) = place.status()
    assert (row["state"], row["epoch"], row["step"], row["steps"], row["eta_seconds"]) == ("FINISHED", 2, 6, 6, None)
    assert row["gpu_hours"] == row["gpu_hours_expected"] > 0 and row["reason"] == ""

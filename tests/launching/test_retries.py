"""What a retry changes, how often there is one, and what it leaves in the run's folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching.cluster import Cluster, load_cluster
from harness.launching.ends import write_end
from harness.launching.prepare import PreparedRun
from harness.launching.remedies import job_shape, plan_retry
from harness.launching.restarts import record_start
from harness.launching.retries import RETRIES, environment, failure_of, read_retries, record_retry, refusal
from harness.launching.slurm_site import Site
from harness.run_paths import next_attempt
from harness.run_state import RunState, State
from launching.test_cluster_check import LAB, MAIN, accounts, site


def clusters(folder: Path, text: str) -> Cluster:
    (folder / "mine.yaml").write_text(text)
    return load_cluster(str(folder / "mine.yaml"))


def attempt(run: PreparedRun, *, saves: int = 0) -> None:
    """One that begins, and saves a checkpoint after so many iterations."""
    record_start(run.paths, next_attempt(run.paths))
    if saves:
        write_json(run.paths.checkpoints / "latest.json", [{"file": "a.pth", "sha256": f"{saves}", "step": saves}])


def change(run: PreparedRun, kind: Failure, cluster: Cluster | None, found: Site | None = None) -> str:
    """Retry it; what is changed."""
    retry = plan_retry(run, kind, cluster, lambda: found or site())
    record_retry(run.paths, retry)
    return retry.change


def test_more_memory_until_there_is_no_more(run: PreparedRun, tmp_path: Path) -> None:
    """1.5 x 64 = 96, 1.5 x 96 = 144, 1.5 x 144 = 216; the largest nodes have 256000 MB, which are 250 GB."""
    mine = clusters(tmp_path, "partition: main\nmemory_gb: 64\n")
    attempt(run)
    said = [change(run, Failure.MEMORY, mine) for _ in range(5)]
    assert said[:4] == [f"memory_gb {a} -> {b}" for a, b in ((64, 96), (96, 144), (144, 216), (216, 250))]
    assert said[4] == "unchanged: memory_gb 250 is all that its partition gives"
    assert job_shape(run, mine).memory_gb == 250
    assert job_shape(run, clusters(tmp_path, "memory_gb: 300\n")).memory_gb == 300  # the file may ask for more


def test_memory_that_the_file_leaves_to_the_cluster(run: PreparedRun, tmp_path: Path) -> None:
    attempt(run)
    mine = clusters(tmp_path, "partition: main\n")
    assert change(run, Failure.MEMORY, mine, site(partition=replace(MAIN, kinds=()))).startswith(
        "unchanged: how much it had is not known; give memory_gb"
    )
    assert change(run, Failure.MEMORY, mine) == "memory_gb as the cluster has it -> 250"


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        (2880, "minutes 600 -> 1200"),
        (700, "minutes 600 -> 700"),
        (600, "unchanged: minutes 600 is all that"),
        (None, ""),
    ],
)
def test_more_time(run: PreparedRun, tmp_path: Path, partition: int | None, expected: str) -> None:
    """The user's own limit is 1000 minutes where the partition has none."""
    attempt(run)
    owned = accounts(replace(LAB, limits=replace(LAB.limits, minutes=None if partition else 1000)))
    found = site(partition=replace(MAIN, minutes=partition), accounts=owned)
    said = change(run, Failure.TIME, clusters(tmp_path, "partition: main\nminutes: 600\n"), found)
    assert said.startswith(expected or "minutes 600 -> 1000")


def test_a_time_limit_after_which_there_is_a_newer_checkpoint(run: PreparedRun, tmp_path: Path) -> None:
    attempt(run, saves=3)
    assert change(run, Failure.TIME, clusters(tmp_path, "minutes: 600\n")) == "unchanged"


@pytest.mark.parametrize("kind", [Failure.BUG, Failure.MISTAKE, Failure.DISK])
def test_what_only_the_user_can_mend(run: PreparedRun, tmp_path: Path, kind: Failure) -> None:
    assert change(run, kind, clusters(tmp_path, "minutes: 600\n")) == "unchanged: mend the cause first"


@pytest.mark.parametrize("kind", [Failure.NODE, Failure.UNKNOWN, Failure.HANG])
def test_what_may_not_come_again(run: PreparedRun, tmp_path: Path, kind: Failure) -> None:
    assert change(run, kind, clusters(tmp_path, "minutes: 600\n")) == "unchanged"


def test_this_machine_has_nothing_to_ask_for(run: PreparedRun) -> None:
    attempt(run)
    assert change(run, Failure.MEMORY, None) == "unchanged: mend the cause first"
    assert change(run, Failure.TIME, None) == "unchanged"


def test_gpu_memory(run: PreparedRun) -> None:
    """The allocator's own remedy once; GPUs cannot be divided."""
    assert environment(run.paths) == {}
    said = [change(run, Failure.GPU_MEMORY, None) for _ in range(2)]
    assert said[0] == "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    assert said[1].startswith("unchanged: it takes a GPU with more memory")
    assert environment(run.paths) == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


def test_the_record(run: PreparedRun, tmp_path: Path) -> None:
    attempt(run, saves=3)
    attempt(run)
    change(run, Failure.MEMORY, clusters(tmp_path, "partition: main\nmemory_gb: 10\n"))
    (entry,) = read_json(run.paths.folder / "retries.json")
    assert (entry["attempt"], entry["kind"], entry["change"], entry["shape"]) == (
        2, "memory", "memory_gb 10 -> 15", {"memory_gb": 15},
    )  # fmt: skip
    assert entry["checkpoint"]["step"] == 3
    assert read_retries(run.paths)[0].kind == Failure.MEMORY


def test_not_for_ever(run: PreparedRun) -> None:
    """As often for each kind, and anew after a newer checkpoint."""
    attempt(run)
    for _ in range(RETRIES):
        assert refusal(run.paths, Failure.BUG) == ""
        change(run, Failure.BUG, None)
    assert refusal(run.paths, Failure.BUG) == (
        f"not retried: 3 retries did not help; mend the cause, then remove {run.paths.folder}/retries.json"
    )
    assert refusal(run.paths, Failure.NODE) == ""
    attempt(run, saves=3)
    assert refusal(run.paths, Failure.BUG) == ""


def test_why_a_run_failed_that_was_not_restarted_by_itself(run: PreparedRun) -> None:
    """The attempt that gave up for want of progress does not know why; those before it do."""
    for kind in (Failure.NODE, Failure.MEMORY, Failure.UNKNOWN):
        attempt(run)
        number = len(list((run.paths.folder / "attempts").iterdir()))
        write_end(run.paths, number, State.FAILED, kind=kind, reason="why", nodes="n1")
    stopped = RunState(state=State.FAILED, attempt=3, kind=Failure.UNKNOWN)
    assert failure_of(run.paths, stopped) == Failure.MEMORY
    assert failure_of(run.paths, replace(stopped, kind=Failure.BUG)) == Failure.BUG
    attempt(run, saves=3)
    assert failure_of(run.paths, stopped) == Failure.UNKNOWN

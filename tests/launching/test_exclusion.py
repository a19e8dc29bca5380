"""Which suspect nodes a job keeps away from: as many as it can do without."""

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.failures import Failure
from harness.launching import exclusion
from harness.launching.ends import write_end
from harness.run_paths import RunPaths
from harness.run_state import State

NODES = """\
n1|idle|gpu
n2|mix|gpu
n3|alloc|gpu
n4|drain*|gpu
n5|idle|other
n1|idle|other
"""


@pytest.fixture
def run_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """n2 has failed three times, n1 and n4 twice, n3 once."""
    for number, node in enumerate(["n2", "n2", "n2", "n1", "n1", "n4", "n4", "n3"], 1):
        run = RunPaths(tmp_path / "tiny" / "cell")
        write_end(run, number, State.FAILED, kind=Failure.NODE, reason="ECC error", nodes=node)
    monkeypatch.setattr(exclusion, "ask", lambda command: NODES)
    return tmp_path


@pytest.mark.parametrize(
    ("partitions", "nodes", "expected"),
    [
        ("gpu", 1, ("n1", "n2", "n4")),  # three work, so two of them can be spared; n4 is out anyway
        ("gpu", 2, ("n2", "n4")),  # the one with the most failures
        ("gpu", 3, ("n4",)),
        ("other", 1, ("n1",)),
        ("gpu,other", 2, ("n1", "n2", "n4")),
        (None, 3, ("n2", "n4")),
    ],
)
def test_as_many_as_can_be_spared(
    run_root: Path, partitions: str | None, nodes: int, expected: tuple[str, ...]
) -> None:
    assert exclusion.to_exclude(run_root, partitions, nodes) == expected


def test_slurm_is_asked_only_where_a_node_is_suspect(tmp_path: Path) -> None:
    assert exclusion.to_exclude(tmp_path, "gpu", 1) == ()


def test_a_job_that_gets_no_answer_goes_on_anywhere(run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"SLURM_JOB_PARTITION": "gpu", "SLURM_JOB_NUM_NODES": "2"}
    assert exclusion.next_time(run_root, here) == ("n2", "n4")

    def silent(command: list[str]) -> str:
        raise UserError("sinfo failed: no controller")

    monkeypatch.setattr(exclusion, "ask", silent)
    assert exclusion.next_time(run_root, here) == ()

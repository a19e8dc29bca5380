"""What runs need goes away on a cluster, and comes back: status says what, and they go on to the same end."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking.servers import Server

from slurm.faults import partition
from slurm.outcome import assert_whole
from slurm.place import Place, finished, run, steps
from slurm.waiting import eventually

pytestmark = pytest.mark.slurm

HIDING = """\
if [ $SLURM_JOB_PARTITION = bare ]; then
  exec unshare --mount bash -c 'mount -t tmpfs none "$0" && exec "$@"' {folder} "$@"
fi
exec "$@"
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A run root of 1 GB, some checkpoints, for a place that is made after it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_node_without_the_data_set_a_full_disk_and_no_mlflow(small_disk: Path, cluster: Path, place: Place) -> None:
    """Of two runs one gets a node that does not see the data set; the other one's folder is full while it trains.

    MLflow is not there until both are over.
    """
    server = Server(f"sqlite:///{place.folder}/mlflow.db", place.folder)
    address = {"HARNESS_TRACKING_URI": server.address}
    (place.folder / "hide.sh").write_text(HIDING.format(folder=place.folder / "shapes"))
    cells = {"multiscale": "[false, true]", "epochs": 4}
    with partition("bare", "Nodes=n4"):
        bare = "overrides:\n  - {cells: '*mstrain*', partition: bare}"
        place.write(f"container: bash {place.folder}/hide.sh\n{bare}", **cells)
        full, blind = map(run, place.submit(**address))
        eventually(lambda: steps(full, "train") and place.states(**address)[1] == "FAILED", 300)
        with (small_disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1 << 16))
        eventually(lambda: place.states(**address) == ["FAILED"] * 2, 240)
    told = place.status(**address)
    assert "no space left on device; make room" in told[0]["text"]
    assert (told[1]["text"].startswith(f"{place.folder}/shapes/"), told[1]["node"]) == (True, "n4")
    (small_disk / "filler").unlink()
    place.write(**cells)
    assert [row["action"] for row in place.submit("--retry", **address)] == ["retry", "resume"]
    for paths in (full, blind):
        finished(paths, 2)
    assert not (place.folder / "mlflow.db").exists()
    server.start()
    try:
        place.harness("sync", "tiny.yaml", **address)
        assert_whole(place, full)
        assert_whole(place, blind, weights=False)
    finally:
        server.kill()

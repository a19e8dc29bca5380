"""What a run needs goes away on a cluster, and comes back: status says what, and it goes on to the same end."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking.servers import Server

from slurm.faults import partition
from slurm.outcome import assert_whole
from slurm.place import Place, begun, finished, run, text
from slurm.waiting import eventually

pytestmark = pytest.mark.slurm

HIDING = """\
if [ $SLURMD_NODENAME = n4 ]; then
  exec unshare --mount bash -c 'mount -t tmpfs none "$0" && exec "$@"' {folder} "$@"
fi
exec "$@"
"""


@pytest.mark.slow
def test_a_node_without_the_data_set(cluster: Path, place: Place) -> None:
    """Everywhere else the data is seen, also where it is submitted."""
    (place.folder / "hide.sh").write_text(HIDING.format(folder=place.folder / "shapes"))
    with partition("bare", "Nodes=n4"):
        place.write(f"partition: bare\ncontainer: bash {place.folder}/hide.sh", epochs=4)
        (row,) = place.submit()
        eventually(lambda: place.states() == ["FAILED"], 120)
        (told,) = place.status()
        assert told["text"].startswith(f"{place.folder}/shapes/") and told["node"] == "n4"
        place.write(epochs=4)
        assert [again["action"] for again in place.submit()] == ["resume"]
        finished(run(row), 2)
    assert_whole(place, run(row))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A run root of 500 MB, three checkpoints, for a place that is made after it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
def test_a_full_run_folder(small_disk: Path, place: Place) -> None:
    _, paths = begun(place)
    with (small_disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    eventually(lambda: place.states() == ["FAILED"], 120)
    assert "no space left on device; make room" in text(place)
    (small_disk / "filler").unlink()
    assert [again["action"] for again in place.submit("--retry")] == ["retry"]
    finished(paths, 2)
    assert_whole(place, paths)


@pytest.mark.slow
def test_no_mlflow_until_the_run_is_over(place: Place) -> None:
    server = Server(f"sqlite:///{place.folder}/mlflow.db", place.folder)
    address = {"HARNESS_TRACKING_URI": server.address}
    place.write(epochs=4)
    (row,) = place.submit(**address)
    finished(run(row), 1)
    assert not (place.folder / "mlflow.db").exists()
    server.start()
    try:
        place.harness("sync", "tiny.yaml", **address)
        assert_whole(place, run(row))
    finally:
        server.kill()

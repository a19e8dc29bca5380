"""An attempt that reads its node's copy of the data set."""

from pathlib import Path

import pytest
from training.tiny import make_shapes, prepared_run

from harness.data import staging
from harness.files import read_json
from harness.launching import job
from harness.launching.prepare import PreparedRun
from harness.launching.staging import VARIABLE
from harness.run_spec import read_spec
from harness.run_state import State, read_state
from launching.events import at_step

pytestmark = pytest.mark.usefixtures("tiny", "signals", "no_shipper")


@pytest.fixture
def own(tmp_path: Path) -> PreparedRun:
    """A run whose data set may be spoiled."""
    return prepared_run(tmp_path, make_shapes(tmp_path / "shapes"))


def train(run: PreparedRun) -> int:
    return job.run_attempt(run.paths.folder, "http://127.0.0.1:9")


@pytest.mark.slow
def test_the_run_reads_the_copy_and_stays_the_same(
    own: PreparedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The originals are gone after the first iteration."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "local"))
    before = own.paths.spec.read_bytes()
    at_step(monkeypatch, 1, lambda: (tmp_path / "shapes").rename(tmp_path / "away"))
    assert train(own) == 0
    assert read_state(own.paths).state == State.FINISHED
    assert len(list((tmp_path / "local").glob("*/complete.json"))) == 2  # train and val
    assert own.paths.spec.read_bytes() == before
    assert read_spec(own.paths).val.images.startswith(str(tmp_path / "shapes"))
    assert f"data set read from {tmp_path}/local/" in capfd.readouterr().err
    spent = read_json(own.paths.attempt(1) / "times.json")["seconds"]
    assert spent["staging"] > 0 and spent["start"] > 0


@pytest.mark.slow
def test_where_no_copy_can_be_made_status_says_so(
    own: PreparedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "RESERVE", 2**60)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "local"))
    seen: list[str] = []
    at_step(monkeypatch, 2, lambda: seen.append(read_state(own.paths).progress))
    assert train(own) == 0
    assert "; " in seen[0] and "data set from the shared disk: " in seen[0] and "the copy needs" in seen[0]

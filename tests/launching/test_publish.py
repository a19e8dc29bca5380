"""What is published of a run: its weights alone, under a name that tells them, loading strictly; or nothing."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from training.tiny import prepared_run, run_to_end, tiny_backbone

from harness.data.coco import CocoSplit
from harness.errors import UserError
from harness.files import read_json, sha256, write_json
from harness.launching import publish as module
from harness.launching.publish import find_run, publish
from harness.run_paths import RunPaths
from harness.run_spec import Origin, read_spec
from harness.run_state import State, write_state
from harness.training.reevaluate import reevaluate
from harness.training.restore import restore

pytestmark = pytest.mark.slow

NAME = "mask_rcnn_r18_fpn_1x_coco+tiny"
FINISHED = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> RunPaths:
    """A run of one epoch that finished on 2026-02-03; not to be changed."""
    from harness.training.outcome import write_outcome

    run = prepared_run(tmp_path_factory.mktemp("finished"), shapes, epochs=1)
    with tiny_backbone():
        write_outcome(run_to_end(run.paths, run.spec))
    write_state(run.paths, State.FINISHED, attempt=1)
    write_json(run.paths.state, read_json(run.paths.state) | {"updated": FINISHED.timestamp()})
    return run.paths


@pytest.fixture
def copy(finished: RunPaths, tmp_path: Path) -> Iterator[RunPaths]:
    """A copy of it, to be changed, at work with the tiny backbone."""
    folder = tmp_path / "runs" / "tiny" / finished.folder.name
    shutil.copytree(finished.folder, folder)
    with tiny_backbone():
        yield RunPaths(folder)


def test_weights_alone_under_their_name(copy: RunPaths, tmp_path: Path, shapes: Path) -> None:
    folder = publish(copy, tmp_path / "published")
    files = {path.name: path for path in folder.iterdir()}
    weights = folder / f"{folder.name}.pth"
    assert set(files) == {weights.name, "README.md", "config.json", "log.json"}
    assert weights.name == f"{NAME}+shortened_20260203_040506-{sha256(weights)[:8]}.pth"
    content = torch.load(weights, weights_only=True)
    own = torch.load(copy.checkpoints / "epoch_1.pth", weights_only=True)
    assert set(content) == {"meta", "state_dict"} and content["meta"] == own["meta"]
    assert all(torch.equal(value, own["state_dict"][name]) for name, value in content["state_dict"].items())
    assert files["log.json"].read_bytes() == copy.log.read_bytes()
    restored = restore(weights)
    assert (restored.cell, restored.doubts) == (NAME, ())
    val = CocoSplit(images=shapes / "val", annotations=shapes / "annotations/instances_val.json")
    found = reevaluate(weights, find_split=lambda name: val)
    assert found.evaluation.numbers == read_json(copy.result)["metrics"]


def test_the_card_says_what_it_is_not(copy: RunPaths, tmp_path: Path) -> None:
    folder = publish(copy, tmp_path / "published")
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# {NAME}\n")
    assert "**Not a full result of the cell:**\n\n- overridden: tiny\n- shortened: iterations_per_epoch=3" in text
    assert f"sha256 `{sha256(folder / f'{folder.name}.pth')}`" in text
    assert str(tmp_path) not in text


def test_the_same_bytes_whenever_and_wherever(copy: RunPaths, finished: RunPaths, tmp_path: Path) -> None:
    one, two = publish(copy, tmp_path / "one"), publish(finished, tmp_path / "two")
    assert one.name == two.name
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name
    before = one.stat().st_mtime_ns
    assert publish(copy, tmp_path / "one") == one and one.stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "one").iterdir()] == [one.name]
    (one / f"{one.name}.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="is there, but without this checkpoint; move it away"):
        publish(copy, tmp_path / "one")


def test_a_failure_in_between_leaves_nothing(copy: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise OSError("no room")

    monkeypatch.setattr(module, "card", fail)
    with pytest.raises(OSError, match="no room"):
        publish(copy, tmp_path / "published")
    assert list((tmp_path / "published").iterdir()) == []


@pytest.mark.parametrize("state", [State.RUNNING, State.FAILED, State.KILLED, State.QUEUED])
def test_only_finished_runs(copy: RunPaths, tmp_path: Path, state: State) -> None:
    write_state(copy, state, attempt=1, reason="why")
    with pytest.raises(UserError, match=rf"is {state} \(why\); only a finished run is published"):
        publish(copy, tmp_path / "published")
    assert not (tmp_path / "published").exists()


def test_only_runs_of_our_own(copy: RunPaths, tmp_path: Path) -> None:
    spec = read_spec(copy)
    write_json(copy.spec, read_json(copy.spec) | {"origin": "published"})
    with pytest.raises(UserError, match=r"was not trained here \(published\)"):
        publish(copy, tmp_path / "published")
    assert spec.origin == Origin.TRAINED


def test_an_altered_checkpoint(copy: RunPaths, tmp_path: Path) -> None:
    checkpoint = copy.checkpoints / "epoch_1.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"epoch_1\.pth: is not what the run left"):
        publish(copy, tmp_path / "published")
    checkpoint.unlink()
    with pytest.raises(UserError, match=r"epoch_1\.pth: is gone"):
        publish(copy, tmp_path / "published")


def test_a_run_by_its_cell(copy: RunPaths, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert find_run(NAME, root) == copy
    assert find_run(str(copy.folder), Path("nowhere")) == copy
    shutil.copytree(copy.folder, root / "other" / copy.folder.name)
    with pytest.raises(UserError, match=r"2 runs of .* have finished; name the folder of one:\n"):
        find_run(NAME, root)
    write_state(copy, State.FAILED, attempt=1)
    assert find_run(NAME, root).folder.parent.name == "other"
    with pytest.raises(UserError, match=r"mask_rcnn_r18_fpn_1x_coco: no .* has finished, did you mean .*\+tiny"):
        find_run("mask_rcnn_r18_fpn_1x_coco", root)
    with pytest.raises(UserError, match="unknown cell 'mask_rcnn_r19"):
        find_run("mask_rcnn_r19_fpn_1x_coco", root)

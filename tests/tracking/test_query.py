import pytest

from harness.errors import UserError
from harness.shortening import Shortening
from harness.tracking.query import experiments, history, runs
from harness.tracking.shipment import ship

from .folders import START, finished, spec


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, empty_store):
    """A store with two runs of "zoo" and one of "demo"; the second run of "zoo" was done again in a new folder."""
    root = tmp_path_factory.mktemp("tracked")
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{root}/mlflow.db"
    for place, run in (
        ("runs", spec(seed=1)),
        ("runs", spec(seed=0)),
        ("again", spec(seed=1)),
        ("runs", spec(experiment="demo", shortening=Shortening())),
    ):
        ship(finished(root / place, run), uri)
    return uri


def test_runs_as_plain_data(tracked):
    found = runs(tracked, "zoo")
    assert [run.name for run in found] == [f"mask_rcnn_r50_caffe_fpn_1x_coco seed {seed}" for seed in (0, 1)]
    first = found[0]
    assert (first.status, first.start, first.end) == ("FINISHED", START, START + 500)
    assert first.metrics["val/segm_mAP"] == 0.1
    assert first.metrics["val/epoch"] == 2
    assert first.params["axis.schedule"] == "1x"
    assert first.tags["axis.schedule"] == "1x"
    assert first.result["hardware"] == {"kind": "cuda", "device": "NVIDIA H100", "count": 8, "host": "node7"}
    assert first.files == {"checkpoint": {"path": "/runs/epoch_2.pth", "size": 7, "sha256": "e" * 64}}


def test_history_by_step(tracked):
    run = runs(tracked, "zoo")[0]
    assert history(tracked, run.run_id, "val/bbox_mAP") == [(100, 0.1), (200, 0.2)]
    assert history(tracked, run.run_id, "val/epoch") == [(100, 1.0), (200, 2.0)]
    assert history(tracked, run.run_id, "val/never") == []


def test_experiments(tracked):
    assert experiments(tracked) == ["demo", "zoo"]


def test_an_unknown_experiment(tracked):
    with pytest.raises(UserError, match=r"no experiment 'zo', did you mean 'zoo'\?; it holds demo, zoo$"):
        runs(tracked, "zo")


def test_a_store_that_is_not_there_is_not_created(tmp_path):
    with pytest.raises(UserError, match="no such file: nothing has been tracked there yet"):
        runs(f"sqlite:///{tmp_path}/mlflow.db", "zoo")
    assert list(tmp_path.iterdir()) == []

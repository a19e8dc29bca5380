import pytest

from harness.run_state import State
from harness.tracking import checkpoints
from harness.tracking.shipment import ship
from harness.tracking.store import Store, StoreError

from .folders import attempt_row, finish, finished, folder, set_state, train_row, val_row, write_rows


def models(uri):
    store = Store(uri)
    return store.client.search_logged_models([store.experiment_id("zoo")])


def test_the_final_checkpoint_is_a_logged_model(tmp_path, uri):
    paths = finished(tmp_path)
    shipped = ship(paths, uri)
    (model,) = models(uri)
    assert model.status == "READY"
    assert model.name == "mask_rcnn_r50_caffe_fpn_1x_coco seed 0 epoch 2"
    assert model.source_run_id == shipped.run_id
    assert model.params["path"] == str(paths.checkpoints / "epoch_2.pth")
    assert model.params["sha256"] == "d" * 64
    assert model.tags["mlflow.model.isExternal"] == "true"
    scores = {(score.key, score.value, score.step, score.dataset_name, score.dataset_digest) for score in model.metrics}
    assert ("val/bbox_mAP", 0.2, 200, "coco2017-val", "b" * 36) in scores
    outputs = Store(uri).client.get_run(shipped.run_id).outputs.model_outputs
    assert [(output.model_id, output.step) for output in outputs] == [(model.model_id, 200)]
    assert not list((tmp_path / "mlartifacts").rglob("*.pth"))  # no copies


@pytest.mark.slow
def test_models_are_those_that_are_on_disk(tmp_path, uri):
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), train_row(100), val_row(1) | {"checkpoint_sha256": "a" * 64}])
    paths.checkpoints.mkdir()
    (paths.checkpoints / "epoch_1.pth").write_bytes(b"weights")
    set_state(paths, State.FAILED)
    ship(paths, uri)
    assert [model.params["epoch"] for model in models(uri)] == ["1"]
    write_rows(paths, 2, [attempt_row(2), train_row(200), val_row(2)])
    (paths.checkpoints / "epoch_1.pth").unlink()
    finish(paths, attempt=2)
    ship(paths, uri)
    assert [model.params["epoch"] for model in models(uri)] == ["2"]


@pytest.mark.slow
@pytest.mark.parametrize("call", ["log_batch", "log_outputs", "finalize_logged_model"])
def test_cut_off_in_between_it_ends_the_same(tmp_path, uri, monkeypatch, call):
    """The store does what it was asked to, and the answer never arrives."""
    paths = finished(tmp_path)
    real = checkpoints._score

    def score(client, *arguments):
        class Cut:
            def __getattr__(self, name):
                def asked(*given, **named):
                    answer = getattr(client, name)(*given, **named)
                    if name == call:
                        raise ConnectionError("reset by peer")
                    return answer

                return asked

        return real(Cut(), *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_score", score)
        with pytest.raises(StoreError, match="reset by peer"):
            ship(paths, uri)
    shipped = ship(paths, uri)
    (model,) = models(uri)
    assert model.status == "READY"
    assert [score.key for score in model.metrics].count("val/bbox_mAP") == 1
    assert len(Store(uri).client.get_run(shipped.run_id).outputs.model_outputs) == 1

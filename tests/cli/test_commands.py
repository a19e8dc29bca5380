"""Commands from the command line: what they print, their JSON, their exit codes."""

import json
import re
import shutil
from pathlib import Path

import pytest

from cli.conftest import Harness
from harness.data.tar import open_tar
from harness.launching import supervisor
from harness.launching.foreground import single_run
from harness.matrix import load_experiment
from harness.settings import load_settings

CELL = "mask_rcnn_r18_fpn_1x_coco"
R50 = "mask_rcnn_r50_fpn_1x_coco"


def test_plan(harness: Harness) -> None:
    code, out, _ = harness("plan", "tiny.yaml", "--json")
    plan = json.loads(out)
    assert (code, plan["experiment"], plan["runs"]) == (0, "tiny", 1)
    assert plan["cells"][0]["name"] == f"{CELL}+tiny"
    assert (plan["cells"][0]["published"], plan["cells"][0]["full"]) == (False, False)
    code, out, _ = harness("plan", "tiny.yaml")
    lines = out.splitlines()
    assert "tiny: 1 cell x 1 seed = 1 run, shortened (iterations_per_epoch=3, image_scale=0.05)" in lines
    assert re.search(r"^a submit starts 1: nothing tells how long they take, .* of disk; .* left$", out, re.MULTILINE)
    assert lines[-1] == "now run: harness submit tiny.yaml"
    code, _, err = harness("plan", "tiny.yaml", "--budget", "-1")
    assert code == 2 and "budget" in err


def test_shipped_experiments_by_name(harness: Harness) -> None:
    runs = {name: json.loads(harness("plan", name, "--json")[1])["runs"] for name in ("zoo", "full", "demo")}
    assert runs == {"zoo": 21, "full": 84, "demo": 4}


def test_show(harness: Harness) -> None:
    recipe = json.loads(harness("show", R50, "--json")[1])
    assert recipe["recipe"]["lr"] == 0.02
    assert recipe["published"] is True
    assert "lr                   0.02" in harness("show", R50)[1]
    changed = json.loads(harness("show", R50, "--diff", "mask_rcnn_r50_fpn_2x_coco", "--json")[1])
    assert changed["epochs"] == {R50: 12, "mask_rcnn_r50_fpn_2x_coco": 24}
    assert "no field differs" in harness("show", R50, "--diff", R50)[1]
    own = json.loads(harness("show", CELL, "--experiment", "tiny.yaml", "--json")[1])
    assert own["recipe"]["num_classes"] == 3
    assert harness("show", "--rules")[0] == 0
    assert harness("show")[0] == 2


def test_submit_and_status(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "start_detached", lambda *_, **__: None)
    (row,) = json.loads(harness("status", "tiny.yaml", "--json")[1])
    assert row["state"] == "NEW"
    code, out, _ = harness("submit", "tiny.yaml", "--json")
    (submitted,) = json.loads(out)
    assert (code, submitted["action"]) == (0, "start")
    assert Path(submitted["folder"]).is_dir()
    (row,) = json.loads(harness("status", "tiny.yaml", "--json")[1])
    assert (row["state"], row["folder"]) == ("QUEUED", submitted["folder"])
    assert "leave alone" in harness("submit", "tiny.yaml")[1]
    assert f"{CELL}+tiny" in harness("status", "tiny.yaml")[1]


def test_doctor(harness: Harness, place: Path) -> None:
    code, out, _ = harness("doctor", "--json")
    found = json.loads(out)
    assert code in (0, 1)
    assert code == any(check["status"] == "fail" for check in found["checks"])
    assert found["settings"]["threads"] == {"value": "1", "origin": f"{place / 'harness.toml'}:3"}
    assert "threads" in harness("doctor")[1]


def test_init(harness: Harness, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "new").mkdir()
    monkeypatch.chdir(place / "new")
    assert harness("init")[0] == 0
    assert harness("plan", "experiments/first.yaml")[0] == 0
    code, _, err = harness("init")
    assert (code, err.count("\n")) == (2, 1)


def test_data(harness: Harness, place: Path) -> None:
    assert harness("data", "check", "shapes")[0] == 0
    report = json.loads(harness("data", "check", "shapes", "--json")[1])
    assert report["train"]["images"] == 12
    assert harness("data", "shapes", "made", "--train", "2", "--val", "1", "--size", "40")[0] == 0
    (place / "made/train/000001.png").unlink()
    assert harness("data", "check", "made")[0] == 1


def test_images_in_a_tar(harness: Harness, place: Path) -> None:
    assert harness("data", "shapes", "made", "--train", "3", "--val", "1", "--size", "40")[0] == 0
    code, out, _ = harness("data", "pack", "made/train")
    assert code == 0 and out.startswith("made/train.tar: 3 files, 20 kB, sha256 ")
    assert "made/train.tar: 3 files, 20 kB, is there already" in harness("data", "pack", "made/train")[1]
    shutil.rmtree(place / "made/train")
    assert harness("data", "check", "made")[0] == 0
    (place / "made/train.tar").write_bytes((place / "made/train.tar").read_bytes()[:3000])
    open_tar.cache_clear()  # another process would look again
    code, _, err = harness("data", "check", "made")
    assert (code, err.count("\n")) == (2, 1) and "made/train.tar: cut short at 3000 bytes" in err
    assert harness("data", "pack", "made/nothing")[0] == 2


def test_packing_knows_a_data_set_by_its_layout(harness: Harness, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its image folders, and not all of it; a working folder has a name, too; what is none is a line."""
    assert harness("data", "shapes", "made", "--train", "2", "--val", "1", "--size", "40")[0] == 0
    code, out, _ = harness("data", "pack", "made")
    assert code == 0 and [line.split(",")[0] for line in out.splitlines()] == [
        "made/train.tar: 2 files",
        "made/val.tar: 1 file",
    ]
    assert harness("data", "pack", "made/train.tar")[2].startswith("error: made/train.tar: is no folder; name one")
    assert harness("data", "pack", "made/nothing")[2].startswith("error: made/nothing: no such folder; name one")
    monkeypatch.chdir(place / "made/val")
    assert harness("data", "pack", ".")[1].startswith(f"{place}/made/val.tar: 1 file, 10 kB, is there already")


def test_shapes_that_harness_toml_knows_need_no_entry(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    make = ("data", "shapes", "made", "--train", "1", "--val", "1", "--size", "40")
    assert "[datasets.shapes]\nroot = 'made'" in harness(*make)[1]  # shapes are elsewhere there
    monkeypatch.setenv("HARNESS_DATASET_SHAPES", "made")
    assert harness(*make)[1] == "made: 1 training and 1 validation images are there already\n"


def test_packing_says_where_harness_toml_names_the_folder(harness: Harness, place: Path) -> None:
    """It is read as named, so the lines that name the tar are given; and none once they are there, or not needed."""
    assert harness("data", "shapes", "made", "--train", "2", "--val", "1", "--size", "40")[0] == 0
    with (place / "harness.toml").open("a") as settings:
        settings.write('[datasets.mine]\nroot = "made"\ntrain_images = "train"\n')
    code, out, _ = harness("data", "pack", "mine")
    assert code == 0 and out.splitlines()[-2:] == ["[datasets.mine]", "train_images = 'train.tar'"]
    with (place / "harness.toml").open("a") as settings:
        settings.write('[datasets.other]\nroot = "made"\ntrain_images = "train.tar"\n')
    assert "harness.toml" not in harness("data", "pack", "other")[1]
    assert "harness.toml" not in harness("data", "pack", "made")[1]


@pytest.mark.slow
def test_train_evaluate_predict(harness: Harness, place: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One real run of one epoch, and what can be done with what it leaves."""
    from training.tiny import tiny_backbone

    from harness.launching import job

    monkeypatch.setattr(job, "_start_shipper", lambda *_: None)
    monkeypatch.setattr(job, "_wait_for_shipper", lambda *_, **__: None)
    words = ("train", CELL, "--experiment", "tiny.yaml", "--set", "epochs=1")
    run = single_run(
        CELL, load_settings(), experiment=load_experiment("tiny.yaml"), seed=None, batch=None, overrides=["epochs=1"]
    )
    with tiny_backbone():
        code, out, err = harness(*words)
        assert (code, "box AP" in out, "[3/3]" in err) == (0, True, True)
        assert "already finished: nothing to do" in harness(*words)[1]
        detections, checkpoint = run.paths.detections, run.paths.checkpoints / "epoch_1.pth"
        for file in (detections, checkpoint):
            code, out, _ = harness("evaluate", str(file), "--json")
            assert (code, json.loads(out)["verdict"]) == (0, "equal")
        code, out, _ = harness("evaluate", str(detections), "--per-class")
        assert "equal to what the run recorded" in out and "triangle" in out
        photo = str(shapes / "val/000001.png")
        code, out, _ = harness("predict", str(checkpoint), photo, photo, "--output", "out", "--min-score", "0")
        assert code == 0 and sorted(path.name for path in Path("out").iterdir()) == ["000001-1.png", "000001.png"]
    data = detections.read_bytes()
    detections.write_bytes(data.replace(data[4:8], b"\1\1\1\1", 1))  # the header's time: the rows are the same
    code, out, _ = harness("evaluate", str(detections))
    assert code == 1 and "NOT the one that the run evaluated" in out

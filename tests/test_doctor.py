"""The doctor: each check finds what is well, what is not, and says what to do."""

import os
import shutil
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness import doctor
from harness.doctor import Check
from harness.settings import Settings, load_settings


def settings(folder: Path, **variables: str) -> Settings:
    return load_settings(folder, {"XDG_CONFIG_HOME": str(folder / "none"), **variables})


@pytest.mark.parametrize(
    ("found", "minimum", "enough"),
    [
        ("2.6.0+cu124", "2.6", True),
        ("2.10.1", "2.6", True),
        ("2.5.1", "2.6", False),
        ("3.0", "3.0.0", True),
        ("3.0.0rc1", "3.0", True),
        ("0.9", "0.15", False),
        ("26", "24.1", True),
    ],
)
def test_versions_compare_number_by_number(
    monkeypatch: pytest.MonkeyPatch, found: str, minimum: str, enough: bool
) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda name: found)
    check = doctor.version("torch", minimum)
    assert (check.status, bool(check.todo)) == (("ok", False) if enough else ("fail", True))
    assert found in check.detail


def test_a_package_that_is_not_there() -> None:
    check = doctor.version("no-such-package-here", "1.0")
    assert check == Check(
        name="no-such-package-here",
        status="fail",
        detail="not installed, 1.0 or newer is needed",
        todo="pip install 'no-such-package-here>=1.0'",
    )


def test_versions_are_those_of_the_package_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=2.6", "ruamel.yaml>=0.18", 'optuna>=4.2; extra == "tuning"', "pytest", "numpy>=999"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    assert [(check.name, check.status) for check in doctor.versions()] == [
        ("python", "ok"),
        ("torch", "ok"),
        ("ruamel.yaml", "ok"),
        ("numpy", "fail"),
    ]


@pytest.mark.parametrize(
    ("capability", "built_for", "status"),
    [
        ((7, 0), ["sm_70", "sm_80", "sm_90"], "ok"),
        ((7, 0), ["sm_75", "sm_80", "sm_90"], "fail"),  # a binary for 7.5 does not run on 7.0 (V100)
        ((7, 0), ["sm_75", "compute_75"], "fail"),
        ((8, 9), ["sm_80"], "ok"),  # one for 8.0 runs on 8.9
        ((9, 0), ["sm_80"], "fail"),  # but not on 9.0
        ((9, 0), ["sm_80", "compute_80"], "ok"),  # its intermediate code does
        ((12, 0), ["sm_90", "sm_100", "sm_120"], "ok"),
        ((10, 0), ["sm_90a", "compute_90"], "ok"),
    ],
)
def test_gpus_need_a_torch_built_for_them(capability: tuple[int, int], built_for: list[str], status: str) -> None:
    check = doctor.gpu(0, "A GPU", 31.7, capability, built_for)
    assert (check.status, bool(check.todo)) == (status, status == "fail")
    assert check.detail == f"A GPU, 32 GB, compute capability {capability[0]}.{capability[1]}"


def test_the_cores_and_memory_of_this_machine() -> None:
    found = {check.name: check for check in doctor.devices()}
    assert found["cpu"].detail.startswith(f"{len(os.sched_getaffinity(0))} cores, ")
    assert any(name.startswith("gpu") for name in found)


def test_a_folder_that_can_be_written_and_its_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=8 * 10**9))
    there, coming = doctor.writable("run_root", tmp_path), doctor.writable("run_root", tmp_path / "a/b")
    assert (there.status, there.detail) == ("ok", f"{tmp_path}, 8 GB free")
    assert (coming.status, coming.detail) == ("ok", f"{tmp_path / 'a/b'}, 8 GB free (made at first use)")
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=2**30))
    assert doctor.writable("run_root", tmp_path).status == "warn"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = doctor.writable("run_root", tmp_path / "file/runs")
    assert (check.status, check.todo) == ("fail", "mend the folder, or set run_root in harness.toml")
    assert "cannot be written: Not a directory" in check.detail


def test_data_sets(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for part in ("annotations", "train", "val"):
        (root / part).mkdir(parents=True)
    for name in ("instances_train.json", "instances_val.json"):
        (root / "annotations" / name).write_text("{}")
    for number in range(3):
        (root / "train" / f"{number}.png").touch()
    found = settings(tmp_path, HARNESS_DATASET_SHAPES="set", HARNESS_DATASET_COCO="nowhere")
    empty = doctor.dataset(found, "shapes", found.datasets["shapes"])
    assert (empty.status, empty.todo) == ("fail", "fill the empty image folder")
    (root / "val/1.png").touch()
    assert doctor.dataset(found, "shapes", found.datasets["shapes"]) == Check(
        name="data set shapes", status="ok", detail=f"{root}: 3 training files, 1 validation files"
    )
    missing = doctor.dataset(found, "coco", found.datasets["coco"])
    assert missing.status == "fail"
    assert missing.todo == (
        "put the files there, or mend the data set's entry (environment variable HARNESS_DATASET_COCO)"
    )


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    found = settings(tmp_path, HARNESS_CACHE_ROOT=str(tmp_path / "cache"))
    check = doctor.weights(found)
    assert check.status == "warn"
    assert check.detail.startswith("0 of 8 found; not torchvision://resnet18, ")
    assert str(tmp_path / "cache/weights") in check.todo


def test_an_sqlite_store(tmp_path: Path) -> None:
    assert doctor.store(f"sqlite:///{tmp_path}/new.db").detail == f"{tmp_path}/new.db (made at first use)"
    (tmp_path / "broken.db").write_text("no database at all, but some text that is long enough to look at" * 100)
    broken = doctor.store(f"sqlite:///{tmp_path}/broken.db")
    assert (broken.status, bool(broken.todo)) == ("fail", True)
    assert "\n" not in broken.detail


def test_a_store_of_no_kind() -> None:
    check = doctor.store("postgres//nowhere")
    assert check.status == "fail"
    assert "expected sqlite:///FILE or the http(s):// address of a server" in check.detail


@pytest.mark.slow
def test_an_sqlite_store_that_is_in_use(tmp_path: Path) -> None:
    from harness.tracking.store import Store

    uri = f"sqlite:///{tmp_path}/used.db"
    Store(uri).parent_run("first", "")
    check = doctor.store(uri)
    assert (check.status, check.detail) == ("ok", f"{tmp_path}/used.db: 1 experiment")
    with sqlite3.connect(tmp_path / "used.db") as database:
        database.execute("DROP TABLE experiments")
    assert doctor.store(uri).status == "fail"


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server() -> None:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        assert doctor.store(uri) == Check(name="tracking store", status="ok", detail=f"{uri} answers")
        assert doctor.store(uri.replace("//", "//me:secret@")).detail == f"{uri} answers"
        lost = doctor.store(f"{uri}/elsewhere")
        assert lost.status == "fail"
        server.shutdown()
    assert "does not answer" in doctor.store("http://host:no-port").detail
    gone = doctor.store(uri)
    assert (gone.status, "does not answer" in gone.detail, bool(gone.todo)) == ("fail", True, True)


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_slurm_is_not_needed_for_the_local_cluster(path: Path) -> None:
    assert doctor.slurm("local").status == "ok"
    assert doctor.slurm("big").status == "fail"
    assert doctor.slurm("big").todo == 'run this on a login node, or set cluster = "local"'


def test_slurm_answers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINFO_FORMAT", "%C")
    fake(path, "sbatch", '[ "$1" = --version ] && echo "slurm 22.05.8"')
    fake(path, "sinfo", '[ "$*" = "--noheader --format=%R %a" ] && echo "gpu up" && echo "old down" && echo "cpu up"')
    assert doctor.slurm("big") == Check(name="slurm", status="ok", detail="slurm 22.05.8, partitions up: gpu, cpu")


@pytest.mark.parametrize(("cluster", "status"), [("local", "warn"), ("big", "fail")])
def test_slurm_does_not_answer(path: Path, cluster: str, status: str) -> None:
    fake(path, "sbatch", 'echo "slurm 22.05.8"')
    fake(path, "sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    assert (doctor.slurm(cluster).status, bool(doctor.slurm(cluster).todo)) == (status, True)


def test_git_is_optional(path: Path) -> None:
    assert doctor.git().status == "warn"
    fake(path, "git", 'echo "git version 2.39.5"')
    assert doctor.git() == Check(name="git", status="ok", detail="2.39.5")


def test_the_whole_diagnosis_says_what_to_do_wherever_something_failed(tmp_path: Path) -> None:
    checks = doctor.diagnose(settings(tmp_path, HARNESS_DATASET_X="nowhere"))
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    assert {"python", "cpu", "run_root", "cache_root", "data set x", "tracking store", "slurm", "git"} <= set(names)
    assert all(check.todo for check in checks if check.status == "fail")
    assert not list(tmp_path.iterdir())  # nothing is changed

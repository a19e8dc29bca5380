"""What is stored by content: whole or not at all, and what Python then runs."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness import provenance
from harness.errors import UserError
from harness.launching import frozen_code
from harness.launching.frozen_code import code_folder, freeze, keep_matrix, present_code, require_sound


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small package beside experiments, the present code."""
    folder = tmp_path / "checkout"
    for name in (
        "harness/__init__.py",
        "harness/training/loss.py",
        "harness/__pycache__/x.pyc",
        "experiments/zoo.yaml",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("WEIGHT = 1\n")
    monkeypatch.setattr(frozen_code, "ROOT", folder)
    return folder


def test_an_edit_makes_another_copy_and_leaves_the_first(checkout: Path, tmp_path: Path) -> None:
    first = freeze(tmp_path / "runs")
    names = sorted(str(file.relative_to(first)) for file in first.rglob("*") if file.is_file())
    assert names == ["code.json", "experiments/zoo.yaml", "harness/__init__.py", "harness/training/loss.py"]
    facts = {"digest": first.name, "version": "0.1.0", "commit": None, "dirty": False}
    assert json.loads((first / "code.json").read_text()) == facts
    assert freeze(tmp_path / "runs") == first == code_folder(tmp_path / "runs", present_code())
    (checkout / "harness/training/loss.py").write_text("WEIGHT = 2\n")
    second = freeze(tmp_path / "runs")
    assert first != second
    assert [(copy / "harness/training/loss.py").read_text() for copy in (first, second)] == [
        "WEIGHT = 1\n",
        "WEIGHT = 2\n",
    ]
    assert sorted(first.parent.iterdir()) == sorted([first, second])


def test_uncommitted_changes_are_kept_as_a_patch(checkout: Path, tmp_path: Path) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "--quiet"], ["add", "harness/__init__.py"], [*identity, "commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", "-C", str(checkout), *words], check=True)
    copy = freeze(tmp_path / "runs")
    facts = json.loads((copy / "code.json").read_text())
    assert (len(facts["commit"]), facts["dirty"]) == (40, True)
    subprocess.run(["git", "-C", str(tmp_path), "clone", "--quiet", str(checkout), "clone"], check=True)
    subprocess.run(["git", "-C", str(tmp_path / "clone"), "apply", str(copy / "changes.patch")], check=True)
    assert provenance.content_digest(tmp_path / "clone") == copy.name
    frozen_again = tmp_path / "others"  # a submit from within a job, which runs the copy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_code, "ROOT", copy)
        again = freeze(frozen_again)
    for name in ("code.json", "changes.patch"):
        assert (again / name).read_bytes() == (copy / name).read_bytes()


def test_it_is_the_same_wherever_the_code_lies(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = present_code()
    monkeypatch.setattr(frozen_code, "ROOT", Path(shutil.copytree(checkout, tmp_path / "other")))
    assert present_code() == first


def test_submits_at_the_same_moment_make_one_copy(checkout: Path, tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(freeze(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert list((tmp_path / ".code").iterdir()) == [made[0]]
    require_sound(tmp_path, [made[0].name])


def test_a_copy_that_is_gone_or_altered(checkout: Path, tmp_path: Path) -> None:
    copy = freeze(tmp_path)
    require_sound(tmp_path, [copy.name])
    (copy / "harness/__pycache__").mkdir()
    (copy / "harness/__pycache__/loss.pyc").write_text("what Python leaves")
    require_sound(tmp_path, [copy.name])
    (copy / "harness/training/loss.py").write_text("WEIGHT = 7\n")
    with pytest.raises(UserError, match=rf"{copy}: the copy .* was changed since; .*harness submit --recode"):
        require_sound(tmp_path, [copy.name])
    assert freeze(tmp_path) == copy  # whoever has the code makes it anew
    assert (copy / "harness/training/loss.py").read_text() == "WEIGHT = 1\n"
    assert list((tmp_path / ".code").iterdir()) == [copy]
    shutil.rmtree(copy)
    with pytest.raises(UserError, match="is gone; put it back"):
        require_sound(tmp_path, [copy.name])


def test_a_full_disk_leaves_nothing_half_copied(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    monkeypatch.setattr(frozen_code.shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"\.code: a copy of the code cannot be written: No space left .*; make room"):
        freeze(tmp_path)
    assert list((tmp_path / ".code").iterdir()) == []


def test_matrix_files_are_kept_by_content(tmp_path: Path) -> None:
    """sha256 of "name: a\\n", by sha256sum."""
    file = tmp_path / "small.yaml"
    file.write_text("name: a\n")
    names = [keep_matrix(tmp_path, file), keep_matrix(tmp_path, file)]
    file.write_text("name: b\n")
    names.append(keep_matrix(tmp_path, file))
    assert names[0] == names[1] == "small-1e7e5f3c45fc.yaml"
    kept = {entry.name: entry.read_text() for entry in (tmp_path / ".matrix").iterdir()}
    assert kept == {names[0]: "name: a\n", names[2]: "name: b\n"}


@pytest.mark.slow
def test_python_runs_the_copy(tmp_path: Path) -> None:
    """Also where the package is installed, and from within a checkout."""
    folder = freeze(tmp_path)
    code = (
        "import harness.published, harness.provenance as provenance; "
        "print(harness.__file__, len(harness.published.published_rows())); "
        "print(provenance.running_code().digest, provenance.running_code().frozen)"
    )
    command = [sys.executable, "-P", "-c", code]
    said = subprocess.run(
        command, env={"PYTHONPATH": str(folder)}, cwd=provenance.ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(folder / "harness" / "__init__.py"), "21", folder.name, "True"]

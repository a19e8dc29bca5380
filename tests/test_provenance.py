"""Which code this is: digests, git, and a patch that gives the code back."""

import subprocess
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.provenance import (
    FACTS,
    changes,
    code_files,
    code_in,
    content_digest,
    running_code,
    several_codes,
    trained_by,
)


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed package beside experiments and other things."""
    folder = tmp_path / "checkout"
    for name, text in {
        "harness/loss.py": "WEIGHT = 1\n",
        "harness/gone.py": "",
        "experiments/zoo.yaml": "name: zoo\n",
        "README.md": "Read me.\n",
        ".gitignore": "*.log\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=x")
    return folder


def edit(folder: Path) -> None:
    """A changed, a removed, a renamed, a new text and a new binary file; and one elsewhere."""
    (folder / "harness/loss.py").write_text("WEIGHT = 2\n")
    (folder / "harness/gone.py").unlink()
    (folder / "experiments/zoo.yaml").rename(folder / "experiments/full zoo.yaml")
    (folder / "harness/new").mkdir()
    (folder / "harness/new/größe.py").write_text("SIZE = 3\n")
    (folder / "harness/golden.pth").write_bytes(bytes(range(256)))
    (folder / "README.md").write_text("Changed.\n")


def test_the_patch_makes_the_code_of_the_commit_this_one(checkout: Path, tmp_path: Path) -> None:
    before = git(checkout, "status", "--porcelain"), (checkout / ".git/index").read_bytes()
    assert (changes(checkout), code_in(checkout).dirty, before[0]) == (b"", False, "")
    edit(checkout)
    git(checkout, "config", "diff.noprefix", "true")  # what a user may have set
    git(checkout, "config", "color.ui", "always")
    objects = sorted((checkout / ".git/objects").rglob("*"))
    patch = changes(checkout)
    assert sorted((checkout / ".git/objects").rglob("*")) == objects
    assert (checkout / ".git/index").read_bytes() == before[1]
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(checkout), "other")
    assert code_in(other).digest != code_in(checkout).digest
    (tmp_path / "changes.patch").write_bytes(patch)
    git(other, "apply", "../changes.patch")
    code = code_in(checkout)
    assert (code.digest, code.dirty, code.commit) == (content_digest(other), True, git(other, "rev-parse", "HEAD"))
    assert (other / "README.md").read_text() == "Read me.\n"


def test_without_a_checkout_around_it_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = checkout / ".venv/lib/site-packages"
    (installed / "harness").mkdir(parents=True)
    (installed / "harness/loss.py").write_text("WEIGHT = 1\n")
    code = code_in(installed)
    assert (code.commit, code.dirty, code.frozen, changes(installed)) == (None, False, False, b"")
    monkeypatch.setenv("PATH", "")
    assert (code_in(checkout).commit, changes(checkout)) == (None, b"")


def test_a_checkout_that_git_reads_only_in_part(checkout: Path) -> None:
    tree = git(checkout, "rev-parse", "HEAD^{tree}")
    (checkout / ".git/objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(UserError, match=r"checkout: git read-tree: .*"):
        changes(checkout)


def test_the_digest_is_of_content_and_names(checkout: Path) -> None:
    first = content_digest(checkout)
    assert len(first) == 12
    for name in ("harness/__pycache__/loss.cpython-311.pyc", "harness/.loss.py.swp", "README.md", "tests/x.py"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("x")
    assert content_digest(checkout) == first
    assert [name for name, _ in code_files(checkout)] == ["harness/gone.py", "harness/loss.py", "experiments/zoo.yaml"]
    (checkout / "harness/gone.py").rename(checkout / "harness/come.py")
    assert content_digest(checkout) != first


def test_this_very_code_is_asked_for_once() -> None:
    code = running_code()
    assert code is running_code()
    assert not code.frozen
    assert code.version == "0.1.0"


def test_a_copy_knows_what_was_known_where_it_was_made(checkout: Path) -> None:
    (checkout / FACTS).write_text('{"digest": "x", "version": "7", "commit": "c0ffee", "dirty": true}')
    code = code_in(checkout)
    assert (code.version, code.commit, code.dirty, code.frozen) == ("7", "c0ffee", True, True)
    assert code.digest == content_digest(checkout)  # measured: an edited copy does not pass for what it was


def test_the_codes_that_trained_a_run() -> None:
    def begin(code: str | None, **more: object) -> dict[str, object]:
        return {"mode": "attempt", "code": code and {"digest": code}, "replayed": None} | more

    train, val = {"mode": "train"}, {"mode": "val"}
    assert trained_by({"0001": [begin("a"), train], "0002": [begin("b"), val], "0003": [begin("a"), train]}) == ["a"]
    assert trained_by({"0001": [begin("b"), train], "0002": [begin("a"), train]}) == ["b", "a"]
    assert trained_by({"0001": [begin("a"), train], "0002": [begin("b", replayed=[3, 7])]}) == ["a", "b"]
    assert trained_by({"0001": [begin(None), train], "0002": [{"mode": "attempt"}, train]}) == []
    assert several_codes(["a", "b"]) == "trained by two codes: a, b"
    assert several_codes(["a", "b", "c"]) == "trained by 3 codes: a, b, c"

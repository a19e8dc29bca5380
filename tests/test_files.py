"""Files are seen whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.files import read_json, remembered_sha256, replacing, sha256, write_json, write_text


def test_text_and_json_are_written_as_given(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/value.json"
    write_json(path, {"b": [1, 2.5], "a": "é"}, durable=True)
    assert path.read_bytes() == '{\n  "b": [\n    1,\n    2.5\n  ],\n  "a": "é"\n}\n'.encode()
    assert read_json(path) == {"b": [1, 2.5], "a": "é"}
    write_text(path, "a\nb\n")
    assert path.read_bytes() == b"a\nb\n"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "f", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_killed_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_text(path, "old")
    script = (
        "import sys, time; from pathlib import Path; from harness.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_reader_never_sees_half(tmp_path: Path) -> None:
    """A process rewrites a large file while this one reads it: each reading is one of the two contents."""
    path = tmp_path / "f"
    whole = {"a" * 1_000_000, "b" * 1_000_000}
    write_text(path, "a" * 1_000_000)
    script = (
        "import sys; from pathlib import Path; from harness.files import write_text\n"
        "while True:\n    for letter in 'ab': write_text(Path(sys.argv[1]), letter * 1_000_000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, path]) as writer:
        seen = set()
        end = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < end:
            text = path.read_text()
            assert text in whole
            seen.add(text)
        writer.kill()
    assert seen == whole


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/f: cannot be written: (Not a directory|File exists); give another"):
        write_text(tmp_path / "file/f", "x")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.geteuid() != 0:  # root writes everywhere
        with pytest.raises(UserError, match="cannot be written: Permission denied"):
            write_text(locked / "f", "x")
        assert not list(locked.iterdir())


def test_a_long_name_is_no_trouble(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 250), "x")
    assert (tmp_path / ("n" * 250)).read_text() == "x"


def test_reading_what_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such file"):
        read_json(tmp_path / "none")
    (tmp_path / "cut").write_text('{"a": ')
    with pytest.raises(UserError, match="cut: not JSON"):
        read_json(tmp_path / "cut")


def test_sha256_of_abc(tmp_path: Path) -> None:
    """The example of FIPS 180-2."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.json", tmp_path / "cache"
    path.write_text("abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2's example
    assert remembered_sha256(path, cache) == abc
    (remembered,) = cache.iterdir()
    remembered.write_text("remembered")
    assert remembered_sha256(path, cache) == "remembered"
    path.write_text("abcd")
    assert remembered_sha256(path, cache) not in (abc, "remembered")
    with pytest.raises(UserError, match="No such file"):
        remembered_sha256(tmp_path / "missing.json", cache)

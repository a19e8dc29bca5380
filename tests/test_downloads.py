"""Against a local server that misbehaves on request."""

import hashlib
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import downloads, leases
from harness.downloads import GoneError, RefusedError, UnreachableError, download, remote_size, verify
from harness.errors import UserError

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """Serves CONTENT at `url`; what it does wrong is set by the test."""

    url: str = ""
    cut_after: list[int] = field(default_factory=list)  # bytes sent before the cut, one entry an answer; then whole
    statuses: list[int] = field(default_factory=list)  # answered first, one a request
    ranges: bool = True
    requests: list[str | None] = field(default_factory=list)  # the Range of each request


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "BACK_OFF", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            self.send_response(200)
            if state.ranges:
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()

        def do_GET(self) -> None:
            state.requests.append(self.headers["Range"])
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "") if state.ranges else None
            start = int(match[1]) if match else 0
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.end_headers()
                return
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            end = start + state.cut_after.pop(0) if state.cut_after else len(CONTENT)
            self.wfile.write(CONTENT[start:end])

        def log_message(self, format: str, *args: object) -> None:
            pass

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http_server.server_port}/file.bin"
    yield state
    http_server.shutdown()
    thread.join()
    http_server.server_close()


def test_whole_file(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "folder" / "file.bin"
    download(
        server.url,
        target,
        sha256_prefix=SHA256[:8],
        md5=MD5,
        size=len(CONTENT),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]
    assert seen[-1] == (102_400, 102_400)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_present_file_is_verified_without_a_request(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(CONTENT)
    download(server.url, target, sha256_prefix=SHA256)
    target.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"file.bin: sha256 .* expected {SHA256[:8]}"):
        download(server.url, target, sha256_prefix=SHA256[:8])
    assert target.read_bytes() == b"damaged"
    assert server.requests == []


def test_cut_connections_are_continued(server: Server, tmp_path: Path) -> None:
    # More cuts than tries: a try that brought new bytes starts the count again.
    server.cut_after = [1000] * 8
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert server.requests == [None, *(f"bytes={1000 * i}-" for i in range(1, 9))]


def test_no_progress_gives_up_and_a_later_call_continues(server: Server, tmp_path: Path) -> None:
    server.cut_after = [50_000, 0, 0, 0, 0]
    target = tmp_path / "file.bin"
    with pytest.raises(UserError, match=r"given up after 5 tries .*run again"):
        download(server.url, target, sha256_prefix=SHA256)
    assert not target.exists()
    assert (tmp_path / "file.bin.part").stat().st_size == 50_000
    server.requests.clear()
    download(server.url, target, sha256_prefix=SHA256)
    assert server.requests == ["bytes=50000-"]
    assert target.read_bytes() == CONTENT


def test_server_without_ranges_restarts(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [70_000, 60_000]
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=70000-", "bytes=60000-"]


def test_server_without_ranges_that_always_cuts_is_given_up(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [70_000] * 10
    with pytest.raises(UserError, match="given up after 5 tries"):
        download(server.url, tmp_path / "file.bin")
    assert len(server.requests) == 5


def test_server_errors_are_tried_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 500, 429]
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert len(server.requests) == 4


def test_not_found_is_said_at_once(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(UserError, match=r"file.bin: the server answers 404 Not Found$"):
        download(server.url, tmp_path / "file.bin")
    assert len(server.requests) == 1


def test_wrong_bytes_are_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"sha256 {SHA256}, expected 0123abcd"):
        download(server.url, tmp_path / "file.bin", sha256_prefix="0123abcd")
    with pytest.raises(UserError, match=f"md5 {MD5}, expected {'0' * 32}"):
        download(server.url, tmp_path / "file.bin", md5="0" * 32)
    with pytest.raises(UserError, match="102400 bytes, expected 7"):
        download(server.url, tmp_path / "file.bin", size=7)
    assert list(tmp_path.iterdir()) == []


def test_complete_part_is_only_named(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "file.bin.part"
    part.write_bytes(CONTENT)
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert server.requests == ["bytes=102400-"]  # answered with 416 and the length
    (tmp_path / "file.bin").rename(part)
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256, size=len(CONTENT))
    assert len(server.requests) == 1
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_part_longer_than_the_file_restarts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert server.requests == ["bytes=102404-", None]


def test_unreachable_host_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=r"127.0.0.1:9/file.bin: cannot be reached \(.*refused.*\)"):
        download("http://127.0.0.1:9/file.bin", tmp_path / "file.bin")


def test_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        download(server.url, tmp_path / "folder" / "file.bin")
    assert server.requests == []


def test_second_download_of_the_same_file_is_refused(server: Server, tmp_path: Path) -> None:
    lease = leases.acquire(tmp_path / ".file.bin.part.lease")
    assert lease is not None
    with pytest.raises(UserError, match="another process is downloading this file; wait for it"):
        download(server.url, tmp_path / "file.bin")
    lease.discard()
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_download_that_was_killed_is_continued_at_once(server: Server, tmp_path: Path) -> None:
    """Its lease is that of a process which is gone."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom harness.downloads import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), progress=lambda done, total: os.kill(os.getpid(), 9))"
    )
    server.cut_after = [50_000]
    command = [sys.executable, "-c", code, server.url, str(tmp_path / "file.bin")]
    assert subprocess.run(command, timeout=300).returncode == -9
    part, before = tmp_path / "file.bin.part", len(server.requests)
    part.write_bytes(CONTENT[:40_000])  # what the killed process had written out is up to its buffers
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert server.requests[before:] == ["bytes=40000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_one_that_overslept_gives_way(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SECONDS", 0.0)  # its lease has expired at once, and another process takes it

    def other(done: int, total: int | None) -> None:
        leases.acquire(tmp_path / ".file.bin.part.lease")

    server.cut_after = [1000] * 3
    with pytest.raises(UserError, match="another process is downloading this file; wait for it"):
        download(server.url, tmp_path / "file.bin", progress=other)
    assert (tmp_path / ".file.bin.part.lease").exists()
    assert not (tmp_path / "file.bin").exists()


def test_full_disk(server: Server, tmp_path: Path) -> None:
    """A limit on the size of files acts as a full disk; with room again the download goes on."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom harness.downloads import download\n"
        "from harness.errors import UserError\nresource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "try:\n    download(sys.argv[1], Path(sys.argv[2]))\nexcept UserError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, server.url, str(tmp_path / "file.bin")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert re.fullmatch(r".*/file\.bin\.part: cannot be written: .*; make room .*\n", done.stdout), done
    assert 0 < (tmp_path / "file.bin.part").stat().st_size <= 60_000
    download(server.url, tmp_path / "file.bin", sha256_prefix=SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_verify_accepts_what_is_right(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # Digests of "abc" from FIPS 180-2 and RFC 1321.
    verify(path, sha256_prefix="ba7816bf8f01cfea", md5="900150983cd24fb0d6963f7d28e17f72", size=3)


def test_the_size_of_what_is_not_fetched(server: Server) -> None:
    assert remote_size(server.url) == len(CONTENT)
    server.ranges = False
    assert remote_size(server.url) is None
    server.statuses = [404, 410, 403, 500]
    for wanted in (GoneError, GoneError, RefusedError, RefusedError):
        with pytest.raises(wanted, match=r"the server answers [45]"):
            remote_size(server.url)


def test_nobody_answers_for_a_size(server: Server) -> None:
    with pytest.raises(UnreachableError, match="cannot be reached"):
        remote_size("http://127.0.0.1:1/file")

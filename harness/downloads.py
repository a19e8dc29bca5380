"""One file from a URL: resumed after a cut, verified before it gets its name."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness import leases
from harness.errors import UserError
from harness.files import MAKE_ROOM, disk_full

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and the bytes in all (None where the server does not say)."""

TRIES = 5
BACK_OFF = 1.0  # seconds before the second try, doubled for each further one
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 20


def download(
    url: str,
    target: Path,
    *,
    sha256_prefix: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Bring `url` to `target`; a target that is there already is only verified.

    The bytes go to `target` + ".part", which a later call continues (HTTP Range; from the start where the server
    ignores it). A cut connection or a server error is tried again, up to 5 times in a row without a new byte. The part
    becomes `target` only when size and digests (hexadecimal; sha256_prefix its first digits) are right.

    Raises UserError where the host cannot be reached, the server refuses (404), the tries are used up, the content is
    wrong (the part is then removed), the target is there with wrong content, another process is downloading it, or the
    folder cannot be written or is full.
    """
    if target.exists():
        verify(target, sha256_prefix=sha256_prefix, md5=md5, size=size)
        return
    part = target.with_name(f"{target.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part) as renew:
            with part.open("ab") as file:
                _receive(url, file, size=size, renew=renew, progress=progress)
            if fault := _fault(part, sha256_prefix=sha256_prefix, md5=md5, size=size):
                part.unlink()
                raise UserError(f"{url}: {fault}; what was received is removed")
            part.replace(target)
    except OSError as error:
        advice = f"; {MAKE_ROOM}" if disk_full(error) else ""
        raise UserError(f"{part}: cannot be written: {error.strerror or error}{advice}") from None


def verify(path: Path, *, sha256_prefix: str | None = None, md5: str | None = None, size: int | None = None) -> None:
    """Raise UserError, naming what was found and what was expected, where the file's size or a digest is wrong."""
    if fault := _fault(path, sha256_prefix=sha256_prefix, md5=md5, size=size):
        raise UserError(f"{path}: {fault}; delete it and fetch it again")


def _fault(path: Path, *, sha256_prefix: str | None, md5: str | None, size: int | None) -> str | None:
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        return f"{found_size} bytes, expected {size}"
    for algorithm, expected in (("sha256", sha256_prefix), ("md5", md5)):
        if expected is not None:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if not found.startswith(expected):
                return f"{algorithm} {found}, expected {expected}{'...' if algorithm == 'sha256' else ''}"
    return None


@contextmanager
def _alone(part: Path) -> Iterator[Callable[[], None]]:
    """No other process writes `part`; gives what has to be called again and again meanwhile."""
    folder = part.with_name(f".{part.name}.lease")
    busy = f"{part}: another process is downloading this file; wait for it"
    lease = leases.acquire(folder)
    if lease is None:
        raise UserError(busy)
    renewed = time.monotonic()

    def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > leases.SECONDS / 4:
            renewed = time.monotonic()
            lease.renew()

    try:
        yield renew
    except leases.LeaseLost:
        raise UserError(busy) from None
    finally:
        lease.discard()


class GoneError(UserError):
    """The server says that there is nothing at this URL."""


class RefusedError(UserError):
    """The server answers, but does not say what is at this URL."""


class UnreachableError(UserError):
    """Nobody answers."""


def remote_size(url: str) -> int | None:
    """The bytes at a URL as its server says, None where it does not. Nothing is fetched.

    Raises GoneError where there is nothing, RefusedError where the server does not say, and UnreachableError.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            return None if length is None else int(length)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise GoneError(f"{url}: the server answers {error.code} {error.reason}") from None
        raise RefusedError(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise UnreachableError(f"cannot be reached: {error.reason}") from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise UnreachableError(f"cannot be reached: {error}") from None


class _CutError(Exception):
    """The connection broke after the host had been reached."""


def _receive(
    url: str, file: IO[bytes], *, size: int | None, renew: Callable[[], None], progress: Progress | None
) -> None:
    """Append to `file` until it is complete."""
    reached = False  # a host that never answered is reported at once: most often there is no network
    failures = 0
    longest = file.tell()
    while size is None or file.tell() != size:
        renew()
        try:
            if _attempt(url, file, renew=renew, progress=progress):
                return
            reason = "the content ended early"
        except _CutError as error:
            reason = str(error)
        except urllib.error.URLError as error:
            if not reached:
                raise UserError(f"{url}: cannot be reached ({error.reason}); is there a network here?") from None
            reason = str(error.reason)
        reached = True
        failures = 1 if file.tell() > longest else failures + 1
        longest = max(longest, file.tell())
        if failures == TRIES:
            raise UserError(f"{url}: given up after {TRIES} tries ({reason}); run again to continue")
        time.sleep(BACK_OFF * 2 ** (failures - 1))


def _attempt(url: str, file: IO[bytes], *, renew: Callable[[], None], progress: Progress | None) -> bool:
    """One request for what `file` lacks; whether it is complete now."""
    start = file.tell()
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing after `start`: complete, unless the file has another length there
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return True
            _restart(file)
        elif error.code < 500 and error.code not in (408, 429):
            raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
        raise _CutError(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError:
        raise
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(str(error)) from None
    with response:
        return _copy(response, file, renew=renew, progress=progress)


def _copy(response: Any, file: IO[bytes], *, renew: Callable[[], None], progress: Progress | None) -> bool:
    """Append the response's bytes; False where it ended before its announced length."""
    start = file.tell()
    content_range = response.headers.get("Content-Range") or ""
    if start and not (response.status == 206 and content_range.startswith(f"bytes {start}-")):
        _restart(file)
    length = response.headers.get("Content-Length")
    total = None if length is None else file.tell() + int(length)
    while block := _read(response):
        file.write(block)
        renew()
        if progress is not None:
            progress(file.tell(), total)
    return total is None or file.tell() == total


def _read(response: Any) -> bytes:
    """What has arrived, so that a cut loses nothing; empty at the end."""
    try:
        block: bytes = response.read1(BLOCK)
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(str(error)) from None
    return block


def _restart(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()

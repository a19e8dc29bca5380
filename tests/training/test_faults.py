"""Errors as torch and the system word them, in the user's words; tests/launching/test_faults.py provokes them."""

import errno
import itertools
import socket

import pytest
import torch

from harness.errors import UserError
from harness.training.faults import explain, is_lost_contact

HOST = socket.gethostname()


def chained(*errors: BaseException) -> BaseException:
    """The last one, raised while those before it were handled."""
    for before, after in itertools.pairwise(errors):
        after.__context__ = before
    return errors[-1]


FULL = OSError(errno.ENOSPC, "No space left on device")
WORDS = [
    (FULL, "the run folder cannot be written: no space left on device; make room"),
    (
        chained(FULL, RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598")),
        "the run folder cannot be written: no space left on device; make room",
    ),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "the run folder cannot be written: disk quota exceeded"),
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB"),
        f"out of GPU memory on {HOST} (Tried to allocate 20.00 MiB); give the run a GPU with more of it, then start",
    ),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "out of GPU memory on"),
    (MemoryError(), f"out of memory on {HOST}; give the run more of it, or fewer data-loading workers"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), f"out of memory on {HOST}; give the run more of it"),
    (
        RuntimeError(
            "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that ... shared memory"
        ),
        f"shared memory (/dev/shm) of {HOST} is full",
    ),
    (
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
        f"{HOST}: DataLoader worker (pid 12) is killed by signal: Killed, most likely for want of memory",
    ),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.json"), "a.json: No such file or directory; put"),
    (UserError("as it is"), "as it is"),
]


@pytest.mark.parametrize(("error", "expected"), WORDS)
def test_one_line(error: BaseException, expected: str) -> None:
    told = str(explain(error))
    assert told.startswith(expected)
    assert "\n" not in told


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyError("a"), OSError("no file is named"), RuntimeError("shape")]
)
def test_bugs_stay_bugs(error: BaseException) -> None:
    assert explain(error) is None


def test_lost_contact() -> None:
    closed = RuntimeError(
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]"
    )
    assert is_lost_contact(closed)
    assert is_lost_contact(torch.distributed.DistBackendError("NCCL communicator was aborted on rank 1."))
    assert not is_lost_contact(RuntimeError("shape"))
    assert str(explain(closed)).startswith("lost contact with another process of this training (")

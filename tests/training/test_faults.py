"""Errors as torch and the system word them, in the user's words; tests/launching/test_faults.py provokes them."""

import copy
import errno
import itertools
import socket

import pytest
import torch

from harness.errors import UserError
from harness.failures import Failure
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


NO_DISK = FileNotFoundError(errno.ENOENT, "No such file or directory", "a.json")
STALE = OSError(errno.ESTALE, "Stale file handle", "/data/a.jpg")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FULL, Failure.DISK),
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is ... shared memory"),
            Failure.DISK,
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), Failure.GPU_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), Failure.GPU_MEMORY),
        (MemoryError(), Failure.MEMORY),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), Failure.MEMORY),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be"), Failure.NODE),
        (RuntimeError("CUDA error: device not ready"), Failure.NODE),
        (RuntimeError("No CUDA GPUs are available: no CUDA-capable device is detected"), Failure.NODE),
        (OSError(errno.EIO, "Input/output error"), Failure.NODE),
        (STALE, Failure.NODE),
        (chained(STALE, UserError("/data/a.jpg: not a readable image")), Failure.NODE),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), Failure.NODE),
        (RuntimeError("NCCL error in: a.cpp:1\nLast error:\nFailed to CUDA calloc 608 bytes"), Failure.GPU_MEMORY),
        (RuntimeError("CUDA driver error: out of memory"), Failure.GPU_MEMORY),
        (RuntimeError("CUDA error: unknown error"), Failure.NODE),
        (NO_DISK, Failure.MISTAKE),
        (UserError("as it is"), Failure.MISTAKE),
        (UserError("no GPU", failure=Failure.NODE), Failure.NODE),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), None),  # a bug
        (RuntimeError("CUDA error: device-side assert triggered"), None),
    ],
)
def test_kinds(error: BaseException, kind: Failure | None) -> None:
    told = explain(error)
    assert (told and told.failure) == kind
    assert "\n" not in str(told)


def test_a_kind_survives_the_way_from_a_worker() -> None:
    """The data loader's processes hand errors over by pickle."""
    told = copy.copy(UserError("no GPU", failure=Failure.NODE))  # by the same means as pickle
    assert (str(told), told.failure) == ("no GPU", Failure.NODE)


def test_lost_contact() -> None:
    closed = RuntimeError(
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]"
    )
    assert is_lost_contact(closed)
    assert is_lost_contact(torch.distributed.DistBackendError("NCCL communicator was aborted on rank 1."))
    for own in ("uncorrectable ECC error encountered", "Cuda failure 2 'out of memory'"):  # of which others are told
        error = torch.distributed.DistBackendError(f"NCCL error in: a.cpp:1\nLast error:\n{own}")
        assert not is_lost_contact(error)
        assert "NCCL error in" not in str(explain(error))
    assert not is_lost_contact(RuntimeError("shape"))
    assert str(explain(closed)).startswith("lost contact with another process of this training (")

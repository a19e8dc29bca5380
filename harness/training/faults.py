"""What a machine or the people around it do to a training, as the one line that says what to do about it."""

import errno
import socket
import traceback
from collections.abc import Iterator

from torch.utils.data import dataloader

from harness.errors import UserError
from harness.failures import Failure
from harness.files import MAKE_ROOM, disk_full
from harness.processes import node_name

MEMORY = (
    "OutOfMemoryError",
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "ALLOC_FAILED",
    "Failed to CUDA calloc",  # of NCCL
    "Cuda failure 2 'out of memory'",  # of NCCL
)
"""A class of torch, and words of its messages."""
CONTACT = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL", "TCPStore")
"""Words of an error in a collective."""

HARDWARE = (
    "ECC error",
    "Xid",
    "NVLink error",
    "over nvlink or a hardware error",
    "hardware stack error",
    "fallen off the bus",
    "GPU is lost",
    "device not ready",
    "no CUDA-capable device",
    "busy or unavailable",
    "CUDA driver initialization failed",
    "system not yet initialized",
    "CUDA unknown error",
    "CUDA error: unknown error",
)
"""Words of CUDA and its driver, where it is not the program that is at fault."""
BROKEN = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO, errno.EHOSTDOWN)
"""What the system says of disks and mounts that do not work."""


def explain(error: BaseException) -> UserError | None:
    """A full disk, a lack of memory, a killed worker, broken hardware or a vanished file in the user's words, and the

    kind of failure; None for anything else, which is a bug.
    """
    chain = list(_chain(error))
    if isinstance(error, UserError):
        return UserError(str(error), failure=Failure.NODE) if any(map(_is_broken, chain)) else error
    if full := disk_full(error):
        return UserError(f"the run folder cannot be written: {full}; {MAKE_ROOM}", failure=Failure.DISK)
    said = [f"{type(each).__name__}: {each}" for each in chain]
    first = next((text for text in said if any(word in text for word in MEMORY)), "")
    if first or any(_is_memory(each) for each in chain):
        return _out_of_memory(first)
    if symptom := next((text for text in said if any(word in text for word in HARDWARE)), ""):
        return _broken_node(next(line for line in symptom.splitlines() if any(word in line for word in HARDWARE)))
    if isinstance(error, OSError | EOFError) and _in_data_loader(error):
        return _lost_worker("DataLoader worker: a data-loading process was killed")
    if worker := next((text for text in said if "DataLoader worker" in text and "pid" in text), ""):
        return _lost_worker(worker)
    if is_lost_contact(error):
        text = f"lost contact with another process of this training ({error}); its output says why"
        return UserError(text, failure=Failure.NODE)
    if broken := next(filter(_is_broken, chain), None):
        return _broken_node(str(broken))
    if isinstance(error, OSError) and error.filename:
        return UserError(f"{error.filename}: {error.strerror}; put it back, then start again")
    return None


def is_lost_contact(error: BaseException) -> bool:
    """Whether a collective failed, as it does on all other ranks when one has ended, for no reason on this one."""
    from torch.distributed import DistError

    chain = list(_chain(error))
    if any(word in str(each) for each in chain for word in (*MEMORY, *HARDWARE)):
        return False
    return any(
        isinstance(each, DistError) or (isinstance(each, RuntimeError) and any(word in str(each) for word in CONTACT))
        for each in chain
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _is_broken(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in BROKEN


def _broken_node(symptom: str) -> UserError:
    return UserError(
        f"{symptom}; {node_name()} looks broken: have it looked at, or start again elsewhere", failure=Failure.NODE
    )


def _in_data_loader(error: BaseException) -> bool:
    """Whether the processes of the data loader broke off in the middle of handing something over."""
    return any(frame.f_code.co_filename == dataloader.__file__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _out_of_memory(text: str) -> UserError:
    gpu = "CUDA" in text.upper() or "CUBLAS" in text or "CUDNN" in text
    where, failure = ("GPU memory", Failure.GPU_MEMORY) if gpu else ("memory", Failure.MEMORY)
    asked = next((part for part in text.split(". ") if "ried to allocate" in part), "")
    detail = f" ({asked.strip().rstrip('.')})" if asked else ""
    help_ = "a GPU with more of it" if gpu else "more of it, or fewer data-loading workers"
    text = f"out of {where} on {socket.gethostname()}{detail}; give the run {help_}, then start again"
    return UserError(text, failure=failure)


def _lost_worker(text: str) -> UserError:
    """`text` is torch's: DataLoader worker (pid 12) is killed by signal: Killed."""
    host = socket.gethostname()
    if "Bus error" in text or "shared memory" in text:
        told = f"shared memory (/dev/shm) of {host} is full; give it more, or the run fewer workers, then start again"
        return UserError(told, failure=Failure.DISK)
    how = text.partition(": ")[2].partition(". ")[0].strip().splitlines()[0]
    told = (
        f"{host}: {how}, most likely for want of memory; give the run more memory or fewer data-loading workers "
        "(resources: workers), then start again"
    )
    return UserError(told, failure=Failure.MEMORY)

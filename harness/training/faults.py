"""What a machine or the people around it do to a training, as the one line that says what to do about it."""

import errno
import socket
import traceback
from collections.abc import Iterator

from torch.utils.data import dataloader

from harness.errors import UserError
from harness.files import MAKE_ROOM, disk_full

MEMORY = ("OutOfMemoryError", "can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")
"""A class of torch, and words of its messages."""
CONTACT = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL", "TCPStore")
"""Words of an error in a collective."""


def explain(error: BaseException) -> UserError | None:
    """A full disk, a lack of memory, a killed worker or a vanished file in the user's words; None for anything else."""
    if isinstance(error, UserError):
        return error
    if full := disk_full(error):
        return UserError(f"the run folder cannot be written: {full}; {MAKE_ROOM}")
    said = [f"{type(each).__name__}: {each}" for each in _chain(error)]
    first = next((text for text in said if any(word in text for word in MEMORY)), "")
    if first or any(_is_memory(each) for each in _chain(error)):
        return UserError(_out_of_memory(first))
    if isinstance(error, OSError | EOFError) and _in_data_loader(error):
        return UserError(_lost_worker("DataLoader worker: a data-loading process was killed"))
    if worker := next((text for text in said if "DataLoader worker" in text and "pid" in text), ""):
        return UserError(_lost_worker(worker))
    if is_lost_contact(error):
        return UserError(f"lost contact with another process of this training ({error}); its output says why")
    if isinstance(error, OSError) and error.filename:
        return UserError(f"{error.filename}: {error.strerror}; put it back, then start again")
    return None


def is_lost_contact(error: BaseException) -> bool:
    """Whether a collective failed, as it does on all other ranks when one has ended."""
    from torch.distributed import DistError

    return any(
        isinstance(each, DistError) or (isinstance(each, RuntimeError) and any(word in str(each) for word in CONTACT))
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _in_data_loader(error: BaseException) -> bool:
    """Whether the processes of the data loader broke off in the middle of handing something over."""
    return any(frame.f_code.co_filename == dataloader.__file__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _out_of_memory(text: str) -> str:
    where = "GPU memory" if "CUDA" in text or "CUBLAS" in text or "CUDNN" in text else "memory"
    asked = next((part for part in text.split(". ") if "ried to allocate" in part), "")
    detail = f" ({asked.strip().rstrip('.')})" if asked else ""
    help_ = "a GPU with more of it" if where == "GPU memory" else "more of it, or fewer data-loading workers"
    return f"out of {where} on {socket.gethostname()}{detail}; give the run {help_}, then start again"


def _lost_worker(text: str) -> str:
    """`text` is torch's: DataLoader worker (pid 12) is killed by signal: Killed."""
    host = socket.gethostname()
    if "Bus error" in text or "shared memory" in text:
        return f"shared memory (/dev/shm) of {host} is full; give it more, or the run fewer workers, then start again"
    how = text.partition(": ")[2].partition(". ")[0].strip().splitlines()[0]
    return (
        f"{host}: {how}, most likely for want of memory; give the run more memory or fewer data-loading workers "
        "(resources: workers), then start again"
    )

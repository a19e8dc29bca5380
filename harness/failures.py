"""Why a run failed: the kinds that call for different answers."""

from enum import StrEnum


class Failure(StrEnum):
    """The kind of what ended an attempt. launching/retries.py has the answer to each."""

    GPU_MEMORY = "GPU memory"  # too little of it
    MEMORY = "memory"  # too little of the host's
    TIME = "time limit"
    NODE = "node"  # dead, or with symptoms of broken hardware, or without what the others have
    DISK = "full disk"
    MISTAKE = "mistake"  # of the user, told in one line
    HANG = "hang"
    CANCELLED = "cancelled"
    BUG = "bug"  # any other exception
    UNKNOWN = "unknown"  # a death without a word, of which nobody else tells either

    @property
    def from_outside(self) -> bool:
        """Whether the run could not help it: a kill -9, a power cut, a node. The next submit goes on from there."""
        return self in (Failure.NODE, Failure.CANCELLED, Failure.UNKNOWN)

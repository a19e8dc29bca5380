"""Where the time of an attempt goes: what `harness plan` estimates others from."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.files import write_json
from harness.processes import start_time

FILE = "times.json"
"""In an attempt's folder."""


@dataclass(slots=True, kw_only=True)
class Times:
    """Of rank 0, since its process started."""

    began: float = field(default_factory=start_time)  # seconds since 1970
    gpus: int = 0  # of all ranks
    seconds: dict[str, float] = field(default_factory=dict)  # by phase (notes.py), of those that have ended
    images: int = 0  # tested, by all ranks
    evaluations: int = 0
    checkpoints: int = 0
    resume: float | None = None  # of a pilot: seconds to go on from a checkpoint

    @classmethod
    def begin(cls) -> "Times":
        """What came before this call, imports above all, is part of the start."""
        began = start_time()
        return cls(began=began, seconds={"start": time.time() - began})

    def spent(self, phase: str, seconds: float) -> None:
        """A phase has ended."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def rename(self, phase: str, to: str) -> None:
        """What was spent on one phase so far belongs to another."""
        self.spent(to, self.seconds.pop(phase, 0.0))

    def write(self, folder: Path) -> None:
        """Keep them in the attempt's folder, as they are now."""
        write_json(folder / FILE, asdict(self))

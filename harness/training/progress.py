"""What a person sees of a training: a bar with the time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.wording import duration, percent


class TrainingProgress:
    """Shows one training. On a terminal a bar, elsewhere a line at each log row; other ranks than 0 show nothing."""

    def __init__(
        self, name: str, total: int, done: int, *, shown: bool, on_row: Callable[[str], None] = lambda text: None
    ) -> None:
        self.total, self.done, self.start, self.began = total, done, done, time.monotonic()
        self.shown, self.on_row = shown, on_row
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if shown and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self.bar = Progress(*columns, TextColumn("ETA {task.fields[eta]}  {task.fields[text]}"), console=console)
            self.task = self.bar.add_task(name[:60], total=total, completed=done, eta="-", text="")

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    @property
    def eta(self) -> str:
        """The time left at the mean pace so far, evaluations within it counted."""
        if self.done == self.start:
            return "-"
        return duration((time.monotonic() - self.began) / (self.done - self.start) * (self.total - self.done))

    def advance(self) -> None:
        """One more iteration is done."""
        self.done += 1
        if self.bar:
            self.bar.update(self.task, completed=self.done, eta=self.eta)

    def row(self, row: dict[str, Any], epochs: int) -> None:
        """A log row was written."""
        if row["mode"] == "val":
            bbox, segm = (percent(row.get(f"{kind}_mAP")) for kind in ("bbox", "segm"))
            text = f"epoch {row['epoch']}/{epochs}  box AP {bbox}  mask AP {segm}"
        else:
            text = f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  lr {row['lr']:.2g}  {row['time']:.2f} s/it"
        if self.bar:
            self.bar.update(self.task, text=text)
        elif self.shown:
            sys.stderr.write(f"[{self.done}/{self.total}] {text}  ETA {self.eta}\n")
            sys.stderr.flush()
        self.on_row(f"{text}, ETA {self.eta}")

"""What is to be made large or small: where a run says it, at its end and on the way there."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.document import Document, Loc
from harness.files import read_json
from harness.run_log import merged_rows
from harness.run_paths import RunPaths
from harness.tuning.study_schema import ObjectiveBlock

Direction = Literal["maximize", "minimize"]
SHORT = {"segm AP": "segm_mAP", "bbox AP": "bbox_mAP", "memory": "memory_mb"}
"""The names by which people call some."""
RESULTS: Mapping[str, Direction] = {
    "fps": "maximize", "memory_mb": "minimize", "images_per_second": "maximize", "train_seconds": "minimize",
}  # fmt: skip
"""Measured once, at the end of a run (result.json), and the direction that is meant where none is given."""
TRAIN: Mapping[str, Direction | None] = {
    "loss": "minimize", "loss_rpn_cls": "minimize", "loss_rpn_bbox": "minimize", "loss_cls": "minimize",
    "loss_bbox": "minimize", "loss_mask": "minimize", "acc": "maximize", "time": "minimize", "lr": None,
}  # fmt: skip
"""Journaled while training."""
VAL = re.compile(r"(bbox|segm)_(mAP(_50|_75|_s|_m|_l)?|AR_[a-z0-9@]+)")
"""Journaled after each epoch, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A metric and what is wanted of it."""

    metric: str  # as the file names it
    direction: Direction
    key: str  # in result.json, or in the journal's rows
    mode: Literal["result", "val", "train"]  # where that is

    def __str__(self) -> str:
        return f"{self.metric} ({self.direction})"

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be shown: what validations measure is shown in percent."""
        return 100.0 if self.mode == "val" else 1.0

    def decimals(self, value: float) -> int:
        """Of a value in its scale, how many are shown: one of AP, four digits of another."""
        return 1 if self.mode == "val" or value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))

    def shown(self, value: float) -> str:
        """A value as people read it."""
        return f"{self.scale * value:.{self.decimals(self.scale * value)}f}"

    def better(self, one: float, other: float) -> bool:
        """Whether one value is better than the other."""
        return one > other if self.direction == "maximize" else one < other

    def on_the_way(self, rows: Iterable[Mapping[str, Any]]) -> dict[int, float]:
        """The finite values in a journal: by epoch of what validations measure, by iteration of the others."""
        step = "epoch" if self.mode == "val" else "step"
        found = ((row[step], row.get(self.key)) for row in rows if row.get("mode") == self.mode)
        return {int(at): float(value) for at, value in found if value is not None and math.isfinite(value)}

    def at_the_end(self, paths: RunPaths) -> float | None:
        """The value of a finished run; None where it was not measured."""
        result = read_json(paths.result)
        if self.mode == "train":
            values = self.on_the_way(merged_rows(paths))
            return values[max(values)] if values else None
        value = result[self.key] if self.mode == "result" else result["metrics"].get(self.key)
        return None if value is None or not math.isfinite(value) else float(value)


def parse_objectives(document: Document, given: Any) -> tuple[Objective, ...]:
    """The objectives of a file's `objective`; what is wrong is noted in the document."""
    entries = given if isinstance(given, list) else [given]
    if not entries:
        document.mistake(("objective",), "objective is empty: name a metric, such as segm AP")
    found: list[Objective] = []
    for index, entry in enumerate(entries):
        loc: Loc = ("objective", index) if isinstance(given, list) else ("objective",)
        block = ObjectiveBlock(metric=entry) if isinstance(entry, str) else entry
        objective = _objective(document, loc if isinstance(entry, str) else (*loc, "metric"), block)
        if objective and objective.key in {other.key for other in found}:
            document.mistake(loc, f"{objective.metric} is an objective already")
        elif objective:
            found.append(objective)
    return tuple(found)


def _objective(document: Document, loc: Loc, block: ObjectiveBlock) -> Objective | None:
    key = SHORT.get(block.metric, block.metric)
    mode, usual = _home(key)
    if mode is None:
        known = ", ".join([*SHORT, "fps", "segm_mAP_50", "bbox_AR_100", *TRAIN])
        document.mistake(loc, f"unknown metric {block.metric!r}; expected one of {known} or another of log.json")
        return None
    direction = block.direction or usual
    if direction is None:
        document.mistake(loc, f"{block.metric} has no usual direction: add direction: maximize or minimize")
        return None
    return Objective(metric=block.metric, direction=direction, key=key, mode=mode)


def _home(key: str) -> tuple[Literal["result", "val", "train"] | None, Direction | None]:
    if key in RESULTS:
        return "result", RESULTS[key]
    if key in TRAIN:
        return "train", TRAIN[key]
    return ("val", "maximize") if VAL.fullmatch(key) else (None, None)

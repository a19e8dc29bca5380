"""What a run folder says at one moment."""

import time
from dataclasses import dataclass
from typing import Any

from harness.files import read_json
from harness.runs import RunPaths, RunSpec, RunState, State, read_log, read_spec, read_state
from harness.tracking import fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a run folder says. The state is read first, so a final state comes with all the rows before it."""

    paths: RunPaths
    spec: RunSpec
    state: RunState
    segments: dict[str, list[dict[str, Any]]]
    result: dict[str, Any] | None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for rows in self.segments.values() for row in rows]

    @property
    def env(self) -> dict[str, Any]:
        """env_info of the newest attempt."""
        found = [row["env_info"] for row in self.rows if row.get("mode") == "attempt"]
        return found[-1] if found else {}

    @property
    def start(self) -> float:
        """When the first attempt started, seconds since 1970."""
        return next((row["time"] for row in self.rows if row.get("mode") == "attempt"), time.time())

    @property
    def end(self) -> float:
        """When the run was last heard of."""
        return max([self.state.updated, *self._stamps])

    @property
    def last_stamp(self) -> int:
        """Time of the last journal row in milliseconds."""
        return round(1000 * max(self._stamps, default=self.state.updated))

    @property
    def _stamps(self) -> list[float]:
        return [row["stamp"] for row in self.rows if "stamp" in row]

    @property
    def status(self) -> str:
        """MLflow's status; of a run that has ended also the attempt and the time, as it may go on and end again."""
        word = fields.STATUS[self.state.state]
        return f"{word} {self.state.attempt} {self.end}" if self.state.state.ended else word


def look(paths: RunPaths) -> Snapshot:
    """The folder as it is now.

    Raises UserError where it is no run.
    """
    state = read_state(paths)
    logs = sorted((paths.folder / "attempts").glob("*/log.json"))
    finished = state.state == State.FINISHED
    return Snapshot(
        paths=paths,
        spec=read_spec(paths),
        state=state,
        segments={log.parent.name: read_log(log) for log in logs},
        result=read_json(paths.result) if finished and paths.result.exists() else None,
    )

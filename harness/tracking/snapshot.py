"""What a run folder says at one moment."""

import time
from dataclasses import dataclass
from typing import Any

from harness.files import read_json
from harness.run_log import read_log, segments
from harness.run_paths import RunPaths, last_attempt
from harness.run_spec import RunSpec, read_spec
from harness.run_state import RunState, State, read_state
from harness.trial_file import TrialFile, read_trial

STATUS = {
    State.QUEUED: "SCHEDULED",
    State.RUNNING: "RUNNING",
    State.FINISHED: "FINISHED",
    State.FAILED: "FAILED",
    State.KILLED: "KILLED",
}
"""MLflow's word for a state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a run folder says. The state is read first, so a final state comes with all the rows before it."""

    paths: RunPaths
    spec: RunSpec
    state: RunState
    beginning: bool  # a further attempt has not said yet which rows of those before it count
    journal: dict[str, list[dict[str, Any]]]  # the rows that count, by attempt, such as 0001
    system: dict[str, list[dict[str, Any]]]  # by attempt and node, such as 0001/system-0
    result: dict[str, Any] | None
    benchmark: dict[str, Any] | None  # of a run that has finished: of `harness benchmark`, when it was done last
    trial: TrialFile | None  # of a study

    @property
    def segments(self) -> dict[str, list[dict[str, Any]]]:
        """All files of rows, in the order of shipping."""
        return self.journal | self.system

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The journal's rows."""
        return [row for rows in self.journal.values() for row in rows]

    @property
    def env(self) -> dict[str, Any]:
        """env_info of the newest attempt."""
        found = [row["env_info"] for row in self.rows if row.get("mode") == "attempt"]
        return found[-1] if found else {}

    @property
    def code(self) -> dict[str, Any]:
        """The code of the newest attempt, as provenance.Code has it."""
        return next((row["code"] for row in reversed(self.rows) if row.get("code")), {})

    @property
    def nodes(self) -> dict[int, str]:
        """The host of each node of the newest attempt that sampled system metrics."""
        newest = max(self.system, default="").split("/")[0]
        return {
            rows[-1]["node"]: rows[-1]["host"] for name, rows in self.system.items() if name.startswith(newest) and rows
        }

    @property
    def start(self) -> float:
        """When the first attempt started, seconds since 1970."""
        return next((row["time"] for row in self.rows if row.get("mode") == "attempt"), time.time())

    @property
    def end(self) -> float:
        """When the run was last heard of."""
        stamps = [float(row["stamp"]) for rows in self.segments.values() for row in rows if "stamp" in row]
        return max([self.state.updated, *stamps])

    @property
    def last_stamp(self) -> int:
        """Time of the last journal row, or of a later benchmark, in milliseconds."""
        stamps = [float(row["stamp"]) for row in self.rows if "stamp" in row] or [self.state.updated]
        measured = [float(self.benchmark["time"])] if self.benchmark else []
        return round(1000 * max([*stamps, *measured]))

    @property
    def status(self) -> str:
        """MLflow's status; of a run that has ended also the attempt and the time, as it may go on and end again, and

        when it was benchmarked.
        """
        word = STATUS[self.state.state]
        ended = f"{word} {self.state.attempt} {self.end}" if self.state.state.ended else word
        return f"{ended} {self.benchmark['time']}" if self.benchmark else ended


def look(paths: RunPaths) -> Snapshot:
    """The folder as it is now.

    Raises UserError where it is no run.
    """
    state = read_state(paths)
    journal, newest = segments(paths), last_attempt(paths)  # in this order, see `beginning`
    samples = sorted((paths.folder / "attempts").glob("*/system-*.json"))
    finished = state.state == State.FINISHED
    benchmark = read_json(paths.benchmark) if finished and paths.benchmark.exists() else None
    return Snapshot(
        paths=paths,
        spec=read_spec(paths),
        state=state,
        beginning=newest > 1 and f"{newest:04d}" not in journal and not state.state.ended,
        journal=journal,
        system={f"{file.parent.name}/{file.stem}": read_log(file) for file in samples},
        result=_with_benchmark(read_json(paths.result), benchmark) if finished and paths.result.exists() else None,
        benchmark=benchmark,
        trial=read_trial(paths),
    )


def _with_benchmark(result: dict[str, Any], benchmark: dict[str, Any] | None) -> dict[str, Any]:
    """The result with what was measured by itself on the same device; the memory of a whole training says more."""
    if benchmark is None or not result["hardware"] or benchmark["hardware"]["device"] != result["hardware"]["device"]:
        return result
    taken = {name: benchmark[name] for name in ("fps", "fps_images")}
    if result["memory_mb"] is None:
        taken |= {name: benchmark[name] for name in ("memory_mb", "memory_kind")}
    return result | taken

"""The controller of a study: it asks for trials, submits their runs, watches them, prunes, and tells what came out.

A trial's life is its run's state. All that the controller knows is in the ledger and in the run folders, so it may die
at any moment and come back: what was asked is submitted, what is dead is resumed, what has ended is told, once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import UserError
from harness.launching import prepare
from harness.launching.cluster import load_cluster
from harness.launching.prepare import PreparedRun
from harness.launching.slurm_ask import QUEUE_SECONDS
from harness.launching.standings import Standing, standings
from harness.launching.submit import submit
from harness.launching.supervision import replace_supervisor
from harness.leases import Lease
from harness.matrix import PlannedCell
from harness.recipe import to_dict, with_overrides
from harness.run_paths import RunPaths
from harness.run_state import State
from harness.settings import LOCAL, Settings
from harness.tracking.repair import repair
from harness.trial_file import TrialFile, read_trial, write_trial
from harness.tuning.budget import at_once, room
from harness.tuning.ending import end_pruned, forgive, give_up, give_up_hopeless, prune
from harness.tuning.ledger import FOLDER, Asked, Ledger
from harness.tuning.space import Choice, Param, edits
from harness.tuning.study_file import Study, storage_url
from harness.tuning.trials import Trial, TrialState, asked_params, judge, on_the_way, trials
from harness.tuning.turn import note_done, taking
from harness.wording import duration

POLL_SECONDS = 1.0
"""Between two looks at runs of this machine."""
PATIENCE = 900.0
"""Seconds for which a cluster that does not answer is asked again."""
FAILURES = 5
"""Trials in a row that may fail until the cause is likely to be none of theirs."""


def control(study: Study, settings: Settings, say: Callable[[str], object]) -> None:
    """Work on a study until its budget is used and its trials have ended; say gets a line for all that happens.

    Trials that failed in a row under the controller before are tried again, first.

    Raises UserError where another controller works on it, its storage cannot be used, anything that its runs need is
    missing, a cluster does not answer for PATIENCE seconds, or FAILURES trials in a row have failed.
    """
    if settings.cluster != LOCAL:
        load_cluster(settings.cluster)  # raises where it is not known
    prepare.prepare(study.experiment(tuple(_kinds(study))), settings)  # raises where anything is missing
    with taking(study, settings) as lease:
        ledger = Ledger(study, storage_url(study, settings))
        ledger.restore({trial.number: asked_params(trial.params) for trial in trials(study, settings)})
        for folder in ledger.ask_again():
            forgive(RunPaths(Path(folder)))
        _Controller(study, settings, ledger, lease, say).work()
        note_done(study, settings)


def _kinds(study: Study) -> Iterator[PlannedCell]:
    """The base, and with each value of each choice: what may need files of its own."""
    yield study.base
    for dimension in study.space:
        for value in dimension.values if isinstance(dimension, Choice) else ():
            yield replace(study.base, recipe=with_overrides(study.base.recipe, {dimension.field: value}))


@dataclass(slots=True)
class _Controller:
    study: Study
    settings: Settings
    ledger: Ledger
    lease: Lease
    say: Callable[[str], object]
    known: dict[int, tuple[PlannedCell, PreparedRun]] = field(default_factory=dict)  # by trial
    said: dict[int, str] = field(default_factory=dict)  # of a trial, last
    replacements: list[float] = field(default_factory=list)  # of supervisors
    failures: list[int] = field(default_factory=list)  # trials in a row
    first: bool = True

    def work(self) -> None:
        """Look again and again until nothing is left to do."""
        silent_since: float | None = None
        while True:
            self.lease.renew()
            try:
                going = self._look()
                silent_since = None
            except _Stop:
                raise
            except UserError as error:
                now = time.monotonic()
                silent_since = silent_since or now
                if self.first or self.settings.cluster == LOCAL or now - silent_since > PATIENCE:
                    raise
                if silent_since == now:
                    self.say(f"{error}; trying again")
                going = True
            if not going:
                return
            time.sleep(POLL_SECONDS if self.settings.cluster == LOCAL else QUEUE_SECONDS)

    def _look(self) -> bool:
        """Bring all trials one step further; whether any is still to end."""
        asked = self._sound(self.ledger.running())
        found = standings([self._paths(one) for one in asked])
        looked = zip(asked, found, strict=True)
        going = [(one, standing) for one, standing in looked if not self._has_ended(one, standing)]
        new = self._ask(len(going))
        self._submit([one for one, standing in going if self._waits(one, standing)] + self._sound(new))
        self.first = False
        if self.settings.cluster == LOCAL and any(standing.state.state == State.QUEUED for _, standing in going):
            replace_supervisor(self.settings, self.replacements)
        return bool(asked or new)

    def _sound(self, asked: Sequence[Asked]) -> list[Asked]:
        """Those that are runs; one whose values contradict each other has failed."""
        sound = []
        for one in asked:
            try:
                self._know(one)
                sound.append(one)
            except _Contradiction as error:
                self._fail(one, str(error))
        return sound

    def _know(self, one: Asked) -> None:
        """Prepare the run of a trial, and write into its folder which trial it is."""
        if one.number in self.known:
            return
        number = self.ledger.first_like(one)
        try:
            cell = self.study.cell(number, one.params)
        except UserError as error:
            raise _Contradiction(str(error)) from None
        (run,) = prepare.prepare(self.study.experiment((cell,)), self.settings)
        if read_trial(run.paths) is None:
            plain = to_dict(cell.recipe)
            params = {name: plain[name] for name in edits(self.study.space, one.params)}
            write_trial(run.paths, TrialFile(study=self.study.name, number=number, params=params))
        self.ledger.note(one.number, FOLDER, str(run.paths.folder))
        self.known[one.number] = cell, run

    def _paths(self, one: Asked) -> RunPaths:
        return self.known[one.number][1].paths

    def _has_ended(self, one: Asked, standing: Standing) -> bool:
        """Report what is new of a trial, end it where it is to be pruned, and tell what came out once it has ended."""
        paths, state = self._paths(one), standing.state
        mark = read_trial(paths)
        assert mark is not None
        values = on_the_way(self.study, paths)
        hopeless = self.ledger.report(one.number, values)
        mark = give_up_hopeless(paths, mark, state)
        trial = judge(self.study, paths, mark, state)
        if trial.state == TrialState.RUNNING and (mark.pruned or (hopeless and not self._is_last(one, values))):
            mark = mark if mark.pruned else prune(self.study, paths, mark, values)
            trial = end_pruned(self.study, self.settings, paths, mark, standing)
        if trial.state == TrialState.RUNNING:
            self._announce(one, _standing(mark, standing))
            return False
        repair([paths], self.settings.tracking_uri, self.say)
        self._tell(one, trial)
        return True

    def _tell(self, one: Asked, trial: Trial) -> None:
        if trial.state == TrialState.FAILED:
            self._fail(one, trial.reason)
            return
        if trial.values is None:
            self._announce(one, f"PRUNED {trial.reason}")
            self.ledger.tell_pruned(one.number, trial.reason)
        else:
            metrics = zip(self.study.objectives, trial.values, strict=True)
            told = ", ".join(f"{objective.metric} {objective.shown(value)}" for objective, value in metrics)
            self._announce(one, f"COMPLETE {told}")
            self.ledger.tell_complete(one.number, trial.values)
        self.failures.clear()
        self.say(self._progress())

    def _is_last(self, one: Asked, values: dict[int, float]) -> bool:
        """Whether the last of these values is that of the last epoch: nothing is spared then."""
        of_epochs = self.study.objectives[0].mode == "val"
        return of_epochs and max(values, default=0) >= self.known[one.number][0].executed.epochs

    def _waits(self, one: Asked, standing: Standing) -> bool:
        """Whether a trial's run is to be submitted: it never was, or it is dead."""
        if standing.state.state.ended:
            return True
        new = self.first or not self._paths(one).state.exists()
        return new and standing.state.state == State.QUEUED and not standing.queued

    def _submit(self, asked: Sequence[Asked]) -> None:
        """Start or resume the runs of these trials; what the house does not try again is given up."""
        if not asked:
            return
        cells = {self._paths(one): self.known[one.number][0] for one in asked}  # several may be one run
        for decision in submit(self.study.experiment(tuple(cells.values())), self.settings, retry=True):
            if decision.failed and (mark := read_trial(decision.run.paths)):
                give_up(decision.run.paths, mark, decision.text)

    def _fail(self, one: Asked, why: str) -> None:
        self._announce(one, f"FAILED {why}")
        self.ledger.tell_failed(one.number, why)
        self.failures.append(one.number)
        if len(self.failures) >= FAILURES:
            again = self.ledger.stumble(self.failures)
            more = f", which tries {again} of them once more" if again else ""
            raise _Stop(
                f"{FAILURES} trials in a row failed, the last one ({one.number}) with: {why}; mend the cause, then run "
                f"harness tune {self.study.path} again{more}"
            )

    def _ask(self, working: int) -> list[Asked]:
        """New trials, as many as there is room and budget for."""
        return [self.ledger.ask() for _ in range(room(self.study, self.settings, self.ledger.count, working))]

    def _announce(self, one: Asked, text: str) -> None:
        """Say where a trial stands, where that is news."""
        if self.said.get(one.number) != text:
            begins = one.number not in self.said
            self.said[one.number] = text
            params = ", ".join(f"{name}={_short(value)}" for name, value in one.params.items())
            self.say(f"trial {one.number}{f' ({params})' if begins else ''}: {text}")

    def _progress(self) -> str:
        """How many trials have ended, and when all will have."""
        all_, working = self.study.budget.trials, len(self.ledger.running())
        ended, mean = self.ledger.count - working, self.ledger.seconds()
        left = duration((all_ - ended) * mean / at_once(self.study, self.settings)) if mean else "?"
        return f"{ended} of {all_} trials have ended, {working} at work; ETA {left}"


def _standing(mark: TrialFile, standing: Standing) -> str:
    """Where a trial stands that has not ended, in a line."""
    if mark.pruned:
        return f"{mark.pruned}: told to save and leave"
    if standing.state.state.ended:
        return f"{standing.state.reason or standing.state.state}: goes on"
    return f"{standing.state.state} {standing.state.reason or standing.text}".rstrip()


def _short(value: Param) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Contradiction(UserError):
    """The values of a trial's fields do not go together."""


class _Stop(UserError):
    """What does not pass by itself."""

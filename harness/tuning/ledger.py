"""The ledger of a study: its trials as optuna has them, in an RDB that optuna-dashboard reads, too.

One controller asks and tells, so the trials need no heartbeats: a trial lives as long as its run does.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.recipe import diff, from_dict
from harness.settings import SQLITE
from harness.tuning.sampling import pruner, sampler, suggest
from harness.tuning.space import Param
from harness.tuning.study_file import Study

if TYPE_CHECKING:
    import optuna

DEFINITION = "harness.definition"
STUMBLED, WANTED = "harness.stumbled", "harness.wanted"
"""Attributes of a study: what its trials are, those that do not count, and which of them are to be asked again."""
REASON, FOLDER = "reason", "folder"
"""Attributes of its trials."""
LOCK_SECONDS = 60
"""For which an SQLite file may be locked by whoever else reads it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that has not been told."""

    number: int
    params: dict[str, Param]


class Ledger:
    """A study's storage, created on first use.

    Raises UserError where it cannot be reached, or holds a study of this name with other trials.
    """

    def __init__(self, study: Study, url: str) -> None:
        self.declared, self.url = study, url
        if find_spec("optuna") is None:
            raise UserError("a study needs optuna; now run: pip install 'maskrcnn-harness[tuning]'")
        with _answering(url):
            self.study = self._open()
            self._require_same()

    @property
    def count(self) -> int:
        """Of all trials that have been asked, but for those that stumbled."""
        return len(self._asked_for()) - len(self._noted(STUMBLED))

    def _asked_for(self) -> "list[optuna.trial.FrozenTrial]":
        from optuna.trial import TrialState

        with _answering(self.url):
            return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]

    def running(self) -> list[Asked]:
        """The trials that have not been told. One whose asking was cut short by a crash is asked to its end."""
        from optuna.trial import TrialState

        with _answering(self.url):
            found = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            fields = [dimension.field for dimension in self.declared.space]
            return [
                Asked(trial.number, {name: trial.params[name] for name in fields})
                if trial.params.keys() >= set(fields)
                else self._asked(self._trial(trial.number))
                for trial in found
            ]

    def ask(self) -> Asked:
        """The next trial. The first one is the base itself, where it lies in what is searched."""
        with _answering(self.url):
            number = len(self.study.get_trials(deepcopy=False))
            if number == 0 and (base := self.declared.base_params):
                self.study.enqueue_trial(base)
            self.study.sampler = sampler(self.declared, number)
            return self._asked(self.study.ask())

    def restore(self, known: Mapping[int, dict[str, Param]]) -> None:
        """Ask once more, under their numbers, for trials that have runs and are not here: the storage was lost."""
        for number in range(len(self._asked_for()), max(known, default=-1) + 1):
            with _answering(self.url):
                if number in known:
                    self.study.enqueue_trial(known[number])
                self._asked(self.study.ask())
            if number not in known:
                self.tell_failed(number, "it was the run of another trial, or none")

    def stumble(self, numbers: Sequence[int]) -> int:
        """Note of failed trials that the cause is none of theirs; how many have runs, and are to be asked again."""
        wanted = [trial.number for trial in self._asked_for() if trial.number in numbers and FOLDER in trial.user_attrs]
        self._note(WANTED, wanted)
        self._note(STUMBLED, [*self._noted(STUMBLED), *wanted])
        return len(wanted)

    def ask_again(self) -> list[str]:
        """Have the trials that stumbled asked again, before all others; the folders of their runs."""
        found = [trial for trial in self._asked_for() if trial.number in self._noted(WANTED)]
        for trial in found:
            with _answering(self.url):
                self.study.enqueue_trial(trial.params)
        self._note(WANTED, [])
        return [trial.user_attrs[FOLDER] for trial in found]

    def _noted(self, name: str) -> list[int]:
        with _answering(self.url):
            return list(self.study.user_attrs.get(name, []))

    def _note(self, name: str, numbers: list[int]) -> None:
        with _answering(self.url):
            self.study.set_user_attr(name, numbers)

    def first_like(self, asked: Asked) -> int:
        """The number of the first trial with the same parameters, perhaps its own: they are one run."""
        with _answering(self.url):
            found = self.study.get_trials(deepcopy=False)
        return min((trial.number for trial in found if trial.params == asked.params), default=asked.number)

    def note(self, number: int, name: str, value: str) -> None:
        """Write an attribute of a trial."""
        with _answering(self.url):
            self._trial(number).set_user_attr(name, value)

    def report(self, number: int, values: Mapping[int, float]) -> bool:
        """Report what is new of a trial's intermediate values (by step); whether the pruner would end it."""
        with _answering(self.url):
            known = self.study._storage.get_trial(self._id(number)).intermediate_values
            for step in sorted(set(values) - set(known)):
                trial = self._trial(number)
                trial.report(values[step], step)
                if self.declared.prunes and trial.should_prune():
                    return True
        return False

    def tell_complete(self, number: int, values: tuple[float, ...]) -> None:
        """The trial came to its end with these values, one an objective."""
        self._tell(number, "COMPLETE", values)

    def tell_pruned(self, number: int, reason: str) -> None:
        """The trial was ended early; its value is the last that was reported."""
        self._tell(number, "PRUNED", reason=reason)

    def tell_failed(self, number: int, reason: str) -> None:
        """The trial is given up."""
        self._tell(number, "FAIL", reason=reason)

    def seconds(self) -> float | None:
        """The mean from the asking of a trial to its end; None before the first one has ended."""
        with _answering(self.url):
            found = [trial.duration for trial in self.study.get_trials(deepcopy=False) if trial.duration]
        return sum(duration.total_seconds() for duration in found) / len(found) if found else None

    def _tell(self, number: int, state: str, values: tuple[float, ...] | None = None, reason: str = "") -> None:
        """Tell a trial, unless it has been told."""
        from optuna.trial import TrialState

        with _answering(self.url):
            if self.study._storage.get_trial(self._id(number)).state.is_finished():
                return
            if reason:
                self._trial(number).set_user_attr(REASON, reason)
            self.study.tell(number, values, state=TrialState[state])

    def _trial(self, number: int) -> "optuna.Trial":
        from optuna.trial import Trial

        self.study.sampler = sampler(self.declared, number)
        return Trial(self.study, self._id(number))

    def _id(self, number: int) -> int:
        """Of a trial, in the storage."""
        return int(self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

    def _asked(self, trial: "optuna.Trial") -> Asked:
        params = {dimension.field: suggest(trial, dimension) for dimension in self.declared.space}
        return Asked(trial.number, params)

    def _open(self) -> "optuna.Study":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if self.url.startswith(SQLITE):
            Path(self.url.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
            options = {"connect_args": {"timeout": LOCK_SECONDS}}
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage(self.url, engine_kwargs=options),
            study_name=self.declared.name,
            directions=[objective.direction for objective in self.declared.objectives],
            sampler=sampler(self.declared, 0),
            pruner=pruner(self.declared),
            load_if_exists=True,
        )
        study.set_metric_names([objective.metric for objective in self.declared.objectives])
        return study

    def _require_same(self) -> None:
        """Raise UserError where the study has trials of another definition; of a new one, write down this one."""
        mine = json.loads(json.dumps(self.declared.definition))
        theirs = self.study.user_attrs.get(DEFINITION)
        if theirs is None or not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(DEFINITION, mine)
        elif theirs != mine:
            changed = ", ".join(_changes(theirs, mine))
            raise UserError(
                f"{self.declared.path}: study {self.declared.name!r} began with other trials: {changed} changed since; "
                "undo that, or give the study another name"
            )


def _changes(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    for key in mine:
        if theirs.get(key) == mine[key]:
            continue
        if key == "recipe":
            yield from (f"recipe.{name}" for name in diff(from_dict(theirs[key]), from_dict(mine[key])))
        elif isinstance(mine[key], dict):
            names = sorted(theirs[key].keys() | mine[key].keys())
            yield from (f"{key}.{name}" for name in names if theirs[key].get(name) != mine[key].get(name))
        else:
            yield key


@contextmanager
def _answering(url: str) -> Iterator[None]:
    """Turn what goes wrong with the storage inside the block into one line."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
        raise UserError(f"storage of the study, {url}: {reason[:300]}") from None

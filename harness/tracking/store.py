"""The tracking store: opened safely by many processes at once, every run created once."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from harness import leases
from harness.errors import UserError
from harness.files import replacing
from harness.run_spec import RunSpec
from harness.tracking.home import require_home
from harness.tracking.note import Child, experiment_note

SQLITE = "sqlite:///"
SERVERS = ("http://", "https://", "postgresql", "mysql", "mssql", "databricks")

# MLflow's own tags.
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
COLOUR = "mlflow.runColor"  # of a run's curves; people may choose another one in MLflow
KIND = {"mlflow.experimentKind": "custom_model_development"}  # of an experiment: shown with training pages

# Ours.
ROLE = "harness.role"  # "experiment" of a parent, "run" of a child
KEY = "harness.key"
MIRROR = "harness.mirror"  # of the run folder that a child mirrors

PAGE = 100
"""Results in one answer of a server, which must come before its client gives up."""


class StoreError(UserError):
    """The store cannot be reached, or did not take what it was given."""


def absolute(uri: str) -> str:
    """The URI with an SQLite path made absolute, so that it means the same in every working folder.

    Raises UserError for what is no store.
    """
    if uri.startswith(SQLITE):
        return SQLITE + str(Path(uri.removeprefix(SQLITE)).expanduser().absolute())
    if not uri.startswith(SERVERS):
        raise UserError(f"tracking store {shown(uri)!r}: expected sqlite:///FILE or the http(s):// address of a server")
    return uri


def shown(uri: str) -> str:
    """The URI without user name and password, fit for messages and files."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def database(uri: str) -> Path | None:
    """The file of an SQLite store, or None for a server."""
    uri = absolute(uri)
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what goes wrong with the store inside the block into one line: StoreError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StoreError(f"tracking store {shown(uri)}: {shown_in(reason, uri)}") from error


def shown_in(text: str, uri: str) -> str:
    """A message with the store's user name and password taken out, and cut to a line's length."""
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    return (text.replace(f"{secret}@", "") if secret else text)[:500]


class Store:
    """A connection to a tracking store. The first use of a fresh SQLite file creates it.

    Raises StoreError where the store cannot be opened, and ForeignStore where it is an SQLite file of another host.
    """

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)
        _quieten()
        with answering(self.uri):
            self.client = _open(self.uri)

    def experiment_id(self, name: str, description: str = "") -> str:
        """The id of an MLflow experiment, created on first use, then with the description.

        Artifacts of an SQLite store lie in mlartifacts/ beside it, those of a server where the server says.
        """
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            file = database(self.uri)
            location = (file.parent / "mlartifacts" / name).as_uri() if file else None
            try:
                tags = KIND | {NOTE: description}
                return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
            except MlflowException:
                found = self.client.get_experiment_by_name(name)  # created by another process in between
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(
                f"tracking store {shown(self.uri)}: experiment {name!r} was deleted there; restore it "
                f"(mlflow experiments restore --experiment-id {found.experiment_id}) or use another name"
            )
        return str(found.experiment_id)

    def parent_run(self, experiment: str, description: str) -> str:
        """The id of the experiment's parent run, created on first use."""
        return self._once(
            self.experiment_id(experiment, description),
            {ROLE: "experiment", "harness.experiment": experiment},
            name=experiment,
            tags={NOTE: description},
            start=time.time(),
        )

    def child_run(self, spec: RunSpec, mirror: str, tags: Mapping[str, str], start: float) -> str:
        """The id of the run that mirrors a run folder, created on first use; found by its tags, never by its name."""
        return self._once(
            self.experiment_id(spec.experiment),
            {ROLE: "run", KEY: spec.key, MIRROR: mirror},
            name=f"{spec.name} seed {spec.seed}",
            tags=tags,
            start=start,
        )

    def settle_parent(self, experiment: str, parent: str, description: str) -> None:
        """Give the parent what follows from its children: its status (running while one of them is) and its note."""
        experiment_id = self.experiment_id(experiment)
        children = self._children(experiment_id, parent)
        statuses = {run.info.status for run in children}
        table = [Child(run.info.run_name, run.info.status, *_scores(run.data.metrics)) for run in children]
        self.client.set_tag(parent, NOTE, experiment_note(description, experiment_id, table))
        if statuses & {"RUNNING", "SCHEDULED"}:
            self.client.update_run(parent, status="RUNNING")
            return
        status = next((word for word in ("FAILED", "KILLED") if word in statuses), "FINISHED")
        self.client.set_terminated(parent, status, max(run.info.end_time for run in children))

    def _once(
        self, experiment_id: str, mark: Mapping[str, str], *, name: str, tags: Mapping[str, str], start: float
    ) -> str:
        """The oldest run with all tags of `mark`, created where there is none.

        Of several processes that create it together, each may see its own first: whoever sees more than one moves the
        children of the younger ones to the oldest, and deletes them.
        """
        found = self._marked(experiment_id, mark)
        if not found:
            self.client.create_run(experiment_id, start_time=int(start * 1000), tags={**tags, **mark}, run_name=name)
            found = self._marked(experiment_id, mark)
        for younger in found[1:]:
            for child in self._children(experiment_id, younger):
                self.client.set_tag(child.info.run_id, PARENT, found[0])
            self.client.delete_run(younger)
        return found[0]

    def _children(self, experiment_id: str, parent: str) -> list[Any]:
        return pages(self.client.search_runs, [experiment_id], f"tags.`{PARENT}` = '{parent}'")

    def _marked(self, experiment_id: str, mark: Mapping[str, str]) -> list[str]:
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in mark.items())
        runs = self.client.search_runs([experiment_id], condition)
        return [str(run.info.run_id) for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]


def _scores(metrics: Mapping[str, float]) -> tuple[float | None, float | None]:
    box, mask = (metrics.get(f"val/{kind}_mAP") for kind in ("bbox", "segm"))
    return box, mask


def pages(search: Any, *arguments: Any) -> list[Any]:
    """All results of a paged search of MLflow's client."""
    found = search(*arguments, max_results=PAGE)
    results = list(found)
    while found.token:
        found = search(*arguments, max_results=PAGE, page_token=found.token)
        results += found
    return results


def _open(uri: str) -> Any:
    """A client of the store. Only one process at a time creates the tables of an SQLite file: MLflow's own migration

    fails where several start together.
    """
    from mlflow import MlflowClient

    file = database(uri)
    if file is None:
        return MlflowClient(tracking_uri=uri)
    require_home(file)
    turn = file.with_name(f".{file.name}.lease")
    if _has_tables(file) and leases.is_idle(turn):  # in this order: the tables are made under the lease
        return MlflowClient(tracking_uri=uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with leases.holding(turn, patience=120):
        if not _has_tables(file):
            _make_tables(file)
        return MlflowClient(tracking_uri=uri)


def _make_tables(file: Path) -> None:
    """A new store, whole or not at all: what a kill leaves of MLflow's migrations, which take seconds, never opens."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    with replacing(file) as temporary:
        engine = sqlalchemy.create_engine(f"{SQLITE}{temporary}")
        _initialize_tables(engine)
        engine.dispose()


def _has_tables(file: Path) -> bool:
    """Whether the file holds a store, whole or (by another process, which holds the lease) in the making."""
    if not file.exists():
        return False
    # Not read-only: after a kill -9 in the middle of a write, whoever opens the file next must roll it back.
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True)) as connection:
        found = connection.execute("select count(*) from sqlite_master where name = 'alembic_version'")
        return bool(found.fetchone()[0])


def environment() -> dict[str, str]:
    """MLflow's settings for this project's processes, where the user has not chosen otherwise: nothing is sent to

    anybody else, and an unreachable server is noticed in seconds (the shipper has its own patience).
    """
    ours = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }
    return {name: os.environ.get(name, value) for name, value in ours.items()}


def _quieten() -> None:
    os.environ.update(environment())
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)

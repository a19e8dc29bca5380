"""Where things are and how many run at once: harness.toml and the environment. Nothing here changes results."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field

from harness import tomlfile
from harness.document import validate
from harness.errors import UserError
from harness.wording import did_you_mean, shown

if TYPE_CHECKING:
    from harness.data.coco import CocoSplit

FILE_NAME = "harness.toml"
SQLITE = "sqlite:///"
LOCAL = "local"
"""The cluster that is this machine."""
DATASET_VARIABLE = "HARNESS_DATASET_"
VARIABLES = {
    "run_root": ("HARNESS_RUN_ROOT",),
    "cache_root": ("HARNESS_CACHE_ROOT",),
    "tracking_uri": ("HARNESS_TRACKING_URI", "MLFLOW_TRACKING_URI"),
    "cluster": ("HARNESS_CLUSTER",),
    "local_jobs": ("HARNESS_LOCAL_JOBS",),
    "threads": ("HARNESS_THREADS",),
}
"""The environment variables of each setting, of which the first counts. A data set's root: DATASET_VARIABLE + NAME."""
CREDENTIALS = {
    "http": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "https": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "postgresql": ("PGUSER", "PGPASSWORD"),
}
"""Where the clients of a kind of store look for user name and password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPaths:
    """Where a data set in COCO layout is. Parts: relative to the root or absolute; None: found below the root."""

    root: Path
    train_images: str | None = None
    train_annotations: str | None = None
    val_images: str | None = None
    val_annotations: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, and where each came from: "default", "FILE:LINE" or "environment variable NAME"."""

    run_root: Path  # absolute, as all paths here
    cache_root: Path
    tracking_uri: str  # without a password
    cluster: str
    local_jobs: int  # local runs at the same time
    threads: int  # torch threads of each of them
    datasets: dict[str, DatasetPaths]
    origins: dict[str, str]  # by setting, data sets as "datasets.NAME"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]


class _DatasetBlock(_Strict):
    root: _Text | None = None
    train_images: _Text | None = None
    train_annotations: _Text | None = None
    val_images: _Text | None = None
    val_annotations: _Text | None = None


class _File(_Strict):
    run_root: _Text | None = None
    cache_root: _Text | None = None
    tracking_uri: _Text | None = None
    cluster: _Text | None = None
    local_jobs: _Count | None = None
    threads: _Count | None = None
    datasets: dict[str, _DatasetBlock] = {}


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as it was given: paths in it are relative to `folder`."""

    value: Any
    origin: str
    folder: Path

    def path(self) -> Path:
        return _path(self.value, self.folder)


def load_settings(cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings: the environment over the working folder's harness.toml, that over the user's, key by key.

    User name and password of the tracking store go from its address into this process's environment, which the
    processes that it starts inherit: an address is written to files, and seen by all in the list of processes.

    cwd: the working folder, by default the process's; environ: by default os.environ.
    Raises UserError with every mistake of the files, each as file:line:column, and of the environment.
    """
    folder = (cwd or Path.cwd()).absolute()
    variables = os.environ if environ is None else environ
    given: dict[str, _Given] = {}
    mistakes: list[str] = []
    for file in (user_file(variables), folder / FILE_NAME):
        if file.exists():
            try:
                given.update(_from_file(file))
            except UserError as error:
                mistakes.append(str(error))
    for name, value in _from_environment(variables, folder, [key.split(".")[1] for key in given if "." in key]):
        if name in ("local_jobs", "threads") and not (value.value.isdecimal() and int(value.value) > 0):
            mistakes.append(f"{value.origin} is {shown(value.value)}, expected a whole number from 1")
        given[name] = value
    if mistakes:
        raise UserError("\n".join(mistakes))
    if "tracking_uri" in given:
        given["tracking_uri"], secrets = _without_secrets(given["tracking_uri"])
        os.environ.update(secrets)
    return _settings(given, folder)


def user_file(environ: Mapping[str, str]) -> Path:
    """The user's harness.toml, below $XDG_CONFIG_HOME or ~/.config."""
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "maskrcnn-harness" / FILE_NAME


def _from_file(path: Path) -> dict[str, _Given]:
    document = tomlfile.load(path)
    file = validate(document, _File)
    document.raise_mistakes()
    plain = file.model_dump(exclude_none=True)
    blocks = plain.pop("datasets")
    flat: dict[tuple[str, ...], Any] = {(key,): value for key, value in plain.items()}
    flat |= {("datasets", name, key): value for name, block in blocks.items() for key, value in block.items()}
    return {
        ".".join(loc): _Given(value, f"{path}:{document.locate(loc, True)[0]}", path.parent)
        for loc, value in flat.items()
    }


def _from_environment(environ: Mapping[str, str], folder: Path, datasets: list[str]) -> Iterator[tuple[str, _Given]]:
    known = {re.sub(r"[^A-Z0-9]", "_", name.upper()): name for name in datasets}
    for name, variables in VARIABLES.items():
        variable = next((variable for variable in variables if environ.get(variable)), None)
        if variable:
            yield name, _Given(environ[variable], f"environment variable {variable}", folder)
    for variable, value in environ.items():
        if variable.startswith(DATASET_VARIABLE) and value:
            name = variable.removeprefix(DATASET_VARIABLE)
            yield (
                f"datasets.{known.get(name, name.lower())}.root",
                _Given(value, f"environment variable {variable}", folder),
            )


def _settings(given: dict[str, _Given], folder: Path) -> Settings:
    def value(name: str, default: Any) -> Any:
        return given[name].value if name in given else default

    run_root = given["run_root"].path() if "run_root" in given else folder / "runs"
    cache = Path("~/.cache/maskrcnn-harness").expanduser()
    local_jobs = int(value("local_jobs", 1))
    store = f"{SQLITE}{run_root.parent / 'mlflow.db'}"
    datasets, dataset_origins = _datasets(given)
    origins = {name: given[name].origin if name in given else "default" for name in VARIABLES}
    return Settings(
        run_root=run_root,
        cache_root=given["cache_root"].path() if "cache_root" in given else cache,
        tracking_uri=_uri(given["tracking_uri"]) if "tracking_uri" in given else store,
        cluster=value("cluster", LOCAL),
        local_jobs=local_jobs,
        threads=int(value("threads", max(1, len(os.sched_getaffinity(0)) // local_jobs))),
        datasets=datasets,
        origins=origins | dataset_origins,
    )


def _datasets(given: dict[str, _Given]) -> tuple[dict[str, DatasetPaths], dict[str, str]]:
    parts: dict[str, dict[str, _Given]] = {}
    for key, value in given.items():
        if key.startswith("datasets."):
            name, part = key.removeprefix("datasets.").rsplit(".", 1)
            parts.setdefault(name, {})[part] = value
    datasets, origins = {}, {}
    for name, block in sorted(parts.items()):
        if "root" not in block:
            part, value = next(iter(block.items()))
            raise UserError(f'{value.origin}: data set {name!r} has {part} but no root; add root = "FOLDER"')
        root = block["root"].path()
        rest = {part: value.value for part, value in block.items() if part != "root"}
        datasets[name] = DatasetPaths(root=root, **rest)
        origins[f"datasets.{name}"] = block["root"].origin
    return datasets, origins


def _path(text: str, folder: Path) -> Path:
    """Absolute; relative ones start at `folder`."""
    return Path(os.path.abspath(folder / Path(text).expanduser()))  # noqa: PTH100 (resolve would follow links)


def _without_secrets(given: _Given) -> tuple[_Given, dict[str, str]]:
    """A tracking URI without user name and password, and the environment variables that hold them instead.

    Raises UserError where it is no address, or the store's kind has no such variables.
    """
    try:
        parts = split_address(given.value)
    except ValueError:
        text = "tracking_uri is no address; expected sqlite:///FILE or http(s)://HOST:PORT"
        raise UserError(f"{given.origin}: {text}") from None
    if parts.password is None:
        return given, {}
    kind = parts.scheme.partition("+")[0]
    if kind not in CREDENTIALS:
        raise UserError(
            f"{given.origin}: a password in the address of a {kind} store would be seen in files and lists "
            "of processes; track to an MLflow server (harness ui --serve)"
        )
    values = (unquote(parts.username or ""), unquote(parts.password))
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return replace(given, value=bare), dict(zip(CREDENTIALS[kind], values, strict=True))


def split_address(url: str) -> SplitResult:
    """The parts of a store's address.

    Raises ValueError, whose text may hold a password, where host or port cannot be any, or a server has no host.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise ValueError("no host")
    _ = parts.port
    return parts


def _uri(given: _Given) -> str:
    """A tracking URI; the path of an SQLite one is made absolute."""
    uri = str(given.value)
    return f"{SQLITE}{_path(uri.removeprefix(SQLITE), given.folder)}" if uri.startswith(SQLITE) else uri


def dataset_paths(settings: Settings, name: str) -> DatasetPaths:
    """Where data set `name` is.

    Raises UserError that lists the known ones and shows the lines to add.
    """
    if name in settings.datasets:
        return settings.datasets[name]
    known = ", ".join(settings.datasets) or "none"
    raise UserError(
        f"unknown data set {name!r}{did_you_mean(name, settings.datasets)}; known: {known}. To add it to {FILE_NAME}:\n"
        f'  [datasets.{name}]\n  root = "FOLDER"'
    )


def dataset_split(settings: Settings, name: str, part: Literal["train", "val"]) -> "CocoSplit":
    """One half of data set `name`.

    Raises UserError where the data set is not known, or its files are not found.
    """
    paths = dataset_paths(settings, name)
    from harness.data.layout import find_split  # reads images with libraries that take their time

    images, annotations = (getattr(paths, f"{part}_{kind}") for kind in ("images", "annotations"))
    return find_split(paths.root, part, images=images, annotations=annotations)


def dataset_splits(settings: Settings, name: str) -> tuple["CocoSplit", "CocoSplit"]:
    """The training and the validation half of data set `name`; raises as dataset_split does."""
    return dataset_split(settings, name, "train"), dataset_split(settings, name, "val")

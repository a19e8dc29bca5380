"""A finished run in the published form: a folder with checkpoint, log, config and model card, ready for upload."""

import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.cell import parse_name
from harness.errors import UserError
from harness.files import fsync, read_json, sha256, umask, write_text
from harness.launching.model_card import card
from harness.run_paths import RunPaths
from harness.run_spec import Origin, RunSpec, read_spec
from harness.run_state import State, read_state
from harness.wording import did_you_mean

CARD, CONFIG, LOG = "README.md", "config.json", "log.json"


def find_run(target: str, run_root: Path) -> RunPaths:
    """The run that `target` means: its folder, or a cell's name (with its overrides) of which one run has finished.

    Raises UserError where it is neither, or several runs of that name have finished.
    """
    if RunPaths(Path(target)).spec.exists():
        return RunPaths(Path(target))
    runs = {RunPaths(spec.parent): read_spec(RunPaths(spec.parent)) for spec in sorted(run_root.glob("*/*/run.json"))}
    named = [
        paths
        for paths, spec in runs.items()
        if spec.name == target and spec.origin == Origin.TRAINED and read_state(paths).state == State.FINISHED
    ]
    if len(named) > 1:
        folders = "\n".join(f"  {paths.folder}" for paths in named)
        raise UserError(f"{len(named)} runs of {target} have finished; name the folder of one:\n{folders}")
    if not named:
        names = {spec.name for spec in runs.values()}
        if target not in names and "/" not in target:
            parse_name(target.partition("+")[0])
        near = did_you_mean(target, names - {target})
        raise UserError(f"{target}: no folder of a run, and no run of this name below {run_root} has finished{near}")
    return named[0]


def publish(paths: RunPaths, output: Path) -> Path:
    """Write the folder output/NAME_DATE-DIGEST of a finished run, all of it or nothing; DATE is when the run finished

    (UTC), DIGEST begins the checkpoint's sha256. The same run gives the same bytes; a folder that is there is left.
    Raises UserError where the run has not finished, was not trained here, or its checkpoint is not what it left.
    """
    spec = read_spec(paths)
    result = _result(paths, spec)
    source = _checkpoint(paths, result)
    stem = f"{shown_name(spec)[:160]}_{finished(paths):%Y%m%d_%H%M%S}"
    try:
        output.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".publishing.", dir=output))
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}; give another --output") from None
    try:
        weights = _write_weights(source, temporary, stem)
        folder = output / weights.stem
        if folder.exists():
            return _present(folder, weights)
        shutil.copyfile(paths.log, temporary / LOG)
        shutil.copyfile(paths.config, temporary / CONFIG)
        write_text(temporary / CARD, card(spec, result, weights))
        for path in (*temporary.iterdir(), temporary):
            fsync(path)
        temporary.chmod(0o777 & ~umask())
        temporary.rename(folder)
        fsync(output)
        return folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def shown_name(spec: RunSpec) -> str:
    """The cell's name with all that keeps the result from standing for the cell."""
    shortened = "+shortened" if spec.shortening else ""
    precision = f"+{spec.precision}" if spec.precision != spec.recipe.precision else ""
    return f"{spec.name}{shortened}{precision}"


def finished(paths: RunPaths) -> datetime:
    """When the run finished."""
    return datetime.fromtimestamp(read_state(paths).updated, UTC)


def _result(paths: RunPaths, spec: RunSpec) -> dict[str, Any]:
    if spec.origin != Origin.TRAINED:
        raise UserError(f"{paths.folder}: was not trained here ({spec.origin}); there is nothing of ours to publish")
    state = read_state(paths)
    if state.state != State.FINISHED:
        why = f"{state.state}{f' ({state.reason})' if state.reason else ''}"
        raise UserError(
            f"{paths.folder}: is {why}; only a finished run is published; harness status says how it goes on"
        )
    result: dict[str, Any] = read_json(paths.result)
    return result


def _checkpoint(paths: RunPaths, result: Mapping[str, Any]) -> Path:
    facts = result["files"]["checkpoint"]
    path = paths.checkpoints / Path(facts["path"]).name
    if not path.is_file():
        raise UserError(f"{path}: is gone, the checkpoint that the run left; there is nothing to publish")
    if sha256(path) != facts["sha256"]:
        raise UserError(f"{path}: is not what the run left (sha256 {facts['sha256']}): damaged or altered")
    return path


def _write_weights(source: Path, folder: Path, stem: str) -> Path:
    """meta and state_dict alone, under the published name, loaded back strictly."""
    import torch

    from harness.training import checkpoint
    from harness.training.restore import restore

    content = checkpoint.load(source)
    path = folder / f"{stem}.pth"
    with path.open("wb") as file:  # given a path, torch would write its name into the file
        torch.save({"meta": content["meta"], "state_dict": content["state_dict"]}, file)
    path = path.rename(folder / f"{stem}-{sha256(path)[:8]}.pth")
    restore(path)
    return path


def _present(folder: Path, weights: Path) -> Path:
    there = folder / weights.name
    if not there.is_file() or sha256(there) != sha256(weights):
        raise UserError(f"{folder}: is there, but without this checkpoint; move it away")
    return folder

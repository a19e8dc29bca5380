"""The experiments and published rows that come with the package."""

import difflib
from importlib.resources import files
from pathlib import Path

from harness.errors import UserError


def find_experiment(path: Path) -> Path:
    """`path` if it exists; else the shipped experiment of that bare name ("zoo").

    Raises UserError where there is no such file, with the nearest one there, or a shipped experiment of its name.
    """
    if path.exists():
        return path
    found = shipped_file(Path(f"{path.stem}.yaml"))
    if found.exists() and (path.suffix or len(path.parts) != 1):
        raise UserError(f"{path}: no such file; did you mean '{path.stem}', the one that comes with the package?")
    if not found.exists():
        there = {file.stem: file for folder in (Path(), Path("experiments")) for file in folder.glob("*.yaml")}
        near = difflib.get_close_matches(path.stem, there, n=1)
        raise UserError(f"{path}: no such file{f', did you mean {there[near[0]]}?' if near else ''}")
    return found


def shipped_file(name: Path) -> Path:
    """Where a file of experiments/ lies: in the installed package, or in the checkout."""
    installed = Path(str(files("harness"))) / "experiments" / name
    return installed if installed.exists() else Path(__file__).resolve().parent.parent / "experiments" / name

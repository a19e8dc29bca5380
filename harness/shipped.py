"""The experiments and published rows that come with the package."""

from importlib.resources import files
from pathlib import Path

from harness.errors import UserError


def find_experiment(path: Path) -> Path:
    """`path` if it exists; else the shipped experiment of that bare name ("zoo"), where there is one; else `path`.

    Raises UserError where there is no such file, but a shipped experiment of its name.
    """
    found = shipped_file(Path(f"{path.stem}.yaml"))
    if path.exists() or not found.exists():
        return path
    if path.suffix or len(path.parts) != 1:
        raise UserError(f"{path}: no such file; did you mean '{path.stem}', the one that comes with the package?")
    return found


def shipped_file(name: Path) -> Path:
    """Where a file of experiments/ lies: in the installed package, or in the checkout."""
    installed = Path(str(files("harness"))) / "experiments" / name
    return installed if installed.exists() else Path(__file__).resolve().parent.parent / "experiments" / name

"""The experiments and published rows that come with the package."""

from importlib.resources import files
from pathlib import Path


def find_experiment(path: Path) -> Path:
    """`path` if it exists; else the shipped experiment of that bare name ("zoo"), where there is one; else `path`."""
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    found = shipped_file(Path(f"{path}.yaml"))
    return found if found.exists() else path


def shipped_file(name: Path) -> Path:
    """Where a file of experiments/ lies: in the installed package, or in the checkout."""
    installed = Path(str(files("harness"))) / "experiments" / name
    return installed if installed.exists() else Path(__file__).resolve().parent.parent / "experiments" / name

"""The experiments that come with the package."""

from importlib.resources import files
from pathlib import Path


def find_experiment(path: Path) -> Path:
    """`path` if it exists; else the shipped experiment of that bare name ("zoo"), where there is one; else `path`."""
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    shipped = Path(str(files("harness"))) / "experiments" / f"{path}.yaml"
    beside = Path(__file__).resolve().parent.parent / "experiments" / f"{path}.yaml"
    return next((candidate for candidate in (shipped, beside) if candidate.exists()), path)

"""How a report is written again, as it says itself."""

import shlex
from pathlib import Path

from harness.reporting.manifest import MANIFEST
from harness.shipped import shipped_file

REPORTS = Path("reports")
"""The folder of reports."""


def report_command(matrix: Path, name: str, output: Path, option: str = "") -> str:
    """What follows `harness report`: the matrix file, the option, and the folder where it is not reports/NAME."""
    words = [shlex.quote(typed_path(matrix)), *([option] if option else [])]
    if output.resolve() != (REPORTS / name).resolve():
        words.append(f"--output {shlex.quote(typed_path(output))}")
    return " ".join(words)


def verify_command(command: str, name: str) -> str:
    """What follows `harness manifest verify` for the report of a command: the matrix file, or the manifest of what lies

    elsewhere or is of another kind.
    """
    _, *options = shlex.split(command)
    if not options:
        return command
    folder = options[options.index("--output") + 1] if "--output" in options else REPORTS / name
    return shlex.quote(f"{folder}/{MANIFEST}")


def typed_path(path: Path) -> str:
    """A file as one types it: relative to the working folder, else by its name; of what is shipped, the bare one."""
    full, here = path.resolve(), Path.cwd()
    if full.is_relative_to(here):
        return full.relative_to(here).as_posix()
    return path.stem if full == shipped_file(Path(path.name)).resolve() else path.name

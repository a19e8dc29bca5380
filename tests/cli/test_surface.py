"""The commands and options, frozen: a change here is a change for everybody's scripts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cli.conftest import Harness
from harness.cli.commands import app

FROZEN = Path(__file__).parent / "frozen"


def surface() -> dict[str, list[str]]:
    """Command -> its arguments and options, and whether they are required."""
    found: dict[str, list[str]] = {}

    def walk(name: str, command: object) -> None:
        for child, sub in getattr(command, "commands", {}).items():
            walk(f"{name} {child}".strip(), sub)
        if not hasattr(command, "commands"):
            parameters = command.params  # type: ignore[attr-defined]
            found[name] = [f"{' '.join(p.opts)}{' required' if p.required else ''}" for p in parameters]

    walk("", typer.main.get_command(app))
    return found


def test_surface() -> None:
    assert surface() == json.loads((FROZEN / "surface.json").read_text())


def test_help(harness: Harness) -> None:
    """harness/cli/help.txt is shown; it is what typer says of the commands as they are."""
    code, out, _ = harness("--help")
    assert code == 0
    assert out == (FROZEN / "help.txt").read_text()
    assert harness("--help", "--help")[1] == out  # typer's own


def test_help_imports_next_to_nothing() -> None:
    code = (
        "import sys\nfrom harness.cli import main\nsys.argv = ['harness', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print('HEAVY', {'typer', 'pydantic', 'inspect'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY set()"


@pytest.mark.parametrize("words", [("--help",), ("submit", "--help"), ("plan", "zoo"), ("show", "--rules")])
def test_light_commands_import_nothing_heavy(words: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom harness.cli import main\nsys.argv = ['harness', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as leaving:\n    assert not leaving.code\n"
        "print('HEAVY', [m for m in ('torch', 'mlflow', 'pandas', 'numpy', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"

"""The command line. `harness --help` is answered from a file, as it is asked most and importing typer takes longest."""

import sys
from pathlib import Path

from harness.errors import UserError


def main() -> None:
    """Run a command. A user's mistake, or a file that cannot be read or written, is a line on stderr and exit code 2;

    Ctrl-C is 130.
    """
    if sys.argv[1:] == ["--help"]:
        print(help_text(), end="")
        sys.exit()
    try:
        sys.exit(_run())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        print(f"error: {error.filename or 'the system says'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def help_text() -> str:
    """What typer says of all commands; tests/cli/test_surface.py holds the file to that."""
    return Path(__file__).with_name("help.txt").read_text(encoding="utf-8")


def _run() -> int:
    """Run a command; its exit code. What is wrong with its words is told as typer does, but like all other mistakes."""
    import io
    from typing import cast

    import typer

    from harness.cli.commands import app

    usage_error = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])
    try:
        return app(standalone_mode=False) or 0
    except usage_error as error:
        error.show(text := io.StringIO())
        print(text.getvalue().replace("\nError: ", "\nerror: "), end="", file=sys.stderr)
        return 2

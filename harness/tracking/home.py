"""The one host that opens an SQLite store: its locks cannot be trusted from others, over a shared file system.

The host that used the store first is its home, named in FILE.host beside it. Runs on other hosts leave the store alone,
and `harness sync` at its home ships them.
"""

import os
import socket
import tempfile
from pathlib import Path

from harness.errors import UserError
from harness.files import write_text


class ForeignStore(UserError):
    """The store is an SQLite file of another host."""


def home_file(file: Path) -> Path:
    """Where the home of an SQLite file is named."""
    return file.with_name(f"{file.name}.host")


def home(file: Path) -> str | None:
    """The host that an SQLite store belongs to, or None before its first use."""
    named = home_file(file)
    return named.read_text(encoding="utf-8").strip() if named.exists() else None


def claim(file: Path) -> None:
    """Make this host the home of an SQLite store that has none. Of hosts that do so together, one wins."""
    named = home_file(file)
    if named.exists():
        return
    named.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{named.name}.", dir=named.parent) as temporary:
        source = Path(temporary) / named.name
        write_text(source, f"{socket.gethostname()}\n")
        try:
            os.link(source, named)
        except FileExistsError:
            return


def require_home(file: Path) -> None:
    """Claim the store if it has no home.

    Raises ForeignStore where another host is its home.
    """
    claim(file)
    owner = home(file)
    if owner != socket.gethostname():
        raise ForeignStore(
            f"tracking store sqlite:///{file}: only {owner} opens this SQLite file (this is {socket.gethostname()}); "
            f"now run there: harness sync. Or track to a server (harness ui --serve on {owner}); if {owner} is gone "
            f"for good, remove {home_file(file)}"
        )

"""TOML files with line and column for every complaint."""

import re
import tomllib
from functools import partial
from pathlib import Path

from harness.document import Document, Loc, read_text
from harness.errors import UserError

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(
    r"(\s*)((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)(\s*=\s*)"
)
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")


def load(path: Path) -> Document:
    """Read a TOML file.

    Raises UserError with file:line:column where it is missing, unreadable or no TOML.
    """
    text = read_text(path)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}:{_told(str(error), text)}") from None
    return Document(path=path, tree=tree, locate=partial(_position, _places(text)))


def _told(message: str, text: str) -> str:
    """tomllib's "What (at line 1, column 2)", or "What (at end of document)", as "1:2: not valid TOML: what"."""
    what, _, where = message.rpartition(" (at ")
    numbers = re.findall(r"\d+", where) or [text.count("\n") + 1, len(text) - text.rfind("\n")]
    return f"{numbers[0]}:{numbers[1]}: not valid TOML: {what[:1].lower()}{what[1:]}"


def _places(text: str) -> dict[Loc, tuple[int, int, int]]:
    """Of each table and key at the start of a line: line, column of the key, column of the value; from 1."""
    found: dict[Loc, tuple[int, int, int]] = {}
    table: Loc = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            found[table] = (number, header.start(1) + 1, header.start(1) + 1)
        elif key := _KEY.match(line):
            found[(*table, *_parts(key[2]))] = (number, key.start(2) + 1, key.end() + 1)
    return found


def _parts(dotted: str) -> Loc:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _position(places: dict[Loc, tuple[int, int, int]], loc: Loc, key: bool) -> tuple[int, int]:
    """Of the deepest part of `loc` that has a line of its own: a value in an inline table stands at the table."""
    for length in range(len(loc), 0, -1):
        if loc[:length] in places:
            line, of_key, of_value = places[loc[:length]]
            return line, of_key if key and length == len(loc) else of_value
    return 1, 1

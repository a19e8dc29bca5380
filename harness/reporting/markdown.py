"""Tables and text as GitHub-flavoured markdown."""

import re
import string
from collections.abc import Sequence
from urllib.parse import quote

from harness.reporting.tables import Link, ResultTable, TableCell, TableRow


def escape(text: str) -> str:
    """Free text on one line, without meaning to markdown or to a table."""
    text = re.sub(r"[\\`*\[\]]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)  # an underscore within a word is itself
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").replace("~", "&#126;")
    return " ".join(text.split())


def link(entry: Link) -> str:
    """[text](target), with what would end the target early percent-encoded."""
    return f"[{escape(entry.text)}]({quote(entry.target, safe='/:+,=@~')})"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table with centred columns, from texts that are escaped already."""
    return [
        f"| {' | '.join(columns)} |",
        f"| {' | '.join(':---:' for _ in columns)} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def letters(shown: ResultTable) -> dict[str, str]:
    """The table's footnotes, each with its letter, in the order in which the rows have them."""
    found: dict[str, str] = {}
    for row in shown.rows:
        for mark in row.marks:
            found.setdefault(mark, _letter(len(found)))
    return found


def noted(row: TableRow, footnotes: dict[str, str]) -> str:
    """The letters of a row's marks, such as "a, c"."""
    return ", ".join(letter for mark, letter in footnotes.items() if mark in row.marks)


def result_table(shown: ResultTable) -> list[str]:
    """The lines of a table of results, with its footnotes, a letter each, under it."""
    footnotes = letters(shown)
    rows = []
    for row in shown.rows:
        first, *rest = (_cell(cell) for cell in row.cells)
        beside = noted(row, footnotes)
        rows.append([f"{first} <sup>{beside}</sup>" if beside else first, *rest])
    notes = [f"<sup>{letter}</sup> {escape(mark)}<br>" for mark, letter in footnotes.items()]
    if notes:
        notes = ["", *notes[:-1], notes[-1].removesuffix("<br>")]
    return [*table([escape(column) for column in shown.columns], rows), *notes]


def _cell(cell: TableCell) -> str:
    return escape(cell) if isinstance(cell, str) else " &#124; ".join(map(link, cell))


def _letter(index: int) -> str:
    """a, b .. z, aa, ab ..."""
    head, tail = divmod(index, 26)
    return (_letter(head - 1) if head else "") + string.ascii_lowercase[tail]

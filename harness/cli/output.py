"""Printing: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: Any) -> None:
    """Print JSON, readable; paths as texts."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns, aligned; numbers to the right."""
    texts = [[str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *texts]) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(header))]
    rules = ["-" * width for width in widths[:-1]] + ["-" * len(header[-1])]
    for row in [list(header), rules, *texts]:
        cells = [text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right, strict=True)]
        print("  ".join(cells).rstrip())


def print_note(text: str) -> None:
    """Print a line that is no part of the answer, to stderr."""
    print(f"note: {text}", file=sys.stderr)

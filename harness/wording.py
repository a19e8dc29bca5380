"""How messages to a user name values: what was found, what was expected, what may have been meant."""

import difflib
from collections.abc import Iterable, Mapping


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """ ", did you mean 'X'?", or nothing where no valid name is near."""
    near = difflib.get_close_matches(found, list(valid), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def listed(values: Iterable[object]) -> str:
    """'a', 'b' or 'c'; booleans as YAML writes them."""
    return joined(shown(value) for value in values)


def joined(texts: Iterable[str]) -> str:
    """a, b or c."""
    parts = list(texts)
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def count(number: int, noun: str) -> str:
    """1 cell, 2 cells, 3 entries, 4 processes."""
    if number == 1:
        return f"1 {noun}"
    ending = "ies" if noun.endswith("y") else "es" if noun.endswith("s") else "s"
    return f"{number} {noun.removesuffix('y')}{ending}"


def shown(value: object) -> str:
    """A value that was found, as a file writes it: nothing, true, 'text', 12; a long one cut to 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def percent(value: float | None) -> str:
    """An AP between 0 and 1 as tables show it: "38.2"; "-" where it was not measured."""
    return "-" if value is None else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Such as 45s, 12m, 3h05m, 2d04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def hours(number: float) -> str:
    """GPU-hours, such as 0, 0.0034, 0.12 or 96.3."""
    if number >= 10 or not number:
        return f"{number:.1f}" if number else "0"
    return f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


def size(number: int) -> str:
    """Bytes, such as 12 MB or 1.4 TB."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB" if value < 1000 else f"{value / 1000:.1f} TB"

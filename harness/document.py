"""A parsed file of settings or of a matrix: its plain data, the place of each part, and the mistakes found in it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UserError
from harness.wording import did_you_mean, joined, listed, shown

Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(slots=True)
class Document:
    """Plain data with places. `locate(loc, key)`: line and column, from 1, of the value at `loc`, or of its key."""

    path: Path
    tree: dict[str, Any]
    locate: Callable[[Loc, bool], tuple[int, int]]
    mistakes: list[tuple[int, int, str]] = field(default_factory=list)

    def mistake(self, loc: Loc, text: str, *, key: bool = False) -> None:
        """Note a mistake in the value at `loc` (key: in the key itself)."""
        line, column = self.locate(loc, key)
        if (line, column, text) not in self.mistakes:
            self.mistakes.append((line, column, text))

    def raise_mistakes(self) -> None:
        """Raise one UserError with every mistake, a line each, in the file's order."""
        if self.mistakes:
            raise UserError(
                "\n".join(f"{self.path}:{line}:{column}: {text}" for line, column, text in sorted(self.mistakes))
            )


def read_text(path: Path) -> str:
    """The UTF-8 text of a file.

    Raises UserError where it is missing, unreadable, a folder or other than UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, expected a file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None


def validate(document: Document, model: type[Model]) -> Model:
    """The document as `model`, without the parts that do not fit: they are noted as mistakes.

    Raises UserError where nothing is left to go on with.
    """
    tree = copy.deepcopy(document.tree)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        _note(document, model, tree, error.errors())
        return _pruned(document, model, tree, error.errors())


def _note(document: Document, model: type[BaseModel], tree: Any, problems: Sequence[Any]) -> None:
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            _note_unknown_key(document, model, problem["loc"])
        elif problem["type"] == "missing":
            document.mistake(problem["loc"][:-1], f"key {problem['loc'][-1]!r} is missing")
    for loc, here in _deepest(tree, problems).items():
        keys = (part for part in loc if isinstance(part, str))
        name = ".".join(key if key.isprintable() else repr(key) for key in keys)
        expected = joined(dict.fromkeys(_expected(problem) for problem in here))
        document.mistake(loc, f"{name} is {shown(here[0]['input'])}, expected {expected}")


def _pruned(document: Document, model: type[Model], tree: Any, problems: Sequence[Any]) -> Model:
    """The tree as `model` without the innermost keys that hold problems, nor those which that leaves incomplete."""
    places = {_innermost_key(_place(tree, problem["loc"])) for problem in problems}
    if () in places:
        document.raise_mistakes()
    for place in sorted(places, key=len, reverse=True):
        node = tree
        for part in place[:-1]:
            node = node[part]
        del node[place[-1]]
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        return _pruned(document, model, tree, error.errors())


def _innermost_key(loc: Loc) -> Loc:
    keys = [index for index, part in enumerate(loc) if isinstance(part, str)]
    return loc[: keys[-1] + 1] if keys else ()


def _note_unknown_key(document: Document, model: type[BaseModel], loc: Loc) -> None:
    valid = _valid_keys(model, loc[:-1])
    text = f"unknown key {loc[-1]!r}{did_you_mean(str(loc[-1]), valid)}; expected {listed(valid)}"
    document.mistake(loc, text, key=True)


def _deepest(tree: Any, problems: Sequence[Any]) -> dict[Loc, list[Any]]:
    """Place -> problems of its value. Where every branch of a union complains, the one that came furthest is heard."""
    found: dict[Loc, list[Any]] = {}
    for problem in problems:
        if problem["type"] not in ("extra_forbidden", "missing"):
            found.setdefault(_place(tree, problem["loc"]), []).append(problem)
    return {loc: here for loc, here in found.items() if not any(other[: len(loc)] == loc != other for other in found)}


def _place(tree: Any, loc: Loc) -> Loc:
    """The steps of `loc` that the tree has; pydantic puts the names of union branches between them."""
    steps: list[str | int] = []
    node: Any = tree
    for part in loc:
        if part in node if isinstance(node, dict) else (isinstance(node, list) and isinstance(part, int)):
            steps.append(part)
            node = node[part]
    return tuple(steps)


_EXPECTED = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "greater_than": "more than {gt}",
    "too_short": "at least {min_length} entry",
    "string_too_short": "at least {min_length} character",
    "literal_error": "{expected}",
}


def _expected(problem: Any) -> str:
    template = _EXPECTED.get(problem["type"])
    return template.format(**problem.get("ctx", {})) if template else str(problem["msg"])


def _valid_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    current: Any = model
    for part in loc:
        if isinstance(part, str) and part in current.model_fields:
            current = _inner_model(current.model_fields[part].annotation)
    return [entry.alias or name for name, entry in current.model_fields.items()]


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inner = _inner_model(argument)
        if inner is not None:
            return inner
    return None

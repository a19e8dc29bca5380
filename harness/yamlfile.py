"""YAML files with line and column for every complaint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from harness.errors import UserError
from harness.wording import did_you_mean, listed, shown

Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(slots=True)
class Document:
    """A safe-loaded YAML file: plain data, the position of each of its parts, and the mistakes found so far."""

    path: Path
    tree: Any
    mistakes: list[tuple[int, int, str]] = field(default_factory=list)

    def mistake(self, loc: Loc, text: str, *, key: bool = False) -> None:
        """Note a mistake in the value at `loc` (key: in the key itself)."""
        line, column = self.position(loc, key=key)
        if (line, column, text) not in self.mistakes:
            self.mistakes.append((line, column, text))

    def position(self, loc: Loc, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the deepest part of `loc` that the file has; of its key where it has no value."""
        node, where = self.tree, (0, 0)
        for index, part in enumerate(loc):
            last = index == len(loc) - 1
            if isinstance(node, CommentedMap) and part in node:
                if part not in node.lc.data:  # merged in by `<<`: the mapping's own place stands for it
                    break
                where = node.lc.key(part) if (key and last) or node[part] is None else node.lc.value(part)
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                where = node.lc.item(part)
            else:
                break
            node = node[part]
        return where[0] + 1, where[1] + 1

    def raise_mistakes(self) -> None:
        """Raise one UserError with every mistake, a line each, in the file's order."""
        if self.mistakes:
            raise UserError(
                "\n".join(f"{self.path}:{line}:{column}: {text}" for line, column, text in sorted(self.mistakes))
            )


def load(path: Path) -> Document:
    """Safe-load a YAML 1.2 file of mappings with text keys, lists, texts, numbers, booleans and nothing else.

    Raises UserError with file:line:column: missing file, broken syntax, a repeated key, a file that is no mapping, a
    date or a tagged value, an alias inside its own anchor.
    """
    try:
        tree = YAML(typ="rt", pure=True).load(_text(path))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except ReaderError as error:
        raise UserError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: not a matrix or settings file: its lists are nested hundreds deep") from None
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{path}:1:1: expected a mapping such as 'name: ...', found {shown(tree)}")
    document = Document(path, tree)
    for loc, text, key in _foreign(tree, (), ()):
        document.mistake(loc, text, key=key)
    document.raise_mistakes()
    return document


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, expected a YAML file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None


def _foreign(node: Any, loc: Loc, above: tuple[int, ...]) -> Iterator[tuple[Loc, str, bool]]:
    """What no file of ours holds: (place, complaint, whether it is about the key)."""
    if id(node) in above:
        yield loc, "this alias stands inside its own anchor", False
    elif isinstance(node, CommentedMap) and type(node) is CommentedMap:
        for key, value in node.items():
            if not isinstance(key, str):
                yield (*loc, key), f"key {shown(key)} is no text; put it in quotes, or mend it", True
            yield from _foreign(value, (*loc, key), (*above, id(node)))
    elif isinstance(node, CommentedSeq):
        for index, value in enumerate(node):
            yield from _foreign(value, (*loc, index), (*above, id(node)))
    elif not isinstance(node, bool | int | float | str | None):
        yield loc, "expected a text, a number, true or false, found a date or a tagged value; quote a text", False


def plain(node: Any) -> Any:
    """The tree without ruamel's types."""
    if isinstance(node, CommentedMap):
        return {plain(key): plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [plain(value) for value in node]
    if isinstance(node, ScalarBoolean):  # an anchored one: no bool, but an int
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def validate(document: Document, model: type[Model]) -> Model | None:
    """The document as `model`; None, with the mistakes noted, where it does not fit."""
    try:
        return model.model_validate(plain(document.tree))
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] == "extra_forbidden":
                _note_unknown_key(document, model, problem["loc"])
            elif problem["type"] == "missing":
                document.mistake(problem["loc"][:-1], f"key {problem['loc'][-1]!r} is missing")
        for loc, problems in _deepest(document.tree, error.errors()).items():
            name = ".".join(str(part) for part in loc if isinstance(part, str))
            expected = " or ".join(dict.fromkeys(_expected(problem) for problem in problems))
            document.mistake(loc, f"{name} is {shown(problems[0]['input'])}, expected {expected}")
        return None


def _note_unknown_key(document: Document, model: type[BaseModel], loc: Loc) -> None:
    valid = _valid_keys(model, loc[:-1])
    text = f"unknown key {loc[-1]!r}{did_you_mean(str(loc[-1]), valid)}; expected {listed(valid)}"
    document.mistake(loc, text, key=True)


def _deepest(tree: Any, problems: Sequence[Any]) -> dict[Loc, list[Any]]:
    """Place -> its wrong values' problems. Every branch of a union complains: only the branch that came furthest does."""
    found: dict[Loc, list[Any]] = {}
    for problem in problems:
        if problem["type"] not in ("extra_forbidden", "missing"):
            found.setdefault(_place(tree, problem["loc"]), []).append(problem)
    return {
        loc: here for loc, here in found.items() if not any(other[: len(loc)] == loc != other for other in found)
    }


def _place(tree: Any, loc: Loc) -> Loc:
    """The steps of `loc` that the tree has; pydantic puts the names of union branches between them."""
    steps: list[str | int] = []
    node = tree
    for part in loc:
        if isinstance(node, dict) and part in node or isinstance(node, list) and isinstance(part, int):
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
    "too_short": "at least {min_length} in it",
    "string_too_short": "at least {min_length} character",
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

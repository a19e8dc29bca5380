"""YAML files with line and column for every complaint."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.cell import did_you_mean
from harness.errors import UserError

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
        """Line and column, from 1, of the deepest part of `loc` that the file has."""
        node, where = self.tree, (0, 0)
        for index, part in enumerate(loc):
            if isinstance(node, CommentedMap) and part in node:
                last = index == len(loc) - 1
                where = node.lc.key(part) if key and last else node.lc.value(part)
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
    """Safe-load a YAML 1.2 file.

    Raises UserError with file:line:column: missing file, broken syntax, a repeated key, a file that is no mapping.
    """
    yaml = YAML(typ="rt", pure=True)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{path}:1:1: expected a mapping such as 'name: ...', found {_kind(tree)}")
    return Document(path, tree)


def plain(node: Any) -> Any:
    """The tree without ruamel's types."""
    if isinstance(node, CommentedMap):
        return {plain(key): plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [plain(value) for value in node]
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
            _note(document, model, problem)
        return None


def _note(document: Document, model: type[BaseModel], problem: Any) -> None:
    loc = tuple(part for part in problem["loc"] if _exists(document.tree, problem["loc"], part))
    found = problem["input"]
    if problem["type"] == "extra_forbidden":
        valid = _valid_keys(model, problem["loc"][:-1])
        name = problem["loc"][-1]
        document.mistake(
            problem["loc"], f"unknown key {name!r}{did_you_mean(str(name), valid)}; expected {listed(valid)}", key=True
        )
    elif problem["type"] == "missing":
        document.mistake(loc, f"key {problem['loc'][-1]!r} is missing")
    else:
        message = problem["msg"].removeprefix("Value error, ")
        text = message[0].lower() + message[1:]
        document.mistake(loc, f"{'.'.join(map(str, problem['loc']))}: {text}, found {_kind(found)}")


def _exists(tree: Any, loc: Sequence[str | int], part: str | int) -> bool:
    node = tree
    for step in loc:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False
        if step == part:
            return True
    return False


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


def listed(values: Iterable[object]) -> str:
    """'a', 'b' or 'c'; booleans as YAML writes them."""
    texts = [str(value).lower() if isinstance(value, bool) else repr(value) for value in values]
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(value) if not isinstance(value, bool) else str(value).lower()

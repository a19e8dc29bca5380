"""YAML files with line and column for every complaint."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from harness.document import Document, Loc, read_text
from harness.errors import UserError
from harness.wording import shown


def load(path: Path) -> Document:
    """Safe-load a YAML 1.2 file of mappings with text keys, lists, texts, numbers, booleans and nothing else.

    Raises UserError with file:line:column: missing file, broken syntax, a repeated key, a file that is no mapping, a
    date or a tagged value. (An alias inside its own anchor reads as nothing.)
    """
    try:
        tree = YAML(typ="rt", pure=True).load(read_text(path))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except ReaderError as error:
        raise UserError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    except TypeError:  # from ruamel, where a key cannot be hashed
        raise UserError(f"{path}: a key is a list or a mapping ('?' starts such a key), expected a text") from None
    except RecursionError:
        raise UserError(f"{path}: nested hundreds of levels deep") from None
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{path}:1:1: expected a mapping such as 'name: ...', found {shown(tree)}")
    document = Document(path=path, tree={}, locate=partial(_position, tree))
    for loc, text, key in _foreign(tree, ()):
        document.mistake(loc, text, key=key)
    document.raise_mistakes()
    document.tree = _plain(tree)
    return document


def _position(tree: Any, loc: Loc, key: bool) -> tuple[int, int]:
    """Of the deepest part of `loc` that the file has; of its key where it has no value."""
    node, where = tree, (0, 0)
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(node, CommentedMap) and part in node:
            if part not in (node.lc.data or {}):  # merged in by `<<`: the mapping's own place stands for it
                break
            where = node.lc.key(part) if (key and last) or node[part] is None else node.lc.value(part)
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            where = node.lc.item(part)
        else:
            break
        node = node[part]
    return where[0] + 1, where[1] + 1


def _foreign(node: Any, loc: Loc) -> Iterator[tuple[Loc, str, bool]]:
    """What no file of ours holds: (place, complaint, whether it is about the key)."""
    if type(node) is CommentedMap:
        for key, value in node.items():
            if not isinstance(key, str):
                yield (*loc, key), f"key {shown(key)} is no text; put it in quotes, or mend it", True
            yield from _foreign(value, (*loc, key))
    elif isinstance(node, CommentedSeq):
        for index, value in enumerate(node):
            yield from _foreign(value, (*loc, index))
    elif not isinstance(node, bool | int | float | str | None):
        yield loc, "expected a text, a number, true or false, found a date or a tagged value; quote a text", False


def _plain(node: Any) -> Any:
    """The tree without ruamel's types."""
    if isinstance(node, CommentedMap):
        return {_plain(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    if isinstance(node, ScalarBoolean):  # an anchored one: no bool, but an int
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node

"""YAML files that cannot be read, and places in those that can."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from harness import yamlfile
from harness.document import validate
from harness.errors import UserError

FOREIGN = "expected a text, a number, true or false, found a date or a tagged value; quote a text"


def load(folder: Path, content: str | bytes) -> yamlfile.Document:
    path = folder / "f.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return yamlfile.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1:1: expected a mapping such as 'name: ...', found nothing"),
        ("# only a comment\n", ":1:1: expected a mapping such as 'name: ...', found nothing"),
        ("- a\n", ":1:1: expected a mapping such as 'name: ...', found ['a']"),
        ("hello\n", ":1:1: expected a mapping such as 'name: ...', found 'hello'"),
        ("a:\n  b:\n\t- c\n", ":3:1: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: [b\n", ":2:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", ":1:5: not valid YAML: mapping values are not allowed here"),
        ("a: *b\n", ":1:4: not valid YAML: found undefined alias 'b'"),
        ("a: 1\nb: 2\na: 3\n", ':3:1: not valid YAML: found duplicate key "a" with value "3" (original value: "1")'),
        ("a: 1\n---\nb: 2\n", ":2:1: not valid YAML: but found another document"),
        ("a: b\0c\n", ": not valid YAML: unacceptable character #x0000: special characters are not allowed"),
        (b"a: 1\nb: \xff\n", ":2: not UTF-8 text (byte 0xff)"),
        ("a: " + "[" * 600, ": nested hundreds of levels deep"),
        ("a: 1\n2: b\n", ":2:1: key 2 is no text; put it in quotes, or mend it"),
        ("a:\n?  - {b: {c: 1}}\n", ": a key is a list or a mapping ('?' starts such a key), expected a text"),
        ("a: 1\n~: b\n", ":2:1: key nothing is no text; put it in quotes, or mend it"),
        *(
            (f"a: {value}\n", f":1:4: {FOREIGN}")
            for value in (
                "2020-01-01",
                "!!binary aGVsbG8=",
                "!!python/object:os.system x",
                "!!set {a}",
                "!!omap [a: 1]",
            )
        ),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, content)
    assert str(caught.value) == f"{tmp_path / 'f.yaml'}{message}"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        yamlfile.load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="is a folder, expected a file"):
        yamlfile.load(tmp_path)


def test_the_tree_is_plain_data(tmp_path: Path) -> None:
    tree = load(
        tmp_path, "\ufeffa: &x true\nb: [*x, 1, 1.5, 'yes', yes, ~, 0x10]\nc: &m {d: 1}\ne: {<<: *m, f: 2}\n"
    ).tree
    assert tree == {"a": True, "b": [True, 1, 1.5, "yes", "yes", None, 16], "c": {"d": 1}, "e": {"d": 1, "f": 2}}
    assert load(tmp_path, "a: &x\n  b: *x\n").tree == {"a": {"b": None}}
    assert [type(value) for value in tree["b"]] == [bool, int, float, str, str, type(None), int]
    assert type(tree) is type(tree["c"]) is dict


def test_places_are_those_of_the_deepest_part_there_is(tmp_path: Path) -> None:
    document = load(tmp_path, "a: 1\nb:\n  - x\n  - c: &m {d: 5}\ne:\nf: {<<: *m}\n")
    assert document.locate(("b", 1, "c", "d"), False) == (4, 15)
    assert document.locate(("b", 1, "c", "d"), True) == (4, 12)
    assert document.locate(("b", 1, "none", "d"), False) == (4, 5)
    assert document.locate(("b", 7), False) == (3, 3)
    assert document.locate(("e",), False) == (5, 1)  # no value: its key
    assert document.locate(("f", "d"), False) == (6, 4)  # merged in: the mapping
    assert document.locate((), False) == (1, 1)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    size: int
    colour: str = "red"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    items: list[Inner] = []
    either: int | list[int] = 0


def test_validation_notes_every_mistake_and_keeps_the_rest(tmp_path: Path) -> None:
    document = load(tmp_path, "items:\n  - {size: 1, colour: 3}\n  - {size: 2, color: x}\neither: [1, b]\nzzz: 1\n")
    kept = validate(document, Outer)
    assert [(item.size, item.colour) for item in kept.items] == [(1, "red"), (2, "red")]
    assert kept.either == 0
    with pytest.raises(UserError) as caught:
        document.raise_mistakes()
    assert str(caught.value).replace(f"{tmp_path / 'f.yaml'}:", "").splitlines() == [
        "2:23: items.colour is 3, expected a text",
        "3:15: unknown key 'color', did you mean 'colour'?; expected 'size' or 'colour'",
        "4:13: either is 'b', expected a whole number",
        "5:1: unknown key 'zzz'; expected 'items' or 'either'",
    ]
    assert document.tree["either"] == [1, "b"]  # the document itself is left as it is


class Needy(BaseModel):
    name: str


def test_validation_gives_up_where_nothing_can_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        validate(load(tmp_path, "a: 1\n"), Needy)
    assert str(caught.value) == f"{tmp_path / 'f.yaml'}:1:1: key 'name' is missing"

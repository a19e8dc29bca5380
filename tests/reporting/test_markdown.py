"""Free text cannot break a table or a link."""

import pytest

from harness.reporting.markdown import escape, link, result_table
from harness.reporting.tables import Link, ResultTable, TableRow


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mask_rcnn_r50_fpn_1x", "mask_rcnn_r50_fpn_1x"),
        ("a | b\n<b> & _c_ *d* `e` [f]", r"a &#124; b &lt;b> &amp; \_c\_ \*d\* \`e\` \[f\]"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_escape(text: str, wanted: str) -> None:
    assert escape(text) == wanted


def test_a_target_with_spaces_and_brackets_is_encoded() -> None:
    assert link(Link(text="log", target="../a b/x(1)+lr=0.01/log.json")) == "[log](../a%20b/x%281%29+lr=0.01/log.json)"


def test_footnotes_are_shared_lettered_and_in_order() -> None:
    rows = [
        TableRow(name=name, cells=(name, (Link(text="model", target="m"), Link(text="log", target="l"))), marks=marks)
        for name, marks in (("A", ("one",)), ("B", ()), ("C", ("two", "one")))
    ]
    assert result_table(ResultTable(title="T", columns=("Name", "Download"), rows=tuple(rows))) == [
        "| Name | Download |",
        "| :---: | :---: |",
        "| A <sup>a</sup> | [model](m) &#124; [log](l) |",
        "| B | [model](m) &#124; [log](l) |",
        "| C <sup>a, b</sup> | [model](m) &#124; [log](l) |",
        "",
        "<sup>a</sup> one<br>",
        "<sup>b</sup> two",
    ]


def test_letters_go_on_after_z() -> None:
    rows = tuple(TableRow(name=str(n), cells=(str(n),), marks=(f"mark {n}",)) for n in range(28))
    lines = result_table(ResultTable(title="T", columns=("Name",), rows=rows))
    assert [line.split(">")[1].split("<")[0] for line in lines[-3:]] == ["z", "aa", "ab"]

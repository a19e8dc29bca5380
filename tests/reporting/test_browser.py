"""index.html in a headless Chromium: mouse, keyboard, colours, and silence."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.matrix import load_experiment
from harness.reporting.as_published import write_published_tables
from harness.reporting.page import write_report
from reporting.chromium import Tab, tab
from reporting.conftest import Load, finished, unfinished

pytestmark = pytest.mark.browser

ZOO = Path(__file__).parents[2] / "experiments" / "zoo.yaml"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FIRST = "document.querySelector('table.sortable')"
BOX = 5  # column of the box AP
COLUMN = f"[...{FIRST}.tBodies[0].rows].map(row => row.cells[%d].textContent)"
SHOWN = "[...document.querySelectorAll('tbody tr[data-cell]')].filter(row => !row.hidden).length"
FOCUS = "document.activeElement.textContent.trim()"
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        message = f"none of {', '.join(NAMES)} is installed"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with tab(program, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("published")
    write_published_tables(load_experiment(ZOO), folder)
    return (folder / "index.html").as_uri()


@pytest.fixture
def page(browser: Tab, published: str) -> Iterator[Tab]:
    """The published tables, wide and light. Nothing was complained of, and nothing but the file was asked for."""
    browser.look(1400, 1000)
    browser.open("about:blank")
    browser.requests.clear()
    browser.open(published)
    yield browser
    assert browser.problems == []
    assert {url.partition("#")[0] for url in browser.requests if not url.startswith("data:")} <= {published}


def type_text(page: Tab, text: str) -> None:
    for letter in text:
        page.press(letter, ord(letter.upper()), letter)


def test_a_heading_sorts_up_and_down_with_what_is_missing_last(page: Tab) -> None:
    heading = f"{FIRST}.tHead.rows[0].cells[%d]"
    page.ask(f"{heading % BOX}.querySelector('button').click()")
    found = [float(text) for text in page.ask(COLUMN % BOX)]
    assert found == sorted(found) and found[0] == 38.0
    assert page.ask(f"{heading % BOX}.getAttribute('aria-sort')") == "ascending"
    page.ask(f"{heading % BOX}.querySelector('button').click()")
    assert page.ask(COLUMN % BOX)[0] == "42.8"
    assert page.ask(f"{heading % BOX}.getAttribute('aria-sort')") == "descending"
    speed = 4
    for direction in ("8.0", "24.1"):
        page.ask(f"{heading % speed}.querySelector('button').click()")
        column = page.ask(COLUMN % speed)
        assert column[0] == direction and column[5:] == ["-"] * 7
    assert page.ask(f"{heading % BOX}.hasAttribute('aria-sort')") is False


def test_text_and_axes_filter_rows_and_cells(page: Tab) -> None:
    assert page.ask(SHOWN) == 21
    page.ask("document.querySelector('#filter input').focus()")
    type_text(page, "caffe")
    assert page.ask(SHOWN) == 5
    assert page.ask("document.querySelector('output').textContent") == "5 of 21 rows shown"
    choose = (
        "{ const choice = document.querySelector('[name=%s]'); choice.value = '%s';"
        " choice.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    page.ask(choose % ("backbone", "R-101"))
    assert page.ask(SHOWN) == 2
    assert page.ask("[...document.querySelectorAll('details.cell[data-cell]')].filter(c => !c.hidden).length") == 2
    page.ask("document.querySelector('#filter [type=reset]').click()")
    page.until(f"{SHOWN} === 21")


def test_a_link_opens_its_cell_also_where_a_filter_hid_it(page: Tab) -> None:
    cell = "document.getElementById('cell-mask_rcnn_r50_fpn_2x_coco').closest('details')"
    assert page.ask(f"{cell}.open") is False
    page.ask(f"{cell}.hidden = true")
    page.ask("document.querySelector('a[href=\"#cell-mask_rcnn_r50_fpn_2x_coco\"]').click()")
    page.until(f"{cell}.open && !{cell}.hidden")
    neighbours = f"[...{cell}.querySelectorAll('details.neighbour')]"
    assert page.ask(f"{neighbours}.map(n => n.querySelector('summary').firstChild.textContent.trim())") == [
        "schedule: 1x", "backbone: R-101", "backbone: X-101-32x4d", "backbone: X-101-64x4d"
    ]  # fmt: skip
    for number in (0, 1):  # one neighbour at a time
        page.ask(f"{neighbours}[{number}].querySelector('summary').click()")
        page.until(f"{neighbours}[{number}].open && {neighbours}.filter(n => n.open).length === 1")
    assert page.ask(f"{neighbours}[0].textContent.includes('lr_steps')")


def test_the_keyboard_alone_goes_there(page: Tab) -> None:
    tabulator = ("Tab", 9)
    page.press(*tabulator)
    assert page.ask(FOCUS) == "Skip to the results"
    assert page.ask("document.activeElement.getBoundingClientRect().left >= 0")
    page.press("Enter", 13, "\r")
    page.until("document.activeElement.id === 'results'")
    for _ in range(60):
        if page.ask(FOCUS) == "mask AP":
            break
        page.press(*tabulator)
    assert page.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter", 13, "\r")
    page.until(f"{FIRST}.querySelector('[aria-sort=ascending]') !== null")
    assert page.ask(COLUMN % 6)[0] == "34.4"
    page.ask("document.querySelectorAll('details.cell > summary')[3].focus()")
    page.press("Enter", 13, "\r")
    page.until("document.querySelectorAll('details.cell')[3].open")


def test_dark_by_the_system_and_by_the_button(page: Tab) -> None:
    white, dark = "rgb(255, 255, 255)", "rgb(13, 17, 23)"
    assert page.ask(PAPER) == white
    page.look(1400, 1000, dark=True)
    page.until(f"{PAPER} === '{dark}'")
    page.ask("document.getElementById('theme').click()")
    page.until(f"{PAPER} === '{white}'")
    ink = "getComputedStyle(document.querySelector('svg.chart text')).fill"
    assert page.ask(ink) == "rgb(31, 35, 40)"
    page.ask("document.getElementById('theme').click()")
    page.until(f"{ink} === 'rgb(230, 237, 243)'")


def test_the_chosen_colours_are_remembered_until_they_are_the_systems(page: Tab, published: str) -> None:
    white, dark = "rgb(255, 255, 255)", "rgb(13, 17, 23)"
    page.ask("document.getElementById('theme').click()")
    page.until(f"{PAPER} === '{dark}'")
    page.open("about:blank")
    page.open(published)
    assert page.ask(PAPER) == dark
    assert page.ask("document.getElementById('theme').textContent") == "Light"
    page.ask("document.getElementById('theme').click()")
    page.until(f"{PAPER} === '{white}'")
    page.look(1400, 1000, dark=True)
    page.until(f"{PAPER} === '{dark}'")


def test_fields_of_the_recipe_filter_too(page: Tab) -> None:
    """One row is FP16; of the five 2x rows one is caffe; the rate falls at 8 and 11 in nine."""
    write = (
        "{ const box = document.querySelector('#filter input'); box.value = '%s';"
        " box.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    for words, shown in (
        ("precision=fp16", 1),
        ("epochs=24", 5),
        (" epochs=24  PYTORCH ", 4),
        ("epochs=24 precision=fp16", 0),
        ("lr_steps=[8,11]", 9),
    ):
        page.ask(write % words)
        assert page.ask(SHOWN) == shown, words
    page.ask("document.querySelector('#filter [type=reset]').click()")
    page.until(f"{SHOWN} === 21")


@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_is_wider_than_the_window(page: Tab, width: int) -> None:
    page.look(width, 900)
    page.ask("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.ask("document.documentElement.scrollWidth") <= width


def test_it_reads_without_scripts(page: Tab, published: str) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.call("Page.reload")
        page.until(
            "document.readyState === 'complete' && document.querySelectorAll('tbody tr[data-cell]').length === 21"
        )
        assert page.ask("getComputedStyle(document.getElementById('filter')).display") == "none"
        assert page.ask("document.querySelectorAll('.sortable thead button').length") == 0
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_script_in_a_failure_does_not_run(page: Tab, load: Load) -> None:
    evil = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"
    experiment = load("name: evil\ninclude: [{backbone: R-50, schedule: [1x, 2x]}]\n")
    runs = [finished(experiment.cells[0], run_id=evil), unfinished(experiment.cells[1], "FAILED", reason=evil)]
    paths = write_report(experiment, runs, Path("out"))
    page.open(paths.site.resolve().as_uri())
    page.ask("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.ask("document.title") == "evil"
    assert page.ask("document.body.textContent.includes('<script>document.title')")
    page.requests.clear()

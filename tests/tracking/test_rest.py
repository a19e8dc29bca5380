"""What is asked of a server at once, and what its answers say."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import requests

from harness.tracking import rest
from harness.tracking.rest import PAGE, Page
from harness.tracking.store import StoreError


class Search:
    """A search with `count` pages, whose tokens `name` makes of the number of results before a page."""

    def __init__(self, count: int, name: Callable[[int], str], broken: int = -1) -> None:
        self.names = ["", *(name(PAGE * number) for number in range(1, count))]
        self.broken, self.asked, self.now, self.most = broken, 0, 0, 0
        self.lock = threading.Lock()

    def page(self, token: str) -> Page:
        """Of page n the runs [n], in a time that is shorter of later ones."""
        number = self.names.index(token) if token in self.names else len(self.names)
        with self.lock:
            self.asked, self.now = self.asked + 1, self.now + 1
            self.most = max(self.most, self.now)
        time.sleep(0.03 / (1 + number))
        with self.lock:
            self.now -= 1
        if number == self.broken:
            raise OSError("gone")
        beyond = number >= len(self.names)
        last = number >= len(self.names) - 1
        return Page([] if beyond else [number], "" if last else self.names[number + 1])  # type: ignore[list-item]

    def numbers(self) -> list[int]:
        return [number for page in rest.pages(self.page) for number in page.runs]  # type: ignore[misc]


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """MLflow's tokens, without the seconds of its import."""
    made = "{{'offset': {}}}".format
    monkeypatch.setattr(rest, "_token", made)
    return made


@pytest.mark.parametrize("count", [1, 2, 5, 6, 20])
def test_pages_come_in_order_a_few_at_once(token: Callable[[int], str], count: int) -> None:
    search = Search(count, token)
    assert search.numbers() == list(range(count))
    assert search.most <= rest.TOGETHER and search.asked <= count + rest.TOGETHER
    assert (search.most > 1) == (count > 1)


def test_tokens_of_another_kind_are_followed_one_by_one() -> None:
    search = Search(20, lambda offset: f"after {offset}")
    assert search.numbers() == list(range(20))
    assert (search.most, search.asked) == (1, 20)


def test_an_error_ends_it(token: Callable[[int], str]) -> None:
    search = Search(40, token, broken=3)
    with pytest.raises(OSError, match="gone"):
        search.numbers()
    assert search.asked <= 4 + rest.TOGETHER


@pytest.mark.parametrize("said", ["<html>Please log in</html>", "[]", ""])
def test_an_answer_that_is_not_mlflows(said: str) -> None:
    answer = requests.Response()
    answer.status_code, answer._content = 200, said.encode()
    server = SimpleNamespace(uri="https://me:secret@host/mlflow")
    with pytest.raises(StoreError) as error:
        rest._content(server, answer)  # type: ignore[arg-type]
    assert str(error.value) == f"tracking store https://host/mlflow: no answer of MLflow's: {said!r}"

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.shipped import find_experiment


def test_a_bare_name_is_the_shipped_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_experiment(Path("zoo")).name == "zoo.yaml"
    Path("zoo").touch()
    assert find_experiment(Path("zoo")) == Path("zoo")


def test_a_file_that_is_not_here_has_a_nearest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    Path("experiments/first.yaml").touch()
    for given in ("first", "frist.yaml", "experiments/first.yml"):
        with pytest.raises(UserError, match=f"^{given}: no such file, did you mean experiments/first.yaml[?]$"):
            find_experiment(Path(given))
    with pytest.raises(UserError, match=r"^nothing: no such file$"):
        find_experiment(Path("nothing"))


@pytest.mark.parametrize("given", ["experiments/zoo.yaml", "zoo.yaml"])
def test_a_file_that_is_not_here_but_shipped(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{given}: no such file; did you mean 'zoo', the one that comes with"):
        find_experiment(Path(given))

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.shipped import find_experiment


def test_a_bare_name_is_the_shipped_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_experiment(Path("zoo")).name == "zoo.yaml"
    assert find_experiment(Path("own.yaml")) == Path("own.yaml")
    Path("zoo").touch()
    assert find_experiment(Path("zoo")) == Path("zoo")


@pytest.mark.parametrize("given", ["experiments/zoo.yaml", "zoo.yaml"])
def test_a_file_that_is_not_here_but_shipped(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{given}: no such file; did you mean 'zoo', the one that comes with"):
        find_experiment(Path(given))

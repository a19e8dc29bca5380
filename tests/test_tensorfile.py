"""Files of torch.save are read without executing anything."""

from pathlib import Path

import pytest
import torch

from harness.errors import UserError
from harness.tensorfile import load_tensors


def test_tensors_come_back(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": [1, "x"]}, tmp_path / "file.pth")
    content = load_tensors(tmp_path / "file.pth")
    assert content["a"].tolist() == [1, 1] and content["b"] == [1, "x"]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path, ("executed",)


def test_code_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a": Evil()}, tmp_path / "file.pth")
    with pytest.raises(UserError, match=r"would execute pathlib\.(\w+\.)?Path, which is refused") as caught:
        load_tensors(tmp_path / "file.pth")
    assert "weights_only" not in str(caught.value)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(
        UserError, match=r"text\.pth: cannot be read as plain tensors: damaged, or not a file of torch\.save"
    ):
        load_tensors(tmp_path / "text.pth")
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        load_tensors(tmp_path / "none.pth")

"""Files of torch.save are read without executing anything."""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.tensorfile import load_tensors


def test_tensors_come_back(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": [1, "x"]}, tmp_path / "file.pth")
    content = load_tensors(tmp_path / "file.pth")
    assert content["a"].tolist() == [1, 1] and content["b"] == [1, "x"]


class Calls:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, r"posix\.system"), (Path, r"pathlib\.(\w+\.)?Path"), (exec, "exec"), (os.path.exists, "genericpath")],
)
def test_code_is_refused_by_name(tmp_path: Path, function: Callable[..., Any], name: str, legacy: bool) -> None:
    evil = Calls(function, f"touch {tmp_path / 'executed'}")
    content = {"meta": {"hook": evil}, "state_dict": {"a": torch.ones(1)}}
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=rf"file\.pth: .*would execute {name}.*, which is refused") as caught:
        load_tensors(tmp_path / "file.pth")
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_function_of_the_main_module_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "hook", hook := lambda text: None, raising=False)
    hook.__module__, hook.__qualname__ = "__main__", "hook"
    torch.save({"meta": Calls(hook, "text")}, tmp_path / "file.pth")
    with pytest.raises(UserError, match=r"would execute __main__\.hook, which is refused"):
        load_tensors(tmp_path / "file.pth")


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package that is there while a file is written, and then no more."""
    package = ModuleType("elsewhere")
    source = """
import enum
class Config(dict):
    pass
class Buffer:
    def __init__(self, size):
        self.size = size
    def __setstate__(self, state):
        raise SystemExit("executed")
class Kind(enum.Enum):
    A = 1
def build(*words):
    raise SystemExit("executed")
"""
    exec(source, package.__dict__)
    for name in ("Config", "Buffer", "Kind", "build"):
        setattr(getattr(package, name), "__module__", "elsewhere")  # noqa: B010
    monkeypatch.setitem(sys.modules, "elsewhere", package)
    return package


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_plain_is_read_of_objects_of_unknown_classes(
    tmp_path: Path, strangers: ModuleType, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    config = strangers.Config(lr=0.02, nested=strangers.Config(steps=[8, 11]))
    config.text = "attribute"
    meta = {"config": config, "buffer": strangers.Buffer(7), "kind": strangers.Kind.A, "epoch": 12}
    torch.save(
        {"meta": meta, "state_dict": {"a": torch.ones(2)}},
        tmp_path / "file.pth",
        _use_new_zipfile_serialization=not legacy,
    )
    monkeypatch.delitem(sys.modules, "elsewhere")
    content = load_tensors(tmp_path / "file.pth")
    assert content["state_dict"]["a"].tolist() == [1, 1]
    found = content["meta"]
    assert found["config"] == {"lr": 0.02, "nested": {"steps": [8, 11]}}
    assert (found["config"].text, found["buffer"].size, found["epoch"]) == ("attribute", 7, 12)
    assert isinstance(found["kind"], OrderedDict)


def test_objects_of_installed_classes_stay_inert(tmp_path: Path) -> None:
    """An instance of a class that is there is read like one that is not: its own methods are not run."""
    from argparse import Namespace

    torch.save({"meta": Namespace(seed=3)}, tmp_path / "file.pth")
    found = load_tensors(tmp_path / "file.pth")["meta"]
    assert type(found) is OrderedDict and found.seed == 3


def test_numpy_numbers_become_plain_ones(tmp_path: Path) -> None:
    values = {
        "f8": np.float64(0.382), "f4": np.float32(0.5), "f2": np.float16(2), "i8": np.int64(-(2**40)),
        "u1": np.uint8(200), "bool": np.bool_(True), "big": np.frombuffer(b"\x01\x02", dtype=">u2")[0],
    }  # fmt: skip
    torch.save(values, tmp_path / "file.pth")
    found = load_tensors(tmp_path / "file.pth")
    assert found == {name: value.item() for name, value in values.items()}
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value.item()) for name, value in values.items()
    }


def test_the_names_of_numpy_1(tmp_path: Path) -> None:
    torch.save({"a": np.float64(0.382)}, tmp_path / "file.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "file.pth").read_bytes()
    assert b"numpy._core.multiarray" in data or b"numpy.core.multiarray" in data
    (tmp_path / "file.pth").write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert load_tensors(tmp_path / "file.pth") == {"a": 0.382}


def test_arrays_do_not_hinder(tmp_path: Path) -> None:
    torch.save({"palette": np.zeros((80, 3)), "epoch": 3}, tmp_path / "file.pth")
    found = load_tensors(tmp_path / "file.pth")
    assert found["epoch"] == 3 and found["palette"].shape == (80, 3)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(
        UserError, match=r"text\.pth: cannot be read as plain tensors: damaged, or not a file of torch\.save"
    ):
        load_tensors(tmp_path / "text.pth")
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        load_tensors(tmp_path / "none.pth")
    torch.save({"a": torch.ones(100)}, tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:700])
    with pytest.raises(UserError, match=r"half\.pth: .*damaged"):
        load_tensors(tmp_path / "half.pth")

"""Checkpoints: plain tensors and numbers, written atomically, read without executing anything."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError
from harness.files import read_json, replacing, sha256, write_json
from harness.tensorfile import load_tensors
from harness.wording import count

KEPT = 2
"""Checkpoints kept: the newest, and the one before in case the newest turns out unreadable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint on disk."""

    path: Path
    sha256: str
    epoch: int  # epochs completed
    step: int  # iterations completed


class Snapshot:
    """A copy, in host memory, of nested dicts, lists and tensors, that later training steps cannot change.

    Tensors of a CUDA device are on their way when this returns: to pinned memory, in the order of the device's work,
    so that the host does not wait. Who reads `content` calls `arrived` first, in whatever thread.
    """

    def __init__(self, content: Any, device: torch.device) -> None:
        self.content = _copied(content)
        self._event = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    def arrived(self) -> Any:
        """The content, when all of it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self.content


def save(
    folder: Path,
    content: Mapping[str, Any],
    *,
    epoch: int,
    iteration: int,
    step: int,
    before_naming: Callable[[], None] = lambda: None,
) -> Saved:
    """Write a checkpoint durably, then name it in latest.json; older ones beyond KEPT are removed.

    epoch: epochs completed; iteration: iterations into the next one; step: iterations in all.
    before_naming: called when all is on the disk but under a temporary name; what it raises leaves all as it was.
    Raises UserError where the disk does not take it; what was there before is there still.
    """
    name = f"epoch_{epoch}.pth" if iteration == 0 else f"epoch_{epoch}_iter_{iteration}.pth"
    path = folder / name
    with replacing(path, durable=True) as temporary:
        with temporary.open("wb") as file:  # given a path, torch would write its random name into the file
            torch.save(dict(content), file)
        digest = sha256(temporary)
        before_naming()
    history = [entry for entry in _history(folder) if entry["file"] != name]
    entries = [*history, {"file": name, "sha256": digest, "epoch": epoch, "step": step}][-KEPT:]
    write_json(folder / "latest.json", entries, durable=True)
    _remove_others(folder, {entry["file"] for entry in entries})
    return Saved(path=path, sha256=digest, epoch=epoch, step=step)


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Older checkpoints, and what killed attempts have left of unfinished ones."""
    for old in (*folder.glob("epoch_*.pth"), *folder.glob(".*.tmp")):
        if old.name not in kept:
            old.unlink(missing_ok=True)


def newest(folder: Path) -> Saved | None:
    """The newest checkpoint whose content is what was written; one that is passed over is told on stderr.

    None where there is none. Without those that latest.json names, any other that can be read is taken.
    Raises UserError where there are checkpoints, but none of them can be used: starting anew would remove them.
    """
    history = _history(folder)
    for entry in reversed(history):
        path = folder / entry["file"]
        if path.exists() and sha256(path) == entry["sha256"]:
            return Saved(path=path, sha256=entry["sha256"], epoch=entry["epoch"], step=entry["step"])
        fault = "is not what was written" if path.exists() else "is gone"
        sys.stderr.write(f"{path}: {fault}; going back to what came before it\n")
    found = sorted(folder.glob("epoch_*.pth"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (path for path in found if path.name not in {entry["file"] for entry in history}):
        with suppress(UserError):
            meta = load(path)["meta"]
            sys.stderr.write(f"{path}: going on from it, although latest.json does not name it\n")
            return Saved(path=path, sha256=sha256(path), epoch=meta["epoch"], step=meta["iter"])
    if found:
        raise UserError(
            f"{folder}: none of its {count(len(found), 'checkpoint')} can be read; move them away to start anew"
        )
    return None


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, ours or a published one: tensors and plain data only (weights_only).

    Raises UserError where the file is missing, damaged or would need code to be read.
    """
    content = load_tensors(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no state_dict")
    return content


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "latest.json"
    return list(read_json(path)) if path.exists() else []


def _copied(content: Any) -> Any:
    if isinstance(content, Tensor):
        if not content.is_cuda:
            return content.detach().clone()
        return torch.empty_like(content, device="cpu", pin_memory=True).copy_(content.detach(), non_blocking=True)
    if isinstance(content, dict):
        return {key: _copied(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_copied(value) for value in content]
    return content

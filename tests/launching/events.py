"""Something that happens in the middle of a training in this process."""

from typing import Any

import pytest

from harness.training import loop


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    """Do something in the middle of the step-th iteration from now on."""
    iterate, count = loop.iterate, iter(range(1, 1000))

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(count) == step:
            action()
        return iterate(*arguments, **options)

    monkeypatch.setattr(loop, "iterate", wrapped)


def raise_(error: Exception) -> Any:
    """To be called in a lambda."""
    raise error

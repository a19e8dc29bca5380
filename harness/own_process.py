"""A function called in a process of its own, so that its memory is its own, and ends with it."""

import os
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import ParamSpec, TypeVar

from harness.errors import UserError

Given = ParamSpec("Given")
Result = TypeVar("Result")


def in_own_process(function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """What the function of a module returns, called in a new process that has no state of this one.

    Raises UserError where the function does, or the process ends before it answers.
    """
    context = get_context("spawn")
    answers, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, args, kwargs))
    process.start()
    sender.close()
    try:
        answer = answers.recv()
    except EOFError:
        answer = None
    process.join()
    if isinstance(answer, UserError):
        raise answer
    if answer is None:
        raise UserError(f"the process that measures {_end(process.exitcode)}")
    result: Result = answer[0]
    return result


def _call(sender: Connection, function: Callable[..., Result], args: tuple[object], kwargs: dict[str, object]) -> None:
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        sender.send((function(*args, **kwargs),))
    except UserError as error:
        sender.send(error)


def _end_with_parent() -> None:
    """A process whose caller was killed would go on measuring, beside the one that the caller's next start measures."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"ended with exit code {code}; its traceback is above"

"""A function called in a process of its own, so that its memory is its own, and ends with it."""

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

from harness.errors import UserError
from harness.processes import end_with

Given = ParamSpec("Given")
Result = TypeVar("Result")


def in_own_process(function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """What the function of a module returns, called in a new process that has no state of this one.

    Raises UserError where the function does, or the process ends before it answers.
    """
    context = get_context("spawn")
    answers, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(os.getpid(), sender, function, args, kwargs))
    process.start()
    sender.close()
    try:
        answer = answers.recv()
    except EOFError:
        answer = None
    except BaseException:  # Ctrl-C; whoever waits at the caller's end would wait for the process, too
        process.kill()
        raise
    process.join()
    if isinstance(answer, UserError):
        raise answer
    if answer is None:
        raise UserError(f"the process that measures {_end(process.exitcode)}")
    result: Result = answer[0]
    return result


def _call(
    parent: int, sender: Connection, function: Callable[..., Result], args: tuple[object], kwargs: dict[str, object]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who ends this
    end_with(parent)  # or it would go on measuring, beside the process that the caller's next start measures in
    try:
        sender.send((function(*args, **kwargs),))
    except UserError as error:
        sender.send(error)


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"ended with exit code {code}; its traceback is above"

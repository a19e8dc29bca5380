"""Work beside the training: its result, its failure, and what happens to it when the training ends."""

import threading

import pytest

from harness.training.background import Background


def test_the_result_comes_with_waiting() -> None:
    background: Background[int] = Background("test")
    assert background.wait() is None
    assert not background.done
    go_on = threading.Event()
    background.start(lambda: int(go_on.wait(60)))
    assert not background.done
    go_on.set()
    assert background.wait() == 1
    assert background.wait() is None


def test_a_failure_is_raised_once() -> None:
    background: Background[float] = Background("test")
    background.start(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        background.wait()
    assert background.wait() is None


@pytest.mark.parametrize(("error", "waits"), [(None, True), (ValueError, True), (KeyboardInterrupt, False)])
def test_work_under_way_is_finished_unless_interrupted(error: type[BaseException] | None, waits: bool) -> None:
    go_on, done = threading.Event(), threading.Event()
    background: Background[None] = Background("test")

    def work() -> None:
        go_on.wait(60)
        done.set()

    def leave() -> None:
        with background:
            background.start(work)
            threading.Timer(0.1, go_on.set).start() if waits else None
            if error is not None:
                raise error

    if error is None:
        leave()
    else:
        with pytest.raises(error):
            leave()
    assert done.is_set() == waits
    go_on.set()


def test_the_failure_of_the_training_counts_for_more() -> None:
    background: Background[float] = Background("test")
    with pytest.raises(ValueError, match="mine"), background:
        background.start(lambda: 1 / 0)
        raise ValueError("mine")

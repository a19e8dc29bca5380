"""SLURM's commands carried out, here others in their place."""

import pytest

from harness.errors import UserError
from harness.launching.slurm_ask import ask


def test_commands_that_fail_are_one_line() -> None:
    with pytest.raises(UserError, match=r"^no-such-command: no such command; "):
        ask(["no-such-command"])
    with pytest.raises(UserError, match=r"^sh failed: one; two$"):
        ask(["sh", "-c", "echo one >&2; echo two >&2; exit 1"])
    assert ask(["sh", "-c", "echo $A"], {"A": "b"}) == "b\n"


def test_the_users_own_defaults_for_slurms_commands_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """With SQUEUE_PARTITION of another partition a working job would be missing in the answer, and so be dead."""
    for name in ("SQUEUE_PARTITION", "SACCT_FORMAT", "SCANCEL_PARTITION", "SINFO_FORMAT", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "other")
    monkeypatch.setenv("SLURM_CONF", "kept")
    said = dict(line.partition("=")[::2] for line in ask(["env"]).splitlines())
    assert not {name for name in said if name.startswith(("SQUEUE", "SACCT", "SCANCEL", "SINFO", "SLURM_TIME"))}
    assert (said["SLURM_CONF"], said["SLURM_BITSTR_LEN"]) == ("kept", "0")

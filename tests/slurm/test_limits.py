"""An experiment with more runs than its user may have jobs."""

from collections.abc import Iterator

import pytest

from slurm.conftest import call, eventually, output
from slurm.place import Place, run

pytestmark = pytest.mark.slurm

ACCOUNT = "few"


@pytest.fixture
def account(cluster: object) -> Iterator[str]:
    """One that takes two jobs of this user."""
    call(f"sacctmgr --immediate add account {ACCOUNT}", check=False)
    call(f"sacctmgr --immediate add user root account={ACCOUNT} MaxSubmitJobs=2", check=False)
    eventually(lambda: f"{ACCOUNT}|2" in output("sacctmgr -nP show assoc user=root format=Account,MaxSubmitJobs"))
    yield ACCOUNT
    eventually(lambda: not output(f"squeue --noheader --account={ACCOUNT}"), 120)
    call(f"sacctmgr --immediate delete account {ACCOUNT}", check=False)


def test_what_fits_is_submitted(account: str, place: Place) -> None:
    """Of three runs two; the third is left to a later submit, for as long as both of them wait or work."""
    place.write(f"account: {account}", seeds="[0, 1, 2]", epochs=8)
    said = place.harness("submit", "tiny.yaml", "--json").stderr
    assert "1 run left for the next harness submit tiny.yaml: account few may have 2 jobs (MaxSubmitJobs)" in said
    first, second, third = place.status()
    assert first["job"] and second["job"] and third["state"] == "NEW"
    again = place.submit()
    assert [row["action"] for row in again] == ["leave alone", "leave alone", "leave for the next submit"]
    assert not run(again[2]).folder.exists()
    dry = place.harness("submit", "tiny.yaml", "--dry-run")
    assert (
        dry.stdout == "" and "note: 1 run left for the next" in dry.stderr and "note: nothing to submit: " in dry.stderr
    )

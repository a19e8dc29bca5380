"""How many jobs a user may have, by hand-made clusters."""

from dataclasses import replace

from harness.launching.cluster import JobShape
from harness.launching.slurm_limits import full
from harness.launching.slurm_site import Queued
from launching.sites import LAB, NONE, accounts, site

SHAPE = JobShape(nodes=1, gpus_per_node=8, cpus_per_gpu=5, minutes=60)
MINE = Queued(account="lab", partition="main", qos="normal")


def test_no_more_jobs_than_one_may_have() -> None:
    """Each element of an array is one; of the three that wait or work two are of the account: 8 of 9 have a place."""
    few = accounts(replace(LAB, limits=replace(NONE, submitted=10)))
    found = site(accounts=few, queued=(MINE, MINE, replace(MINE, account="other")))
    assert full([SHAPE] * 9, found) == [""] * 8 + ["account lab may have 10 jobs (MaxSubmitJobs), and 2 wait or work"]


def test_limits_of_several_owners() -> None:
    """Jobs of the qos without a limit have a place behind one that has none."""
    found = site(accounts=accounts(LAB, normal=replace(NONE, submitted=4)), queued=(MINE, MINE, MINE))
    other = replace(SHAPE, qos="short")
    assert [bool(why) for why in full([SHAPE, SHAPE, other], found)] == [False, True, False]
    assert full([SHAPE] * 2, found)[1].startswith("qos normal may have 4 jobs")
    assert full([SHAPE] * 99, site(accounts=accounts(LAB))) == [""] * 99

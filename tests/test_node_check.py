"""What is made of a compute node's answers; tests/slurm/test_clusters.py asks a real one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import node_check
from harness.launching.cluster import load_cluster
from harness.node_check import cannot_go_on, check_node
from harness.settings import Settings, load_settings

FACTS: dict[str, Any] = {
    "node": "n1",
    "python": "3.11.7",
    "executable": "/venv/bin/python",
    "torch": "2.6.0",
    "gpus": ["H100"],
    "asked": True,
    "missing": [],
    "no_requeue": "",
    "no_submit": "",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path, {})


def told(**changes: Any) -> list[tuple[str, str, str]]:
    return [(check.status, check.name, check.detail) for check in node_check._told(FACTS | changes)]


def test_all_is_well() -> None:
    assert told() == [
        ("ok", "node n1", "Python 3.11.7 (/venv/bin/python), torch 2.6.0, H100"),
        ("ok", "node n1: next job", "scontrol requeue: allowed; sbatch: allowed"),
    ]


def test_what_is_not() -> None:
    found = told(gpus=[], missing=["/data/coco"], no_requeue="Requeue=0")
    assert [(status, name) for status, name, _ in found] == [
        ("warn", "node n1"),
        ("fail", "node n1"),
        ("ok", "node n1: next job"),
    ]
    assert found[1][2] == "/data/coco is not seen there"
    assert told(gpus=[], asked=False)[0][0] == "ok"
    assert told(no_requeue="no", no_submit="no")[-1][0] == "warn"


def test_what_a_submit_is_to_say_before(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("partition: gpu\n")
    cluster = load_cluster(str(tmp_path / "mine.yaml"))
    here = replace(settings, cluster=str(tmp_path / "mine.yaml"))
    assert cannot_go_on(here) == ""
    node_check._remember(settings, cluster, FACTS | {"no_requeue": "Requeue=0"})
    assert cannot_go_on(here) == ""
    node_check._remember(settings, cluster, FACTS | {"no_requeue": "Requeue=0", "no_submit": "sbatch: no"})
    said = cannot_go_on(here)
    assert said.startswith("jobs of mine cannot start their next one (scontrol requeue: Requeue=0; sbatch: sbatch: no")


def test_a_cluster_that_is_not_known_is_a_finding(settings: Settings) -> None:
    (check,) = check_node(settings, "nowhere")
    assert (check.status, check.name) == ("fail", "cluster nowhere")
    assert "unknown cluster 'nowhere'" in check.detail

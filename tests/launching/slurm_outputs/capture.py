"""Bring jobs into many states on the testbed and keep what SLURM says of them: capture.py, with the testbed up.

Takes three minutes; kills a slurmd. Writes a folder named after SLURM's release beside this file. README.md says which
machine each was captured on.
"""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "slurm" / "testbed")]

from daemons import end, working  # noqa: E402

from harness.launching import slurm, slurm_site  # noqa: E402

STATE = ROOT / ".slurm-testbed"


def submit(name: str, options: str, command: str = "sleep 300") -> str:
    """A job, its id."""
    fixed = ["sbatch", "--parsable", "--output=/dev/null", "--time=9", f"--job-name={name}"]
    return slurm.parse_submitted(said([*fixed, *options.split(), "--wrap", command]))


def said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def jobs() -> list[str]:
    """A job for each thing that can become of one, which its name says."""
    array = submit("a|b=c", "--account=lab --qos=short --array=0-7%2 --gpus-per-node=2", "sleep 50")
    found = {
        "array": array,
        "preempted": submit("preempted", "--nodelist=n3 --gpus=8"),
        "failed": submit("failed", "", "exit 3"),
        "memory": submit("memory", "--mem=50M", "python3 -c 'bytearray(300 << 20)'"),
        "time": submit("time", "--time=1"),
        "cancelled": submit("cancelled", ""),
        "requeued": submit("requeued" + "-long" * 20, ""),
        "node": submit("node", "--nodelist=n4"),
        "dependent": submit("dependent", f"--dependency=afterok:{array}"),
        "held": submit("held", "--hold"),
        "qos": submit("qos", "--time=100 --qos=short"),
        "partition": submit("partition", "--partition=debug --time=100"),
        "large": submit("large", "--nodes=4 --exclusive"),
    }
    time.sleep(3)
    found["hopeless"] = submit("hopeless", f"--dependency=afterok:{found['failed']}")
    found["preemptor"] = submit("preemptor", "--partition=high --nodelist=n3 --gpus=8")
    said(["scancel", found["cancelled"]])
    said(["scontrol", "requeue", found["requeued"]])
    return list(found.values())


def main() -> None:
    captured = jobs()
    end(working(STATE, "n4"), signal.SIGKILL)
    time.sleep(130)  # a time limit passes, a node is missed, a job is preempted
    release = re.sub(r"[^\d.]", "", slurm.parse_config(said(["scontrol", "show", "config"]))["SLURM_VERSION"])
    folder = HERE / release
    folder.mkdir(exist_ok=True)
    running = next(job for job in slurm.parse_queue(said(slurm.queue_command())) if job.state == "RUNNING")
    for name, command in {
        "squeue": slurm.queue_command(),
        "sacct": slurm.accounting_command(captured),
        "sinfo": slurm_site.KINDS,
        "config": slurm_site.CONFIG,
        "partition": slurm_site.PARTITIONS,
        "associations": slurm_site.associations_command("root", "testbed"),
        "default_account": slurm_site.default_account_command("root", "testbed"),
        "qos": slurm_site.QOSES,
        "queued": slurm_site.QUEUED,
        "job": ["scontrol", "--oneliner", "show", "job", running.id],
    }.items():
        text = said(command).replace(str(ROOT), "ROOT")
        (folder / f"{name}.txt").write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
    subprocess.run(["scancel", *captured], check=True)


if __name__ == "__main__":
    main()

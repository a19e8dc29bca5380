"""The room for runs: what is free on the disk, and what quotas leave of it, where they can be known.

Quotas are those that the commands of a file system tell: `lfs quota` of Lustre, `quota` of all others (over NFS, too).
Neither needs to be there, nor to answer.
"""

import getpass
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ANSWER_SECONDS = 5
KIB = 1024
"""The commands' unit."""
MOUNTS = Path("/proc/self/mounts")
_OWNER = re.compile(r"Disk quotas for (user|group) (\S+) \([ug]id (\d+)\)")
_LONG_NAME = re.compile(r"(?m)^(\S+)\n(?=\s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What may still be written to a folder."""

    free: int  # bytes
    limit: str = "the disk"  # what sets it, such as "the quota of group lab"


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota that somebody has on a file system."""

    kind: str  # user or group
    name: str
    id: int
    free: int | None  # bytes that are left of it; None: there is no limit


def room(folder: Path) -> Room:
    """What this user may still write to a folder, which need not be there yet: the least of disk and quotas."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return min((Room(free=found.f_bavail * found.f_frsize), *_quotas(folder)), key=lambda room: room.free)


def _quotas(folder: Path) -> Iterator[Room]:
    mount, kind = mounted(folder)
    group = folder.stat().st_gid if folder.stat().st_mode & stat.S_ISGID else os.getegid()
    if kind == "lustre" and shutil.which("lfs"):
        yield from _lustre(folder, mount, group)
    elif kind and shutil.which("quota"):
        for quota in parse_quota(_said(["quota", "-u", "-g", "-v", "-Q", "-f", mount])):
            if quota.free is not None and (quota.kind == "user" or quota.id == group):
                yield Room(free=quota.free, limit=f"the quota of {quota.kind} {quota.name}")


def _lustre(folder: Path, mount: str, group: int) -> Iterator[Room]:
    """Of user, group and, where the folder is of one, project."""
    owners = [("-u", os.getuid(), f"user {getpass.getuser()}"), ("-g", group, f"group {group}")]
    if project := parse_project(_said(["lfs", "project", "-d", str(folder)])):
        owners.append(("-p", project, f"project {project}"))
    for option, number, owner in owners:
        left = parse_lustre(_said(["lfs", "quota", "-q", option, str(number), mount]))
        if left is not None:
            yield Room(free=left, limit=f"the quota of {owner}")


def mounted(folder: Path, mounts: Path = MOUNTS) -> tuple[str, str]:
    """Where the file system of a folder is mounted, and its kind; "" where the system does not tell."""
    here, best = folder.resolve(), ("", "")
    for line in mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else ():
        _, place, kind, *_ = line.split()
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), place)
        if here.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best


def parse_quota(text: str) -> Iterator[Quota]:
    """What `quota -v` answers: below a line that names the owner one for each file system, whose name, if it is long,

    has a line of its own.
    """
    owner: re.Match[str] | None = None
    for line in _LONG_NAME.sub(r"\1 ", text).splitlines():
        if found := _OWNER.match(line):
            owner = found
        elif owner and (numbers := _numbers(line.split()[1:4])):
            yield Quota(owner[1], owner[2], int(owner[3]), _left(numbers))


def parse_lustre(text: str) -> int | None:
    """Bytes that are left of what `lfs quota -q` answers; None where there is no limit, or no answer.

    Lines about defaults may follow.
    """
    numbers = _numbers(text.split()[1:4])
    return _left(numbers) if numbers else None


def parse_project(text: str) -> int:
    """The project that `lfs project -d` names; 0 where the folder is of none."""
    first = text.split()[:1]
    return int(first[0]) if first and first[0].isdigit() else 0


def _numbers(words: Sequence[str]) -> list[int]:
    """Used, soft and hard limit; a star marks what is exceeded, brackets what a server did not confirm."""
    plain = [word.strip("[]*") for word in words]
    return [int(word) for word in plain] if len(plain) == 3 and all(word.isdigit() for word in plain) else []


def _left(numbers: list[int]) -> int | None:
    """By the hard limit, which nothing passes; by the soft one, for which there is a time of grace, without a hard one.

    None where neither is set (0).
    """
    used, soft, hard = numbers
    limit = hard or soft
    return max(0, limit - used) * KIB if limit else None


def _said(command: Sequence[str]) -> str:
    """What a command says, whatever its exit code (that of `quota` is 1 where something is exceeded); "" if nothing."""
    env = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=env, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout

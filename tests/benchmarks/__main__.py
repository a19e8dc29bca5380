"""All benchmarks, one after the other: python tests/benchmarks [NAME...]; `journal data` are bench_{journal,data}.py.

They want a quiet machine. What each measures, and how, is said at the top of its file.
"""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run them; how many failed."""
    found = {path.stem.removeprefix("bench_"): path for path in sorted(Path(__file__).parent.glob("bench_*.py"))}
    if unknown := set(sys.argv[1:]) - found.keys():
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    failed = 0
    for name in sys.argv[1:] or found:
        print(f"\n## {name}\n", flush=True)
        failed += subprocess.run([sys.executable, "-W", "ignore", found[name]], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    raise SystemExit(main())

"""How long a finished quickstart takes when it is asked for again.

Run: ``python tests/benchmarks/rerun.py STUDY_DIR`` on the folder of a finished quickstart. Prints the seconds
of five runs and of starting Python alone, checks that no file changed, and ends with 1 if the median is not below 5 s.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 5.0


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    folder = parser.parse_args().study
    call = [sys.executable, "-c", "from vaebench.cli import main; main()", "quickstart", "--output-dir", str(folder)]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    runs = [seconds(call) for _ in range(5)]
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    changed = [str(path) for path in before | after if before.get(path) != after.get(path)]
    print(f"cached rerun: median {statistics.median(runs):.2f} s ({', '.join(f'{run:.2f}' for run in runs)})")
    print(f"starting Python alone: {seconds([sys.executable, '-c', 'pass']):.2f} s; files changed: {len(changed)}")
    return 0 if statistics.median(runs) < LIMIT and not changed else 1


if __name__ == "__main__":
    sys.exit(main())

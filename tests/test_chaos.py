"""The short form of `make chaos`: a real sweep, four faults, nothing lost and nothing doubled."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_sweep_survives_what_a_night_can_do():
    command = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--short"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 4 and all(row.endswith("| none |") for row in rows), done.stdout

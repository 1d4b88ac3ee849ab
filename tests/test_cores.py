"""Work spread over the cores is the same work: in order, by several processes, with its own errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from scaling.cores import cpu_count, side_by_side

ROOT = Path(__file__).parents[1]


def alone(code: str) -> list[str]:
    """What a program prints that has no other thread."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux" or cpu_count() < 2, reason="one core, or no safe fork")
def test_a_closure_runs_in_other_processes_and_its_values_keep_their_order():
    code = """
import os, time
from scaling.cores import side_by_side
def main():
    here = os.getpid()
    def square(x):
        time.sleep(0.05)
        return x * x, os.getpid() != here
    print(*[f"{value}{elsewhere}" for value, elsewhere in side_by_side(square, range(8))])
main()
"""
    assert alone(code) == [f"{x * x}True" for x in range(8)]


def test_an_error_is_the_one_that_the_item_raised():
    code = """
from scaling.cores import side_by_side
try:
    side_by_side(lambda x: 1 / x, [2, 1, 0])
except ZeroDivisionError as error:
    print(type(error).__name__, error.__traceback__ is not None)
"""
    assert alone(code) == ["ZeroDivisionError", "True"]


def test_beside_other_threads_nothing_is_forked():
    code = """
import os, threading
from scaling.cores import side_by_side
wait = threading.Event()
threading.Thread(target=wait.wait, daemon=True).start()
print(*{os.getpid() == pid for pid in side_by_side(lambda _: os.getpid(), range(4))})
"""
    assert alone(code) == ["True"]
    assert side_by_side(str, []) == []

"""The C++ kernels as a library: compiled once for this source, compiler and CPU, then kept in the cache directory."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC", "-pthread")


@functools.cache
def library() -> ctypes.CDLL | None:
    """None where they cannot be compiled; `why_not` says why."""
    try:
        return ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError):
        return None


def why_not() -> str:
    """Half a line, empty where the kernels are at hand."""
    return "" if library() else f"with torch's own kernels, slower: {shlex.join(_compiler())} compiles no C++ here"


def _built() -> Path:
    compiler, sources = _compiler(), sorted(HERE.glob("*.cpp"))
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    known = [version, _cpu(), *FLAGS, *(path.read_text() for path in sorted([*sources, HERE / "simd.h"]))]
    name = hashlib.sha256("\0".join(known).encode()).hexdigest()[:16]
    path = Path(os.environ.get("SCALING_CACHE") or "~/.cache/scaling").expanduser() / "kernels" / f"{name}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            new = Path(scratch) / path.name
            command = [*compiler, *FLAGS, *map(str, sources), "-o", str(new)]
            subprocess.run(command, capture_output=True, check=True, timeout=300)
            new.replace(path)  # whole, whoever else builds it at the same time
    return path


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX") or "c++")


def _cpu() -> str:
    """What -march=native looks at: a cache may be shared by machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()} {flags}"

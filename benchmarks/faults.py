"""The faults of `benchmarks/chaos.py`: each starts the line, or finds it dead, and does its worst once."""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos import Chaos

PATIENCE_S = 600  # for a line that was asked to stop, or that nothing stops


@dataclass(frozen=True)
class Fault:
    """`strike` returns whether there was anything to hit."""

    kind: str
    times: int
    strike: Callable[["Chaos"], bool]


def killed(chaos: "Chaos") -> bool:
    line = chaos.start()
    in_time = chaos.moment(line)
    send(chaos, line, line.pid, signal.SIGSTOP)  # it is not to see its children go
    for process in reversed(members(chaos, line)):  # the parent last, as its children are known by it
        send(chaos, line, process, signal.SIGKILL)
    line.wait()
    return in_time


def parent_killed(chaos: "Chaos") -> bool:
    line = chaos.start()
    in_time = chaos.moment(line)
    line.kill()
    line.wait()
    return in_time


def worker_killed(chaos: "Chaos") -> bool:
    """Costs its job one retry: the line itself ends well."""
    line = chaos.start()
    workers = [pid for pid in members(chaos, line) if trains(chaos, pid)] if chaos.moment(line, 0.25) else []
    if workers:
        send(chaos, line, chaos.rng.choice(workers), signal.SIGKILL)
    code = line.wait(PATIENCE_S)
    chaos.expect(code == 0, f"ended with {code}")
    return bool(workers)


def terminated(chaos: "Chaos") -> bool:
    line = chaos.start()
    in_time = chaos.moment(line)
    line.terminate()
    line.wait(PATIENCE_S)
    return in_time


def ctrl_c(chaos: "Chaos") -> bool:
    """A terminal sends it to all of the sweep's processes."""
    line = chaos.start()
    in_time = chaos.moment(line)
    for process in reversed(members(chaos, line)):
        send(chaos, line, process, signal.SIGINT)
    line.wait(PATIENCE_S)
    return in_time


def power_cut(pattern: str) -> Callable[["Chaos"], bool]:
    """The line is killed, and of one file that matches only a part was on disk, or its end is zeros."""

    def strike(chaos: "Chaos") -> bool:
        if not killed(chaos):
            return False
        place = chaos.cache if pattern.startswith("tokens/") else chaos.study
        files = sorted(file for file in place.glob(pattern) if file.stat().st_size > 100)
        if not files:
            return False
        file = chaos.rng.choice(files)
        data = file.read_bytes()
        at = chaos.rng.randrange(len(data) - 50)
        at -= data[at - 1 : at] == b"\n"  # a table that ends with a whole row, of a run that goes on, has lost nothing
        file.write_bytes(data[:at] + b"\0" * chaos.rng.choice([0, len(data) - at]))
        chaos.cut.append(file)
        return True

    return strike


def disk_full(chaos: "Chaos") -> bool:
    """No more room than for a few files; afterwards there is room again."""
    line = chaos.start()
    in_time = chaos.moment(line)
    place = chaos.outputs
    if os.path.ismount(place):
        used = (s := os.statvfs(place)).f_frsize * (s.f_blocks - s.f_bfree)
        room = used + chaos.rng.randrange(1 << 16)
        subprocess.run(["mount", "-o", f"remount,size={room}", str(place)], check=False)
    else:
        room = chaos.rng.randrange(1 << 14)
        for process in members(chaos, line):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process, resource.RLIMIT_FSIZE, (room, room))
    code = line.wait(PATIENCE_S)
    if os.path.ismount(place):
        subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=False)
    return in_time and code != 0


def at_batch(fault: str) -> Callable[["Chaos"], bool]:
    """Every job of the line breaks at a batch; the line says so and ends."""

    def strike(chaos: "Chaos") -> bool:
        code = chaos.start(CHAOS=f"{fault} {chaos.rng.randrange(1, 250)}").wait(PATIENCE_S)
        chaos.expect(code == 1, f"ended with {code}")
        return True

    return strike


def two_at_once(chaos: "Chaos") -> bool:
    """Each trains what the other does not: none fails but for being told that a run is busy."""
    first = chaos.start()
    time.sleep(chaos.rng.uniform(0, 2 * chaos.span))
    second = chaos.start()
    codes = [line.wait(PATIENCE_S) for line in (first, second)]
    chaos.expect(set(codes) <= {0, 1} and "failed" not in chaos.said.read_text(), f"ended with {codes}")
    return True


def wandb_dies(chaos: "Chaos") -> bool:
    """Its server is gone: the sweep ends well and in time."""
    line = chaos.start(mode="auto")
    in_time = chaos.moment(line)
    chaos.server.stop()
    code = line.wait(PATIENCE_S)
    chaos.server.start()
    chaos.expect(code == 0, f"ended with {code}")
    return in_time


def wandb_fails(chaos: "Chaos") -> bool:
    """Its server answers everything with 500."""
    line = chaos.start(mode="auto")
    in_time = chaos.moment(line)
    chaos.server.failing_with = 500
    code = line.wait(PATIENCE_S)
    chaos.server.failing_with = None
    chaos.expect(code == 0, f"ended with {code}")
    return in_time


def hub_gone(chaos: "Chaos") -> bool:
    """Refused in one line with nothing written; the same line finishes when the hub is back."""
    chaos.cache, cache = chaos.scratch / f"cache{chaos.n_lines}", chaos.cache
    before = set(chaos.study.rglob("*"))
    code = chaos.start(hub=True).wait(PATIENCE_S)
    said = chaos.said.read_text().splitlines()
    refused = code == 2 and len(said) == 1 and said[0].startswith("error: data=wikitext2: ")
    chaos.expect(refused and set(chaos.study.rglob("*")) == before, f"not refused in one line: {said}")
    back = f"{chaos.scratch / 'hub'}{os.pathsep}{chaos.env['PYTHONPATH']}"
    code = chaos.start(hub=True, PYTHONPATH=back).wait(PATIENCE_S)
    chaos.expect(code == 0, f"the hub is back, and it ended with {code}")
    chaos.cache = cache
    return True


FAULTS = (
    Fault("SIGKILL to all of the sweep", 3, killed),
    Fault("SIGKILL to its parent alone", 2, parent_killed),
    Fault("SIGKILL to a worker", 2, worker_killed),
    Fault("SIGTERM", 2, terminated),
    Fault("Ctrl+C", 2, ctrl_c),
    Fault("power cut: record.json", 2, power_cut("*/record.json")),
    Fault("power cut: curve.csv", 2, power_cut("*/curve.csv")),
    Fault("power cut: config.yaml", 1, power_cut("*/config.yaml")),
    Fault("power cut: last.ckpt", 2, power_cut("*/last.ckpt")),
    Fault("power cut: cached tokens", 1, power_cut("tokens/*/train.bin")),
    Fault("power cut: cached tokenizer", 1, power_cut("tokens/*/tokenizer.json")),
    Fault("disk full", 2, disk_full),
    Fault("jobs that raise", 1, at_batch("raise")),
    Fault("jobs that diverge", 1, at_batch("diverge")),
    Fault("two sweeps at once", 1, two_at_once),
    Fault("W&B's server dies", 1, wandb_dies),
    Fault("W&B's server answers 500", 1, wandb_fails),
    Fault("the hub out of reach", 1, hub_gone),
)


def members(chaos: "Chaos", line: subprocess.Popen[bytes]) -> list[int]:
    """The line's process and its descendants that name this run's own scratch directory on their command line."""
    if line.poll() is not None or line.pid <= 1:
        return []
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [line.pid]
    for pid in found:  # which grows as it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return [pid for pid in found if pid > 1 and pid != os.getpid() and str(chaos.scratch) in command(pid)]


def send(chaos: "Chaos", line: subprocess.Popen[bytes], pid: int, number: signal.Signals) -> None:
    """To a member of the line alone: it is held by a descriptor while that is looked at, so its id cannot pass on."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if pid in members(chaos, line):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def trains(chaos: "Chaos", pid: int) -> bool:
    """Whether it has the lock of a run of the study open."""
    with contextlib.suppress(OSError):
        links = [os.path.realpath(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        return any(link.startswith(f"{chaos.study}/") and link.endswith("/.lock") for link in links)
    return False


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""

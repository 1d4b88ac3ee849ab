"""The same 2 x 2 sweep under every launcher: are the losses byte-equal, and what does it take?

    python benchmarks/launchers.py [local] [slurm_local] [slurm] [ray] [ray_cluster] [--write FILE]

`slurm` sets up a one-node SLURM of its own from Debian's packages (apt-get install --no-install-recommends slurmctld
slurmd munge slurm-client; as root), preempts one run with `scontrol requeue` in the middle, and takes it down again.
`ray_cluster` starts two Ray nodes on this host. Exit code 1 where a loss differs, or nothing was preempted.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
BEGIN, END = "<!-- benchmarks/launchers.py: begin -->", "<!-- benchmarks/launchers.py: end -->"
SWEEP = [
    *("-m", "data=synthetic", "data.options.train_tokens=131072", "data.options.valid_tokens=16384"),
    *("data.options.test_tokens=16384", "eval_tokens=4096", "logger=none", "trainer.threads=1", "trainer.device=cpu"),
    *("model=d16_l1,d32_l2", "tokens=50k,300k"),
]
PATIENCE_S = 900


@dataclass(frozen=True)
class Engine:
    """How a sweep gets there: what runs it, its overrides, and what is done to it on the way."""

    what: str
    overrides: tuple[str, ...] = ()
    around: Callable[[Path], AbstractContextManager[dict[str, str]]] | None = None
    disturb: Callable[[Path, dict[str, str]], str] | None = None


@contextlib.contextmanager
def slurm(scratch: Path) -> Iterator[dict[str, str]]:
    """A one-node cluster with its own key, ports and state; nothing of it is left."""
    for program in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(program) is None:
            sys.exit(f"error: {program} is not installed: apt-get install slurmctld slurmd munge slurm-client")
    host, cores = socket.gethostname(), os.cpu_count() or 1
    state = scratch / "slurm-state"
    for name in ("munge", "ctld", "d"):
        (state / name).mkdir(parents=True)
    key, munge_socket, conf = state / "munge" / "key", state / "munge" / "socket", state / "slurm.conf"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    for path in (scratch, state, state / "munge"):
        path.chmod(0o755)
    conf.write_text(
        f"""ClusterName=here
SlurmctldHost={host}
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
AuthType=auth/munge
AuthInfo=socket={munge_socket}
CryptoType=crypto/munge
SlurmUser=root
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/d
SlurmctldPidFile={state}/ctld.pid
SlurmdPidFile={state}/d.pid
SlurmctldLogFile={state}/ctld.log
SlurmdLogFile={state}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    environment = {"SLURM_CONF": str(conf)}
    munge = ["munged", "-F", f"--key-file={key}", f"--socket={munge_socket}", f"--log-file={state}/munge/log"]
    munge += [f"--pid-file={state}/munge/pid", f"--seed-file={state}/munge/seed", "--force"]
    commands = [munge, ["slurmctld", "-D", "-f", str(conf)], ["slurmd", "-D", "-f", str(conf)]]
    daemons = []
    try:
        for command in commands:
            quiet = subprocess.DEVNULL
            daemons.append(subprocess.Popen(command, env=os.environ | environment, stdout=quiet, stderr=quiet))
            time.sleep(2)
        wait_for(lambda: "idle" in output(["sinfo", "-h", "-o", "%t"], environment), "a SLURM node that is idle")
        yield environment
    finally:
        subprocess.run(["scancel", "--me"], env=os.environ | environment, check=False)
        with contextlib.suppress(TimeoutError):  # a step that outlives its daemon stays
            wait_for(lambda: not output(["squeue", "-h"], environment), "an empty queue", 60)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(daemons):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(30)
            daemon.kill()


@contextlib.contextmanager
def ray_cluster(scratch: Path) -> Iterator[dict[str, str]]:
    """Two nodes of one core each on this host."""
    port, temporary = free_port(), f"--temp-dir={scratch}/ray"
    head = ["--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false", temporary]
    second = [f"--address=127.0.0.1:{port}", "--num-cpus=1"]
    quiet = subprocess.DEVNULL
    nodes = []
    try:
        for node in (head, second):
            command = [str(BIN / "ray"), "start", "--block", "--disable-usage-stats", *node]
            nodes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True))
            address = {"RAY_ADDRESS": f"127.0.0.1:{port}"}
            alive = len(nodes)
            wait_for(lambda: ray_nodes(address) >= alive, f"Ray node {alive}")  # noqa: B023
        yield address
    finally:
        for one in nodes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGTERM)
        for one in nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)


def ray_nodes(environment: dict[str, str]) -> int:
    code = "import ray; ray.init('auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    answer = output([sys.executable, "-c", code], environment).split()
    return int(answer[-1]) if answer and answer[-1].isdecimal() else 0


def requeue(study: Path, environment: dict[str, str]) -> str:
    """Preempt a run in the middle, as SLURM does it: SIGTERM, and the job back into the queue."""
    long = "*d32*300k*/curve.csv"
    wait_for(lambda: any(study.glob(long)), "a run in the middle", PATIENCE_S)
    run = next(study.glob(long)).parent
    (pid,) = holders(run / ".lock")
    job = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line)
    task = f"{job['SLURM_ARRAY_JOB_ID']}_{job['SLURM_ARRAY_TASK_ID']}"
    subprocess.run(["scontrol", "requeue", task], env=os.environ | environment, check=True)
    wait_for(lambda: (run / "last.ckpt").exists() and not holders(run / ".lock"), "the state of the preempted run")
    return f"{run.name} preempted at {json.loads((run / 'record.json').read_text())['tokens_done']} tokens"


ENGINES = {
    "local": Engine("this project's launcher, the default"),
    "slurm_local": Engine("submitit's local executor", ("hydra/launcher=slurm_local",)),
    "slurm": Engine(
        "SLURM, one node, one run preempted", ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1"), slurm, requeue
    ),
    "ray": Engine("Ray on this machine", ("hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2")),
    "ray_cluster": Engine(
        "Ray, a cluster of two nodes", ("hydra/launcher=ray", "hydra.launcher.ray.init.address=auto"), ray_cluster
    ),
}


def run(name: str, scratch: Path) -> tuple[dict[str, float], float, str]:
    """Losses of the sweep's runs, its seconds from start to prompt, and what was done to it."""
    engine, study = ENGINES[name], scratch / name
    with engine.around(scratch) if engine.around else contextlib.nullcontext({}) as environment:
        overrides = [f"study={name}", f"output_dir={scratch}", f"cache_dir={scratch}/cache", *engine.overrides]
        command = [sys.executable, str(ROOT / "train.py"), *SWEEP, *overrides]
        began = time.perf_counter()
        sweep = subprocess.Popen(command, cwd=scratch, env=os.environ | environment)
        try:
            note = engine.disturb(study, environment) if engine.disturb else ""
            code = sweep.wait(PATIENCE_S)
        finally:
            sweep.kill()
        seconds = time.perf_counter() - began
    if code:
        for log in sorted(study.glob(".submitit/*/*.err")):
            print(f"{log}\n{log.read_text()[-2000:]}", file=sys.stderr)
        raise subprocess.CalledProcessError(code, command)
    records = [json.loads(path.read_text()) for path in sorted(study.glob("*/record.json"))]
    return {f"{r['model']} {r['tokens_budget']}": r["loss_val"] for r in records}, seconds, note


def output(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return done.stdout


def holders(path: Path) -> list[int]:
    """Processes that have a file open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.path.realpath(fd) == str(path) for fd in (process / "fd").iterdir()):
                found.append(int(process.name))
    return found


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def main() -> None:
    # no token in the home directory; and time to start on a busy machine
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_raylet_start_wait_time_s="180")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", help=f"of {', '.join(ENGINES)}; all without")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table into, between its markers")
    args = parser.parse_args()
    unknown = set(args.engines) - set(ENGINES)
    if unknown:
        parser.error(f"{', '.join(unknown)}: must be of {', '.join(ENGINES)}")
    rows, reference = [], None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for name in ["local", *(name for name in args.engines or ENGINES if name != "local")]:
            losses, seconds, note = run(name, Path(scratch))
            reference = reference or losses
            same = losses == reference and len(losses) == 4
            rows.append((ENGINES[name].what, "byte-equal" if same else f"differ: {losses}", f"{seconds:.0f} s", note))
            print("  ".join(rows[-1]), flush=True)
    assert reference is not None
    shown = ", ".join(f"{key}: {value!r}" for key, value in reference.items())
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores; wall time is from the command to its prompt.",
        f"Losses by model and budget: {shown}.",
        "",
        "| launcher | losses | wall time | |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    text = "\n".join(lines)
    print(text)
    if args.write:
        before, _, rest = args.write.read_text().partition(BEGIN)
        args.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    sys.exit(any(row[1] != "byte-equal" for row in rows))


if __name__ == "__main__":
    main()

"""Uploads what W&B has not got of a study:  python -m scaling.sync outputs/<study>   (or: make sync STUDY=…)

W&B's own `wandb sync` does the work for runs that are new to the server. It exits with 0 whatever happens, one
unreadable file stops its whole batch, and on a run that the server knows in part it appends everything again. So
the batch is halved until that file is found, a run that is there in part gets its missing rows from `curve.csv`,
and what counts as done is what the server has afterwards.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from scaling import dashboard, records
from scaling.account import asking, connect
from scaling.config import ConfigError

BATCH = 25
WAIT_S = 10  # for one answer
PATIENCE = 5
MARK = ".synced"  # the one `wandb sync` leaves, so that it knows our uploads and we know its


@dataclass
class Upload:
    """The W&B files of one run that are not marked; `id`, `project` and `entity` are read from its config."""

    run_dir: Path
    file: Path
    record: records.RunRecord
    rows: list[dict[str, Any]]
    id: str
    project: str
    entity: str | None
    problem: str = ""
    was_there: bool = False

    def mark(self) -> None:
        self.file.with_name(self.file.name + MARK).touch()

    @property
    def marked(self) -> bool:
        return self.file.with_name(self.file.name + MARK).exists()


def sync(study: Path) -> int:
    """Upload all that can be, say what did not go. Returns the exit code: 0 if nothing failed."""
    uploads, unfinished, unreadable = collect(study)
    if uploads:
        api = connect(WAIT_S)
        for project in {(u.entity, u.project) for u in uploads}:
            with asking(str(study)):
                _upload(api, [u for u in uploads if (u.entity, u.project) == project])
    failed = {u.run_dir.name: u.problem for u in uploads if u.problem} | unreadable
    for name, why in failed.items():
        print(f"  {name}: {why}", file=sys.stderr)
    there = sum(u.was_there for u in uploads)
    done = len(uploads) - there - sum(bool(u.problem) for u in uploads)
    counts = {"uploaded": done, "there already": there, "failed": len(failed), "not ended yet": unfinished}
    print(f"{study}: " + (", ".join(f"{n} {what}" for what, n in counts.items() if n) or "nothing to upload"))
    return 1 if failed else 0


def collect(study: Path) -> tuple[list[Upload], int, dict[str, str]]:
    """Runs to upload, how many have not ended, and why others cannot be. Raises ConfigError where there are none."""
    found = list(records.run_dirs(study))
    if not found:
        raise ConfigError(f"{study}: no runs here; the directory of a study is outputs/<study>")
    uploads, unfinished, unreadable = [], 0, {}
    for run_dir in found:
        # the latest alone: an attempt begun again logs the whole curve again
        file = max(
            run_dir.glob("wandb/*run-*/run-*.wandb"), key=lambda path: path.parent.name.split("run-")[1], default=None
        )
        if file is None or file.with_name(file.name + MARK).exists():
            continue
        try:
            record = records.read(run_dir)
            if record.status == "running" or _locked(run_dir):
                unfinished += 1
                continue
            uploads.append(_upload_of(run_dir, file, record))
        except (records.RecordError, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            unreadable[run_dir.name] = str(error).splitlines()[0]
    return uploads, unfinished, unreadable


def _upload_of(run_dir: Path, file: Path, record: records.RunRecord) -> Upload:
    logger = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))["logger"]
    return Upload(
        run_dir=run_dir,
        file=file,
        record=record,
        rows=dashboard.read_curve(run_dir) if (run_dir / dashboard.CURVE).exists() else [],
        id=file.stem.removeprefix("run-"),
        project=logger["project"],
        entity=logger["entity"],
    )


def _locked(run_dir: Path) -> bool:
    """Whether a process is training it."""
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            return False
    except Timeout:
        return True


def _upload(api: Any, uploads: Sequence[Upload]) -> None:
    """All of one project: new runs by `wandb sync`, the others row by row; then the server is asked what it has."""
    there = _on_server(api, uploads)
    new = [u for u in uploads if u.id not in there or there[u.id].rows == 0]
    for upload in uploads:
        upload.was_there = upload not in new and there[upload.id].holds(upload)
    partly = [u for u in uploads if u not in new and not u.was_there]
    for start in range(0, len(new), BATCH):
        _wandb_sync(new[start : start + BATCH])
    for upload in partly:
        upload.problem = _replay(upload)
    waiting = [u for u in uploads if not u.problem]
    for attempt in range(PATIENCE if waiting else 0):  # a server may take a moment to count what it was sent
        time.sleep(min(attempt, 1))
        there = _on_server(api, waiting)
        for upload in [u for u in waiting if u.id in there and there[u.id].holds(u)]:
            upload.mark()
            waiting.remove(upload)
        if not waiting:
            break
    for upload in waiting:
        have = there[upload.id].rows if upload.id in there else 0
        upload.problem = f"the server has {have} of {len(upload.rows)} rows"


@dataclass(frozen=True)
class There:
    """A run as the server has it."""

    rows: int
    state: str

    def holds(self, upload: Upload) -> bool:
        return self.rows == len(upload.rows) and self.state in ("finished", "failed", "crashed")


def _on_server(api: Any, uploads: Sequence[Upload]) -> dict[str, There]:
    """Those of the runs that the server knows: one request a hundred."""
    path = f"{uploads[0].entity or api.default_entity}/{uploads[0].project}"
    api.flush()
    try:
        runs = api.runs(path, {"name": {"$in": [u.id for u in uploads]}}, per_page=100)
        return {run.id: There(run.historyLineCount, run.state) for run in runs}
    except ValueError:  # no such project yet
        return {}


def _wandb_sync(uploads: Sequence[Upload]) -> None:
    """Halves a batch that was stopped by one file until that one is found, and notes what W&B said of it."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", "--include-online"]
    done = subprocess.run(
        [*command, *(str(u.file.parent) for u in uploads)],
        env=os.environ | {"WANDB_MODE": "online", "WANDB_SILENT": "false"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    left = [u for u in uploads if not u.marked]
    if len(uploads) > 1:
        middle = (len(left) + 1) // 2
        for half in filter(None, (left[:middle], left[middle:])):
            _wandb_sync(half)
    elif left:
        lines = [line.removeprefix("wandb: ") for line in (done.stdout + done.stderr).splitlines()]
        errors = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
        uploads[0].problem = (errors or lines or ["`wandb sync` said nothing"])[-1]


def _replay(upload: Upload) -> str:
    """Sends what the server lacks of a run that it knows in part. Returns what went wrong."""
    import wandb

    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True, save_code=False, init_timeout=30,
        finish_timeout=60, x_disable_stats=True, x_disable_meta=True, x_save_requirements=False,
    )  # fmt: skip
    asked: dict[str, Any] = {"id": upload.id, "project": upload.project, "entity": upload.entity, "resume": "must"}
    try:
        with tempfile.TemporaryDirectory() as place:
            run = wandb.init(mode="online", dir=place, settings=settings, **asked)
            for row in upload.rows[run.starting_step :]:
                run.log(dashboard.metrics_of(row))
            run.summary.update(dashboard.summary_of(upload.record))
            run.finish(exit_code=0 if upload.record.status == "finished" else 1)
    except Exception as error:
        wandb.teardown()
        return str(error).splitlines()[0]
    return ""


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: python -m scaling.sync outputs/<study> …", file=sys.stderr)
        return 2
    try:
        return max(sync(Path(study)) for study in sys.argv[1:])
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

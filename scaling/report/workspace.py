"""A saved view of a project on W&B: the study's loss against compute and tokens, its runs coloured by size.

Made once for a study and then left alone: what people change in it stays theirs.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from typing import TYPE_CHECKING

from scaling.config import ConfigError
from scaling.dashboard import METRICS, SUMMARY
from scaling.report.style import colours
from scaling.sources.table import RunTable

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

MAX_RUNS = 100  # to a panel: W&B's own is 10
LOSS, CURVE, N = SUMMARY["loss_val"], METRICS["loss_train"], "n_total"
AXES = {METRICS["flops"]: "compute, FLOPs", METRICS["tokens"]: "tokens"}


def check_installed() -> None:
    """Raises ConfigError where the client is not there."""
    if find_spec("wandb_workspaces") is None:
        how = "pip install --constraint requirements.lock -e '.[workspace]'"
        raise ConfigError(f"workspace=true: needs the package wandb-workspaces, {how}")


def save(entity: str, project: str, table: RunTable) -> str:
    """The address of the one view of these runs, made if there is none. Raises whatever the client does."""
    from pydantic import ValidationError
    from wandb_workspaces.workspaces import Workspace
    from wandb_workspaces.workspaces.errors import SpecVersionError

    study = study_of(table)
    view = _view(entity, project, study, table)
    key = hashlib.sha256(f"{entity}/{project}/{study or ''}".encode()).hexdigest()[:11]
    view._internal_name = f"nw-{key}-v"  # the client would draw a name; this one is found again
    try:
        Workspace.from_url(view.url)
    except (SpecVersionError, ValidationError):
        pass  # it is there, in a form that this client does not know
    except ValueError as error:
        if f"`{key}` not found" not in str(error):
            raise
        view.save()
    return str(view.url)


def study_of(table: RunTable) -> str | None:
    """The group of all these runs, or None if they have several."""
    studies = set(table.runs["study"].dropna()) if "study" in table.runs else set()
    return str(studies.pop()) if len(studies) == 1 else None


def _view(entity: str, project: str, study: str | None, table: RunTable) -> Workspace:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    points = [
        wr.ScatterPlot(title=f"Final loss against {name}", x=key, y=LOSS, log_x=True, running_ymin=True)
        for key, name in AXES.items()
    ]
    curves = [
        wr.LinePlot(title=f"Training loss against {name}", x=key, y=[CURVE], log_x=True, title_x=name)
        for key, name in AXES.items()
    ]
    layout = ws.SectionLayoutSettings(columns=2, rows=2)
    wanted = [expr.Metric("JobType") == "train"]
    if study is not None:  # the client reads its filters as Python, and would double a bare "="
        wanted.append(expr.Metric("Group") == study.replace("=", r"\x3d"))
    return ws.Workspace(
        entity=entity,
        project=project,
        name="".join(c if c.isalnum() or c in " -_." else "_" for c in f"scaling {study or ''}").strip(),
        sections=[ws.Section(name="Scaling", panels=[*points, *curves], is_open=True, layout_settings=layout)],
        settings=ws.WorkspaceSettings(max_runs=MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(*wanted),
            order=[expr.Ordering(expr.Summary(N), ascending=True)],
            pinned_columns=[f"summary:{key}" for key in (N, *AXES, LOSS)],
            run_settings={run: ws.RunSettings(color=colour) for run, colour in _colours(table).items()},
        ),
    )


def _colours(table: RunTable) -> dict[str, str]:
    """The colour of each run by its id on W&B, from small to large as in the report's figures."""
    sized = table.runs[(table.runs[N] > 0) & table.runs["run"].isin(table.links)]
    sizes = sorted(sized[N].unique())
    ramp = dict(zip(sizes, colours(len(sizes)), strict=True))
    return {table.links[run].rsplit("/", 1)[-1]: ramp[n] for run, n in zip(sized["run"], sized[N], strict=True)}

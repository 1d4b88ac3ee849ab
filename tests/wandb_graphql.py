"""What a W&B server answers: runs made, resumed, listed, read; views saved, found. Only fields asked for are sent."""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ENTITY = "lab"
HISTORY = "wandb-history.jsonl"
Json = dict[str, Any]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def opaque(*parts: str) -> str:
    return base64.b64encode(":".join(parts).encode()).decode()


@dataclass
class Run:
    """One run as the server keeps it; `lines` are the streamed files, by line number."""

    entity: str
    project: str
    name: str
    display: str = ""
    config: Json = field(default_factory=dict)
    summary: Json = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    group: str | None = None
    job_type: str | None = None
    state: str = "running"
    exit_code: int | None = None
    created: str = field(default_factory=now)
    heartbeat: str = field(default_factory=now)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)

    def rows(self, file: str = HISTORY) -> list[Json]:
        """History, in the order of its lines."""
        return [json.loads(line) for _, line in sorted(self.lines.get(file, {}).items())]

    def stream(self, body: Json) -> None:
        """One request of the client's file stream."""
        for file, chunk in (body.get("files") or {}).items():
            if file == "wandb-summary.json":
                self.summary = json.loads(chunk["content"][-1])
            else:
                known = self.lines.setdefault(file, {})
                known.update(enumerate(chunk["content"], start=chunk["offset"]))
        self.heartbeat = now()
        if body.get("complete"):
            self.exit_code = body.get("exitcode")
            self.state = "failed" if self.exit_code else "finished"

    def upsert(self, asked: Json) -> None:
        fields = {
            "displayName": "display",
            "groupName": "group",
            "jobType": "job_type",
            "tags": "tags",
            "state": "state",
        }
        for theirs, ours in fields.items():
            if asked.get(theirs) is not None:
                setattr(self, ours, asked[theirs])
        if asked.get("config"):
            self.config = json.loads(asked["config"])
        if asked.get("summaryMetrics"):
            self.summary = json.loads(asked["summaryMetrics"])

    def node(self) -> Json:
        history = self.lines.get(HISTORY, {})
        tail = [history[max(history)]] if history else []
        return {
            "id": opaque("Run", "v1", self.name, self.project, self.entity),
            "name": self.name,
            "displayName": self.display or self.name,
            "tags": self.tags,
            "group": self.group,
            "jobType": self.job_type,
            "state": self.state,
            "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "createdAt": self.created,
            "heartbeatAt": self.heartbeat,
            "historyLineCount": len(history),
            "eventsLineCount": len(self.lines.get("wandb-events.jsonl", {})),
            "logLineCount": len(self.lines.get("output.log", {})),
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "historyKeys": {"keys": {}, "lastStep": len(history) - 1, "sets": []},
            "wandbConfig": json.dumps({"t": self.config.get("_wandb", {}).get("value", {}).get("t")}),
            "projectId": "1",
            "readOnly": False,
            "user": {"name": ENTITY, "username": ENTITY},
            "project": project_node(self.entity, self.project),
        }


def project_node(entity: str, name: str) -> Json:
    return {
        "id": opaque("Project", "v1", name, entity),
        "internalId": opaque("ProjectInternalId", "1"),
        "name": name,
        "entityName": entity,
        "readOnly": False,
        "entity": {"id": opaque("Entity", entity), "name": entity},
    }


class Backend:
    """All runs and saved views, and one method for each operation, called with its variables."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str, str], Run] = {}
        self.views: list[Json] = []
        self.url = ""

    def answer(self, body: Json) -> tuple[str, Json]:
        """Operation's name and the reply. An unknown operation is a GraphQL error: anything else would be retried."""
        tree, fragments, name = parse(body["query"])
        operation = getattr(self, f"op_{name}", None)
        if operation is None:
            return name, {"data": None, "errors": [{"message": f"no operation {name}"}]}
        asked = dict(body.get("variables") or {})
        asked["entity"] = asked.get("entity") or ENTITY
        return name, {"data": pick(operation(asked), tree, fragments)}

    def op_Viewer(self, asked: Json) -> Json:
        viewer = {"id": opaque("User", ENTITY), "entity": ENTITY, "username": ENTITY, "name": ENTITY, "flags": "{}"}
        return {"viewer": viewer | {"email": "", "admin": False, "teams": {"edges": [{"node": {"name": ENTITY}}]}}}

    def op_ServerFeaturesQuery(self, asked: Json) -> Json:
        return {"serverInfo": {"features": []}}

    def op_OrganizationCoreWeaveOrganizationID(self, asked: Json) -> Json:
        return {"entity": {"organization": None}}

    def op_UpsertBucket(self, asked: Json) -> Json:
        key = (asked["entity"], asked["project"], asked["name"])
        inserted = key not in self.runs
        run = self.runs.setdefault(key, Run(*key))
        run.upsert(asked)
        if not inserted and not asked.get("summaryMetrics") and run.state != "running":
            run.state = "running"  # taken up again
        return {"upsertBucket": {"bucket": run.node(), "inserted": inserted, "updated": not inserted}}

    def op_RunResumeStatus(self, asked: Json) -> Json:
        run = self.runs.get((asked["entity"], asked["project"], asked["name"]))
        return {"model": project_node(asked["entity"], asked["project"]) | {"bucket": run and run.node()}}

    def op_RunStoppedStatus(self, asked: Json) -> Json:
        return {"project": {"run": {"stopped": False}}}

    def op_CreateRunFiles(self, asked: Json) -> Json:
        files = [{"name": f, "uploadUrl": f"{self.url}/storage/{asked['run']}/{f}"} for f in asked["files"]]
        return {"createRunFiles": {"runID": "", "uploadHeaders": [], "files": files}}

    def op_Runs(self, asked: Json) -> Json:
        here = [r for r in self.runs.values() if (r.entity, r.project) == (asked["entity"], asked["project"])]
        if not here:
            return {"project": None}
        wanted = json.loads(asked.get("filters") or "{}")
        found = sorted((r for r in here if matches(r, wanted)), key=lambda r: r.created)
        if (asked.get("order") or "").startswith("-"):
            found.reverse()
        start = int(asked.get("cursor") or 0)
        page = found[start : start + (asked.get("perPage") or 50)]
        end = start + len(page)
        edges = [{"node": r.node(), "cursor": str(start + i + 1)} for i, r in enumerate(page)]
        listing = {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(found)}}
        return {"project": project_node(here[0].entity, here[0].project) | {"runCount": len(found), "runs": listing}}

    def op_Run(self, asked: Json) -> Json:
        run = self.runs.get((asked["entity"], asked["project"], asked["name"]))
        node = None
        if run is not None:
            rows, samples = run.rows(), asked.get("samples") or 500
            chosen = rows if len(rows) <= samples else [rows[i * len(rows) // samples] for i in range(samples)]
            node = run.node() | {"history": [json.dumps(row) for row in chosen]}
        return {"project": project_node(asked["entity"], asked["project"]) | {"run": node}}

    def op_UpsertView2(self, asked: Json) -> Json:
        known = next((view for view in self.views if view["id"] == asked.get("id")), None)
        view = known if known is not None else {"id": opaque("View", str(len(self.views)))}
        view |= {key: asked[key] for key in ("entityName", "projectName", "type", "name", "displayName", "spec")}
        if known is None:  # whoever brings no id makes another one, whatever its name
            self.views.append(view)
        return {"upsertView": {"view": view, "inserted": known is None}}

    def op_View(self, asked: Json) -> Json:
        wanted = [asked[key] for key in ("entityName", "projectName", "viewType", "viewName")]
        fields = ("entityName", "projectName", "type", "name")
        found = [{"node": view} for view in self.views if [view[key] for key in fields] == wanted]
        known = any([run.entity, run.project] == wanted[:2] for run in self.runs.values())
        return {"project": {"allViews": {"edges": found}} if known else None}

    op_RunFullHistory = op_Run
    op_GetDefaultEntity = op_Viewer


def matches(run: Run, wanted: Json) -> bool:
    """The few filters that are used: equality and `$in`, on a run's own fields."""
    have = {"name": run.name, "state": run.state, "group": run.group, "tags": run.tags, "jobType": run.job_type}
    for key, value in wanted.items():
        allowed = value["$in"] if isinstance(value, dict) else [value]
        found = have[key] if isinstance(have[key], list) else [have[key]]
        if not set(found) & set(allowed):
            return False
    return True


Tree = dict[str, Any]  # name in the reply -> (name of the field, its own tree or None); "...Name" -> a fragment


def parse(query: str) -> tuple[Tree, dict[str, Tree], str]:
    """Selection of the operation, fragments by name, and the operation's name."""
    words = re.findall(r'"[^"]*"|\.\.\.|[A-Za-z_]\w*|[^\s,]', re.sub(r"#[^\n]*", "", query))
    words.reverse()

    def skip_arguments() -> None:
        depth = 0
        while depth or words[-1] in ("(", "@"):
            word = words.pop()
            if word == "@":
                words.pop()
            depth += {"(": 1, ")": -1}.get(word, 0)

    def selection() -> Tree:
        tree: Tree = {}
        words.pop()  # {
        while words[-1] != "}":
            name = words.pop()
            if name == "...":
                name += words.pop()
                if name == "...on":
                    words.pop()
                    tree |= selection()
                else:
                    tree[name] = (name, None)
                continue
            shown = name
            if words[-1] == ":":
                words.pop()
                name = words.pop()
            skip_arguments()
            tree[shown] = (name, selection() if words[-1] == "{" else None)
        words.pop()
        return tree

    fragments, operation, asked = {}, {}, "Viewer"
    while words:
        kind = words.pop()
        name = words.pop() if words[-1] not in "{(" else ""
        while words[-1] != "{":
            skip_arguments() if words[-1] in ("(", "@") else words.pop()
        if kind == "fragment":
            fragments[name] = selection()
        else:
            operation, asked = selection(), name or asked
    return operation, fragments, asked


def pick(value: Any, tree: Tree | None, fragments: dict[str, Tree]) -> Any:
    """The part of a reply that was asked for."""
    if isinstance(value, list):
        return [pick(item, tree, fragments) for item in value]
    if not isinstance(value, dict) or tree is None:
        return value
    out = {}
    for shown, (name, below) in tree.items():
        if name.startswith("..."):
            out |= pick(value, fragments[name[3:]], fragments)
        else:
            out[shown] = pick(value.get(name), below, fragments)
    return out

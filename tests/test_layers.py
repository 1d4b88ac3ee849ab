"""Imports point down only, and the analysis half never loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GROUND = {"accounting", "limits", "config", "records", "analyze_config", "cores", "memory"}
# floor: lower may not import higher; parts of one floor may not import each other, but for what is listed
FLOORS = {
    **dict.fromkeys(GROUND, 0),
    **{"data": 1, "kernels": 1, "laws": 1, "cli": 1, "account": 1, "dashboard": 1, "sync": 2},
    **{"models": 2, "sources": 2, "launcher": 4, "export": 3},
    **{"training": 3, "report": 3},
}
ALLOWED = {("config", "accounting"), ("config", "limits"), ("limits", "accounting"), ("analyze_config", "config")}


def imports(path: Path) -> set[str]:
    """Parts of `scaling` that a file imports at the top level of the module."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" if node.module == "scaling" else node.module or "" for a in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("scaling.")}
    return found


def test_arrows_point_down():
    for path in (ROOT / "scaling").rglob("*.py"):
        part = path.relative_to(ROOT / "scaling").parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for other in imports(path) - {part}:
            down = FLOORS[other] < FLOORS[part] or (part, other) in ALLOWED
            assert down, f"{path.relative_to(ROOT)} ({part}) imports {other}"


def test_the_two_halves_meet_in_the_ground_alone():
    training = {"data", "kernels", "models", "training", "launcher"}
    analysis = {"laws", "sources", "report"}
    for half, other in ((training, analysis), (analysis, training)):
        for part in half:
            for path in (ROOT / "scaling" / part).rglob("*.py"):
                assert not imports(path) & other, path


def test_analysis_loads_no_torch():
    code = "import sys, scaling.laws, scaling.sources, scaling.report; print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_files_can_be_read_in_one_sitting():
    for path in (ROOT / "scaling").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path

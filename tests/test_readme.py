"""The README's commands are true: they compose, and run in smoke form."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose

from scaling.config import to_dataclass
from scaling.report.config import AnalyzeConfig, DesignConfig, StatusConfig, register_schemas

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
PROGRAM = re.compile(r"python (train|analyze)\.py[^`\n|]*")  # in fenced blocks, in tables and in running text alike
COMMANDS = sorted({match.group(0).split("   ")[0].strip() for match in PROGRAM.finditer(TEXT)})
TRAIN = [c for c in COMMANDS if "train.py" in c]
ANALYZE = [c for c in COMMANDS if "analyze.py" in c]
FIRST = {"model": "=d16_l1", "tokens": "=5k"}


def words(command: str) -> list[str]:
    return [word.replace("DIR", "/nowhere") for word in shlex.split(command.split("#")[0])[2:]]


def test_the_readme_leads_with_commands_and_is_of_readable_length():
    assert len(TRAIN) >= 6 and len(ANALYZE) >= 4
    assert 100 <= len(TEXT.splitlines()) <= 230


@pytest.mark.parametrize("command", TRAIN)
def test_train_commands_compose(hydra_conf, command):
    values = [w for w in words(command) if w != "-m"]
    single = [
        re.sub(r"=glob\(\*\)$", {"model": "=d16_l1", "tokens": "=5k"}.get(w.split("=")[0], "="), w) for w in values
    ]
    hydra_conf(*(w.split(",")[0] for w in single))


@pytest.mark.parametrize("command", ANALYZE)
def test_analyze_commands_compose(hydra_conf, command):
    register_schemas()
    values = words(command)
    name = next(
        (values.pop(values.index(w)).split("=")[1] for w in values if w.startswith("--config-name=")), "analyze"
    )
    schema = {"status": StatusConfig, "design": DesignConfig, "analyze": AnalyzeConfig}[name]
    to_dataclass(compose(name, overrides=values), schema)


def test_the_sweep_line_and_the_analysis_line_run(tmp_path, cache_dir):
    """`make demo` in small: the same two programs on the synthetic source."""
    sweep = ["-m", "experiment=smoke", f"output_dir={tmp_path}", f"cache_dir={cache_dir}"]
    done = subprocess.run([sys.executable, str(ROOT / "train.py"), *sweep], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("smoke/*/record.json"))) == 4
    analysis = ["study=smoke", f"output_dir={tmp_path}", "bootstrap=0"]
    done = subprocess.run([sys.executable, str(ROOT / "analyze.py"), *analysis], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "smoke" / "report" / "report.html").exists()
    assert "report.html" in done.stdout

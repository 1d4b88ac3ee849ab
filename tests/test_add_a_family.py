"""docs/add-a-family.md, followed to the letter in a copy of the repository that lacks what the page adds."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-family.md").read_text()
FILES = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.M | re.S))
COMMANDS = [line for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
SMALL = ["model=d16_l1", "tokens=5k", "logger=none"]


def test_the_page_shows_the_files_that_are_shipped():
    assert sorted(FILES) == ["conf/family/lstm.yaml", "scaling/models/lstm.py"]
    for path, text in FILES.items():
        assert text == (ROOT / path).read_text(), f"{path} has changed: so must docs/add-a-family.md"


def test_following_the_page_gives_a_family_that_trains_and_keeps_the_contract(tmp_path, cache_dir):
    copy = tmp_path / "copy"
    copy.mkdir()
    for part in ("scaling", "conf", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / part, copy)
    for path in FILES:
        (copy / path).unlink()
    assert not [path for path in (copy / "scaling").rglob("*.py") if "lstm" in path.read_text()]

    for path, text in FILES.items():
        (copy / path).write_text(text)
    train, contract = COMMANDS
    for command, more in ((train, [*SMALL, f"cache_dir={cache_dir}"]), (contract, ["-p", "no:cacheprovider"])):
        words = [sys.executable, *command.split()[1:], *more]
        done = subprocess.run(words, cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(copy.glob("outputs/smoke/lstm-d16_l1-5k-*/record.json"))) == 1
    assert re.search(r"^5 passed|\n5 passed", done.stdout), done.stdout

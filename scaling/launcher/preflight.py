"""Decided once for a whole sweep, before any worker exists: does W&B go online?"""

import os
import subprocess
import sys
from pathlib import Path

from scaling.account import NO_KEY, WAIT_S, has_key
from scaling.config import ConfigError

ROOT = Path(__file__).parents[2]
START_S = 30  # for a busy machine to load the client, on top of its own wait


def wandb_mode(asked: str) -> tuple[str, str]:
    """`auto` becomes online where the key works, offline otherwise; and why. Raises ConfigError for an online without.

    The client is asked in a process of its own: it starts a service that workers must not share with their parent.
    """
    if asked not in ("auto", "online"):
        return asked, ""
    problem = _problem() if has_key() else NO_KEY
    if problem and asked == "online":
        raise ConfigError(f"logger.mode=online: {problem}; allowed: auto, offline, or `wandb login` first")
    return ("offline", problem) if problem else ("online", "")


def _problem() -> str:
    command = [sys.executable, "-m", "scaling.account"]
    here = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    try:
        asked = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": here},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S + START_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer from its client within {WAIT_S + START_S} s"
    return "" if asked.returncode == 0 else asked.stdout.strip() or "its client could not be asked"

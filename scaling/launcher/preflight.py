"""Decided once for a whole sweep, before any worker exists: does W&B go online?"""

import netrc
import os


def wandb_mode(asked: str) -> str:
    """`auto` becomes online where this machine has a key, offline otherwise; anything else stays."""
    if asked != "auto":
        return asked
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    base = os.environ.get("WANDB_BASE_URL", "wandb.ai").split("//")[-1]
    return any("wandb" in host or host == base for host in hosts)

"""Does this machine have a W&B account that works? Asked of the real client, with a bound on the wait.

`python -m scaling.account` prints what is wrong, or nothing: a caller that should not load or hold the client asks so.
"""

import contextlib
import netrc
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scaling.config import ConfigError

if TYPE_CHECKING:
    import wandb

WAIT_S = 3
NO_KEY = "no key on this machine"


def has_key() -> bool:
    """Whether there is anything to log in with; costs nothing."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    base = os.environ.get("WANDB_BASE_URL", "").split("//")[-1].split(":")[0].rstrip("/")
    return any("wandb" in host or "coreweave" in host or host == base for host in hosts)


def connect(wait_s: int = WAIT_S) -> "wandb.Api":
    """The public API, logged in. Raises ConfigError in one line for no key, a bad one, or no server in time."""
    if not has_key():
        raise ConfigError(NO_KEY)
    os.environ.update(WANDB_ERROR_REPORTING="false", WANDB_SILENT="true")
    import wandb

    try:
        return wandb.Api(timeout=wait_s)
    except wandb.errors.Error as error:
        raise ConfigError(_why(error, wait_s)) from None


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """What goes wrong between the client and the server becomes a ConfigError of one line about `what`."""
    try:
        yield
    except (ConfigError, ValueError):
        raise
    except Exception as error:  # the client has no one base of its errors
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{what}: W&B could not be asked: {line}") from None


def _why(error: Exception, wait_s: int) -> str:
    """The client says much on several lines and may quote the key: only what it is about is passed on."""
    import wandb

    server = wandb.setup().settings.base_url
    text = str(error).lower()
    if "api key" in text or "not logged in" in text:
        return f"the key on this machine is refused by {server}"
    return f"no answer from {server} within {wait_s} s"


if __name__ == "__main__":
    try:
        connect()
    except ConfigError as problem:
        print(problem)
        sys.exit(1)

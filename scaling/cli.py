"""What both entry points share: the launcher on Hydra's plugin path, and errors as one line."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from scaling.config import ConfigError, one_line

USAGE_ERROR = 2
_full_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"


def register_plugins() -> None:
    """Hydra 1.3 takes launchers and sweepers from the namespace package `hydra_plugins` alone."""
    path = str(Path(__file__).parent / "launcher" / "plugins")
    if path not in sys.path:
        sys.path.append(path)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What the user can mend is one line on stderr and a non-zero exit.

    HYDRA_FULL_ERROR=1 shows the whole trace instead, as everywhere in Hydra.
    """
    try:
        yield
    except (ConfigError, HydraException, OmegaConfBaseException, InstantiationException) as error:
        if _full_trace:
            raise
        print(f"error: {_explain(error)}", file=sys.stderr)
        sys.exit(USAGE_ERROR)


def run_main(main: Callable[[], None]) -> None:
    """Run a Hydra main under `one_line_errors`; Hydra raises instead of printing several lines of its own."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with one_line_errors():
        main()


def _explain(error: BaseException) -> str:
    """Hydra says which override failed, its cause says why; it lists options one to a line."""
    parts = [one_line(error)]
    if isinstance(error.__cause__, OmegaConfBaseException | ConfigError):
        parts.append(one_line(error.__cause__))
    listed = [line.strip() for line in str(error).splitlines() if line.startswith("\t")]
    options = [line for line in listed if not line.startswith("provider=")]
    return "; ".join(parts) + (f"; allowed: {', '.join(options)}" if options else "")

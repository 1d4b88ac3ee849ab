"""What both entry points share: the launcher on Hydra's plugin path, and errors as one line."""

import argparse
import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scaling.config import ConfigError, one_line

USAGE_ERROR = 2
EXTRAS = {"hydra/launcher/submitit": "slurm", "hydra_plugins.hydra_ray_launcher": "ray"}
INTERRUPTED = 130
_full_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"


def register_plugins() -> None:
    """Hydra 1.3 takes launchers and sweepers from the namespace package `hydra_plugins` alone.

    PYTHONPATH takes this package, and them, to the processes that engines start, here or on other machines.
    """
    root, plugins = str(Path(__file__).parents[1]), str(Path(__file__).parent / "launcher" / "plugins")
    if plugins not in sys.path:
        sys.path.append(plugins)
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*known, *(path for path in (root, plugins) if path not in known)])
    OmegaConf.register_new_resolver("environment_of_jobs", environment_of_jobs, replace=True)


def environment_of_jobs() -> dict[str, str]:
    """What a job on another machine needs of this environment, where its engine takes none along (Ray's)."""
    of_parent = ("WANDB_SERVICE", "WANDB__SERVICE")
    wanted = ("PYTHONPATH", "WANDB_", "SCALING_", "HF_")
    return {name: value for name, value in os.environ.items() if name.startswith(wanted) and name not in of_parent}


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What the user can mend is one line on stderr and a non-zero exit.

    HYDRA_FULL_ERROR=1 shows the whole trace instead, as everywhere in Hydra.
    """
    try:
        yield
    except Exception as error:
        if _full_trace or not _mendable(error):
            raise
        print(f"error: {_explain(error)}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _mendable(error: Exception) -> bool:
    """Our own words, the system's, and whatever Hydra meets while it reads the line; the rest is a defect."""
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    known = (ConfigError, HydraException, OmegaConfBaseException, InstantiationException, OSError)
    return isinstance(error, known) or "hydra" in Path(innermost).parts


def run_main(main: Callable[[], None]) -> None:
    """Run a Hydra main under `one_line_errors`; Hydra raises instead of printing several lines of its own."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # conf/hydra/launcher/ray.yaml bears the plugin's own name, and fits its schema
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/ray' is validated against ConfigStore schema")
    # its own way takes a page of usage
    argparse.ArgumentParser.error = _wrong_flag  # type: ignore[method-assign, assignment]
    with one_line_errors():
        main()


def _wrong_flag(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise ConfigError(f"{message}; --help lists the flags")


def _explain(error: BaseException) -> str:
    """Hydra says which override failed, its cause says why; it lists options one to a line."""
    parts = [one_line(error)]
    if isinstance(error.__cause__, OmegaConfBaseException | ConfigError):
        parts.append(one_line(error.__cause__))
    listed = [line.strip() for line in str(error).splitlines() if line.startswith("\t")]
    options = [line for line in listed if not line.startswith("provider=")]
    extra = next((extra for plugin, extra in EXTRAS.items() if plugin in str(error)), None)
    if extra is not None:
        return f"hydra/launcher: needs Hydra's plugin, pip install --constraint requirements.lock -e '.[{extra}]'"
    return "; ".join(parts) + (f"; allowed: {', '.join(options)}" if options else "")

"""What is logged while a job runs, in the job's own file."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path


class _JobLog(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A disk that is full costs the line, nothing else."""


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Logging and warnings of one job go to its own file, not to the sweep's screen."""
    handler = _JobLog(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("scaling", "lightning.pytorch", "lightning.fabric", "py.warnings")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.captureWarnings(False)
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        with contextlib.suppress(OSError):
            handler.close()

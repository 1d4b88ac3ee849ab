"""How work is asked to stop: the first signal ends a run at its next chunk, with a checkpoint, a second one at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked = False
_busy = False


def stop_on_sigterm() -> None:
    """For a process that trains. While it does, Lightning's handler surrounds this one and does the gentle part.

    SIGUSR2, with which schedulers warn, means the same unless an engine listens to it (see training.callbacks).
    """
    signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR2, lambda *_: signal.raise_signal(signal.SIGTERM))


def ctrl_c_is_sigterm() -> None:
    """For a run in the foreground; workers never see Ctrl+C, their parent tells them."""
    signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))


@contextmanager
def working() -> Iterator[None]:
    """Around a job. After the signal it leaves by a plain SystemExit (Lightning's own would cost the parent its import)
    and lets no other begin. An engine that requeues the job leaves by its own code.
    """
    global _busy
    if _asked:
        raise SystemExit(128 + signal.SIGTERM)
    _busy = True
    try:
        yield
    except SystemExit as error:
        raise SystemExit(error.code if type(error) is SystemExit else 128 + signal.SIGTERM) from None
    finally:
        _busy = False


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    global _asked
    again, _asked = _asked, True
    lightning_trains = signal.getsignal(signal.SIGTERM) is not _on_sigterm
    if again or (_busy and not lightning_trains):
        raise SystemExit(128 + signum)


@contextmanager
def signals_to(put: Callable[[int], None]) -> Iterator[None]:
    """Ctrl+C and SIGTERM become a message to whoever waits; from the second one on they are themselves again."""
    before: dict[int, object] = {}

    def tell(signum: int, frame: FrameType | None) -> None:
        restore()
        put(signum)

    def restore() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    before.update({s: signal.signal(s, tell) for s in (signal.SIGINT, signal.SIGTERM)})
    try:
        yield
    finally:
        restore()

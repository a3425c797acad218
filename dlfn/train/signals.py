"""Stopping a run from outside: the first SIGTERM or Ctrl-C is a request, the second one ends the process."""

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["Stop", "stopping"]


class Stop:
    """Whether the run is asked to stop, and the number of the signal that has done so; 0 for none."""

    number: int = 0

    @property
    def requested(self) -> bool:
        return bool(self.number)


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """In this block the first SIGTERM or SIGINT sets ``requested``, so that a run can save and end.

    From then on both have their default effect in the system, which needs no Python: a second one ends the process at
    once, though it be in the midst of a long computation. A signal that is ignored, as in the background of a shell, or
    handled outside of Python stays as it is; so do both outside of the main thread, which alone can set handlers.

    >>> import signal
    >>> from dlfn.train.signals import stopping
    >>> with stopping() as stop:
    ...     for step in range(100):
    ...         if step == 3:
    ...             signal.raise_signal(signal.SIGTERM)
    ...         if stop.requested:
    ...             break
    >>> step, stop.number == signal.SIGTERM
    (3, True)
    """
    stop = Stop()
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        handlers = {number: old for number, old in handlers.items() if old not in (signal.SIG_IGN, None)}

    def request(number: int, frame: object) -> None:
        stop.number = number
        for each in handlers:
            signal.signal(each, signal.SIG_DFL)

    try:
        for number in handlers:
            signal.signal(number, request)
        yield stop
    finally:
        for number, old in handlers.items():
            signal.signal(number, old)

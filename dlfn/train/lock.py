"""A lock on a folder, which ends with the process that has it."""

import os
import weakref
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # of Windows, where nothing is locked
    fcntl = None

__all__ = ["Lock"]


class Lock:
    """Held by one at a time, in this process or another one of this machine. It leaves no file behind.

    Where the system or the file system cannot lock a folder, everyone gets it.
    """

    def __init__(self):
        self.release: Callable[[], object] = lambda: None

    def acquire(self, folder: Path) -> bool:
        """Whether this lock has got the folder, or could not be told that another has it."""
        if fcntl is None:
            return True
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            return True
        # Called once only, be it by name or when nobody has the lock any more.
        self.release = weakref.finalize(self, os.close, descriptor)
        return True

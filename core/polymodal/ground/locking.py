"""A lock that other processes see, and that a kill does not leave behind."""

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this system: nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]


class Lock:
    """A lock on a file, held until `release` or until this process ends, however it ends.

    It is a record lock: unlike `flock` it is this process's own, so that data workers that outlive
    it by a moment do not hold it.

    Args:
        path: of the file, which stays there.
    """

    def __init__(self, path: Path):
        self.path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """Take the lock; False if another process has it.

        Raises:
            OSError: the file can't be written to.
        """
        if self._handle is not None or fcntl is None:
            return True
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                self.release()
                return False
            # Some network file systems have no locks: then nothing keeps two processes apart.
        return True

    def release(self) -> None:
        """Let others take it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.release()

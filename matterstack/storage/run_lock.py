"""The exclusive lock of a run: one tick at a time, whoever asks.

The lock is the kernel's (``flock``, through filelock): it ends with its holder, however
the holder ends, and it excludes another thread of one process too, because every
acquisition opens the file anew. What the file says of the holder is for people only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from matterstack.errors import LockUnsupportedError, RunLockedError, RunLockLostError

_HOLDER_BYTES = 512
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


class RunLock:
    """Hold ``run.lock`` of a run directory, or fail at once.

    Parameters
    ----------
    path : pathlib.Path
        The lock file; made where it is missing, never deleted.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.lock"
    >>> with RunLock(path):
    ...     RunLock(path).acquire()
    Traceback (most recent call last):
        ...
    matterstack.errors.RunLockedError: Another process is running: ...
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self.path = path
        self._identity: tuple[int, int] | None = None
        self._lock = FileLock(
            path, blocking=False, thread_local=False, fallback_to_soft=False, on_acquired=self._on_acquired
        )

    def acquire(self) -> None:
        """Take the lock without waiting.

        Raises
        ------
        RunLockedError
            Somebody holds it; the message says who, where and since when.
        LockUnsupportedError
            The file system does not lock.
        """
        from filelock import Timeout

        try:
            self._lock.acquire()
        except Timeout:
            holder = read_holder(self.path)
            raise RunLockedError(f"Another process is running: {describe_holder(holder)}", holder) from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS:
                raise LockUnsupportedError(
                    f"the file system of {self.path.parent} does not lock ({error}), so two processes could step the "
                    "run at once: keep runs on a file system with flock"
                ) from error
            raise

    def _on_acquired(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._identity = (status.st_dev, status.st_ino)
        # Fixed length, in place: a reader never meets an empty or half-shortened file.
        with contextlib.suppress(OSError):  # a full disk must not keep the lock from being held
            os.pwrite(descriptor, _holder_text().ljust(_HOLDER_BYTES - 1).encode()[: _HOLDER_BYTES - 1] + b"\n", 0)

    def check(self) -> None:
        """Raise `RunLockLostError` unless the file at the path is still the one that is held."""
        try:
            status = os.stat(self.path, follow_symlinks=False)
            if (status.st_dev, status.st_ino) == self._identity:
                return
        except OSError:
            pass
        raise RunLockLostError(
            f"{self.path} was deleted or replaced while this process held it, so another one may be stepping the run: "
            "nothing more was written. Step again; never delete run.lock"
        )

    def release(self) -> None:
        """Let the lock go; the file stays."""
        self._lock.release()
        self._identity = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _holder_text() -> str:
    import getpass
    from datetime import UTC, datetime

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in some containers
        user = str(os.getuid())
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "user": user,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def read_holder(path: Path) -> dict[str, object]:
    """Return what the lock file says of its last holder; ``{}`` where it says nothing readable."""
    try:
        with _opened(path) as descriptor:
            holder = json.loads(os.pread(descriptor, _HOLDER_BYTES, 0))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def describe_holder(holder: dict[str, object]) -> str:
    """Return one line on who holds the lock and what to do."""
    if not holder:
        return "it did not say who it is; wait for it to end, or look for another kernel with this run"
    return (
        f"pid {holder.get('pid')} on {holder.get('host')} (user {holder.get('user')}) has been stepping this run since "
        f"{holder.get('since')}; wait for its tick to end, or stop that process"
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def check_exclusion(path: Path) -> None:
    """Check, while the lock is held, that the file system refuses it to a second opening.

    Raises
    ------
    LockUnsupportedError
        The second opening got the lock too.
    """
    try:
        with RunLock(path):
            pass
    except RunLockedError:
        return
    raise LockUnsupportedError(
        f"the file system of {path.parent} gives one lock to two holders, so two processes could step the run at once: "
        "keep runs on a file system whose flock works"
    )

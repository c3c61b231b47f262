"""The exclusive lock of a run: one tick at a time, whoever asks.

The lock is the kernel's (``flock``, through filelock): it ends with its holder, however
the holder ends, and it excludes another thread of one process too, because every
acquisition opens the file anew. What the file says of the holder is for people only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from matterstack.errors import LockError, LockUnsupportedError, RunLockedError, RunLockLostError, UnsafeFileError
from matterstack.files import open_inside, read_part, write_part
from matterstack.platforms import host_name, user_name

log = logging.getLogger("matterstack.storage")

_HOLDER_BYTES = 512
#: Of NFS (nfs(5)), Lustre (mount.lustre(8)) and SMB (mount.cifs(8)).
_LOCAL_LOCKS = ("nolock", "local_lock=all", "local_lock=flock", "local_lock=posix", "localflock", "nobrl")
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


class RunLock:
    """Hold ``run.lock`` of a run directory, or fail at once.

    Parameters
    ----------
    path : pathlib.Path
        The lock file; made where it is missing, never deleted.
    pid : int, optional
        Who the file says holds it: by default this process, else the one that it is held for.

    Attributes
    ----------
    identity : tuple of int or None
        Device and inode of the file that is held.

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

    def __init__(self, path: Path, pid: int | None = None) -> None:
        from filelock import FileLock

        self.path = path
        self._pid = pid
        self.identity: tuple[int, int] | None = None
        self._lock = FileLock(
            path,
            blocking=False,
            thread_local=False,
            fallback_to_soft=False,
            preserve_lock_file=True,
            on_acquired=self._on_acquired,
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
                raise _unsupported(self.path, error) from error
            raise LockError(
                f"{self.path} cannot be used: {error.strerror}; nothing was changed. Check the disk and permissions, "
                "then step again"
            ) from error

    def _on_acquired(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._descriptor = descriptor
        self.identity = (status.st_dev, status.st_ino)
        # Fixed length, in place: a reader never meets an empty or half-shortened file.
        with contextlib.suppress(OSError):  # a full disk must not keep the lock from being held
            write_part(
                descriptor, _holder_text(self._pid).ljust(_HOLDER_BYTES - 1).encode()[: _HOLDER_BYTES - 1] + b"\n", 0
            )

    def check(self) -> None:
        """Raise `RunLockLostError` unless the file at the path is still the one that is held."""
        try:
            status = os.stat(self.path, follow_symlinks=False)
            if (status.st_dev, status.st_ino) == self.identity:
                return
        except OSError:
            pass
        raise RunLockLostError(
            f"{self.path} was deleted or replaced while this process held it, so another one may be stepping the run: "
            "nothing more was written. Step again; never delete run.lock"
        )

    def release(self) -> None:
        """Let the lock go; the file stays."""
        try:
            self._lock.release()
        except OSError:
            # Its disk has gone. The kernel frees a lock with the last descriptor of its file: this one gets another.
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nothing, self._descriptor, inheritable=False)
            os.close(nothing)
            self._lock.release()
        self.identity = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _holder_text(pid: int | None) -> str:
    from datetime import UTC, datetime

    return json.dumps(
        {
            "pid": pid or os.getpid(),
            "host": host_name(),
            "user": user_name(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def read_holder(path: Path) -> dict[str, object]:
    """Return what the lock file says of its last holder; ``{}`` where it says nothing readable."""
    try:
        descriptor = open_inside(path.parent, path.name)
        try:  # the first byte is what is locked, and nobody else can read it on Windows
            holder = json.loads(b"{" + read_part(descriptor, _HOLDER_BYTES, 1))
        finally:
            os.close(descriptor)
    except (OSError, UnsafeFileError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def is_held(path: Path) -> bool:
    """Return whether somebody holds a lock now; it is asked, and nothing is written.

    Raises
    ------
    OSError, UnsafeFileError
        The file cannot be opened, or not be locked.
    """
    descriptor = open_inside(path.parent, path.name)
    try:
        if sys.platform == "win32":
            read_part(descriptor, 1, 0)  # which is refused where it is locked
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, and let go at once
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(descriptor)
    return False


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
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def check_exclusion(path: Path) -> None:
    """Check, while the lock is held, that the file system refuses it to a second opening.

    What other machines are given cannot be tried from this one: where the mount says that its locks are known to this
    machine alone, that is logged as a warning.

    Raises
    ------
    LockUnsupportedError
        The second opening got the lock too.
    """
    try:
        with RunLock(path):
            pass
    except RunLockedError:
        pass
    else:
        raise _lies(path, "flock")
    if sys.platform.startswith("linux"):  # elsewhere two openings of one process never refuse each other a range
        # SQLite locks ranges of its file. On NFS a flock is such a range, and refuses the first of these two already.
        with _opened(path) as first, _opened(path) as second:
            if _locks_range(path, first) and _locks_range(path, second):
                raise _lies(path, "fcntl")
    if option := mounted_with_local_locks(path):
        log.warning(
            "the locks of %s hold on this machine alone (it is mounted with %s): step the run from here only",
            path.parent,
            option,
        )


def mounted_with_local_locks(path: Path) -> str | None:
    """Return the mount option by which locks at a path hold on this machine alone; None for none that is known."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):  # there may be no /proc
            return local_locks(Path("/proc/self/mountinfo").read_text(), os.stat(path).st_dev)
    return None


def local_locks(mounts: str, device: int) -> str | None:
    """Return the mount option that keeps the locks of a network file system from other machines; None for none.

    Parameters
    ----------
    mounts : str
        Content of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    device : int
        As `os.stat` gives it.

    Examples
    --------
    >>> line = "36 25 0:42 / /home rw - nfs4 server:/home rw,vers=4.2,local_lock=none"
    >>> local_locks(line, os.makedev(0, 42))
    >>> local_locks(line.replace("=none", "=all"), os.makedev(0, 42))
    'local_lock=all'
    """
    for line in mounts.splitlines():
        place, _, rest = line.partition(" - ")
        if place.split()[2:3] == [f"{os.major(device)}:{os.minor(device)}"]:
            options = rest.split()[2].split(",")
            return next((option for option in options if option in _LOCAL_LOCKS), None)
    return None


def _locks_range(path: Path, descriptor: int) -> bool:
    """Take the lock of a range, for this opening of the file alone; return whether it was given."""
    import fcntl

    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
    except OSError as error:
        if error.errno in _NO_LOCKS - {errno.EINVAL}:  # that says that the kernel does not know this kind of lock
            raise _unsupported(path, error) from error
        return False
    return True


def _unsupported(path: Path, error: Exception) -> LockUnsupportedError:
    return LockUnsupportedError(
        f"the file system of {path.parent} does not lock ({error}), so two processes could step the run at once: keep "
        "runs on a file system with locks, a local disk or a network one that is mounted with them; see "
        "docs/filesystems.md"
    )


def _lies(path: Path, kind: str) -> LockUnsupportedError:
    return LockUnsupportedError(
        f"the file system of {path.parent} gives one lock to two holders ({kind}), so two processes could step the run "
        "at once: keep runs on a file system whose locks work, a local disk or a network one that is mounted with "
        "them; see docs/filesystems.md"
    )

"""Staging: a folder beside a target, where that is made before it gets its name; what killed makers left is removed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from matterstack.crash_points import reach
from matterstack.files import remove_tree, write_new
from matterstack.platforms import host_name

_LOCK = "lock"
_MOST_BYTES = 300
_LONGEST_NAME = 200


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a new folder beside a target, and remove it afterwards. Whoever looks can tell that its maker lives.

    Parameters
    ----------
    target : pathlib.Path
        What is made; where it lies, there is a directory.
    """
    staging, lock = _made(target)
    try:
        yield staging
    finally:
        remove_tree(staging)
        if lock is not None:
            os.close(lock)


def remove_left(target: Path) -> None:
    """Remove what makers of a target have left that were killed on this machine; what cannot be told stays."""
    if sys.platform == "win32":  # a file whose lock is held cannot be removed there, so none is held
        return
    with contextlib.suppress(OSError):
        name = re.compile(rf"\.{re.escape(_called(target))}\.[0-9a-f]{{12}}\.partial")
        for left in [target.with_name(one) for one in os.listdir(target.parent) if name.fullmatch(one)]:
            with contextlib.suppress(OSError):
                lock = _held(left)
                remove_tree(left)
                os.close(lock)


def _called(target: Path) -> str:
    """Return what a folder is called that a target is made in; a long name has no room for more."""
    name = os.fsencode(target.name)
    return target.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


def _made(target: Path) -> tuple[Path, int | None]:
    """Return a new folder, and the descriptor of its lock, which is held; on Windows it is only marked."""
    while True:
        staging = target.with_name(f".{_called(target)}.{os.urandom(6).hex()}.partial")
        staging.mkdir(mode=0o700)
        try:
            reach("export.begun")
            if sys.platform == "win32":
                write_new(f"{staging}/{_LOCK}", _host())
                return staging, None
            return staging, _held(staging, is_new=True)
        except (FileNotFoundError, BlockingIOError):
            continue  # whoever looked at it before it was held took it for one that was left
        except BaseException:
            remove_tree(staging)
            raise


def _held(staging: Path, *, is_new: bool = False) -> int:
    """Hold the lock of a folder, which ends with its holder however that ends, and return its descriptor.

    Raises
    ------
    BlockingIOError
        Somebody holds it, or may hold it on another machine, whose locks are not always seen here.
    FileNotFoundError
        The folder was removed.
    OSError
        The file system has no locks: what one makes oneself is made all the same.
    """
    import fcntl

    folder = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not is_new or isinstance(error, BlockingIOError):
                raise
        if os.fstat(lock).st_nlink == 0 or not os.path.lexists(staging / _LOCK):
            raise FileNotFoundError(staging)
        if os.pread(lock, _MOST_BYTES, 0) not in (b"", _host()):
            raise BlockingIOError(f"{staging} was made on another machine")
        if is_new:
            os.pwrite(lock, _host(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _host() -> bytes:
    """Return what is written into a lock: WSL is called as the Windows is that it runs on, and sees no locks of it."""
    return f"{host_name()} ({sys.platform})".encode()[:_MOST_BYTES]

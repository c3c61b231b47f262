"""A file system, tried as a run uses it: locks, names, its clock, and the room that it has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from matterstack.core.diagnosis import Diagnosis, weak, well, wrong
from matterstack.errors import LockError
from matterstack.files import sync_directory
from matterstack.storage.run_lock import RunLock, check_exclusion, mounted_with_local_locks

_LEAST_BYTES = 1 << 30
_LEAST_NAMES = 10_000
#: Some file systems keep whole seconds only, others two of them.
_MOST_SKEW_S = 5.0
_PATIENCE_S = 60
_REMOVE = "remove something (matterstack clean RUN shows what can be made again), or use another file system"
_ELSEWHERE = "keep runs on a file system whose locks work; see docs/filesystems.md"
#: What another process tries: whether it gets the lock that this one has.
_TRY = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    for lock in (fcntl.flock, fcntl.lockf):
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("given")
        except OSError:
            print("refused")
"""


def examine(path: Path) -> list[Diagnosis]:
    """Try what runs need of the file system under a directory, in a folder there that is removed again.

    Parameters
    ----------
    path : pathlib.Path
        A directory.
    """
    try:
        place = Path(tempfile.mkdtemp(prefix=".matterstack-doctor-", dir=path))
    except OSError as error:
        why = f"nothing can be made in {path}: {error.strerror}, so no run can be stepped there"
        return [wrong("writing", why, "have it mounted for writing, or get the right to write, or use another folder")]
    try:
        return [*_locks(place), _hard_links(place), _renames(place), _syncs(place), _clock(place), *_room(place)]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _locks(place: Path) -> Iterator[Diagnosis]:
    file = place / "run.lock"
    try:
        with RunLock(file):
            check_exclusion(file)
            given = "" if sys.platform == "win32" else _another_gets(file)
    except LockError as error:
        yield wrong("locks", str(error), _ELSEWHERE)
        return
    if given is None:
        yield weak("locks", "another process could not be started to try them", "look why Python cannot be started")
    elif given:
        why = f"another process was given the lock ({given}) that this one holds: two could step a run at once"
        yield wrong("locks", why, _ELSEWHERE)
    else:
        yield well("locks", "whoever else opens it is refused what this one holds")
    if (option := mounted_with_local_locks(place)) is not None:
        why = f"it is mounted with {option}: its locks hold on this machine alone"
        yield weak("locks between machines", why, "step its runs from here only, or have it mounted without that")


def _another_gets(file: Path) -> str | None:
    """Return which locks another process is given that this one holds; None where it told nothing."""
    with open(file, "r+b") as ours:
        import fcntl

        fcntl.lockf(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        command = [sys.executable, "-I", "-S", "-c", _TRY, str(file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired):
            return None
    said = done.stdout.split()
    if len(said) != 2:
        return None
    return ", ".join(kind for kind, word in zip(("flock", "fcntl"), said, strict=True) if word == "given")


def _hard_links(place: Path) -> Diagnosis:
    (place / "first").write_bytes(b"1")
    try:
        os.link(place / "first", place / "second")
    except OSError as error:
        why = f"there are none ({error.strerror}): files of a run are copied, which takes room and time"
        return weak("hard links", why, "nothing has to be done; a file system with hard links is quicker")
    if os.stat(place / "first").st_nlink != 2:
        why = "a second name was made, and the file does not know of it"
        return weak("hard links", why, "nothing has to be done; verdicts on answers fall back on renames")
    return well("hard links", "a file can have two names")


def _renames(place: Path) -> Diagnosis:
    remedy = "use another file system: what is half written would be taken for whole"
    try:
        (place / "old").write_bytes(b"old")
        (place / "new").write_bytes(b"new")
        os.replace(place / "new", place / "old")
        (place / "made").mkdir()
        (place / "made" / "file").write_bytes(b"1")
        (place / "made").rename(place / "final")
        is_whole = (place / "old").read_bytes() == b"new" and (place / "final" / "file").read_bytes() == b"1"
    except OSError as error:
        return wrong("renames", f"a file or folder cannot be renamed: {error.strerror}", remedy)
    if not is_whole or os.path.lexists(place / "new") or os.path.lexists(place / "made"):
        return wrong("renames", "what was renamed has its old name still, or an old content", remedy)
    return well("renames", "a file takes another's place, and a folder its name")


def _syncs(place: Path) -> Diagnosis:
    try:
        with open(place / "synced", "wb") as file:
            file.write(b"1")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(place)
    except OSError as error:
        why = f"a file cannot be brought to disk: {error.strerror}; what was committed may be lost with the power"
        return wrong("bringing to disk", why, "look at the disk, and at the log of the kernel (dmesg)")
    return well("bringing to disk", "files and names are")


def _clock(place: Path) -> Diagnosis:
    file = place / "clock"
    before = time.time()
    file.write_bytes(b"1")
    os.utime(file)  # to the time of whoever keeps the file: of a server, its own
    after = time.time()
    at = os.stat(file).st_mtime
    skew = at - after if at > after else min(0.0, at - before)
    if abs(skew) <= _MOST_SKEW_S:
        return well("clock", f"that of the files differs from this machine's by {abs(skew):.1f} s at most")
    why = f"that of the files is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    why += ": signs of life and times of files are compared with it, so what lives may be taken for dead"
    return wrong("clock", why, "have both machines set their clocks by one server (chrony or ntp)")


def _room(place: Path) -> Iterator[Diagnosis]:
    if sys.platform == "win32":
        yield _free(shutil.disk_usage(place).free)
        return
    try:
        status = os.statvfs(place)
    except OSError as error:
        yield weak("room", f"it cannot be asked: {error.strerror}", "look with df")
        return
    yield _free(status.f_bavail * status.f_frsize)
    if status.f_files and status.f_favail < _LEAST_NAMES:
        why = f"{status.f_favail} more files can be made: an attempt needs some ten"
        yield wrong("room for names", why, _REMOVE)
    elif status.f_files:
        yield well("room for names", f"{status.f_favail:,} more files can be made")


def _free(free: int) -> Diagnosis:
    seen = f"{free / 1024**3:.1f} GiB are free"
    if free >= _LEAST_BYTES:
        return well("room", f"{seen}; a quota may allow less")
    return wrong("room", f"{seen}: databases and results need more, and a full disk holds every step up", _REMOVE)

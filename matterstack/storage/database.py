"""The file of a database: looked at before SQLite opens it, and opened to be read, or to be written.

Whoever looks changes nothing, not even by healing: a database whose writer was killed in the middle of a commit
has a journal that SQLite rolls back at the next opening, and on the way it removes a file that the journal may name
(https://www.sqlite.org/atomiccommit.html, "Super-Journal File"). So a reader opens read-only, and where that is
refused because a journal has to be rolled back first, it does so in a private copy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from matterstack import interrupts
from matterstack.crash_points import reach
from matterstack.errors import (
    DamagedStoreError,
    ForeignStoreError,
    LockUnsupportedError,
    MatterstackError,
    NewerStoreError,
    RunNotFoundError,
    StoreConflictError,
    StoreError,
    StoreUnwritableError,
    UnsafeFileError,
)
from matterstack.files import copy_inside, open_inside, read_part, remove_tree
from matterstack.storage import migrations

WRITING, READING = "IMMEDIATE", "DEFERRED"

#: How long a statement waits for another program that has the database locked, unless something else is said.
PATIENCE_S = 30.0
#: SQLite hears no signal while it waits for another program, so it waits in portions.
_BUSY_PORTION_S = 0.25
_COPY_TIMEOUT_S = 300.0
_MOST_COPIES = 5
#: https://www.sqlite.org/fileformat2.html#the_rollback_journal, section 3
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_TAIL_BYTES = 16
#: Bytes 18 and 19 of a database are 2 where it is in write-ahead mode.
_MODE_AT, _MODE_WAL = 18, 2
#: Where four bytes of it count the changes of its schema.
_SCHEMA_COOKIE = 40
_HEAD_BYTES = 100

_COLUMNS_SQL = """SELECT m.name, p.name, p.hidden FROM sqlite_master m, pragma_table_xinfo(m.name) p
  WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite#_%' ESCAPE '#'"""
_STEPS_AT_ONCE = 10_000
_MOST_BOUND_S = 10.0

#: Identity of a file, its size, and when it was changed; None where there is none.
Fingerprint = tuple[int, int, int, int] | None


class Files(NamedTuple):
    """What lies at a path before SQLite has touched it.

    Attributes
    ----------
    identity : (int, int)
        Device and inode of the database.
    journal : bool
        Whether a rollback journal is in use: a writer is at work, or was killed.
    """

    identity: tuple[int, int]
    journal: bool


class Connection(sqlite3.Connection):
    """A connection that is known for as long as it is open, and closes when nobody holds it any more."""

    identity: tuple[int, int] | None = None
    patience_s = PATIENCE_S
    leaves: Path | None = None
    """A folder that goes with it: what is open on Windows cannot be removed."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement; wait for another program that has the database locked, unless somebody says Stop."""
        give_up = 0.0
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                give_up = give_up or time.monotonic() + self.patience_s - _BUSY_PORTION_S
                if not _is_busy(error) or time.monotonic() >= give_up:
                    raise
            with interrupts.heard():
                time.sleep(0.001)

    def close(self) -> None:
        """Close it; twice does no harm."""
        with interrupts.held():
            super().close()
            if self.leaves is not None:
                remove_tree(self.leaves)
                self.leaves = None
            if self.identity is not None:
                with _mutex:
                    _open[self.identity] -= 1
                self.identity = None

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it was never opened
            self.close()


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


#: Reentrant: the collector may close a connection while one is being opened.
_mutex = threading.RLock()
#: How many connections of this process are open, by the identity of their database.
_open: Counter[tuple[int, int]] = Counter()


def _renew_mutex() -> None:
    global _mutex
    _mutex = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_mutex)  # another thread may have held it


class errors:  # noqa: N801  (used like a function)
    """Turn what sqlite3 raises in the block into an error of our tree that says what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(value, sqlite3.Error | OSError) and (said := _said(self.path, value)) is not None:
            raise said from value


def _said(path: Path, error: sqlite3.Error | OSError) -> MatterstackError | None:
    """Return what an error of a database or of its file means to a user; None for one that is a slip of ours."""
    match error:
        case sqlite3.IntegrityError():
            return StoreConflictError(f"{path}: {error}; nothing was changed", path=path)
        case sqlite3.OperationalError():
            return _operational(path, error)
        case sqlite3.DatabaseError():
            return DamagedStoreError(
                f"{path} is not a readable database: {error}; it was left as it is. Restore a copy, or recover "
                "what can be read with the .recover command of the sqlite3 shell",
                path=path,
            )
        case FileNotFoundError():
            return RunNotFoundError(f"{path} is not there (any more): was the run moved? Open it anew", path=path)
        case PermissionError():
            return StoreError(
                f"{path} is not open to you: {error.strerror}; nothing was changed. Ask who owns it, or look at it as "
                "that user; docs/howto/share-with-a-group.md says how a run is opened to others",
                path=path,
            )
        case OSError():
            return StoreError(
                f"{path} cannot be used now: {error.strerror}; nothing was changed. Check the disk and permissions, "
                "then try again",
                path=path,
            )
    return None


def _operational(path: Path, error: sqlite3.OperationalError) -> StoreError:
    if not hasattr(error, "sqlite_errorcode"):  # Python's own, of a text that is none
        return DamagedStoreError(f"{path} holds text that cannot be read: {error}", path=path)
    if "locked" in str(error):
        return StoreError(f"{path} stayed locked by another program; try again", path=path)
    if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
        return StoreError(
            f"{path} was cut off: it took more work to look at than any run of ours; open it alone", path=path
        )
    if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # of the question, not of the file
        return StoreError(f"{path} cannot be asked that: {error}; nothing was changed", path=path)
    if error.sqlite_errorcode == sqlite3.SQLITE_READONLY:  # no fault of the disk
        return StoreUnwritableError(
            f"{path}: {error}; nothing was changed. A query only reads; where a step says this, check who may write "
            "that file and its directory",
            path=path,
        )
    return StoreUnwritableError(
        f"{path}: {error}; nothing was changed. Check free space and permissions, then step again", path=path
    )


@contextlib.contextmanager
def transaction(
    connection: sqlite3.Connection, guard: Callable[[], None] | None = None, kind: str = WRITING
) -> Iterator[None]:
    """Everything inside lands together or not at all; what `guard` raises before the commit undoes it.

    Only inside `interrupts.held`.
    """
    try:
        connection.execute(f"BEGIN {kind}")
        yield
        if guard is not None:
            guard()
        if kind == WRITING:
            reach("store.commit")
        connection.execute("COMMIT")
        if kind == WRITING:
            reach("store.committed")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def look_at(path: Path) -> Files:
    """Look at a database and at what lies beside it, without opening any of them as a database.

    Raises
    ------
    FileNotFoundError
        There is none.
    ForeignStoreError
        It is no plain file, or beside it lies what MatterStack never leaves there, and SQLite would act upon.
    DamagedStoreError
        It is empty.
    """
    status = os.stat(path, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise ForeignStoreError(f"{path} is not a regular file", path=path)
    if status.st_size == 0:
        raise DamagedStoreError(
            f"{path} is empty, so what was in it is lost; it was left as it is. Restore a copy", path=path
        )
    for end in ("-wal", "-shm"):
        if os.path.lexists(f"{path}{end}"):
            raise ForeignStoreError(
                f"{path.name}{end} lies beside {path}: another program has it open in write-ahead mode, which "
                "MatterStack does not use. It was left as it is; close that program, or remove the file",
                path=path,
            )
    return Files((status.st_dev, status.st_ino), _has_journal(path))


def _has_journal(path: Path) -> bool:
    """Return whether a journal is in use, after looking at it: what it is, and whether it names another file."""
    journal = f"{path}-journal"
    try:
        if not stat.S_ISREG(os.lstat(journal).st_mode):
            raise UnsafeFileError("it is not a plain file")
        with open(open_inside(path.parent, f"{path.name}-journal"), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            tail = read_part(file.fileno(), _JOURNAL_TAIL_BYTES, max(0, size - _JOURNAL_TAIL_BYTES))
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise StoreError(f"{journal} cannot be read, and without it the run cannot: {error}", path=path) from None
    except UnsafeFileError as error:
        raise ForeignStoreError(
            f"{journal}: {error}. All was left as it is; remove it if it is not yours", path=path
        ) from None
    if tail.endswith(_JOURNAL_MAGIC) and len(tail) == _JOURNAL_TAIL_BYTES and any(tail[:4]):
        raise ForeignStoreError(
            f"{journal} names another file, which opening {path.name} would remove. MatterStack never writes such a "
            "journal; all was left as it is. Ask where this directory comes from, or remove the journal",
            path=path,
        )
    return size > 0


def forget_changes_of_schema(path: str | os.PathLike[str]) -> None:
    """Set the number of changes of the schema, which VACUUM counts as one, in a database that nobody has opened.

    It is what else a copy of a copy would differ in: https://www.sqlite.org/fileformat2.html#schema_cookie
    """
    with open(path, "r+b") as file:
        file.seek(_SCHEMA_COOKIE)
        file.write((1).to_bytes(4, "big"))


def connect(path: Path, mode: str, patience_s: float = PATIENCE_S) -> Connection:
    """Return a connection of the calling thread; nothing was read yet.

    Parameters
    ----------
    path : pathlib.Path
    mode : {'ro', 'rw', 'rwc'}
        As in https://www.sqlite.org/uri.html.
    patience_s : float
        How long a statement waits for another program that has the database locked.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_PORTION_S,
        isolation_level=None,
        check_same_thread=False,  # each thread has its own; only the collector may close it elsewhere
        factory=Connection,
    )
    connection.patience_s = patience_s
    if mode != "ro":
        connection.execute("PRAGMA foreign_keys = ON")
        # A commit has landed when its journal is empty, on disk. To remove the journal instead takes syncs of the
        # directory (EXTRA), or a power failure undoes what was committed.
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def open_known(
    path: Path,
    files: Files,
    mode: str,
    check_head: Callable[[Path, bytes], None] | None = None,
    patience_s: float = PATIENCE_S,
) -> Connection:
    """Return a connection to a database that was looked at; one in write-ahead mode is refused.

    `check_head` is given the first hundred bytes, and refuses what is not meant by raising.

    SQLite makes two files beside such a database even to read it. Its mode is read here from the file itself, and
    only where this process has no connection to it: closing a descriptor gives up all locks that the process holds
    on a file (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    with interrupts.held(), _mutex:
        if not _open[files.identity]:
            descriptor = open_inside(path.parent, path.name)
            try:
                head = read_part(descriptor, _HEAD_BYTES, 0)
                _check_locks(path, descriptor)
            finally:
                os.close(descriptor)
            if check_head is not None:
                check_head(path, head)
            if _MODE_WAL in head[_MODE_AT : _MODE_AT + 2]:
                raise ForeignStoreError(
                    f"{path} is in write-ahead mode, which MatterStack does not use; it was left as it is. "
                    "'PRAGMA journal_mode = DELETE' of the sqlite3 shell puts it back",
                    path=path,
                )
        connection = connect(path, mode, patience_s)
        connection.identity = files.identity
        _open[files.identity] += 1
    return connection


def _check_locks(path: Path, descriptor: int) -> None:
    """Raise where ranges cannot be locked: SQLite would take that for somebody else's lock, and wait for it."""
    if not sys.platform.startswith("linux"):
        return  # what is asked is written as Linux has it
    import fcntl

    try:
        fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0))
    except OSError as error:
        if error.errno != errno.ENOLCK:
            raise
        raise LockUnsupportedError(
            f"the file system of {path.parent} does not lock ({error}), so it cannot be written there: keep runs on a "
            "file system with locks; see docs/filesystems.md"
        ) from error


def bound(connection: sqlite3.Connection, most_steps: int) -> None:
    """Have SQLite give up after so many steps of its virtual machine, counted over the life of the connection.

    Steps are what counts, since a slow machine is no fault of the run; seconds are there for values whose
    every step is slow.
    """
    left = most_steps
    until = time.monotonic() + _MOST_BOUND_S

    def count() -> bool:
        nonlocal left
        left -= _STEPS_AT_ONCE
        return left < 0 or time.monotonic() > until

    connection.set_progress_handler(count, _STEPS_AT_ONCE)


def must_be_rolled_back(connection: sqlite3.Connection) -> bool:
    """Return whether a read-only connection is refused because a writer was killed; a live one is waited for."""
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        return True
    return False


def fingerprint(path: Path) -> tuple[Fingerprint, Fingerprint]:
    """Return what tells whether a database or its journal was changed."""

    def of(name: str) -> Fingerprint:
        try:
            status = os.lstat(name)
        except FileNotFoundError:
            return None
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    return of(str(path)), of(f"{path}-journal")


def _lift_run(copy: Connection, path: Path) -> None:
    if read_version(copy, path) < migrations.SCHEMA_VERSION:
        migrations.lift(copy)


def open_copy(
    path: Path, prepare: Callable[[Connection, Path], None] = _lift_run
) -> tuple[Connection, tuple[Fingerprint, Fingerprint]]:
    """Copy a database, and return a connection to the copy, rolled back and of today's schema, and of what it is.

    The copy's names are gone when this returns; its content goes with the connection. `prepare` checks what is in it.

    Raises
    ------
    StoreError
        It could not be copied, or changed again and again meanwhile.
    """
    import tempfile

    for _ in range(_MOST_COPIES):
        before = fingerprint(path)
        folder = Path(tempfile.mkdtemp(prefix="matterstack-"))
        try:
            _copy(path, folder, with_journal=before[1] is not None)
            if fingerprint(path) != before:
                continue
            copy = connect(folder / path.name, "rw")
            if sys.platform == "win32":
                copy.leaves = folder
            copy.execute("SELECT count(*) FROM sqlite_master").fetchone()  # this rolls it back
            prepare(copy, path)
            copy.execute("PRAGMA query_only = ON")
            return copy, before
        finally:
            remove_tree(folder)
    raise StoreError(f"{path} was changed each time it was looked at; look again", path=path)


def _copy(path: Path, folder: Path, *, with_journal: bool) -> None:
    """Copy a database and its journal by a process of its own.

    A descriptor of the database that is closed here would give up the locks of this process; see `open_known`.
    """
    if sys.platform == "win32":  # where locks are those of a handle, and a program may lack
        _copy_there(path, folder)
        return
    import subprocess

    names = [str(path), f"{path}-journal"] if with_journal else [str(path)]
    command = ["cp", "--no-dereference", "--", *names, str(folder)]
    try:
        with interrupts.heard():
            subprocess.run(command, check=True, capture_output=True, timeout=_COPY_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        if with_journal and not os.path.lexists(f"{path}-journal"):
            return  # its writer has just finished: it is copied anew
        raise StoreError(
            f"{path} was left by a writer that was killed, and a private copy, to look at it without changing it, "
            f"cannot be made in {folder.parent}: {said.decode(errors='replace').strip() or error}",
            path=path,
        ) from error


def _copy_there(path: Path, folder: Path) -> None:
    for name in (path.name, f"{path.name}-journal"):
        with contextlib.suppress(FileNotFoundError):
            copy_inside(path.parent, name, folder / name)


def read_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of a database.

    Parameters
    ----------
    connection : sqlite3.Connection
    path : pathlib.Path
        For what errors say.

    Raises
    ------
    ForeignStoreError, DamagedStoreError, NewerStoreError
        It is none of ours, or none of today's.
    """
    there = set(connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite#_%' ESCAPE '#'"))
    if ("table", "schema_info") not in there:
        raise ForeignStoreError(
            f"{path} is an SQLite database without MatterStack's schema_info, so it is of another program "
            "or has no schema version; it was left as it is. Restore a copy of the run's, or open another run",
            path=path,
        )
    rows = connection.execute("SELECT version FROM schema_info").fetchall()
    if len(rows) != 1 or not isinstance(rows[0][0], int):
        raise DamagedStoreError(
            f"{path}: schema_info must hold one version number, but holds {rows!r}; it was left as it is", path=path
        )
    version: int = rows[0][0]
    if version > migrations.SCHEMA_VERSION:
        raise NewerStoreError(
            f"{path} has schema version {version}, and this MatterStack knows versions up to "
            f"{migrations.SCHEMA_VERSION}; it was left as it is. Install a newer matterstack to open it",
            path=path,
        )
    if steps := [step for step in range(version, migrations.SCHEMA_VERSION) if step not in migrations.MIGRATIONS]:
        raise ForeignStoreError(
            f"{path} has schema version {version}, and this MatterStack has no migration from version {steps[0]}; "
            "its bytes were left as they are",
            path=path,
        )
    ours = migrations.OBJECTS.get(version, there)
    if missing := sorted(f"{kind} {name}" for kind, name in ours - there):
        raise DamagedStoreError(f"{path} lacks the {', the '.join(missing)}; it was left as it is", path=path)
    if strange := sorted(f"{kind} {name}" for kind, name in there - ours):
        raise ForeignStoreError(
            f"{path} has the {', the '.join(strange)}, which no database of schema version {version} has: somebody "
            "else added that. It was left as it is",
            path=path,
        )
    found = {
        f"column {table}.{column}"
        for table, column, hidden in connection.execute(_COLUMNS_SQL)
        if hidden or column not in migrations.COLUMNS.get(version, {}).get(table, column).split()
    }
    if found:
        raise ForeignStoreError(
            f"{path} has the {', the '.join(sorted(found))}, which no database of schema version {version} has: "
            "somebody else added that. It was left as it is",
            path=path,
        )
    return version

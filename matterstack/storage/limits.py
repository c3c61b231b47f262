"""A ledger of limits: their amounts, what runs hold of them, and which runs wait; that of a workspace, to begin with.

It is opened for each use, and a run that wants nothing of it never opens it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from matterstack import interrupts
from matterstack.core.limits import (
    NOTHING,
    RATE,
    RATE_S,
    RATE_UNKNOWN_S,
    Granting,
    Holder,
    Reservation,
    Share,
    Standing,
    Waiter,
)
from matterstack.core.strict_json import to_text
from matterstack.crash_points import reach
from matterstack.errors import DamagedStoreError, ForeignStoreError, NewerStoreError
from matterstack.files import make_directories, write_inside
from matterstack.storage import database

NAME = "limits.sqlite"

#: What the head of the file says of whose it is, and of which version (https://www.sqlite.org/fileformat2.html).
_APPLICATION, _VERSION = 0x4D734C6D, 1
_MAGIC = b"SQLite format 3\0"
_VERSION_AT, _APPLICATION_AT = 60, 68
#: A run's lock is held meanwhile.
_PATIENCE_S = 5.0
#: Who waits says so again only after so long, since each time costs a commit.
_SAID_AGAIN_S = 3.0
#: Who has not said so for so long was moved or removed, or nobody steps it any more.
_FORGOTTEN_S = 24 * 3600.0
_SCHEMA = (
    "CREATE TABLE limits (name TEXT PRIMARY KEY, amount INTEGER NOT NULL CHECK (amount >= 0)) WITHOUT ROWID",
    "CREATE TABLE reservations (token TEXT NOT NULL, name TEXT NOT NULL, amount INTEGER NOT NULL CHECK (amount > 0),"
    " run_id TEXT NOT NULL, place TEXT NOT NULL, made_at REAL NOT NULL, attempt TEXT NOT NULL, since REAL NOT NULL,"
    " PRIMARY KEY (token, name)) WITHOUT ROWID",
    "CREATE TABLE waiting (run_id TEXT NOT NULL, place TEXT NOT NULL, made_at REAL NOT NULL, name TEXT NOT NULL,"
    " wants TEXT NOT NULL, priority INTEGER NOT NULL, since REAL NOT NULL, seen_at REAL NOT NULL,"
    " turn INTEGER NOT NULL, PRIMARY KEY (run_id, place, made_at, name)) WITHOUT ROWID",
)
_OF_HOLDER = "run_id = ? AND place = ? AND made_at = ?"
_WAITING = "run_id, place, made_at, name, wants, priority, since, seen_at, turn"
#: Of a part, the limit that it is one of.
_WHOLE = "iif(instr(name, ':') = 0, name, substr(name, 1, instr(name, ':') - 1))"
#: Of a rate what was taken counts for its time, be it over or not.
_IS_RATE = f"substr(substr(name, 1, instr(name || '@', '@') - 1), -{len(RATE)}) = '{RATE}'"
_COUNTS = f"(NOT {_IS_RATE} OR since BETWEEN ? - {RATE_S} AND ? + {RATE_UNKNOWN_S})"
_NEXT_TURN = "(SELECT coalesce(max(turn), 0) + 1 FROM waiting)"


class Ledger:
    """The ledger of one workspace; its file is made when a limit is first set.

    Parameters
    ----------
    workspace : pathlib.Path
        The directory of the workspace.
    """

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.path = workspace / NAME

    @property
    def exists(self) -> bool:
        """Whether a limit was ever set."""
        return os.path.lexists(self.path)

    def place_of(self, run: Path) -> str:
        """Return how a run's directory is called here."""
        return f"runs/{run.name}"

    def path_of(self, holder: Holder) -> Path | None:
        """Return where the directory of a run should be; None for a place that no run of ours has."""
        folder, _, name = holder.place.partition("/")
        return None if folder != "runs" or "/" in name or name in ("", ".", "..") else self.path.parent / "runs" / name

    def standing(self) -> Standing:
        """Return all that is known now, and change nothing."""
        if not self.exists:
            return NOTHING
        with self._opened("ro") as connection, database.transaction(connection, kind=database.READING):
            _check_tables(connection, self.path)
            return _standing(connection)

    def reservations(self) -> list[Reservation]:
        """Return what attempts hold until they are over, the oldest first, and change nothing."""
        if not self.exists:
            return []
        with self._opened("ro") as connection, database.transaction(connection, kind=database.READING):
            _check_tables(connection, self.path)
            rows = connection.execute(
                "SELECT run_id, place, made_at, token, attempt, name, amount, since FROM reservations"
                f" WHERE NOT {_IS_RATE} ORDER BY since, token"
            )
            return [Reservation(Holder(*row[:3]), *row[3:]) for row in rows]

    def set_amounts(self, amounts: Mapping[str, int | None]) -> None:
        """Say how much there is of each; None takes a limit away. What is held stays held."""
        self.make()
        with self._writing() as connection:
            for name, amount in amounts.items():
                if amount is None:
                    connection.execute("DELETE FROM limits WHERE name = ?", (name,))
                else:
                    connection.execute("INSERT OR REPLACE INTO limits (name, amount) VALUES (?, ?)", (name, amount))

    @contextlib.contextmanager
    def granting(self, holder: Holder, at: float) -> Iterator[Granting]:
        """Let attempts of a run ask; what they were granted is on disk when the block has ended."""
        with self._writing() as connection:
            recently = (at - _FORGOTTEN_S, at + _FORGOTTEN_S)
            connection.execute("DELETE FROM waiting WHERE seen_at NOT BETWEEN ? AND ?", recently)
            standing = _standing(connection)
            granting = Granting(standing, holder, at)
            yield granting
            connection.execute(f"DELETE FROM reservations WHERE NOT {_COUNTS}", (at, at))
            connection.executemany(
                "INSERT INTO reservations (run_id, place, made_at, token, attempt, name, amount, since)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*one.holder, *one[1:]) for one in granting.granted],
            )
            _note_waiting(connection, granting, {one.name: one for one in standing.waiters if one.holder == holder}, at)
        if granting.granted:
            reach("limits.reserved")

    def tokens(self, holder: Holder) -> set[str]:
        """Return the tokens of the attempts with which a run holds something."""
        return set(self.held_by(holder))

    def held_by(self, holder: Holder) -> dict[str, list[str]]:
        """Return what a run holds, by the tokens of its attempts; what a killed writer left is healed."""
        found: dict[str, list[str]] = {}
        with self._opened("rw") as connection, database.transaction(connection, kind=database.READING):
            _check_tables(connection, self.path)
            sql = f"SELECT token, name FROM reservations WHERE {_OF_HOLDER} AND NOT {_IS_RATE} ORDER BY token, name"
            for token, name in connection.execute(sql, holder):
                found.setdefault(token, []).append(name)
        return found

    def note_used(self, holder: Holder, at: float) -> None:
        """Note that what a run took of rates was used by now, so that it counts for a minute from here on."""
        with self._writing() as connection:
            connection.execute(
                f"UPDATE reservations SET since = ? WHERE {_OF_HOLDER} AND {_IS_RATE} AND since > ?", (at, *holder, at)
            )

    def give_back(self, holder: Holder, tokens: Collection[str], *, waits: bool = True) -> None:
        """Give back what attempts of a run hold, and, unless it waits, its place among those that do."""
        if tokens:
            reach("limits.giving_back")
        with self._writing() as connection:
            for token in tokens:
                connection.execute(
                    f"UPDATE waiting SET turn = {_NEXT_TURN} WHERE {_OF_HOLDER}"
                    f" AND name IN (SELECT {_WHOLE} FROM reservations WHERE token = ? AND {_OF_HOLDER})",
                    (*holder, token, *holder),
                )
                connection.execute(
                    f"DELETE FROM reservations WHERE token = ? AND {_OF_HOLDER} AND NOT {_IS_RATE}", (token, *holder)
                )
            if not waits:
                connection.execute(f"DELETE FROM waiting WHERE {_OF_HOLDER}", holder)
        if tokens:
            reach("limits.given_back")

    def stay_in_line(self, holder: Holder, until: float) -> None:
        """Have a run that waits count as seen until a moment: whoever steps it will have looked again by then."""
        if any(one.holder == holder for one in self.standing().waiters):
            with self._writing() as connection:
                connection.execute(f"UPDATE waiting SET seen_at = max(seen_at, ?) WHERE {_OF_HOLDER}", (until, *holder))

    def hand_over(self, holder: Holder, to: Holder) -> None:
        """Have a run hold what another one does: the same, which was moved."""
        with self._writing() as connection:
            connection.execute(
                f"UPDATE reservations SET run_id = ?, place = ?, made_at = ? WHERE {_OF_HOLDER}", (*to, *holder)
            )
            connection.execute(f"DELETE FROM waiting WHERE {_OF_HOLDER}", holder)

    # -- the file ------------------------------------------------------------------------------

    def make(self) -> None:
        """Make the file, where there is none: it appears whole, and of several that make it at once one succeeds."""
        if self.exists:
            return
        with interrupts.held(), database.errors(self.path):
            self.make_home()
            with contextlib.closing(sqlite3.connect(":memory:")) as connection:
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
                connection.commit()
                content = connection.serialize()
            reach("limits.made")
            with contextlib.suppress(FileExistsError):
                write_inside(self.path.parent, self.path.name, content, new=True)

    def make_home(self) -> None:
        """Make the directory of the file, and that of runs: the workspace is there from now on, though it has none."""
        runs = self.path.parent / "runs"
        make_directories(runs, next(folder for folder in runs.parents if folder.is_dir()))

    @contextlib.contextmanager
    def _opened(self, mode: str) -> Iterator[database.Connection]:
        with interrupts.held(), database.errors(self.path):
            files = database.look_at(self.path)
            connection = database.open_known(self.path, files, mode, _check_head, _PATIENCE_S)
            try:
                if mode == "ro" and files.journal and database.must_be_rolled_back(connection):
                    connection.close()
                    connection, _ = database.open_copy(self.path, _check_tables)
                yield connection
            finally:
                connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[database.Connection]:
        with self._opened("rw") as connection, database.transaction(connection):
            _check_tables(connection, self.path)
            yield connection


def _standing(connection: sqlite3.Connection) -> Standing:
    amounts = connection.execute("SELECT name, amount FROM limits ORDER BY name").fetchall()
    now = time.time()
    shares = connection.execute(
        f"SELECT run_id, place, made_at, name, sum(amount), min(since) FROM reservations WHERE {_COUNTS}"
        " GROUP BY run_id, place, made_at, name ORDER BY min(since)",
        (now, now),
    ).fetchall()
    waiting = connection.execute(f"SELECT {_WAITING} FROM waiting ORDER BY turn").fetchall()
    return Standing(
        {name: amount for name, amount in amounts if isinstance(amount, int)},
        [Share(Holder(*row[:3]), *row[3:]) for row in shares],
        [
            Waiter(Holder(*row[:3]), row[3], wants, *row[5:])
            for row in waiting
            # else it says nothing that we would have written
            if (wants := _wants(row[4])).get(row[3]) and all(isinstance(number, int | float) for number in row[5:])
        ],
    )


def _wants(text: str) -> dict[str, int]:
    found: Any = None
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = json.loads(text)
    fits = isinstance(found, dict) and all(isinstance(amount, int) for amount in found.values())
    return found if fits else {}


def _note_waiting(connection: sqlite3.Connection, granting: Granting, before: Mapping[str, Waiter], at: float) -> None:
    """Write down for what a run waits now, where it did not say so a moment ago."""
    holder = granting.holder
    for name in before.keys() - granting.refused.keys():
        connection.execute(f"DELETE FROM waiting WHERE {_OF_HOLDER} AND name = ?", (*holder, name))
    for name, (wants, priority) in granting.refused.items():
        known = before.get(name)
        if known is None:
            connection.execute(
                f"INSERT INTO waiting ({_WAITING}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {_NEXT_TURN})",
                (*holder, name, to_text(dict(wants)), priority, at, at),
            )
        elif (known.wants, known.priority) != (wants, priority) or not 0 <= at - known.seen_at < _SAID_AGAIN_S:
            connection.execute(
                f"UPDATE waiting SET wants = ?, priority = ?, seen_at = ? WHERE {_OF_HOLDER} AND name = ?",
                (to_text(dict(wants)), priority, at, *holder, name),
            )


def _check_head(path: Path, head: bytes) -> None:
    """Raise unless a file begins as a ledger of this version does."""
    if not head.startswith(_MAGIC):
        raise DamagedStoreError(
            f"{path} is no database, so nobody knows what is held; it was left as it is. Restore a copy", path=path
        )
    application, version = (int.from_bytes(head[at : at + 4], "big") for at in (_APPLICATION_AT, _VERSION_AT))
    if application != _APPLICATION:
        raise ForeignStoreError(
            f"{path} is a database, and not one of limits; it was left as it is. Move it away if it is not yours",
            path=path,
        )
    if version > _VERSION:
        raise NewerStoreError(
            f"{path} has version {version}, and this MatterStack knows {_VERSION}; it was left as it is. Install a "
            "newer matterstack",
            path=path,
        )


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raise unless a ledger has its tables, and nothing else: a trigger could change what is written."""
    found = {
        sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite#_%' ESCAPE '#'")
    }
    if missing := set(_SCHEMA) - found:
        raise DamagedStoreError(f"{path} lacks what {min(missing)[:30]!r} made; it was left as it is", path=path)
    if strange := found - set(_SCHEMA):
        raise ForeignStoreError(
            f"{path} has {min(strange)!r:.80}, which no ledger of ours has; it was left as it is", path=path
        )

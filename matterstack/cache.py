"""The cache: results known from before, by what they depend on, in a directory that many runs and processes share.

An entry is a file of JSON that lists files by their SHA-256; those lie beside, each under its own. Both appear whole,
by a rename. Nobody locks: who writes what is there already replaces it by the same, who reads what is being removed
finds nothing, and what is damaged does not have its SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack import interrupts
from matterstack.core.cache_keys import FORMAT, Key, Parts, differences
from matterstack.core.identifiers import check_relative_path
from matterstack.core.made import output_of
from matterstack.core.strict_json import parse_json, to_text
from matterstack.crash_points import reach
from matterstack.errors import InvalidConfigError, InvalidJsonError, UnsafeFileError, UnsafePathError
from matterstack.files import open_inside, read_inside

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("matterstack.cache")

_MOST_ENTRY_BYTES = 10_000_000
_MOST_COMPARED = 1000
_CHUNK = 1 << 20
_FORMING_S = 3600.0
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_COLUMNS = ("key", "name", "run", "attempt", "host", "at", "used_at", "files", "size_bytes")


class DamagedEntryError(Exception):
    """What an entry names is not there, or not what it was."""


@dataclass(frozen=True)
class Entry:
    """A result that is known.

    Attributes
    ----------
    key : str
    name : str
        Of the function, or of the command.
    parts : mapping
        What it depends on.
    told : mapping
        ``run``, ``attempt``, ``host``, ``at``, ``environment``: where it comes from.
    files : mapping of str to (str, int)
        SHA-256 and size of what it left, by name.
    """

    key: str
    name: str
    parts: Parts
    told: Mapping[str, Any]
    files: Mapping[str, tuple[str, int]]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        files = {name: list(pair) for name, pair in self.files.items()}
        return {"format": FORMAT, "key": self.key, "name": self.name, **self.told, "files": files, "parts": self.parts}

    @classmethod
    def from_json(cls, said: Any) -> Entry:
        """Return the entry that plain data says, whoever wrote it.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            It is none, or does not have the key that it says.
        """
        files = {}
        for name, (sha256, size) in said["files"].items():
            check_relative_path(name, "a file of an entry")
            if output_of(name, sha256, size) is None:
                raise ValueError(f"{name} has no SHA-256")
            files[name] = (sha256, size)
        parts = {kind: {str(name): str(one) for name, one in part.items()} for kind, part in said["parts"].items()}
        if Key(said["name"], parts).digest != said["key"]:
            raise ValueError("it has another key than its parts")
        told = {name: said.get(name) for name in ("run", "attempt", "host", "at", "environment")}
        return cls(said["key"], said["name"], parts, told, files)


class Cache:
    """Results that are known from before, in a directory.

    Parameters
    ----------
    path : path-like
        The directory, made when something is kept; ``~`` is the home of whoever uses it. Runs of any workspace, user
        and machine may share one. Who may write there decides what your tasks give: keep it to people you trust.

    Raises
    ------
    InvalidConfigError
        ``path`` can be no path.

    Examples
    --------
    >>> import tempfile
    >>> cache = Cache(tempfile.mkdtemp())
    >>> len(cache.entries)
    0
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in str(path):
            raise InvalidConfigError(f"a cache is a directory, as in ms.Cache('~/cache'), and not {path!r}")
        self.path = Path(path).expanduser().absolute()
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"Cache({str(self.path)!r})"

    # -- for people -------------------------------------------------------------------------

    def is_there(self) -> bool:
        """Return whether a result was ever kept here."""
        return (self.path / "entries").is_dir()

    @property
    def entries(self) -> pd.DataFrame:
        """A row per entry, the latest first; ``at`` is when the result was made, ``used_at`` when it was last taken."""
        import pandas as pd

        rows = []
        for path, entry in self._all():
            with contextlib.suppress(OSError):
                size = sum(size for _, size in entry.files.values())
                told = (entry.told["run"], entry.told["attempt"], entry.told["host"], entry.told["at"])
                rows.append((path.stat().st_mtime, (entry.key, entry.name, *told), len(entry.files), size))
        rows.sort(key=lambda row: row[0], reverse=True)
        frame = pd.DataFrame([(*said, used_at, *rest) for used_at, said, *rest in rows], columns=list(_COLUMNS))
        for name in ("at", "used_at"):
            frame[name] = pd.to_datetime(pd.to_numeric(frame[name], errors="coerce"), unit="s", utc=True)
        return frame

    def forget(self, what: str | Callable[..., Any]) -> int:
        """Remove the entries of a function or command, or the one of a key; return how many.

        Parameters
        ----------
        what : callable or str
            The function, its name, or a key.

        Returns
        -------
        int
            How many entries there were.
        """
        wanted = what if isinstance(what, str) else str(getattr(what, "__name__", what))
        return self._remove(path for path, entry in self._all() if wanted in (entry.name, entry.key))

    def prune(self, *, older_than_days: float | None = None, max_gib: float | None = None) -> int:
        """Remove entries that were not used for long, then the longest unused until the rest fits; return how many.

        Parameters
        ----------
        older_than_days : float, optional
            How long unused.
        max_gib : float, optional
            How much the files of entries may take.

        Returns
        -------
        int
            How many entries were removed.

        Raises
        ------
        InvalidConfigError
            A number is below 0; nothing was removed.
        """
        for name, number in (("older_than_days", older_than_days), ("max_gib", max_gib)):
            if number is not None and not number >= 0:
                raise InvalidConfigError(f"{name} must be 0 or more, not {number!r}")
        known: list[tuple[float, Path, Entry]] = []
        for path, entry in self._all():
            with contextlib.suppress(OSError):
                known.append((path.stat().st_mtime, path, entry))
        known.sort(key=lambda one: -one[0])
        oldest = -float("inf") if older_than_days is None else time.time() - older_than_days * 86400
        most = float("inf") if max_gib is None else max_gib * 1024**3
        kept: dict[str, int] = {}
        gone = []
        for used_at, path, entry in known:
            with_it = kept | dict(entry.files.values())
            if used_at < oldest or sum(with_it.values()) > most:
                gone.append(path)
            else:
                kept = with_it
        removed = self._remove(gone)
        self._remove_unused(kept)
        return removed

    # -- for runs ---------------------------------------------------------------------------

    def find(self, key: Key) -> Entry | None:
        """Return the entry of a key; None where there is none that can be read.

        Parameters
        ----------
        key : Key
            What the result depends on.
        """
        return self._read(self._place(key.name, key.digest))

    def nearest(self, key: Key, but: str = "") -> Entry | None:
        """Return the entry of the same function or command that differs in the fewest parts; not that of `but`.

        Parameters
        ----------
        key : Key
            What the result depends on.
        but : str
            The key, as text, of an entry that is passed over.
        """
        folder = self._place(key.name, key.digest).parent
        entries = (self._read(path) for path in _latest(folder))
        others = [entry for entry in entries if entry is not None and entry.name == key.name and _whose(entry) != but]
        return min(others, key=lambda entry: len(differences(key.parts, entry.parts)), default=None)

    def take(self, entry: Entry, target: str) -> None:
        """Copy the files of an entry to a directory, where they must not be yet.

        Parameters
        ----------
        entry : Entry
            What `find` returned.
        target : str
            The directory.

        Raises
        ------
        DamagedEntryError
            One is not there, or not what it was; the entry is removed, and what was copied too.
        OSError
            The directory cannot be written.
        """
        made = []
        try:
            for name, (sha256, size) in entry.files.items():
                place = f"{target}/{name}"
                os.makedirs(os.path.dirname(place), exist_ok=True)
                made.append(place)
                self._copy_out(sha256, size, place)
        except BaseException as error:
            for place in made:
                with contextlib.suppress(OSError):
                    os.unlink(place)
            if isinstance(error, DamagedEntryError):
                self._warn(f"an entry of {self.path} cannot be used, and is made anew: {error}")
                self._remove([self._place(entry.name, entry.key)])
            raise
        with contextlib.suppress(OSError):  # somebody else's, or read-only
            os.utime(self._place(entry.name, entry.key))

    def keep(self, entry: Entry, source: str) -> None:
        """Keep what an attempt left in a directory; where that is impossible, the entry is lost, with a warning.

        Parameters
        ----------
        entry : Entry
            What is kept: its key and its files, with their hashes.
        source : str
            The directory in which the files are.

        Raises
        ------
        DamagedEntryError
            A file is not what the entry says.
        """
        try:
            for name, (sha256, size) in entry.files.items():
                self._copy_in(f"{source}", name, sha256, size)
            place = self._place(entry.name, entry.key)
            self._write(place, [to_text(entry.to_json()).encode("utf-8", "surrogatepass")])
        except OSError as error:
            self._warn(f"nothing can be kept in {self.path}: {error.strerror}")

    # -- files ------------------------------------------------------------------------------

    def _place(self, name: str, digest: str) -> Path:
        # A function may have any name of Unicode, and a command any word.
        return (
            self.path
            / "entries"
            / hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            / f"{digest}.json"
        )

    def _blob(self, sha256: str) -> Path:
        return self.path / "files" / sha256[:2] / sha256

    def _read(self, path: Path) -> Entry | None:
        try:
            relative = path.relative_to(self.path).as_posix()
            entry = Entry.from_json(parse_json(read_inside(self.path, relative, _MOST_ENTRY_BYTES)))
        except (OSError, UnsafeFileError, UnsafePathError, InvalidJsonError):
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        return entry if entry.key == path.stem else None

    def _all(self) -> Iterator[tuple[Path, Entry]]:
        for path in sorted((self.path / "entries").glob("*/*.json")):
            if (entry := self._read(path)) is not None:
                yield path, entry

    def _copy_out(self, sha256: str, size: int, place: str) -> None:
        relative = self._blob(sha256).relative_to(self.path).as_posix()
        try:
            source = open(open_inside(self.path, relative), "rb")  # noqa: SIM115 - closed below
        except (OSError, UnsafeFileError) as error:
            raise DamagedEntryError(f"{relative} cannot be read: {error}") from None
        digest = hashlib.sha256()
        with source, open(place, "xb") as copy, interrupts.heard():
            if os.fstat(source.fileno()).st_size == size:
                while chunk := _chunk(source, relative):
                    digest.update(chunk)
                    copy.write(chunk)
        if digest.hexdigest() != sha256:
            with contextlib.suppress(OSError):
                self._blob(sha256).unlink()
            raise DamagedEntryError(f"{relative} is not what it was")

    def _copy_in(self, source: str, name: str, sha256: str, size: int) -> None:
        blob = self._blob(sha256)
        if self._is_whole(blob, sha256, size):
            with contextlib.suppress(OSError):
                os.utime(blob)  # so that it is not taken for unused before its entry is there
            return
        try:
            file = open(open_inside(source, name), "rb")  # noqa: SIM115 - closed below
        except UnsafeFileError as error:
            raise DamagedEntryError(str(error)) from None
        with file, interrupts.heard():
            self._write(blob, iter(lambda: file.read(_CHUNK), b""), sha256)

    def _is_whole(self, blob: Path, sha256: str, size: int) -> bool:
        """Return whether a file is there already, and is what it was."""
        try:
            with open(open_inside(self.path, blob.relative_to(self.path).as_posix()), "rb") as file, interrupts.heard():
                return os.fstat(file.fileno()).st_size == size and (
                    hashlib.file_digest(file, "sha256").hexdigest() == sha256
                )
        except (OSError, UnsafeFileError):
            return False

    @interrupts.held()
    def _write(self, place: Path, content: Iterable[bytes], sha256: str | None = None) -> None:
        """Write a file whole, by a rename; nothing where it would not have the SHA-256."""
        reach("cache.write")
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{os.urandom(8).hex()}.partial")
        digest = hashlib.sha256()
        try:
            with open(partial, "xb") as file:
                for chunk in content:
                    digest.update(chunk)
                    file.write(chunk)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise DamagedEntryError(f"{place.name[:12]}... is not what was made")
            partial.rename(place)
        finally:
            partial.unlink(missing_ok=True)

    def _remove(self, places: Iterable[Path]) -> int:
        count = 0
        for place in list(places):
            with contextlib.suppress(OSError):
                place.unlink()
                count += 1
        return count

    def _remove_unused(self, kept: Mapping[str, int]) -> None:
        """Remove files of no entry, and halves that a killed process left; young ones may be of an entry to come."""
        before = time.time() - _FORMING_S
        for place in [*(self.path / "files").glob("*/*"), *(self.path / "entries").glob("*/.*.partial")]:
            with contextlib.suppress(OSError):
                if place.name not in kept and place.stat().st_mtime < before:
                    place.unlink()

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s", text)


def _chunk(source: Any, relative: str) -> bytes:
    try:
        found: bytes = source.read(_CHUNK)
    except OSError as error:
        raise DamagedEntryError(f"{relative} cannot be read: {error}") from None
    return found


def _latest(folder: Path) -> list[Path]:
    """Return the entries in a folder that were used last."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.glob("*.json"):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)[:_MOST_COMPARED]]


def _whose(entry: Entry) -> str:
    return f"{entry.told.get('run')} {entry.told.get('attempt')}"

"""Archives of attempts that are over: a zip file for an iteration, written whole, and read at any place of it.

A member is called as the file was, from the run's directory on, so ``unzip`` there puts all back. What attempts share
with the run (`RunDirectory.files`) is not in it; `MANIFEST` says what that is, and the SHA-256 of everything.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from matterstack.core.identifiers import check_relative_path
from matterstack.crash_points import reach
from matterstack.errors import UnsafeFileError, UnsafePathError
from matterstack.files import (
    list_inside,
    make_directories,
    open_inside,
    opened_inside,
    remove_tree,
    room_bytes,
    set_mode,
    sync_directory,
    walk_inside,
)
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

FOLDER = "archives"
MANIFEST = "MANIFEST.json"
_NAME = re.compile(rf"{FOLDER}/(0|[1-9][0-9]*)(-[1-9][0-9]*)?\.zip\Z")
_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial\Z")
_CHUNK = 1 << 20
#: Arrays and text shrink nearly as much as by the best level, in a third of the time.
_LEVEL = 1
_MOST_MANIFEST_BYTES = 1_000_000_000
#: What reading a damaged archive raises.
_DAMAGED = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError)
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)  # that a zip file can tell


class Content(NamedTuple):
    """What an attempt's directory held when it was put into an archive.

    Attributes
    ----------
    place : str
        The directory, from that of the run.
    found : mapping of str to tuple
        Of every path below it what tells whether it was changed since.
    files, bytes : int
        How many files, and how much room they took; what is shared with the run takes none.
    """

    place: str
    found: Mapping[str, tuple[int, ...]]
    files: int
    bytes: int


class Archive:
    """An archive that is being written, under a temporary name.

    Parameters
    ----------
    directory : RunDirectory
        Of the run.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._root = directory.path
        self._home = directory.path / FOLDER
        make_directories(self._home, directory.path)
        self.partial = self._home / f".{os.urandom(8).hex()}.partial"
        self._file = open(self.partial, "xb")  # noqa: SIM115 (closed by close)
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        self._sums: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._shared = {
            (status.st_dev, status.st_ino): f"files/{path}"
            for path, status in (walk_inside(self._root, "files") if directory.files.is_dir() else ())
        }

    def close(self) -> None:
        """Let go of it; what has no name yet is removed."""
        for part in (self._zip, self._file):  # each writes its end, for which there may be no room
            with contextlib.suppress(OSError, ValueError):
                part.close()
        self.partial.unlink(missing_ok=True)

    def add(self, place: str) -> Content:
        """Add the directory of an attempt.

        Raises
        ------
        UnsafeFileError
            It holds what no archive keeps: a device, a name that cannot be unpacked.
        FileNotFoundError
            It is not there.
        """
        found = list(walk_inside(self._root, place))
        for path, status in found:
            _check(path, status)
        size = 0
        self._zip.writestr(_info(f"{place}/", os.lstat(self._root / place)), b"")
        for path, status in found:
            name = f"{place}/{path}"
            if stat.S_ISDIR(status.st_mode):
                self._zip.writestr(_info(f"{name}/", status), b"")
            elif stat.S_ISLNK(status.st_mode):
                self._add_link(name, status)
            elif (shared := self._shared.get((status.st_dev, status.st_ino))) is not None:
                self._kept[name] = shared
            else:
                self._add_file(name, status)
                size += room_bytes(status)
        return Content(place, {path: _stamp(status) for path, status in found}, len(found), size)

    def _add_file(self, name: str, status: os.stat_result) -> None:
        digest = hashlib.sha256()
        with open(open_inside(self._root, name), "rb") as source:
            info = _info(name, os.fstat(source.fileno()))
            info.file_size = status.st_size  # whether it needs the format for large files
            with self._zip.open(info, "w", force_zip64=status.st_size > 1 << 31) as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
        self._sums[name] = digest.hexdigest()

    def _add_link(self, name: str, status: os.stat_result) -> None:
        above, _, last = name.rpartition("/")
        with opened_inside(self._root, above) as folder:
            target = os.fsencode(os.readlink(last, dir_fd=folder))
        self._zip.writestr(_info(name, status), target)
        self._sums[name] = hashlib.sha256(target).hexdigest()

    def finish(self, iteration: int) -> str:
        """Bring it to disk, read it again and compare all of it, and give it a name, from the run's directory on.

        Raises
        ------
        UnsafeFileError
            What can be read of it is not what was written.
        """
        manifest = {"sha256": self._sums, "kept": self._kept}
        self._zip.writestr(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        reach("pack.written")
        with open(self.partial, "rb") as file:
            _verify(file, self._sums, self.partial.name)
        reach("pack.verified")
        number = 1
        while os.path.lexists(self._root / (name := f"{FOLDER}/{iteration}{f'-{number}' if number > 1 else ''}.zip")):
            number += 1
        self.partial.rename(self._root / name)
        sync_directory(self._home)
        reach("pack.named")
        return name


def _check(path: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise UnsafeFileError(f"{path} is a device, a pipe or a socket, which an archive does not keep")
    with _safe(path):
        check_relative_path(path, "a file")


@contextlib.contextmanager
def _safe(name: str) -> Iterator[None]:
    """Refuse a name that nobody could unpack, or that leads elsewhere."""
    try:
        yield
    except UnsafePathError as error:
        raise UnsafeFileError(f"{name!r} is no name that an archive keeps") from error


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    if stat.S_ISDIR(status.st_mode):
        return (status.st_ino,)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def is_unchanged(directory: RunDirectory, content: Content) -> bool:
    """Return whether the directory of an attempt still holds what was put into an archive."""
    try:
        return {path: _stamp(status) for path, status in walk_inside(directory.path, content.place)} == content.found
    except (OSError, UnsafeFileError):
        return False


def _info(name: str, status: os.stat_result) -> zipfile.ZipInfo:
    at = time.localtime(min(max(status.st_mtime, 0), 4_300_000_000))[:6]
    info = zipfile.ZipInfo(name, min(max(at, _EARLIEST), _LATEST))
    info.compress_type = zipfile.ZIP_DEFLATED
    info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # noqa: SLF001 - public as compress_level from 3.13 on
    info.create_system = 3  # Unix: the mode is in the upper half
    info.external_attr = (status.st_mode & 0xFFFF) << 16
    return info


def _verify(file: BinaryIO, sums: Mapping[str, str], name: str) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            for path, expected in sums.items():
                if _sum_of_member(archive, path) != expected:
                    raise UnsafeFileError(f"{name}: {path} does not hold what was written")
    except _DAMAGED as error:
        raise UnsafeFileError(f"{name} cannot be read again: {error}") from error


def _sum_of_member(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as member:
        return hashlib.file_digest(member, "sha256").hexdigest()  # type: ignore[arg-type]


# -- what was left by a kill ----------------------------------------------------------------


def sweep(directory: RunDirectory, referred: Sequence[str]) -> None:
    """Remove archives that are half made, and those that nothing refers to and whose attempts are all in place.

    Parameters
    ----------
    directory : RunDirectory
    referred : sequence of str
        The archives that the database knows.
    """
    try:
        names = [name for name, _ in list_inside(directory.path, FOLDER)]
    except FileNotFoundError:
        return
    for name in names:
        path = f"{FOLDER}/{name}"
        if _PARTIAL.match(name) or (_NAME.match(path) and path not in referred and _is_spare(directory, path)):
            (directory.path / path).unlink(missing_ok=True)


def _is_spare(directory: RunDirectory, path: str) -> bool:
    try:
        with _opened(directory.path, path) as archive:
            places = {_place_of(name) for name in archive.namelist() if name != MANIFEST}
    except (OSError, UnsafeFileError):
        return False
    return all((directory.path / place).is_dir() for place in places)


# -- reading --------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive of a run.

    Raises
    ------
    UnsafeFileError
        It is damaged, or no plain file.
    """
    if not _NAME.match(path):
        raise UnsafeFileError(f"{path!r} is no archive of the run")
    try:
        with open(open_inside(root, path), "rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except FileNotFoundError:
        raise UnsafeFileError(f"{path}, into which the attempt was put, is not there any more") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise UnsafeFileError(f"{path}, into which the attempt was put, is damaged: {error}") from error


def same_as_packed(directory: RunDirectory, path: str, place: str) -> bool:
    """Return whether the directory of an attempt holds what an archive has of it, no more and no less."""
    try:
        found = dict(walk_inside(directory.path, place))
        with _opened(directory.path, path) as archive:
            sums, kept = _manifest(archive)
            there = {name: one for name, one in (sums | kept).items() if name.startswith(f"{place}/")}
        plain = {f"{place}/{name}": status for name, status in found.items() if not stat.S_ISDIR(status.st_mode)}
        return plain.keys() == there.keys() and all(
            _sum_of(directory.path, name, status) == (sums.get(name) or _sum_of(directory.path, kept[name], None))
            for name, status in plain.items()
        )
    except (OSError, UnsafeFileError):
        return False


def sums_in(directory: RunDirectory, path: str) -> dict[str, str | None]:
    """Return the SHA-256 of each file that was put into an archive; None for one that is not there any more as it was.

    Files that are kept with the run are among them.

    Raises
    ------
    UnsafeFileError
        The archive is damaged, or not there any more.
    """
    found: dict[str, str | None] = {}
    with _opened(directory.path, path) as archive:
        sums, kept = _manifest(archive)
        for name, expected in sums.items():
            found[name] = None
            with contextlib.suppress(*_DAMAGED, RuntimeError, NotImplementedError):
                found[name] = expected if _sum_of_member(archive, name) == expected else None
        for name, content in kept.items():
            found[name] = None
            with contextlib.suppress(OSError, UnsafeFileError):
                found[name] = _sum_of(directory.path, content, None)
    return found


@contextlib.contextmanager
def opened_packed(directory: RunDirectory, path: str, name: str) -> Iterator[BinaryIO]:
    """Open a file in an archive, to be read; it is named from the run's directory on.

    Raises
    ------
    FileNotFoundError
        There is no plain file of that name.
    UnsafeFileError
        The archive is damaged.
    """
    with _opened(directory.path, path) as archive:
        kept = _manifest(archive)[1].get(name)
        if kept is not None:
            with open(open_inside(directory.path, kept), "rb") as file:
                yield file
            return
        try:
            info = archive.getinfo(name)
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UnsafeFileError(f"{name} is a link: only plain files are read")
        try:
            with archive.open(info) as member:
                yield member  # type: ignore[misc]
        except _DAMAGED as error:
            raise UnsafeFileError(f"{path}: {name} cannot be read: {error}") from None


def _sum_of(root: Path, name: str, status: os.stat_result | None) -> str:
    if status is not None and stat.S_ISLNK(status.st_mode):
        return hashlib.sha256(os.fsencode(os.readlink(root / name))).hexdigest()
    with open(open_inside(root, name), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(archive: zipfile.ZipFile) -> tuple[dict[str, str], dict[str, str]]:
    try:
        if archive.getinfo(MANIFEST).file_size > _MOST_MANIFEST_BYTES:
            raise UnsafeFileError(f"the {MANIFEST} of the archive is too large")
        said = json.loads(archive.read(MANIFEST))
        sums, kept = said["sha256"], said["kept"]
        if not all(isinstance(one, str) for part in (sums, kept) for pair in part.items() for one in pair):
            raise TypeError("it holds something else than texts")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnsafeFileError(f"the {MANIFEST} of the archive cannot be used: {error}") from error
    return sums, kept


class _Index:
    """An open archive, and where in it each attempt is."""

    def __init__(self, directory: RunDirectory, path: str, key: tuple[object, ...]) -> None:
        self.key = key
        self.root = directory.path
        with contextlib.ExitStack() as stack:
            self.archive = stack.enter_context(_opened(directory.path, path))
            self.sums, kept = _manifest(self.archive)
            self.members: dict[str, list[zipfile.ZipInfo]] = {}
            for info in self.archive.infolist():
                self.members.setdefault(_place_of(info.filename), []).append(info)
            self.kept: dict[str, dict[str, str]] = {}
            for name, content in kept.items():
                self.kept.setdefault(_place_of(name), {})[name] = content
            self.close = stack.pop_all().close


def _place_of(name: str) -> str:
    """Return the directory of the attempt that a member is of."""
    return "/".join(name.split("/")[:3])


class _Unpacked:
    """Attempts that this process has unpacked, in a temporary folder that goes with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._home: Path | None = None
        self._index: _Index | None = None
        self._places: dict[tuple[object, ...], Path] = {}

    def place(self, directory: RunDirectory, path: str, place: str) -> Path:
        """Return where an attempt lies that is in an archive; it is unpacked once."""
        try:
            status = os.lstat(directory.path / path)
        except FileNotFoundError:
            raise UnsafeFileError(f"{path}, into which {place} was put, is not there any more") from None
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            if self._pid != os.getpid():  # a forked child leaves what its parent has, and opens its own
                self._forget()
            if self._home is None:
                self._home = Path(tempfile.mkdtemp(prefix="matterstack-unpacked-"))
                atexit.register(_remove_own, self._home, self._pid)
            known = self._places.get((*key, place))
            if known is not None and known.is_dir():
                return known
            target = self._home / os.urandom(8).hex()
            try:
                _unpack(self._indexed(directory, path, key), place, target)
            except BaseException:
                remove_tree(target)
                raise
            self._places[(*key, place)] = target / place
            return target / place

    def _indexed(self, directory: RunDirectory, path: str, key: tuple[object, ...]) -> _Index:
        """Return an archive with its index; the last one stays open, since one often wants more of it."""
        if self._index is None or self._index.key != key:
            if self._index is not None:
                self._index.close()
            self._index = _Index(directory, path, key)
        return self._index


def _remove_own(home: Path, pid: int) -> None:
    if os.getpid() == pid:
        remove_tree(home)


_UNPACKED = _Unpacked()


def home_of(
    directory: RunDirectory, reader: StoreReader, operator: str, iteration: int, task_id: str, attempt: int
) -> Path:
    """Return the directory of an attempt; of one that was packed, a copy that lives as long as this process.

    Parameters
    ----------
    directory : RunDirectory
    reader : StoreReader
        Knows what was packed.
    operator, iteration, task_id, attempt
        Which attempt.

    Raises
    ------
    UnsafeFileError
        The archive is damaged, or not there any more.
    OSError
        There is no room to unpack it.
    """
    home = directory.attempt(operator, iteration, task_id, attempt)
    if os.path.lexists(home) or (archive := reader.archive_of(iteration, task_id, attempt)) is None:
        return home
    return _UNPACKED.place(directory, archive, f"operators/{operator}/{home.name}")


def _unpack(index: _Index, place: str, target: Path) -> None:
    """Unpack an attempt: folders and files first, links last, so that nothing is written through one."""
    members, kept = index.members.get(place, []), index.kept.get(place, {})
    room = sum(info.file_size for info in members)
    if room > shutil.disk_usage(target.parent).free // 2:
        why = f"no room to unpack {place}, which takes {room} bytes: set TMPDIR to where there is"
        raise OSError(errno.ENOSPC, why, str(target.parent))
    for name in (*kept, *(info.filename.rstrip("/") for info in members)):
        with _safe(name):
            check_relative_path(name, "a file")
    (target / place).mkdir(parents=True)
    links = [info for info in members if stat.S_ISLNK(info.external_attr >> 16)]
    try:
        for info in members:
            if info.is_dir():
                (target / info.filename).mkdir(parents=True, exist_ok=True)
            elif info not in links:
                _write(index.archive, info, target / info.filename, index.sums.get(info.filename))
        for name, content in kept.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with open(open_inside(index.root, content), "rb") as source, open(target / name, "xb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK)
        for info in links:
            os.symlink(os.fsdecode(index.archive.read(info)), target / info.filename)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, FileExistsError) as error:
        raise UnsafeFileError(f"the archive of {place} is damaged: {error}") from error


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, at: Path, expected: str | None) -> None:
    digest = hashlib.sha256()
    at.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, open(at, "xb") as copy:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        set_mode(copy.fileno(), (info.external_attr >> 16) & 0o777 | 0o600)
    if digest.hexdigest() != expected:
        raise UnsafeFileError(f"{info.filename} in the archive does not hold what was put into it")
    seconds = time.mktime((*info.date_time, 0, 0, -1))
    os.utime(at, (seconds, seconds))

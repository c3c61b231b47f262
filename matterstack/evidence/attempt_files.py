"""Files of attempts, wherever they lie: in the directories of these, or in archives."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from matterstack.core.identifiers import check_relative_path
from matterstack.errors import UnsafeFileError, UnsafePathError
from matterstack.files import open_inside, walk_inside
from matterstack.operators.requests.experiment import ExperimentOperator
from matterstack.orchestration.session import Session
from matterstack.storage import archives
from matterstack.storage.rows import AttemptRecord

SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class AttemptFiles:
    """The files of the attempts of a run, to be read and hashed; nothing is unpacked, and no link is followed.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._directory = session.directory
        self._last: tuple[str, dict[str, str | None]] = ("", {})

    def home(self, record: AttemptRecord) -> str:
        """Return where the directory of an attempt is, from that of the run."""
        return f"operators/{record.attempt.operator}/{record.name}"

    def results(self, record: AttemptRecord, name: str) -> str:
        """Return where an attempt leaves a file of this name, from the run's directory on."""
        folder = self._session.results_folder(record.attempt.operator)
        return "/".join(part for part in (self.home(record), folder, name) if part)

    def left(self, record: AttemptRecord) -> list[tuple[str, str, int | None]]:
        """Return name, SHA-256 and size of what an attempt left: outputs, and what an instrument lists with its result.

        Of the latter nobody has told the size.
        """
        known: dict[str, tuple[str, int | None]] = {
            str(name): (str(sha256), size) for name, sha256, size in record.outputs
        }
        if isinstance(self._session.operators.get(record.attempt.operator), ExperimentOperator):
            for name, sha256 in as_object(as_object(record.attempt.data).get("files")).items():
                if isinstance(sha256, str) and SHA256.match(sha256):
                    known.setdefault(name, (sha256, None))
        return [(name, sha256, size) for name, (sha256, size) in known.items()]

    def archive_of(self, record: AttemptRecord) -> str | None:
        """Return the archive that an attempt is in; None where its directory is there, or there is no archive."""
        if record.archive is None or os.path.lexists(self._directory.path / self.home(record)):
            return None
        return record.archive if os.path.lexists(self._directory.path / record.archive) else None

    def is_there(self, record: AttemptRecord) -> bool:
        """Return whether the directory of an attempt is there, or an archive of it."""
        return self.archive_of(record) is not None or os.path.lexists(self._directory.path / self.home(record))

    def sum(self, record: AttemptRecord, path: str) -> str:
        """Return the SHA-256 of what a file of an attempt holds now.

        Parameters
        ----------
        record : AttemptRecord
        path : str
            From the run's directory on.

        Raises
        ------
        FileNotFoundError
            It is not there.
        UnsafeFileError
            It is no plain file, or its archive is damaged.
        """
        archive = self.archive_of(record)
        if archive is None:
            return sum_of(self._directory.path, path)
        try:
            found = self.sums_in(archive)[path]
        except KeyError:
            raise FileNotFoundError(path) from None
        if found is None:
            raise UnsafeFileError(f"{archive} does not hold any more what was put into it")
        return found

    def sums_in(self, archive: str) -> dict[str, str | None]:
        """Return the sums of all files in an archive; it is read once, as long as no other one is asked for.

        Raises
        ------
        UnsafeFileError
            It is damaged, or not there.
        """
        if self._last[0] != archive:
            self._last = (archive, archives.sums_in(self._directory, archive))
        return self._last[1]

    @contextlib.contextmanager
    def opened(self, record: AttemptRecord | None, path: str) -> Iterator[BinaryIO]:
        """Open a file of an attempt, or of the run itself, to be read.

        Raises
        ------
        FileNotFoundError
            It is not there.
        UnsafeFileError
            It is no plain file, or its archive is damaged.
        """
        if record is not None and (archive := self.archive_of(record)) is not None:
            with archives.opened_packed(self._directory, archive, path) as member:
                yield member
        else:
            with open(open_inside(self._directory.path, inside(path)), "rb") as file:
                yield file

    def read(self, record: AttemptRecord, path: str, max_bytes: int) -> bytes:
        """Return what a file of an attempt holds.

        Raises
        ------
        FileNotFoundError
            It is not there.
        UnsafeFileError
            It is larger or no plain file, or its archive is damaged.
        """
        with self.opened(record, path) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise UnsafeFileError(f"{path} holds more than {max_bytes} bytes, which is too much to be read here")
        return content

    def names(self, record: AttemptRecord) -> tuple[list[str], list[str]]:
        """Return the plain files of an attempt, and what is neither that nor a folder, from the run's directory on.

        Raises
        ------
        UnsafeFileError
            Its archive is damaged, or a link leads to its directory.
        """
        home = self.home(record)
        if (archive := self.archive_of(record)) is not None:
            return sorted(path for path in self.sums_in(archive) if path.startswith(f"{home}/")), []
        try:
            found = list(walk_inside(self._directory.path, inside(home)))
        except FileNotFoundError:
            return [], []
        plain = sorted(f"{home}/{path}" for path, status in found if stat.S_ISREG(status.st_mode))
        folders = {f"{home}/{path}" for path, status in found if stat.S_ISDIR(status.st_mode)}
        return plain, sorted({f"{home}/{path}" for path, _ in found} - folders - set(plain))


def as_object(text: Any) -> dict[str, Any]:
    """Return an object, or one as JSON text; a run of somebody else may say anything."""
    try:
        said = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def sum_of(root: os.PathLike[str], path: str) -> str:
    """Return the SHA-256 of a plain file below a directory.

    Raises
    ------
    FileNotFoundError
        It is not there.
    UnsafeFileError
        It is no plain file, or a link leads to it.
    """
    with open(open_inside(os.fspath(root), inside(path)), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(path: str) -> str:
    """Return a path that stays in the directory that it is relative to: the record may be anybody's.

    Raises
    ------
    UnsafeFileError
        It does not.
    """
    try:
        return check_relative_path(path, "the file")
    except UnsafePathError as error:
        raise UnsafeFileError(str(error)) from None

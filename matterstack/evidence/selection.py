"""The selection of files that an export takes along: all that a run needs, and of attempts as much as was asked for."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.attempt_files import Family, taken_names
from matterstack.core.states import LIVE_ATTEMPT
from matterstack.errors import ExportError, UnsafeFileError
from matterstack.evidence.attempt_files import AttemptFiles
from matterstack.evidence.kept_files import kept_of
from matterstack.evidence.left_out import LeftOut, NotTaken
from matterstack.files import walk_inside
from matterstack.orchestration import campaigns
from matterstack.orchestration.session import Session
from matterstack.storage.rows import AttemptRecord

ALL, DECLARED, NONE = "all", "declared", "none"
FILES = (ALL, DECLARED, NONE)
#: What a command or a scheduler prints: nobody has declared it, and anything may be in it.
_PRINTED = frozenset({"stdout.txt", "stderr.txt", "slurm.out", ".matterstack/job.out"})
#: What is under way is needed to go on, whatever was asked for.
_LIVE = frozenset(str(status) for status in LIVE_ATTEMPT)
#: What only the computer that it lies on has a use for.
_LOCAL = frozenset({"__pycache__"})
#: Names of the run's own in the directory of an attempt; what a kit brings home is not among them.
_OURS = taken_names(*Family) - {"output"}


class Taken(NamedTuple):
    """A file that is taken along.

    Attributes
    ----------
    path : str
        From the run's directory on.
    record : AttemptRecord or None
        The attempt that it is of; None for one of the run itself.
    """

    path: str
    record: AttemptRecord | None


def check_files(files: str) -> str:
    """Return which files are asked for.

    Raises
    ------
    ExportError
        There is no such choice.
    """
    if files not in FILES:
        raise ExportError(f"files must be one of {', '.join(map(repr, FILES))}, not {files!r}")
    return files


class Selection:
    """What of a run is taken along.

    Parameters
    ----------
    session : Session
    which : {'all', 'declared', 'none'}

    Attributes
    ----------
    which : str
    taken : list of Taken
    left_out : list of NotTaken
    """

    def __init__(self, session: Session, which: str) -> None:
        self.which = which
        self.taken: list[Taken] = []
        self.left_out: list[NotTaken] = []
        self._session = session
        self._files = AttemptFiles(session)
        records = list(session.reader.records())
        specs = [(iteration, spec) for iteration, _, spec in session.reader.specifications()]
        specs += [(record.attempt.iteration, record.spec) for record in records]
        self._wanted = _wanted(specs)
        self._take_kept(spec for _, spec in specs)
        self._take_campaign()
        for archive in session.reader.archives():
            self._take_archive(archive)
        for record in records:
            self._take_attempt(record)
        self._leave_out_again()

    def _take_kept(self, specs: Iterable[str]) -> None:
        directory = self._session.directory
        named = {f"files/{sha256}" for sha256 in kept_of(directory, specs)}
        for path in _plain(directory.path, "files") if directory.files.is_dir() else ():
            # An archive names what its attempts share with the run, compiled modules too.
            if path in named or self.which == ALL:
                self.taken.append(Taken(path, None))

    def _take_campaign(self) -> None:
        reference = self._session.directory.read_config().get("campaign")
        if not isinstance(reference, str) or not campaigns.is_stored(reference):
            return
        folder = campaigns.folder_of(reference)
        root = self._session.directory.path
        if not (root / folder).is_dir():
            return
        for path in _plain(root, folder):
            if _LOCAL.isdisjoint(path.split("/")):
                self.taken.append(Taken(path, None))

    def _take_archive(self, archive: str) -> None:
        if self.which == ALL and (self._session.directory.path / archive).is_file():
            self.taken.append(Taken(archive, None))
        elif self.which != ALL:
            self.left_out.append(NotTaken(archive, "what is taken of it lies beside it, unpacked"))

    def _take_attempt(self, record: AttemptRecord) -> None:
        home = self._files.home(record)
        is_spared = self.which == NONE and record.attempt.status not in _LIVE
        try:
            names, others = self._files.names(record)
        except (UnsafeFileError, OSError) as error:
            self.left_out.append(NotTaken(f"{home}/", str(error), wanted=not is_spared))
            return
        if not names and not others:
            return
        if is_spared:
            self.left_out.append(NotTaken(f"{home}/", "no files of attempts were asked for"))
            return
        if self.which == ALL and self._files.archive_of(record) is not None:
            return  # it is in its archive
        self.left_out += [NotTaken(path, "it is a link, or no file at all", wanted=True) for path in others]
        for path in names:
            name = path.removeprefix(f"{home}/")
            if not _LOCAL.isdisjoint(name.split("/")):
                continue
            if self.which == ALL or self._is_declared(record, name):
                self.taken.append(Taken(path, record))
            else:
                self.left_out.append(NotTaken(path, "nobody has declared it"))

    def _leave_out_again(self) -> None:
        """Name what is not here since this is an export itself, which has left it out."""
        root = self._session.directory.path
        named = {one.path for one in self.left_out}
        for one in LeftOut(self._session.directory).all():
            if one.path not in named and not os.path.lexists(root / one.path):
                self.left_out.append(one)

    def _is_declared(self, record: AttemptRecord, name: str) -> bool:
        """Return whether a file is named by the plan or the record, or is one that the run makes."""
        folder = self._session.results_folder(record.attempt.operator)
        result = name.removeprefix(f"{folder}/") if folder and name.startswith(f"{folder}/") else name
        if result in _PRINTED or name in _PRINTED:
            return False
        wanted = self._wanted.get((record.attempt.iteration, record.attempt.task_id), set())
        known = {output for output, _, _ in record.outputs} | _declared(record)
        if result in known | wanted or name in known | wanted:
            return True
        return bool({name.split("/")[0].casefold(), result.split("/")[0].casefold()} & _OURS)


def _declared(record: AttemptRecord) -> set[str]:
    """Return what the plan and the record name of an attempt, besides what was hashed."""
    try:
        said: Any = json.loads(record.spec)
        not_hashed: Any = json.loads(record.not_hashed or "{}")
        data: Any = json.loads(record.attempt.data or "{}")
        listed = data.get("files") if isinstance(data, dict) else None  # of an instrument
        names = [*said.get("outputs", ()), *said.get("files", {}), *not_hashed]
        return {str(name) for name in (*names, *(listed if isinstance(listed, dict) else ()))}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return set()


def _wanted(specs: Iterable[tuple[int, str]]) -> dict[tuple[int, str], set[str]]:
    """Return which files of each task others take, or show: by iteration and task_id."""
    found: dict[tuple[int, str], set[str]] = {}
    for iteration, spec in dict.fromkeys(specs):
        try:
            said: Any = json.loads(spec)
            for source in (*said.get("files", {}).values(), *said.get("show", ())):
                if isinstance(source, dict) and "task_id" in source:
                    of = (source.get("iteration", iteration), source["task_id"])
                    found.setdefault(of, set()).add(source["path"])
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            continue
    return found


def _plain(root: Path, folder: str) -> list[str]:
    return sorted(f"{folder}/{path}" for path, one in walk_inside(root, folder) if stat.S_ISREG(one.st_mode))

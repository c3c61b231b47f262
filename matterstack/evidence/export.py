"""An export: a run as a directory or zip file for others, with its evidence beside it; written whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from matterstack.core.identifiers import check_identifier
from matterstack.crash_points import reach
from matterstack.errors import (
    ExportError,
    InvalidIdentifierError,
    InvalidTaskError,
    MatterstackError,
    StoreError,
    StoreUnwritableError,
    UnsafeFileError,
)
from matterstack.evidence.attempt_files import AttemptFiles, inside, sum_of
from matterstack.evidence.crate import CRATE, crate_of
from matterstack.evidence.document import Document
from matterstack.evidence.figures import graph_of, results_of, structures_of, time_of
from matterstack.evidence.left_out import EVIDENCE, NotTaken
from matterstack.evidence.page import page_of
from matterstack.evidence.pictures import pictures_of
from matterstack.evidence.plain_text import markdown_of
from matterstack.evidence.record import as_text, record_of
from matterstack.evidence.report import report_of
from matterstack.evidence.selection import NONE, Selection, Taken, check_files
from matterstack.evidence.staging import remove_left, staged
from matterstack.evidence.sums import SUMS, as_sums
from matterstack.evidence.tables import as_csv, as_parquet, tables_of
from matterstack.files import is_machine_trouble, needing_disk, read_inside, sync_directory, sync_tree
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

#: The time of all that is in a zip file: the first that one can tell.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
#: Two ids of the greatest length are more than a file system takes as one name.
_LONGEST_NAME = 200
_MOST_SOURCE_BYTES = 1_000_000
_STATE, _CONFIG, SCHEMA = "state.sqlite", "config.json", "evidence.schema.json"
#: What config.json says of the machine that the run was made on, which is nobody's business elsewhere.
_OF_THIS_MACHINE = frozenset({"environment", "cache"})


def export(session: Session, path: str | os.PathLike[str] | None, *, as_zip: bool, files: str) -> Path:
    """Write a run for others; see `Run.export`.

    Raises
    ------
    ExportError
        Something is there already, or what is asked for makes no sense.
    DiskError
        There is no room for it.
    """
    check_files(files)
    target = _target(session, path, as_zip)
    what, way_out = f"{target} cannot be written", "and export again; nothing was written"
    with needing_disk(what, way_out), staged(target) as staging:
        made = staging / "export"
        made.mkdir()
        with _making_sense(session.directory.state, made / _STATE):
            Export(session, made, files).write()
        reach("export.filled")
        if as_zip:
            made = _zipped(made, staging / "export.zip", _name(session))
        else:
            sync_tree(made)
        reach("export.whole")
        (_name_file if as_zip else _name_directory)(made, target)
        reach("export.named")
        sync_directory(target.parent)
    return target


@contextlib.contextmanager
def _making_sense(state: Path, copy: Path) -> Iterator[None]:
    """Refuse a database of which something cannot be shown, such as a time that is a word."""
    try:
        yield
    except StoreUnwritableError as error:
        raise OSError(errno.ENOSPC, "there is no room for a copy of the database") from error
    except StoreError as error:  # which names the copy, and that will be gone
        raise type(error)(str(error).replace(str(copy), str(state)), path=state) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, MatterstackError):
            raise
        raise ExportError(
            f"{state} says something that makes no sense ({type(error).__name__}: {error}): matterstack check tells "
            "where it contradicts itself; nothing was written"
        ) from error


def _target(session: Session, path: str | os.PathLike[str] | None, as_zip: bool) -> Path:
    if path is None:
        path = f"{_name(session)}{'.zip' if as_zip else ''}"
    elif not as_zip and os.fspath(path).lower().endswith(".zip"):
        raise ExportError(f"{path} would be a directory: a zip file is asked for by zip=True, or --zip; or rename it")
    target = Path(path).absolute()
    if "\0" in str(target):
        raise ExportError(f"{str(path)!r} is no name of a file: name another path")
    remove_left(target)
    if os.path.lexists(target):
        raise ExportError(f"there is something at {target} already, which is left as it is: name another path")
    if not target.parent.is_dir():
        raise ExportError(f"there is no directory {target.parent} to write {target.name} into: make it first")
    if target.parent.resolve().is_relative_to(session.directory.path.resolve()):
        raise ExportError(f"{target} is in the directory of the run itself: name a path outside of it")
    return target


def _name(session: Session) -> str:
    """Return what an export is called, unless somebody calls it otherwise: by the run, never by who exports it."""
    run = session.reader.run()
    try:
        name = f"{check_identifier(run.workspace, 'workspace name')}-{check_identifier(run.run_id, 'run_id')}"
    except InvalidIdentifierError as error:
        raise ExportError(f"{session.directory.state} says of its run: {error}; nothing was written") from None
    return name[:_LONGEST_NAME]


def _name_directory(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError as error:
        if not os.path.lexists(target):
            raise
        raise ExportError(f"somebody else made {target} meanwhile; it was left as it is") from error


def _name_file(made: Path, target: Path) -> None:
    """Give a file its name unless that is taken meanwhile."""
    try:
        os.link(made, target)
    except FileExistsError as error:
        raise ExportError(f"somebody else made {target} meanwhile; it was left as it is") from error
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise
        made.rename(target)


def _zipped(folder: Path, target: Path, name: str) -> Path:
    """Write a folder as a zip file, in which all lies below one name; it is the same for the same content."""
    with open(target, "xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(one for one in folder.rglob("*") if one.is_file()):
                info = zipfile.ZipInfo(f"{name}/{path.relative_to(folder).as_posix()}", _ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system = 3  # Unix: the mode is in the upper half
                info.external_attr = (stat.S_IFREG | _mode(path.stat().st_mode)) << 16
                info.file_size = path.stat().st_size
                with open(path, "rb") as source, archive.open(info, "w") as member:
                    shutil.copyfileobj(source, member, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    return target


def _mode(mode: int) -> int:
    """Return the mode that a file has in an export: who may run it is kept, the umask of before is not."""
    return 0o755 if mode & 0o100 else 0o644


class Export:
    """What is written into an empty directory.

    Parameters
    ----------
    session : Session
        Of the run; nothing of it is changed, and its lock is not taken.
    home : pathlib.Path
    files : {'all', 'declared', 'none'}
    """

    def __init__(self, session: Session, home: Path, files: str) -> None:
        self._home = home
        self._which = files
        # All is read from a copy of the database: it is of one moment, however long this takes.
        session.reader.copy_to(home / _STATE)
        os.chmod(home / _STATE, 0o644)
        self._reader = StoreReader(home / _STATE)
        self._session = Session(session.directory, self._reader, session.operators, session.settings, session.campaign)
        self._written: list[dict[str, Any]] = []

    def write(self) -> None:
        """Write all of it."""
        try:
            selection = Selection(self._session, self._which)
            left_out = [*selection.left_out, *self._copy(selection.taken)]
            self._put(_CONFIG, _config(self._session.directory))
            (self._home / "operators").mkdir(exist_ok=True)
            record = record_of(self._session)
            record["files"] = {
                "which": self._which,
                "included": sorted(self._written, key=lambda one: str(one["path"])),
                "left_out": [one._asdict() for one in left_out],
            }
            self._put(EVIDENCE, as_text(record))
            self._put(SCHEMA, Path(__file__).with_name(SCHEMA).read_bytes())
            document = self._report(record)
            self._put("report.html", page_of(document))
            self._put("report.md", markdown_of(document))
            for name, frame in tables_of(self._reader, record).items():
                self._put(f"tables/{name}.csv", as_csv(frame))
                if (content := as_parquet(frame)) is not None:
                    self._put(f"tables/{name}.parquet", content)
            sums = {str(one["path"]): str(one["sha256"]) for one in self._written}
            own = self._own()
            sums |= {name: sha256 for name, (sha256, _) in own.items()}
            if (crate := crate_of(record, own)) is not None:
                self._put(CRATE, crate)
                sums[CRATE] = hashlib.sha256(crate).hexdigest()
            self._put(SUMS, as_sums(sums))
        finally:
            self._reader.close()

    def _own(self) -> dict[str, tuple[str, int]]:
        """Return the files that are not the run's: SHA-256 and size by path."""
        copied = {one["path"] for one in self._written}
        paths = sorted(path for path in self._home.rglob("*") if path.is_file())
        names = [name for path in paths if (name := path.relative_to(self._home).as_posix()) not in copied]
        return {name: (sum_of(self._home, name), (self._home / name).stat().st_size) for name in names}

    def _report(self, record: dict[str, Any]) -> Document:
        moved = self._reader.events_after(0, 1)
        figures = {
            "graph": graph_of(self._reader),
            "results": results_of(self._reader, record["asked"]["target"]),
            "time": time_of(self._reader, moved[-1].at if moved else 0.0),
        }
        files, records = AttemptFiles(self._session), list(self._reader.records())
        # A picture is a file: who asked for none gets none on the page either.
        pictures = pictures_of(files, () if self._which == NONE else records)
        return report_of(record, figures, structures_of(files, records), pictures, dict(self._sources(record)))

    def _sources(self, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the source of the campaign, and of each function, as it is in the export."""
        if source := record["asked"]["campaign"].get("source"):
            with contextlib.suppress(OSError, UnsafeFileError):
                yield (
                    f"The campaign, {source}",
                    read_inside(self._home, source, _MOST_SOURCE_BYTES).decode(errors="replace"),
                )
        programs = {task["program"]: task["function"] for task in record["tasks"] if "program" in task}
        for program, function in programs.items():
            with contextlib.suppress(
                OSError, UnsafeFileError, InvalidTaskError, ValueError, LookupError, AttributeError
            ):
                yield f"The function {function}", self._session.program(program.removeprefix("files/")).text

    def _put(self, name: str, content: bytes) -> None:
        target = self._home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            file.write(content)
        os.chmod(target, 0o644)

    def _copy(self, taken: list[Taken]) -> Iterator[NotTaken]:
        """Copy files, and yield those that cannot be copied."""
        files = AttemptFiles(self._session)
        for one in taken:
            try:
                with files.opened(one.record, one.path) as source:
                    self._copy_one(one.path, source)
            except FileNotFoundError:
                yield NotTaken(one.path, "it was removed meanwhile")
            except UnsafeFileError as error:
                yield NotTaken(one.path, str(error), wanted=True)
            except OSError as error:
                if is_machine_trouble(error):
                    raise
                yield NotTaken(one.path, f"it cannot be copied: {error.strerror}", wanted=True)

    def _copy_one(self, path: str, source: BinaryIO) -> None:
        target = self._home / inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with open(target, "xb") as copy:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += copy.write(chunk)
        mode = os.fstat(source.fileno()).st_mode if hasattr(source, "raw") else 0
        os.chmod(target, _mode(mode))
        self._written.append({"path": path, "sha256": digest.hexdigest(), "bytes": size})


def _config(directory: RunDirectory) -> bytes:
    """Return the config.json of an export: that of the run, without what only its machine has a use for."""
    config = {name: value for name, value in directory.read_config().items() if name not in _OF_THIS_MACHINE}
    return json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n"

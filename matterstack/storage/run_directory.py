"""The directory of a run: its layout, how it comes to be, and how attempts get theirs."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from matterstack import interrupts, platforms
from matterstack.core.attempt_files import MACHINERY, Family, taken_names
from matterstack.core.identifiers import check_identifier
from matterstack.core.strict_json import parse_json
from matterstack.core.text import did_you_mean
from matterstack.crash_points import reach
from matterstack.errors import (
    InvalidConfigError,
    InvalidJsonError,
    InvalidTaskError,
    LockError,
    PlatformError,
    RunExistsError,
    RunLockedError,
    RunNotFoundError,
    StoreError,
    UnsafeFileError,
)
from matterstack.files import (
    copy_inside,
    lstat,
    make_directories,
    read_inside,
    remove_tree,
    set_mode,
    sync_directory,
    write_whole,
)
from matterstack.storage import database
from matterstack.storage.run_lock import RunLock, check_exclusion

_CONFIG_BYTES = 10_000_000
_MOST_STAGINGS = 10
#: Names that are looked at to say where there is a run, in place of one that is not there.
_MOST_NEAR = 1000
#: SQLite takes 512 bytes (MAX_PATHNAME of its os_unix.c), and its files lie deeper, below a longer name at first.
_LONGEST_PATH = 440
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _nearest(path: Path) -> str:
    """Return where there is a run around a path that is none, to go on the sentence that says so."""
    around = itertools.chain([path.parent], path.glob("runs/[!.]*"), path.glob("[!.]*"))
    with contextlib.suppress(OSError, ValueError):  # what cannot be looked at, or is no path
        for near in itertools.islice(around, _MOST_NEAR):
            if (near / "state.sqlite").is_file():
                return f", but there is one in {near}"
        if not path.exists():
            names = [one.name for one in itertools.islice(path.parent.iterdir(), _MOST_NEAR)]
            return did_you_mean(path.name, names)
    return ""


class RunDirectory:
    """The paths of one run.

    Parameters
    ----------
    path : pathlib.Path
        The run's directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state.sqlite"
        self.lock = path / "run.lock"
        self.config = path / "config.json"
        self.files = path / "files"
        self._operators: dict[str, Path] = {}

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Return the directory of an existing run.

        Raises
        ------
        RunNotFoundError
            There is no ``state.sqlite`` in it.
        """
        directory = cls(Path(path).absolute())
        if not directory.can_be_asked:
            raise RunNotFoundError(
                f"no run at {directory.path}: there is no state.sqlite in it{_nearest(directory.path)}. A run's "
                "directory is <base_path>/workspaces/<workspace>/runs/<run_id>",
                path=directory.path,
            )
        return directory

    @property
    def workspace(self) -> Path | None:
        """The directory of the workspace that it is in; None where it was brought elsewhere."""
        runs = self.path.parent
        return runs.parent if runs.name == "runs" and runs.parent.parent.name == "workspaces" else None

    @property
    def may_be_run(self) -> bool:
        """Whether there is a run, or nobody can tell, as where its maker keeps it from others."""
        try:
            return stat.S_ISREG(os.stat(self.state).st_mode)
        except OSError as error:
            return error.errno not in _NOTHING_THERE

    @property
    def can_be_asked(self) -> bool:
        """Whether to open it says more than that there is no run."""
        return self.may_be_run or self.state.exists()

    def identity(self) -> tuple[int, int] | None:
        """Return device and inode of the directory, which it keeps when it is renamed; None where there is none."""
        return _identity(self.path)

    def moved(self, identity: tuple[int, int] | None) -> RunNotFoundError:
        """Return the error of a directory that is not at its path any more, with where it is now if that is known."""
        # A database that is open knows its name of today.
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                now = Path(os.readlink(f"/proc/self/fd/{name}"))
                if identity is not None and now.name == self.state.name and _identity(now.parent) == identity:
                    return RunNotFoundError(
                        f"the run that was opened at {self.path} was moved to {now.parent}: nothing was done. "
                        f"Go on with open_run({str(now.parent)!r})",
                        path=self.path,
                    )
        there = "; another directory is in its place, and nothing was done to that" if self.path.exists() else ""
        return RunNotFoundError(
            f"the run that was opened at {self.path} is not there any more: it was moved or removed{there}. "
            "Open the one you mean with open_run",
            path=self.path,
        )

    def check_folders(self, operators: Iterable[str]) -> None:
        """Raise unless the folders of operators, where they are, are folders and no links to somewhere else.

        Raises
        ------
        UnsafeFileError
            Naming the culprit.
        """
        for name in ("operators", *(f"operators/{operator}" for operator in operators)):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(lstat(f"{self.path}/{name}").st_mode):
                    raise UnsafeFileError(f"{self.path}/{name} is no folder of the run's own: nothing was done there")

    def operator(self, name: str) -> Path:
        """Return where an operator's attempts are."""
        if name not in self._operators:  # asked several times a tick
            self._operators[name] = self.path / "operators" / name
        return self._operators[name]

    def attempt(self, operator: str, iteration: int, task_id: str, attempt: int) -> Path:
        """Return the directory of one attempt."""
        return self.operator(operator) / f"{iteration}.{task_id}.{attempt}"

    def read_config(self) -> dict[str, Any]:
        """Return config.json.

        Raises
        ------
        InvalidConfigError
            It is missing, or not a JSON object.
        """
        try:
            config = parse_json(read_inside(self.path, "config.json", _CONFIG_BYTES), max_bytes=_CONFIG_BYTES)
        except (OSError, UnsafeFileError, InvalidJsonError) as error:
            raise InvalidConfigError(f"{self.config} cannot be used: {error}") from error
        if not isinstance(config, dict):
            raise InvalidConfigError(f"{self.config} must hold a JSON object")
        return config

    def config_stamp(self) -> tuple[int, ...]:
        """Return what tells whether config.json was written anew.

        Raises
        ------
        InvalidConfigError
            It is not there.
        """
        try:
            status = os.lstat(self.config)
        except FileNotFoundError as error:
            raise InvalidConfigError(f"{self.config} cannot be used: {error}") from error
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json anew: a reader sees the old or the new one."""
        write_whole(self.config, json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n")

    def take_file(self, source: PurePath) -> str:
        """Copy a file from outside into the run, under the SHA-256 of its content, which is returned.

        Raises
        ------
        InvalidTaskError
            It cannot be read, or is not a regular file.
        """
        with open_outside(source) as original:
            return self.take(original, os.fstat(original.fileno()).st_mode & 0o755 | 0o400)

    def keep(self, content: bytes) -> str:
        """Keep a content that many tasks may share, once, under its SHA-256, which is returned."""
        import hashlib

        sha256 = hashlib.sha256(content).hexdigest()
        if not os.path.lexists(self.files / sha256):
            self.take(io.BytesIO(content))
        return sha256

    def take(self, content: BinaryIO, mode: int = 0o644) -> str:
        """Keep what can be read here in the run, under its SHA-256, which is returned; it is on disk then."""
        import hashlib

        self.files.mkdir(exist_ok=True)
        partial = self.files / f".{os.urandom(8).hex()}.partial"
        digest = hashlib.sha256()
        try:
            with open(partial, "xb") as copy:
                while chunk := content.read(1 << 20):
                    digest.update(chunk)
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
                set_mode(copy.fileno(), mode)
            reach("files.copied")
            partial.replace(self.files / digest.hexdigest())
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(self.files)
        return digest.hexdigest()

    def read_stored(self, sha256: str, max_bytes: int) -> bytes:
        """Return the content of a file of the run.

        Raises
        ------
        FileNotFoundError
            It is not there any more.
        UnsafeFileError
            It is larger, or does not hold what it was named after.
        """
        import hashlib

        if not _SHA256.match(sha256):
            raise InvalidTaskError(f"{sha256!r} is not a SHA-256 digest")
        content = read_inside(self.path, f"files/{sha256}", max_bytes)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UnsafeFileError(f"files/{sha256[:12]}... does not hold what it was named after: it was changed")
        return content

    def place_stored(self, sha256: str, target: Path) -> None:
        """Copy a file of the run to where an attempt wants it."""
        if not _SHA256.match(sha256):
            raise InvalidTaskError(f"{sha256!r} is not a SHA-256 digest")
        import hashlib

        copy_inside(self.path, f"files/{sha256}", target)
        with open(target, "rb") as copy:
            if hashlib.file_digest(copy, "sha256").hexdigest() != sha256:
                target.unlink()
                raise UnsafeFileError(f"files/{sha256[:12]}... does not hold what it was named after: it was changed")

    def sync_attempts(self, operator: str) -> None:
        """Bring the names of an operator's attempts to disk, before anybody outside hears of them."""
        sync_directory(self.operator(operator))

    def sweep_attempts(self, operator: str) -> None:
        """Remove what is left of attempts that a killed process was making: only whoever has the lock makes any."""
        for left in (self.path / "operators" / operator).glob(".*.new"):
            remove_tree(left)

    def build_attempt(
        self, operator: str, name: str, token: str, populate: Callable[[str], None], *, may_exist: bool
    ) -> None:
        """Make an attempt's directory appear whole, by one rename; one of our own that is there is kept.

        Parameters
        ----------
        operator, name : str
            Where it shall be.
        token : str
            Of the attempt.
        populate : callable
            Fills a directory under a temporary name.
        may_exist : bool
            Whether an interrupted submission may have made it already.

        Raises
        ------
        UnsafeFileError
            Something else is there; it is left.
        """
        # Plain strings: this is done for every attempt, and Path objects cost more than the system calls.
        parent = f"{self.path}/operators/{operator}"
        final = f"{parent}/{name}"
        partial = f"{parent}/.{token}.{os.getpid()}.new"
        try:
            os.mkdir(partial)
        except FileNotFoundError:
            make_directories(Path(parent), self.path)
            os.mkdir(partial)
        except FileExistsError:
            remove_tree(partial)
            os.mkdir(partial)
        try:
            reach("attempt.made")
            populate(partial)
            reach("attempt.filled")
            if may_exist and os.path.lexists(final):
                if _is_as_made(partial, final):
                    remove_tree(partial)
                    return
                if _is_torn(partial, final):
                    remove_tree(final)
            os.rename(partial, final)
            reach("attempt.renamed")
        except BaseException as error:
            remove_tree(partial)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise UnsafeFileError(
                    f"operators/{operator}/{name} was there already, and is not as this run makes it: it is not used"
                ) from None
            raise


@contextlib.contextmanager
def open_outside(source: PurePath) -> Iterator[BinaryIO]:
    """Open a file from outside, to be taken into a run.

    Raises
    ------
    InvalidTaskError
        It cannot be read, or is not a regular file.
    """
    path = Path(source)
    try:
        if not path.is_file():
            raise InvalidTaskError(f"the file {path} is not there, or is not a plain file")
        with open(path, "rb") as original:
            yield original
    except OSError as error:
        raise InvalidTaskError(f"the file {path} cannot be taken into the run: {error}") from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be looked at now: {error.strerror}; nothing was changed. Try again") from error
    return (status.st_dev, status.st_ino)


def _names(root: str) -> dict[str, bool]:
    """Return all that is below a folder, and of each whether it is a plain file."""
    return {
        Path(path).relative_to(root).as_posix(): os.path.isfile(path) and not os.path.islink(path)
        for folder, folders, files in os.walk(root)
        for path in (os.path.join(folder, name) for name in (*folders, *files))
    }


def _is_torn(made: str, found: str) -> bool:
    """Return whether a directory is what a power failure left of one that was made so, and holds nothing else.

    Names may lack, files may be short, and zeros may stand where a file was not written yet.
    """
    there, here = _names(made), _names(found)
    if os.path.islink(found) or any(there.get(name) is not is_file for name, is_file in here.items()):
        return False
    return all(_is_begun(f"{made}/{name}", f"{found}/{name}") for name, is_file in here.items() if is_file)


def _is_begun(made: str, found: str) -> bool:
    with open(made, "rb") as whole, open(found, "rb") as part:
        while chunk := part.read(1 << 20):
            expected = whole.read(1 << 20)
            if chunk != expected[: len(chunk)] and any(
                byte and byte != other for byte, other in zip(chunk, expected.ljust(len(chunk), b"\0"), strict=False)
            ):
                return False
    return True


def _is_as_made(made: str, found: str) -> bool:
    """Return whether a directory that was found can be used instead of one that was made.

    It can where all that was made is in it, unchanged, and beside that only machinery: an interrupted submission
    had come further. And where its job has claimed it: then no job will begin in it again, and this one is asked.
    """
    import filecmp

    if any(os.path.islink(place) for place in (found, f"{found}/{MACHINERY}", f"{found}/{MACHINERY}/claim")):
        return False
    if os.path.isdir(f"{found}/{MACHINERY}/claim"):
        return True

    there, here = _names(made), _names(found)
    if any(here.get(name) is not is_file for name, is_file in there.items()):
        return False
    ours = taken_names(Family.JOB)
    if any(name.split("/")[0] not in ours or os.path.islink(f"{found}/{name}") for name in here.keys() - there.keys()):
        return False
    files = [name for name, is_file in there.items() if is_file]
    return all(filecmp.cmp(os.path.join(made, name), os.path.join(found, name), shallow=False) for name in files)


def runs_root(base_path: str | os.PathLike[str], workspace: str) -> Path:
    """Return where the runs of a workspace are."""
    check_identifier(workspace, "workspace name")
    return Path(base_path).absolute() / "workspaces" / workspace / "runs"


def list_runs(base_path: str | os.PathLike[str], workspace: str) -> list[RunDirectory]:
    """Return the runs of a workspace, by name; also those that this user may not look into.

    Raises
    ------
    RunNotFoundError
        There is no such workspace; saying where it was looked for.
    StoreError
        Its directory is not open to this user, or on a disk that fails.
    """
    root = runs_root(base_path, workspace)
    there = root.parent.parent
    names: list[Path] | None = None
    known: list[str] = []
    with database.errors(root):
        if root.is_dir():
            names = sorted(root.iterdir())
        elif there.is_dir():
            known = sorted(path.name for path in there.iterdir())
    if names is None:
        raise RunNotFoundError(
            f"there is no workspace {workspace!r} in {there.absolute()}{did_you_mean(workspace, known)}; base_path= "
            "says where workspaces/ is",
            path=root,
        )
    found = [RunDirectory(path) for path in names if not path.name.startswith(".")]
    return [directory for directory in found if directory.may_be_run]


def _check_umask() -> None:
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    if mask & 0o700:
        raise InvalidConfigError(
            f"the umask is {mask:03o}, so you could not use the files that are made for you: "
            "set another, 022 or 027 say (os.umask(0o027)); nothing was made"
        )


@contextlib.contextmanager
def new_run_directory(
    base_path: str | os.PathLike[str], workspace: str, run_id: str, config: Mapping[str, Any]
) -> Iterator[RunDirectory]:
    """Make a run's directory: all of it appears, by one rename, when the block ends well.

    Parameters
    ----------
    base_path : path-like
        Where ``workspaces/`` is.
    workspace, run_id : str
        Names of the run.
    config : mapping
        What config.json shall hold.

    Yields
    ------
    RunDirectory
        Under a temporary name; its lock is held.

    Raises
    ------
    RunExistsError
        The run id is taken.
    LockUnsupportedError
        The file system does not lock.
    PlatformError
        This operating system cannot begin runs.
    InvalidConfigError
        The umask takes from this user what it makes, or the path is too long.
    """
    if why := platforms.why_not(platforms.BEGIN):  # a folder whose lock is held cannot get its name there
        raise PlatformError(why)
    _check_umask()
    root = runs_root(base_path, workspace)
    final = root / check_identifier(run_id, "run id")
    taken = RunExistsError(f"there is a run at {final} already: open it with open_run, or choose another run_id")
    if os.path.lexists(final):
        raise taken
    if len(os.fsencode(final.absolute())) > _LONGEST_PATH:
        raise InvalidConfigError(
            f"{final} has a path of more than {_LONGEST_PATH} bytes, which SQLite does not open: choose another "
            "base_path"
        )
    with interrupts.held():
        there = next(folder for folder in (Path(base_path).absolute(), *root.parents) if folder.is_dir())
        make_directories(root, there)
        _sweep(root)
        directory, lock = _stage(root, run_id)
        made = directory.path
        try:
            check_exclusion(directory.lock)
            directory.write_config(config)
            directory.operator("").mkdir()
            reach("initialize.configured")
            yield directory
            reach("initialize.filled")
            sync_directory(directory.path)
            with interrupts.heard():
                pass  # the last moment for a Stop: afterwards there is a run
            try:
                directory.path.rename(final)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise taken from None
                raise
            made = final
            reach("initialize.renamed")
            sync_directory(root)
        except BaseException:
            remove_tree(made)
            raise
        finally:
            lock.release()


def _stage(root: Path, run_id: str) -> tuple[RunDirectory, RunLock]:
    """Make a directory under a hidden name; return it with its lock held."""
    for _ in range(_MOST_STAGINGS):
        directory = RunDirectory(root / f".{run_id[:64]}.{os.urandom(8).hex()}.new")
        directory.path.mkdir()
        reach("initialize.staged")
        lock = RunLock(directory.lock)
        try:
            lock.acquire()
        except (RunLockedError, FileNotFoundError):
            continue  # somebody who sweeps took it for a leftover before it was locked
        except BaseException:
            remove_tree(directory.path)
            raise
        return directory, lock
    raise LockError(f"each directory that was made in {root} was removed by somebody else; nothing was made")


def _sweep(root: Path) -> None:
    """Remove what initializations that were killed left: hidden directories whose lock is free.

    One that has no lock yet is locked here, and whoever was just making it makes another.
    """
    for path in root.glob(".*.new"):
        with contextlib.suppress(LockError, OSError), RunLock(path / "run.lock"):
            gone = path.with_name(f".{os.urandom(8).hex()}.new")  # at once: nobody can come into it any more
            path.rename(gone)
            remove_tree(gone)

"""Files that others may have touched: read without following links, written whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from matterstack import interrupts
from matterstack.errors import DiskError, MatterstackError, UnsafeFileError

if sys.platform == "win32":
    from matterstack import windows as system
else:
    system = os

#: What the machine or its disk lacks for the moment, whichever file it was asked for.
_MACHINE_TROUBLE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
        errno.ENOLCK,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENODEV,
        errno.ETIMEDOUT,
        errno.ENOTCONN,  # the process behind a FUSE file system has gone
        errno.EHOSTDOWN,
        getattr(errno, "EREMOTEIO", errno.EIO),  # not on macOS
    }
)
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_RENAME_NOREPLACE = 1  # rename(2)
_AT_FDCWD = -100
_STATX_BTIME = 0x800
_SHARING = frozenset({32, 33})  # of Windows: another program has it open, or a part of it locked
#: Folders below each other that are held open at once.
_MOST_OPEN = 64
_READ = os.O_RDONLY | system.O_NOFOLLOW | system.O_NONBLOCK | system.O_CLOEXEC


def is_machine_trouble(error: OSError) -> bool:
    """Return whether an error is the machine's or its disk's, and no fault of the file: to be tried again later."""
    return error.errno in _MACHINE_TROUBLE or getattr(error, "winerror", None) in _SHARING


@contextlib.contextmanager
def needing_disk(what: str, way_out: str) -> Iterator[None]:
    """Turn an error of the disk in the block into one of our tree.

    Parameters
    ----------
    what : str
        What cannot be done, and where.
    way_out : str
        What to do about it, beside looking after the disk.

    Raises
    ------
    DiskError
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, MatterstackError):
            raise
        raise DiskError(f"{what}: {error.strerror}. Check the disk, its room and permissions, {way_out}") from error


def open_inside(root: Path | str, relative: str) -> int:
    """Open a regular file below `root`, following no link on the way, and never blocking.

    Parameters
    ----------
    root : pathlib.Path
        A directory we trust.
    relative : str
        A path below it, as `check_relative_path` accepts.

    Returns
    -------
    int
        A descriptor open for reading; the caller closes it.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    UnsafeFileError
        A link on the way, or something that is not a regular file.
    """
    parts = relative.split("/")
    if len(parts) == 1:
        return _checked(relative, None, f"{root}/{relative}")
    descriptor = _folder(root, relative, parts[:-1])
    try:
        return _checked(relative, descriptor, parts[-1])
    finally:
        os.close(descriptor)


def _folder(root: Path | str, relative: str, parts: Sequence[str], *, make: bool = False) -> int:
    """Open the folder that lies so many parts of a path below `root`; with `make`, durably make what is missing."""
    descriptor = system.open(root, os.O_RDONLY | system.O_DIRECTORY | system.O_CLOEXEC)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    system.mkdir(part, dir_fd=descriptor)
                    system.fsync(descriptor)
            inner = system.open(part, _READ | system.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except OSError as error:
        os.close(descriptor)
        raise _named(relative, error) from None
    return descriptor


@interrupts.held()
def list_inside(root: Path | str, relative: str) -> list[tuple[str, int | None]]:
    """Return what lies in a folder below `root`, following no link on the way, by name.

    Parameters
    ----------
    root : pathlib.Path
        A directory we trust.
    relative : str
        A folder below it.

    Returns
    -------
    list of tuple
        A name, and the size of the file in bytes; None where it is no plain file.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    UnsafeFileError
        A link on the way, or no folder.
    """
    with opened_inside(root, relative) as descriptor:
        found = _statuses(descriptor, system.listdir(descriptor))
    return sorted((name, status.st_size if stat.S_ISREG(status.st_mode) else None) for name, status in found)


def _named(relative: str, error: OSError) -> Exception:
    if error.errno == errno.EINVAL:
        return UnsafeFileError(f"{relative} has a name that this file system cannot give to a file")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return UnsafeFileError(f"{relative} is a link, a socket or below one: only plain files are read")
    return error


def _checked(relative: str, directory: int | None, name: str) -> int:
    """Open the last part of a path, and check that it is a regular file."""
    try:
        found = system.open(name, _READ, dir_fd=directory)
    except OSError as error:
        raise _named(relative, error) from None
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise UnsafeFileError(f"{relative} is not a plain file")
    return found


@interrupts.held()
def read_inside(root: Path | str, relative: str, max_bytes: int) -> bytes:
    """Read a whole file below `root` from one descriptor.

    Parameters
    ----------
    root : pathlib.Path
        A directory we trust.
    relative : str
        A path below it.
    max_bytes : int
        A larger file is refused, unread.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    UnsafeFileError
        A link, not a regular file, or larger than `max_bytes`.
    """
    with open(open_inside(root, relative), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= max_bytes:
            content = file.read(max_bytes + 1)
            size = len(content)  # it may have grown since
    if size > max_bytes:
        raise UnsafeFileError(f"{relative} holds {size} bytes; {max_bytes} at most are read")
    return content


@interrupts.held()
def read_tail(root: Path, relative: str, max_bytes: int) -> str:
    """Return the end of a text file below `root`; empty where it cannot be read."""
    try:
        with open(open_inside(root, relative), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - max_bytes))
            return file.read(max_bytes).decode(errors="replace")
    except (OSError, UnsafeFileError):
        return ""


def copy_inside(root: Path, relative: str, target: Path) -> None:
    """Copy a file below `root`, with its permission bits, to a new file.

    Raises
    ------
    FileNotFoundError
        There is nothing to copy.
    UnsafeFileError
        A link, or not a regular file.
    """
    with interrupts.held(), open(open_inside(root, relative), "rb") as source, open(target, "xb") as copy:
        with interrupts.heard():
            while chunk := source.read(1 << 20):
                copy.write(chunk)
        system.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(source.fileno()).st_mode) & 0o777 | 0o200)


@interrupts.held()
def link_inside(root: Path, relative: str, target: str | Path) -> None:
    """Have a file below `root` at a new place too: by a hard link, or by a copy where the file system makes none.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnsafeFileError
        A link on the way, or not a regular file.
    """
    *folders, name = relative.split("/")
    folder = _folder(root, relative, folders)
    try:
        if not stat.S_ISREG(system.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise UnsafeFileError(f"{relative} is not a plain file")
        try:
            system.link(name, target, src_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV, errno.ENOTSUP):
                raise
            copy_inside(root, relative, Path(target))
    finally:
        os.close(folder)


@interrupts.held()
def write_new(path: str, content: bytes) -> None:
    """Write a file that must not be there yet, into a directory that nobody else sees yet."""
    descriptor = system.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | system.O_NOFOLLOW | system.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


@interrupts.held()
def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, also after a power failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            system.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_directory(path.parent)


@interrupts.held()
def write_inside(root: Path | str, relative: str, content: bytes, *, new: bool = False) -> None:
    """Write a file below `root` whole, durably, following no link on the way.

    Parameters
    ----------
    root : pathlib.Path
        A directory that others may write into.
    relative : str
        A path below it; missing directories are made.
    content : bytes
        Of the file; a reader sees the old or the new content.
    new : bool
        Whether the file must not be there yet: of several writers at once one succeeds.

    Raises
    ------
    FileExistsError
        `new`, and it is there.
    UnsafeFileError
        A link on the way.
    """
    *folders, name = relative.split("/")
    directory = _folder(root, relative, folders, make=True)
    try:
        partial = f".{name[:100]}.{os.urandom(6).hex()}.partial"
        file = system.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | system.O_CLOEXEC, 0o666, dir_fd=directory)
        try:
            with open(file, "wb") as whole:
                whole.write(content)
                whole.flush()
                system.fsync(whole.fileno())
            if new:
                _name_new(partial, name, directory)
            else:
                system.rename(partial, name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            with contextlib.suppress(FileNotFoundError):
                system.unlink(partial, dir_fd=directory)
        system.fsync(directory)
    except FileExistsError:
        raise
    except OSError as error:
        raise _named(relative, error) from None
    finally:
        os.close(directory)


def _name_new(partial: str, name: str, directory: int) -> None:
    """Give a file a name that is not taken: by a hard link, or where there are none by a rename that replaces none."""
    try:
        system.link(partial, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_new(partial, name, directory, error)


def _rename_new(partial: str, name: str, directory: int, refused: OSError) -> None:
    import ctypes

    with contextlib.suppress(FileNotFoundError):  # some file systems replace all the same
        system.stat(name, dir_fd=directory, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise refused from None
    if rename(directory, os.fsencode(partial), directory, os.fsencode(name), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS):
            raise refused from None
        raise OSError(number, os.strerror(number), name)


def read_part(descriptor: int, count: int, offset: int) -> bytes:
    """Return bytes of an open file from a place on, as `os.pread` does."""
    return system.pread(descriptor, count, offset)


def write_part(descriptor: int, content: bytes, offset: int) -> None:
    """Write bytes into an open file from a place on, as `os.pwrite` does."""
    system.pwrite(descriptor, content, offset)


def set_mode(descriptor: int, mode: int) -> None:
    """Set the permission bits of an open file, where there are any."""
    system.fchmod(descriptor, mode)


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for the block, as long as this process lives; OSError where somebody holds it, or for a link."""
    if sys.platform == "win32":
        descriptor = system.hold(folder)
    else:
        descriptor = os.open(folder, _READ | os.O_DIRECTORY)
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def check_names(relative: str) -> None:
    """Raise an OSError where this operating system calls nothing as a path has it, but something else."""
    if sys.platform == "win32":
        for name in relative.split("/"):
            system.check_name(name)


def lstat(path: Path | str) -> os.stat_result:
    """Return what `os.lstat` does; a junction of Windows is a link."""
    return system.lstat(path)


def entry_status(entry: os.DirEntry[str]) -> os.stat_result:
    """Return the status of an entry of `os.scandir`, and of a link that of the link."""
    if sys.platform == "win32":  # which lists less of it
        return system.lstat(entry.path)
    return entry.stat(follow_symlinks=False)


def room_bytes(status: os.stat_result) -> int:
    """Return the room that a file takes on disk, in bytes, as far as the operating system says."""
    if sys.platform == "win32":
        return status.st_size
    return status.st_blocks * 512  # which is what stat(2) counts in


def is_folder(path: Path | str) -> bool:
    """Return whether there is a folder at a path, and no link to one."""
    try:
        return stat.S_ISDIR(system.lstat(path).st_mode)
    except OSError:
        return False


def birth_ns(path: Path) -> int:
    """Return when a file was made, in nanoseconds since the Unix epoch; 0 where the file system does not say.

    Nothing changes it: it tells what was made anew from what was there, also where both have one inode. `os.stat`
    does not know it on Linux; statx(2) does, and the structure it fills is the kernel's, the same on every machine.
    """
    if sys.platform == "win32":
        return os.stat(path).st_ctime_ns  # which is that there
    import ctypes

    found = ctypes.create_string_buffer(256)
    try:
        refused = ctypes.CDLL(None).statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, found)
    except AttributeError:
        return 0
    if refused or not struct.unpack_from("=I", found, 0)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = struct.unpack_from("=qI", found, 80)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


@interrupts.held()
def rename_inside(root: Path | str, relative: str, to: str) -> None:
    """Rename a file below `root`, following no link on the way; what has the new name is replaced.

    Parameters
    ----------
    root : pathlib.Path
        A directory that others may write into.
    relative, to : str
        Paths below it; missing directories of the second are made.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnsafeFileError
        A link on the way.
    """
    (*folders, name), (*others, called) = relative.split("/"), to.split("/")
    source = _folder(root, relative, folders)
    try:
        target = _folder(root, to, others, make=True)
        try:
            system.rename(name, called, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(target)
    finally:
        os.close(source)


@interrupts.held()
def names_inside(root: Path | str, relative: str, most: int) -> tuple[list[tuple[str, os.stat_result]], int]:
    """Return the first names in a folder below `root`, those with a dot last, and how many there are.

    Parameters
    ----------
    root : pathlib.Path
        A directory we trust.
    relative : str
        A folder below it; no link is followed on the way.
    most : int
        More are counted, and not looked at.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    UnsafeFileError
        A link on the way, or no folder.
    """
    with opened_inside(root, relative) as folder:
        names = sorted(system.listdir(folder), key=lambda name: (name.startswith("."), name))
        return _statuses(folder, names[:most]), len(names)


@contextlib.contextmanager
def opened_inside(root: Path | str, relative: str) -> Iterator[int]:
    """Open a folder below `root`, following no link on the way; the descriptor is closed at the end of the block.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    UnsafeFileError
        A link on the way, or no folder.
    """
    descriptor = _folder(root, relative, relative.split("/"))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def walk_inside(root: Path | str, relative: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all that is below a folder below `root`, following no link: its path from that folder, and its status.

    A folder comes before what is in it.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    UnsafeFileError
        A link on the way, or no folder.
    OSError
        A folder cannot be read.
    """
    with opened_inside(root, relative) as top, _Below(top) as below:
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                inner = below.folder(folder)
                found = _statuses(inner, sorted(system.listdir(inner)))
            except OSError as error:
                raise _named(f"{relative}/{folder}", error) from None
            for name, status in found:
                path = f"{folder}/{name}" if folder else name
                if stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                yield path, status


def _statuses(folder: int, names: Sequence[str]) -> list[tuple[str, os.stat_result]]:
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            found.append((name, system.stat(name, dir_fd=folder, follow_symlinks=False)))
    return found


class _Below:
    """Folders below an open one, opened without following a link; the last ones stay open, so that depth costs little.

    Parameters
    ----------
    top : int
        A descriptor of the open one, which its owner closes.
    """

    def __init__(self, top: int) -> None:
        self._open = [("", top)]

    def __enter__(self) -> _Below:
        return self

    def __exit__(self, *error: object) -> None:
        for _, descriptor in self._open[1:]:
            os.close(descriptor)

    def folder(self, path: str) -> int:
        """Return a descriptor of a folder, which is good until the next one is asked for."""
        while not f"{path}/".startswith(f"{self._open[-1][0]}/") and len(self._open) > 1:
            os.close(self._open.pop()[1])
        known = self._open[-1][0]
        for part in path[len(known) :].split("/"):
            if part:
                known = f"{known}/{part}" if known else part
                self._open.append((known, system.open(part, _READ | system.O_DIRECTORY, dir_fd=self._open[-1][1])))
            if len(self._open) > _MOST_OPEN:
                os.close(self._open.pop(1)[1])
        return self._open[-1][1]


@interrupts.held()
def remove_inside(root: Path | str, relative: str) -> None:
    """Remove what is below `root`, a folder with all in it, following no link. What is not there is no error.

    Raises
    ------
    UnsafeFileError
        A link on the way.
    OSError
        It cannot be removed, or not all of it.
    """
    *folders, name = relative.split("/")
    try:
        folder = _folder(root, relative, folders)
    except FileNotFoundError:
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(system.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                system.unlink(name, dir_fd=folder)
                return
            inner = [(f"{name}/{path}", stat.S_ISDIR(status.st_mode)) for path, status in walk_inside(root, relative)]
            # What is in a folder comes after it; this does not recurse, however deep it is.
            with _Below(folder) as below:
                for path, is_folder in [*reversed(inner), (name, True)]:
                    above, _, last = path.rpartition("/")
                    with contextlib.suppress(FileNotFoundError):
                        (system.rmdir if is_folder else system.unlink)(last, dir_fd=below.folder(above))
    finally:
        os.close(folder)


def remove_tree(path: Path | str) -> None:
    """Remove a directory with all that is in it, as far as that is possible."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def make_directories(path: Path, below: Path) -> None:
    """Make a directory and what is missing on the way to it, and bring all these names to disk."""
    if path == below:
        return
    make_directories(path.parent, below)
    path.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # one may be allowed to pass through it, and not to open it
        sync_directory(path.parent)


def sync_tree(path: Path) -> None:
    """Bring the files below a directory to disk, and the names in it; not its own name in the directory above."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            if os.path.islink(f"{folder}/{name}"):
                continue
            descriptor = system.open(f"{folder}/{name}", _READ)
            try:
                system.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))


@interrupts.held()
def sync_directory(path: Path) -> None:
    """Bring the names in a directory to disk."""
    descriptor = system.open(path, os.O_RDONLY | system.O_DIRECTORY | system.O_CLOEXEC)
    try:
        system.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing, as some of network shares
            raise
    finally:
        os.close(descriptor)

"""Calls of `os` that reach into a folder that is held open, as Windows can be asked for them; no link is followed.

They are named and called as in `os`, and `matterstack.files` calls them on Windows in their place. A name is looked up
in the folder whose handle is given (``NtCreateFile`` with a ``RootDirectory``), as openat(2) does it, so whatever is
exchanged meanwhile leads nowhere else. Every reparse point is a link here: symbolic links, junctions, and mounts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import msvcrt
import os
import re
import stat as kinds
import struct
import sys
from collections.abc import Iterator
from ctypes import wintypes

assert sys.platform == "win32"

#: Beside the flags that Python has on Windows, and none of those.
O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_CLOEXEC = 0x100_0000, 0x200_0000, 0, 0

_TO_READ, _TO_WRITE, _TO_REMOVE, _TO_ASK = 0x8000_0000, 0x4000_0000, 0x1_0000, 0x80
_TO_ADD = 0x2  # FILE_ADD_FILE, and of what is shared FILE_SHARE_WRITE
_IN_TURN = 0x10_0000  # SYNCHRONIZE
_NORMAL = 0x80  # FILE_ATTRIBUTE_NORMAL
#: To read, write and remove: as on Linux, nobody is kept from a file by whoever reads it.
_SHARED = 7
_OLD, _NEW = 1, 2
_FOLDER, _PLAIN, _BLOCKING, _THE_LINK_ITSELF = 0x1, 0x40, 0x20, 0x20_0000
_OPEN_OLD, _OF_FOLDERS = 3, 0x200_0000  # OPEN_EXISTING and FILE_FLAG_BACKUP_SEMANTICS of CreateFileW
_RENAME, _LINK, _REMOVE = 10, 11, 13  # of FILE_INFORMATION_CLASS
_LIST, _LIST_ANEW = 10, 11  # FileIdBothDirectoryInfo and its Restart
_LISTED_BYTES = 1 << 16
_NO_MORE_FILES = 18
#: What no name there has, and what would be a device, a stream of another file, or lose its end.
_NO_NAME = re.compile(
    r'\A\Z|[\0-\x1f<>:"/\\|?*]|[. ]\Z|\A(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\xb9\xb2\xb3]) *(?:\.|\Z)',
    re.IGNORECASE,
)


class _Text(ctypes.Structure):
    _fields_ = (("size", wintypes.USHORT), ("room", wintypes.USHORT), ("text", wintypes.LPWSTR))


class _Place(ctypes.Structure):
    _fields_ = (
        ("size", wintypes.ULONG),
        ("folder", wintypes.HANDLE),
        ("name", ctypes.POINTER(_Text)),
        ("attributes", wintypes.ULONG),
        ("security", ctypes.c_void_p),
        ("quality", ctypes.c_void_p),
    )


class _Outcome(ctypes.Structure):
    _fields_ = (("status", ctypes.c_void_p), ("information", ctypes.c_void_p))


_nt, _kernel = ctypes.WinDLL("ntdll"), ctypes.WinDLL("kernel32", use_last_error=True)
_nt.NtCreateFile.argtypes = [
    ctypes.POINTER(wintypes.HANDLE),
    wintypes.ULONG,
    ctypes.POINTER(_Place),
    ctypes.POINTER(_Outcome),
    ctypes.c_void_p,
    *4 * [wintypes.ULONG],
    ctypes.c_void_p,
    wintypes.ULONG,
]
_nt.NtSetInformationFile.argtypes = [
    wintypes.HANDLE,
    ctypes.POINTER(_Outcome),
    ctypes.c_void_p,
    wintypes.ULONG,
    ctypes.c_int,
]
_nt.RtlNtStatusToDosError.argtypes = [wintypes.LONG]
_kernel.CreateFileW.argtypes = [
    wintypes.LPCWSTR,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.c_void_p,
    wintypes.DWORD,
    wintypes.DWORD,
    wintypes.HANDLE,
]
_kernel.CreateFileW.restype = wintypes.HANDLE
_kernel.CloseHandle.argtypes = [wintypes.HANDLE]
_kernel.GetFileInformationByHandleEx.argtypes = [wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD]


def open(path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:  # noqa: A001 - as in `os`
    """Open a file or a folder, which is no link; what is above a path without `dir_fd` may be, as in `os`."""
    if dir_fd is None and flags & O_DIRECTORY and not flags & O_NOFOLLOW:
        return _trusted_folder(path)
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    access = (_TO_WRITE if writes else 0) | (_TO_READ if writes != os.O_WRONLY else 0)
    options = _FOLDER if flags & O_DIRECTORY else _PLAIN if flags & os.O_CREAT else 0
    with _looked_up(path, dir_fd) as (folder, name):
        return _no_link(_open(folder, name, access, _NEW if flags & os.O_EXCL else _OLD, options), name)


def mkdir(path: str, mode: int = 0o777, *, dir_fd: int) -> None:
    """Make a folder in another one."""
    os.close(_open(dir_fd, path, _TO_ASK, _NEW, _FOLDER))


def stat(path: str, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
    """Return what is known of a file, a folder, or a link itself."""
    found = _open(dir_fd, path, _TO_ASK, _OLD, 0)
    try:
        status = os.fstat(found)
    finally:
        os.close(found)
    if not _is_link(status):
        return status
    return os.stat_result((kinds.S_IFLNK | 0o777, *status[1:10]), {"st_mtime_ns": status.st_mtime_ns})


def check_name(name: str) -> None:
    """Raise where nothing can be called so."""
    if _NO_NAME.search(name):
        raise OSError(errno.EINVAL, "Windows has no such name", name)


def lstat(path: str | os.PathLike[str]) -> os.stat_result:
    """Return what `os.lstat` does, and of a junction that it is a link."""
    with _looked_up(os.fspath(path), None) as (folder, name):
        return stat(name, dir_fd=folder, follow_symlinks=False)


def listdir(descriptor: int) -> list[str]:
    """Return the names in a folder that is open, and so in no order."""
    names, asked = [], _LIST_ANEW
    listed = ctypes.create_string_buffer(_LISTED_BYTES)
    while _kernel.GetFileInformationByHandleEx(msvcrt.get_osfhandle(descriptor), asked, listed, _LISTED_BYTES):
        at, step, asked = 0, 1, _LIST
        while step:
            (step,), (size,) = struct.unpack_from("<L", listed, at), struct.unpack_from("<L", listed, at + 60)
            names.append(listed.raw[at + 104 : at + 104 + size].decode("utf-16-le", "surrogatepass"))
            at += step
    if (number := ctypes.get_last_error()) != _NO_MORE_FILES:
        raise ctypes.WinError(number)
    return [name for name in names if name not in (".", "..")]


def rename(path: str, to: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Give a file another name in another folder; what has that name is replaced."""
    _name(path, src_dir_fd, to, dst_dir_fd, _RENAME, replaces=True)


def link(
    path: str, to: str | os.PathLike[str], *, src_dir_fd: int, dst_dir_fd: int | None = None, follow_symlinks: bool
) -> None:
    """Give a file one more name, which must not be taken."""
    with _looked_up(os.fspath(to), dst_dir_fd) as (folder, name):
        _name(path, src_dir_fd, name, folder, _LINK, replaces=False)


def unlink(path: str, *, dir_fd: int) -> None:
    """Remove a file, or a link itself."""
    _remove(path, dir_fd, 0)


def rmdir(path: str, *, dir_fd: int) -> None:
    """Remove an empty folder."""
    _remove(path, dir_fd, _FOLDER)


def fsync(descriptor: int) -> None:
    """Bring a file to disk; names in a folder NTFS brings there itself, in their order."""
    if kinds.S_ISDIR(os.fstat(descriptor).st_mode):
        return
    try:
        os.fsync(descriptor)
    except OSError as error:  # of what is open to be read it cannot be asked
        if error.errno not in (errno.EBADF, errno.EACCES):
            raise
        writer = _open(descriptor, ".", _TO_WRITE, _OLD, 0)
        try:
            os.fsync(writer)
        finally:
            os.close(writer)


def fchmod(descriptor: int, mode: int) -> None:
    """Do nothing: Windows has no such bits."""


def pread(descriptor: int, count: int, offset: int) -> bytes:
    """Return bytes of a file from a place on; only one thread may read from a descriptor."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)


def pwrite(descriptor: int, content: bytes, offset: int) -> int:
    """Write bytes into a file from a place on."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, content)


def hold(folder: str | os.PathLike[str]) -> int:
    """Open a folder as nobody else can who opens it so."""
    handle = _kernel.CreateFileW(
        os.fspath(folder), _TO_ADD, _SHARED & ~_TO_ADD, None, _OPEN_OLD, _OF_FOLDERS | _THE_LINK_ITSELF, None
    )
    if handle == wintypes.HANDLE(-1).value:
        raise ctypes.WinError(ctypes.get_last_error())
    return _no_link(_descriptor(handle), str(folder))


def _trusted_folder(path: str | os.PathLike[str]) -> int:
    handle = _kernel.CreateFileW(os.fspath(path), _TO_READ, _SHARED, None, _OPEN_OLD, _OF_FOLDERS, None)
    if handle == wintypes.HANDLE(-1).value:
        raise ctypes.WinError(ctypes.get_last_error(), None)
    descriptor = _descriptor(handle)
    if kinds.S_ISDIR(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))


@contextlib.contextmanager
def _looked_up(path: str, dir_fd: int | None) -> Iterator[tuple[int, str]]:
    """Yield the folder that a path ends in, and the name there."""
    if dir_fd is not None:
        yield dir_fd, path
        return
    above, slash, name = path.rpartition("/")
    if not slash:  # as the paths of pathlib are
        above, name = os.path.split(path)
    folder = _trusted_folder(above or ".")
    try:
        yield folder, name
    finally:
        os.close(folder)


def _open(folder: int, name: str, access: int, which: int, options: int) -> int:
    """Open what has a name in a folder, a link itself; the open one anew for a dot."""
    if name == ".":
        name = ""
    else:
        check_name(name)
    size = len(name.encode("utf-16-le", "surrogatepass"))
    text = _Text(size, size, name)
    place = _Place(ctypes.sizeof(_Place), msvcrt.get_osfhandle(folder), ctypes.pointer(text), 0, None, None)
    handle, outcome = wintypes.HANDLE(), _Outcome()
    options |= _BLOCKING | _THE_LINK_ITSELF
    access |= _TO_ASK | _IN_TURN
    status = _nt.NtCreateFile(handle, access, place, outcome, None, _NORMAL, _SHARED, which, options, None, 0)
    _check(status, name)
    return _descriptor(handle.value or 0)


def _descriptor(handle: int) -> int:
    try:
        return msvcrt.open_osfhandle(handle, 0)
    except OSError:
        _kernel.CloseHandle(handle)
        raise


def _is_link(status: os.stat_result) -> bool:
    return bool(status.st_file_attributes & kinds.FILE_ATTRIBUTE_REPARSE_POINT)


def _no_link(descriptor: int, name: str) -> int:
    if not _is_link(os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.ELOOP, "a link is not followed", name)


def _check(status: int, name: str) -> None:
    if status < 0:
        number = _nt.RtlNtStatusToDosError(status)
        raise OSError(None, ctypes.FormatError(number).strip(), name, number)


def _name(path: str, folder: int, to: str, other: int, what: int, *, replaces: bool) -> None:
    check_name(to)
    text = to.encode("utf-16-le", "surrogatepass")
    told = struct.pack("?PL", replaces, msvcrt.get_osfhandle(other), len(text)) + text + bytes(4)
    _tell(path, folder, told, what, 0)


def _remove(path: str, folder: int, options: int) -> None:
    _tell(path, folder, b"\1", _REMOVE, options)


def _tell(path: str, folder: int, told: bytes, what: int, options: int) -> None:
    found = _open(folder, path, _TO_REMOVE, _OLD, options)
    try:
        status = _nt.NtSetInformationFile(msvcrt.get_osfhandle(found), _Outcome(), told, len(told), what)
        _check(status, path)
    finally:
        os.close(found)

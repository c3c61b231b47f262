"""Archives that people send: zip, or tar with or without compression, as one thing to read with care.

Names and sizes are checked before anything is unpacked, and all that is wrong with an archive is a KitError that names
the file in it. Members are read in the order in which they lie there, since a compressed tar has no other.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from matterstack.core.identifiers import check_relative_path
from matterstack.core.litter import is_litter
from matterstack.errors import KitError, UnsafePathError

PIECE_BYTES = 1 << 20
_MOST_MEMBERS = 200_000
_GIB = 1024**3
#: What one call may ask of a compressed tar: names in its headers are read whole.
_MOST_AT_ONCE_BYTES = 16 << 20
#: Ways of packing that Python does not know, and who uses them.
_METHODS = {9: "Deflate64, as Windows does with files of more than 2 GB", 93: "Zstandard", 95: "xz", 98: "PPMd"}
_TARS: dict[bytes, Callable[[Path, str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_FAULTS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    struct.error, ValueError, OverflowError, MemoryError, OSError,
)  # fmt: skip
_UNCHANGED = "nothing was changed"


class Member(NamedTuple):
    """A file in an archive: where in its order, its name and size in bytes."""

    number: int
    name: str
    size: int
    source: zipfile.ZipInfo | tarfile.TarInfo


class Archive:
    """An archive that is open.

    Attributes
    ----------
    path : pathlib.Path
    members : dict of str to Member
        Its files by name, in their order, without what a computer has added.
    """

    def __init__(self, path: Path, packed: zipfile.ZipFile | tarfile.TarFile, max_gib: float, room: int) -> None:
        self.path, self._packed = path, packed
        self.members: dict[str, Member] = {}
        size = 0
        if not max_gib > 0:  # also where it is no number
            raise KitError(f"max_gib has to be more than 0, and is {max_gib}; {_UNCHANGED}")
        most = min(max_gib * _GIB, room)
        for number, member in enumerate(_files(path, packed)):
            if number >= _MOST_MEMBERS:
                raise KitError(f"{path} holds more than {_MOST_MEMBERS} files; {_UNCHANGED}")
            if member is None:
                continue
            if member.name in self.members:
                raise KitError(f"{path}: {member.name} is in it twice; {_UNCHANGED}")
            self.members[member.name] = member
            size += member.size
            if size > most:
                raise KitError(
                    f"{path} would unpack to more than {most / _GIB:.1f} GiB, which is all that is allowed or free: "
                    f"import_kits(..., max_gib=...) allows more, where there is room; {_UNCHANGED}"
                )

    def pieces(self, member: Member) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises
        ------
        KitError
            It is damaged, encrypted, or packed in a way that is not known here.
        """
        with faults(f"{self.path}: {member.name}"), self._open(member) as content:
            while piece := content.read(PIECE_BYTES):
                yield piece

    def _open(self, member: Member) -> IO[bytes]:
        if isinstance(self._packed, tarfile.TarFile):
            assert isinstance(member.source, tarfile.TarInfo)
            content = self._packed.extractfile(member.source)
            assert content is not None
            return content
        assert isinstance(member.source, zipfile.ZipInfo)
        method = member.source.compress_type
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            raise KitError(
                f"{self.path}: {member.name} is packed with {_METHODS.get(method, f'method {method}')}, which is not "
                "known here: unpack it where it was packed, and pack again with 7-Zip (method Deflate) or with "
                f"tar -czhf; {_UNCHANGED}"
            )
        return self._packed.open(member.source)


@contextmanager
def open_archive(path: Path, max_gib: float, to: Path) -> Iterator[Archive]:
    """Open an archive, and check that it is safe to unpack.

    Parameters
    ----------
    path : pathlib.Path
    max_gib : float
        Most GiB that it may unpack to.
    to : pathlib.Path
        A folder of the file system on which there has to be room.

    Raises
    ------
    KitError
        It is no archive, damaged, unsafe or too large.
    """
    with ExitStack() as stack:
        with faults(str(path)):
            archive = Archive(path, _open(path, stack), max_gib, shutil.disk_usage(to).free)
        yield archive


def _open(path: Path, stack: ExitStack) -> zipfile.ZipFile | tarfile.TarFile:
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic.startswith((b"7z\xbc\xaf", b"Rar!")):
        raise KitError(f"{path} is packed by 7-Zip or RAR in a form of their own: pack as zip or tar.gz; {_UNCHANGED}")
    unpacker = next((unpacker for begin, unpacker in _TARS.items() if magic.startswith(begin)), None)
    if unpacker is None and (magic.startswith(b"PK") or not tarfile.is_tarfile(path)):
        return stack.enter_context(zipfile.ZipFile(path))
    content: Any = _Bounded(stack.enter_context((unpacker or open)(path, "rb")))
    return stack.enter_context(tarfile.TarFile(fileobj=content))


class _Bounded:
    """A file that is read in pieces only: `tarfile` would read a name whole, however long its header says it is."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.name = getattr(file, "name", None)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE_BYTES:
            raise tarfile.ReadError("a header is too large")
        content: bytes = self._file.read(size)
        return content

    def seek(self, position: int, whence: int = 0) -> int:
        found: int = self._file.seek(position, whence)
        return found

    def tell(self) -> int:
        found: int = self._file.tell()
        return found

    def close(self) -> None:
        self._file.close()


@contextmanager
def faults(what: str) -> Iterator[None]:
    """Turn whatever is wrong with an archive into a KitError that names it."""
    try:
        yield
    except KitError:
        raise
    except _FAULTS as error:
        raise KitError(f"{what} cannot be unpacked ({error}): is the archive whole? {_UNCHANGED}") from error


def _files(path: Path, packed: zipfile.ZipFile | tarfile.TarFile) -> Iterator[Member | None]:
    """Yield the files of an archive in their order; None for what is no file that matters."""
    if isinstance(packed, zipfile.ZipFile):
        infos = sorted(packed.infolist(), key=lambda info: info.header_offset)
        # Old tools of Windows write backslashes between folders, and then no slash anywhere.
        windows = not any("/" in info.orig_filename for info in infos)
        for number, info in enumerate(infos):
            name = _zip_name(info, windows)
            mode = stat.S_IFMT(info.external_attr >> 16)
            plain = mode in (0, stat.S_IFREG) and not name.endswith("/")
            if plain and info.flag_bits & 1 and not is_litter(name):
                raise KitError(f"{path}: {name} is encrypted: pack it without a password; {_UNCHANGED}")
            yield _member(path, number, name, info.file_size, info, plain, plain or mode in (0, stat.S_IFDIR))
    else:
        for number, entry in enumerate(packed):
            raw = entry.name.encode("utf-8", "surrogateescape")
            name = _text(raw).removeprefix("./")
            yield _member(path, number, name, entry.size, entry, entry.isreg(), entry.isreg() or entry.isdir())
        # Where a header is damaged or cut off, tarfile takes that for the end.
        end: Any = packed.fileobj
        end.seek(packed.offset)
        if end.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it breaks off, or is damaged")


def _member(
    path: Path, number: int, name: str, size: int, source: zipfile.ZipInfo | tarfile.TarInfo, plain: bool, taken: bool
) -> Member | None:
    if is_litter(name):
        return None
    try:
        if name.rstrip("/") not in ("", ".") or plain:
            check_relative_path(name if plain else name.rstrip("/"), f"{path}:")
    except UnsafePathError as error:
        raise KitError(f"{error}; {_UNCHANGED}") from None
    if not taken:
        raise KitError(
            f"{path}: {name} is a link or a device, which is not taken: pack the files themselves (tar -czhf, or "
            f"zip -r without -y); {_UNCHANGED}"
        )
    return Member(number, name, size, source) if plain else None


def _zip_name(info: zipfile.ZipInfo, windows: bool) -> str:
    name = info.orig_filename
    if windows:
        name = name.replace("\\", "/")
    return name if info.flag_bits & 0x800 or name.isascii() else _text(name.encode("cp437"))


def _text(raw: bytes) -> str:
    """Return a name in an archive that does not say in which code its names are.

    Most are UTF-8 all the same. Of another code no letter is guessed: its bytes are shown as those of a zip are, so
    that names stay apart, and `kit_results.match_names` finds out by their content which files they are.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437").replace("\\", "%5C").replace("\xa0", "%FF")

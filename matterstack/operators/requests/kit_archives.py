"""Kits in a zip archive: out to somebody who carries them, and home again.

What comes back is not trusted: it is unpacked beside the attempts, checked whole, and only
then put in place. An archive with one bad kit changes nothing.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matterstack.core.attempt_files import TABLE, Family
from matterstack.core.identifiers import check_relative_path
from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.crash_points import reach
from matterstack.errors import (
    InvalidJsonError,
    KitError,
    UnsafeFileError,
    UnsafePathError,
)
from matterstack.files import open_inside, read_inside, remove_tree, sync_directory
from matterstack.operators.requests.manual_hpc import check_sums

_MANIFEST_BYTES = 50_000_000
_MOST_MEMBERS = 200_000
_GIB = 1024**3
#: What comes home; everything else in an archive must be as it went out.
_RESULTS = tuple(
    entry.name.rstrip("/")
    for entry in TABLE
    if entry.family is Family.KIT and entry.writer in ("the kit", "the person")
)


class Imported(NamedTuple):
    """What became of the kits of an archive.

    Attributes
    ----------
    taken : list of str
        Attempts whose results were put in place.
    known : list of str
        Attempts whose results were at home already, or that are over.
    without_results : list of str
        Kits that hold no results yet.
    """

    taken: list[str]
    known: list[str]
    without_results: list[str]


def pack(archive: Path, kits: Mapping[str, Path]) -> None:
    """Write kits into a new zip archive, whole or not at all.

    Parameters
    ----------
    archive : pathlib.Path
        Where; an archive that is there is replaced.
    kits : mapping of str to pathlib.Path
        Directories of the kits, by their names in the archive.
    """
    partial = archive.with_name(f".{archive.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "x", zipfile.ZIP_DEFLATED, strict_timestamps=False) as out:
            for name, directory in kits.items():
                for relative in _sent(directory):
                    _put(out, directory, relative, f"{name}/{relative}")
        partial.replace(archive)
    except UnsafeFileError as error:
        raise KitError(f"{error}; no kit was exported") from None
    except OSError as error:
        raise KitError(f"{archive} cannot be written: {error}; one that was there is unchanged") from error
    finally:
        partial.unlink(missing_ok=True)


def _sent(directory: Path) -> list[str]:
    """Return what of a kit goes out, relative to it: what its manifest lists, and the manifest.

    Raises
    ------
    KitError
        The manifest is not as it was made: what it names might lie outside of the kit.
    """
    try:
        manifest = parse_json(read_inside(directory, "MANIFEST.json", _MANIFEST_BYTES), max_bytes=_MANIFEST_BYTES)
        return ["MANIFEST.json", *(check_relative_path(name, "it names") for name in dict(manifest["sha256"]))]
    except (InvalidJsonError, UnsafePathError, TypeError, LookupError, ValueError) as error:
        raise KitError(f"{directory.name}/MANIFEST.json is not as it was made ({error}); no kit was exported") from None


def _put(out: zipfile.ZipFile, directory: Path, relative: str, name: str) -> None:
    """Write a file of a kit into an archive, with its permission bits; a link is refused."""
    with open(open_inside(directory, relative), "rb") as file:
        status = os.fstat(file.fileno())
        year, *rest = time.localtime(status.st_mtime)[:6]
        month, day, hour, minute, second = rest
        when = (year, month, day, hour, minute, second) if 1980 <= year <= 2107 else (1980, 1, 1, 0, 0, 0)
        info = zipfile.ZipInfo(name, when)
        info.external_attr = status.st_mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = status.st_size
        with out.open(info, "w") as member:
            shutil.copyfileobj(file, member)


def unpack(archive: Path, kits: Mapping[str, Path], over: Mapping[str, Path], max_gib: float) -> Imported:
    """Take results home.

    Parameters
    ----------
    archive : pathlib.Path
    kits : mapping of str to pathlib.Path
        Directory of each attempt that waits, by token.
    over : mapping of str to pathlib.Path
        The same of attempts of the run that wait no more.
    max_gib : float
        Most GiB to unpack.

    Returns
    -------
    Imported

    Raises
    ------
    KitError
        The archive is no zip, damaged, altered, unsafe, too large, or of another run; nothing
        was changed.
    """
    root = next(iter(kits.values()), archive).parent
    staging = root / f".import.{os.urandom(8).hex()}"
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _members(zipped, archive, max_gib)
            found = _find(zipped, members, archive, {**over, **kits})
            for token, names in found.items():
                if token in kits:
                    _check_kit(zipped, names, kits[token], archive)
                    _extract(zipped, names, staging / token)
            return _place(found, kits, over, staging, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise KitError(f"{archive} is not a whole zip archive: {error}; nothing was changed") from error
    finally:
        remove_tree(staging)


def _members(zipped: zipfile.ZipFile, archive: Path, max_gib: float) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name, after checking that it is safe to unpack."""
    found: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    size = 0
    if len(zipped.infolist()) > _MOST_MEMBERS:
        raise KitError(f"{archive} holds more than {_MOST_MEMBERS} files; nothing was changed")
    for info in zipped.infolist():
        name = info.orig_filename.removesuffix("/") if info.is_dir() else info.orig_filename
        try:
            check_relative_path(name, f"{archive}:")
        except UnsafePathError as error:
            raise KitError(f"{error}; nothing was changed") from None
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise KitError(f"{archive}: {name} is a link or a device, which is not taken; nothing was changed")
        if info.flag_bits & 1:
            raise KitError(f"{archive}: {name} is encrypted; nothing was changed")
        if info.is_dir() or name.startswith("__MACOSX/") or name.rpartition("/")[2] == ".DS_Store":
            continue  # the latter two are what a Macintosh adds
        if name in found or name.casefold() in folded:
            raise KitError(f"{archive}: {name} is in it twice; nothing was changed")
        found[name] = info
        folded.add(name.casefold())
        size += info.file_size
    room = shutil.disk_usage(archive.parent).free
    if size > max_gib * _GIB or size > room:
        raise KitError(
            f"{archive} would unpack to {size / _GIB:.1f} GiB, and {min(max_gib, room / _GIB):.1f} GiB are allowed: "
            "import_kits(..., max_gib=...) allows more, where there is room; nothing was changed"
        )
    return found


def _find(
    zipped: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], archive: Path, known: Mapping[str, Path]
) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Return the members of each kit by token, named relative to the kit."""
    found: dict[str, dict[str, zipfile.ZipInfo]] = {}
    manifests = [name for name in members if name.rpartition("/")[2] == "MANIFEST.json"]
    # A task may have a file of that name too: it lies in a kit, and is no kit.
    outer: list[str] = []
    for root in sorted(name.removesuffix("MANIFEST.json") for name in manifests):
        if not (outer and root.startswith(outer[-1])):
            outer.append(root)
    inside: dict[str, dict[str, zipfile.ZipInfo]] = {root: {} for root in outer}
    stray = None
    for name, info in members.items():
        # Whatever lies between a root and a name below it, in the order of text, would lie below the root as well.
        root = outer[bisect.bisect_right(outer, name) - 1] if outer else ""
        if outer and name.startswith(root):
            inside[root][name.removeprefix(root)] = info
        else:
            stray = name
    for root in outer:
        info = members[f"{root}MANIFEST.json"]
        try:
            if info.file_size > _MANIFEST_BYTES:
                raise InvalidJsonError("it is too large")
            raw = zipped.read(info)
            token = parse_json(raw, max_bytes=_MANIFEST_BYTES)["token"]
            home = known[token]
        except (InvalidJsonError, TypeError) as error:
            raise KitError(f"{archive}: {root}MANIFEST.json cannot be used: {error}; nothing was changed") from None
        except KeyError:
            raise KitError(f"{archive}: the kit {root or '.'} is not of this run; nothing was changed") from None
        if raw != read_inside(home, "MANIFEST.json", _MANIFEST_BYTES):
            raise KitError(f"{archive}: {root}MANIFEST.json was altered; nothing was changed")
        if token in found:
            raise KitError(f"{archive} holds the kit of {home.name} twice; nothing was changed")
        found[token] = inside[root]
    if not found:
        raise KitError(f"{archive} holds no kit: there is no MANIFEST.json in it; nothing was changed")
    if stray is not None:
        raise KitError(f"{archive}: {stray} belongs to no kit; nothing was changed")
    return found


def _check_kit(zipped: zipfile.ZipFile, names: Mapping[str, zipfile.ZipInfo], home: Path, archive: Path) -> None:
    """Check that everything but the results is as it went out."""
    sums = parse_json(read_inside(home, "MANIFEST.json", _MANIFEST_BYTES), max_bytes=_MANIFEST_BYTES)["sha256"]
    for name, info in names.items():
        if name == "MANIFEST.json" or name.split("/")[0] in _RESULTS:
            continue
        if name not in sums:
            raise KitError(
                f"{archive}: {name} is no part of the kit {home.name}, nor of its output; nothing was changed"
            )
        digest = hashlib.sha256()
        with zipped.open(info) as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
            if digest.hexdigest() != sums[name]:
                raise KitError(f"{archive}: {name} of the kit {home.name} was altered; nothing was changed")


def _extract(zipped: zipfile.ZipFile, names: Mapping[str, zipfile.ZipInfo], target: Path) -> None:
    """Unpack the results of a kit into a new directory."""
    for name, info in names.items():
        if name.split("/")[0] not in _RESULTS:
            continue
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipped.open(info) as content, open(path, "xb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())


def _place(
    found: Mapping[str, Mapping[str, zipfile.ZipInfo]],
    kits: Mapping[str, Path],
    over: Mapping[str, Path],
    staging: Path,
    archive: Path,
) -> Imported:
    imported = Imported([], [], [])
    ready: list[tuple[Path, Path]] = []
    for token in found:
        source = staging / token
        if token not in kits:
            imported.known.append(over[token].name)
        elif not source.is_dir():
            imported.without_results.append(kits[token].name)
        elif _same(source, kits[token]):
            imported.known.append(kits[token].name)
        else:
            _check_results(source, token, archive)
            ready.append((source, kits[token]))
            imported.taken.append(kits[token].name)
    reach("kits.checked")
    for source, home in ready:
        _bring_home(source, home)
    return imported


def _check_results(source: Path, token: str, archive: Path) -> None:
    """Refuse results that are another kit's, or not what its command left."""
    try:
        said = parse_json(read_inside(source, "status.json", MAX_BYTES))
        if isinstance(said, dict) and said.get("token", token) != token:
            raise KitError(f"{archive}: status.json of {token} is of another kit; nothing was changed")
    except (FileNotFoundError, InvalidJsonError):
        pass  # the tick shows what is wrong with it
    if wrong := check_sums(source):
        raise KitError(f"{archive}: of the kit {token}, {wrong}; nothing was changed")


def _same(source: Path, home: Path) -> bool:
    """Return whether everything in `source` is at home with the same content."""
    for path in source.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(source))
            try:
                if read_inside(home, name, path.stat().st_size) != path.read_bytes():
                    return False
            except (OSError, UnsafeFileError):
                return False
    return True


def _bring_home(source: Path, home: Path) -> None:
    """Move results into a kit; what says that they are whole comes last."""
    arriving: Sequence[str] = [name for name in _RESULTS if (source / name).exists()]
    for name in reversed(_RESULTS):
        if os.path.lexists(home / name) and name in arriving:
            aside = source / f".{name}.before"
            (home / name).rename(aside)
    for name in arriving:
        (source / name).rename(home / name)
        reach("kits.placed")
    sync_directory(home)

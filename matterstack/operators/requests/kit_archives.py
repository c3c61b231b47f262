"""Kits in an archive: out to somebody who carries them, and home again.

What comes back is not trusted: it is unpacked beside the attempts, checked whole, and only
then put in place. An archive with one bad kit changes nothing. All but the last step is done
without the run's lock, since it may take as long as there is much to unpack.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import os
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
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
from matterstack.files import is_folder, link_inside, open_inside, read_inside, sync_directory, sync_tree
from matterstack.operators.requests.archives import PIECE_BYTES, Archive, Member, faults, open_archive
from matterstack.operators.requests.kit_ending import read_ending
from matterstack.operators.requests.kit_results import OUTPUT, match_names, names_lost, read_sums, scan
from matterstack.operators.requests.kit_script import same_script

_MANIFEST_BYTES = 50_000_000
_SCRIPT_BYTES = 5_000_000
_UNCHANGED = "nothing was changed"
#: What comes home; everything else of a kit must be as it went out.
RESULTS = tuple(
    entry.name.rstrip("/")
    for entry in TABLE
    if entry.family is Family.KIT and entry.writer in ("Slurm", "the kit", "the person")
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
    late : list of str
        Attempts that had failed before; `matterstack.run.Run.take_late` takes their results all the same.
    left_out : list of str
        Files of the archive that are no part of a kit, nor of its results.
    """

    taken: list[str]
    known: list[str]
    without_results: list[str]
    late: list[str]
    left_out: list[str]


class Kit(NamedTuple):
    """A kit at home: its directory, and what the task of its attempt expects."""

    directory: Path
    outputs: tuple[str, ...] = ()


class Unpacked(NamedTuple):
    """Kits of an archive, unpacked and checked.

    Attributes
    ----------
    results : dict of str to pathlib.Path
        By token, the folder with the results of a kit that was asked for; None where it holds none.
    others : list of str
        Tokens of the kits that were not asked for.
    known : set of str
        Tokens of those whose results are at home already, or that are of before what is at home.
    others : list of str
        Tokens of the kits that were not asked for.
    left_out : list of str
    """

    results: dict[str, Path | None]
    known: set[str]
    others: list[str]
    left_out: list[str]


def pack(archive: Path, kits: Mapping[str, Path]) -> None:
    """Write kits into a new zip archive, whole or not at all.

    Parameters
    ----------
    archive : pathlib.Path
        Where; an archive that is there is replaced, and no other file is.
    kits : mapping of str to pathlib.Path
        Directories of the kits, by their names in the archive.
    """
    if not archive.name:
        raise KitError(f"{archive.absolute()} is a directory, and not a name for an archive; no kit was exported")
    if archive.exists() and not zipfile.is_zipfile(archive):
        raise KitError(f"{archive} is there, and is no zip archive, so it stays; give another name for the kits")
    partial = archive.with_name(f".{archive.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "x", zipfile.ZIP_DEFLATED, strict_timestamps=False) as out:
            for name, directory in kits.items():
                for relative, sum_ in _sent(directory):
                    _put(out, directory, relative, f"{name}/{relative}", sum_)
        partial.replace(archive)
    except UnsafeFileError as error:
        raise KitError(f"{error}; no kit was exported") from None
    except OSError as error:
        raise KitError(f"{archive} cannot be written: {error}; one that was there is unchanged") from error
    finally:
        partial.unlink(missing_ok=True)


def _sent(directory: Path) -> list[tuple[str, str | None]]:
    """Return what of a kit goes out, with its SHA-256: what its manifest lists, and the manifest.

    Raises
    ------
    KitError
        The manifest is not as it was made: what it names might lie outside of the kit.
    """
    try:
        listed = dict(_manifest(directory)["sha256"])
        return [
            ("MANIFEST.json", None),
            *((check_relative_path(name, "it names"), str(sum_)) for name, sum_ in listed.items()),
        ]
    except (InvalidJsonError, UnsafePathError, TypeError, LookupError, ValueError) as error:
        raise KitError(f"{directory.name}/MANIFEST.json is not as it was made ({error}); no kit was exported") from None


def _manifest(directory: Path) -> dict[str, dict[str, str]]:
    raw = read_inside(directory, "MANIFEST.json", _MANIFEST_BYTES)
    found: dict[str, dict[str, str]] = parse_json(raw, max_bytes=_MANIFEST_BYTES)
    return found


def _parts(directory: Path) -> dict[str, str]:
    """Return what went out with a kit, by name, with its SHA-256."""
    try:
        return {str(name): str(sum_) for name, sum_ in _manifest(directory)["sha256"].items()}
    except (OSError, UnsafeFileError, InvalidJsonError, LookupError, TypeError, AttributeError) as error:
        raise KitError(
            f"{directory}/MANIFEST.json is not as it was made ({error}): put it back as it was; {_UNCHANGED}"
        ) from None


def _put(out: zipfile.ZipFile, directory: Path, relative: str, name: str, sum_: str | None) -> None:
    """Write a file of a kit into an archive, with its permission bits; a link, or another content, is refused."""
    with open(open_inside(directory, relative), "rb") as file:
        status = os.fstat(file.fileno())
        year, *rest = time.localtime(status.st_mtime)[:6]
        month, day, hour, minute, second = rest
        when = (year, month, day, hour, minute, second) if 1980 <= year <= 2107 else (1980, 1, 1, 0, 0, 0)
        info = zipfile.ZipInfo(name, when)
        info.external_attr = status.st_mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = status.st_size
        digest = hashlib.sha256()
        with out.open(info, "w") as member:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                member.write(piece)
    if sum_ is not None and digest.hexdigest() != sum_:
        raise KitError(
            f"{name} is not as it was made, its SHA-256 differs from MANIFEST.json: put it back as it was; no kit was "
            "exported. The #SBATCH lines are those of resources= and sbatch=, or are changed where the kit runs"
        )


def unpack(
    archive: Path, wanted: Mapping[str, Kit], known: Mapping[str, Path], staging: Path, max_gib: float
) -> Unpacked:
    """Unpack and check the results of kits; nothing that is there is changed.

    Parameters
    ----------
    archive : pathlib.Path
    wanted : mapping of str to Kit
        By token, the kits whose results are asked for.
    known : mapping of str to pathlib.Path
        Directory of every attempt of the run, by token.
    staging : pathlib.Path
        An empty folder; whoever calls removes it.
    max_gib : float
        Most GiB to unpack.

    Raises
    ------
    KitError
        The archive cannot be read, or is damaged, altered, unsafe, too large, or of another run.
    """
    with open_archive(archive, max_gib, staging) as packed:
        found, left_out = _find(packed, known)
        owners = {
            member.number: (token, name, member)
            for token, members in found.items()
            if token in wanted
            for name, member in members.items()
        }
        sums: dict[str, dict[str, str]] = {token: {} for token in found}
        manifests = {token: _parts(wanted[token].directory) for token in found if token in wanted}
        for _, (token, name, member) in sorted(owners.items()):
            home = wanted[token].directory
            if name in ("MANIFEST.json", "HOWTO.txt"):
                continue  # the first was compared, and the second may be written on
            if name.startswith(f"{OUTPUT}/") or (name in RESULTS and name != OUTPUT):
                sums[token][name] = _extract(packed, member, staging / token / name)
            elif name in manifests[token]:
                _check_part(packed, member, name, home, manifests[token][name])
            else:
                left_out.append(member.name)
    unpacked = Unpacked({}, set(), [token for token in found if token not in wanted], left_out)
    for token in found:
        if token in wanted:
            source = staging / token
            unpacked.results[token] = source if source.is_dir() else None
            if source.is_dir():
                _check_results(source, token, wanted[token], sums[token], archive)
                if _is_known(source, wanted[token].directory, token):
                    unpacked.known.add(token)
    return unpacked


def _find(archive: Archive, known: Mapping[str, Path]) -> tuple[dict[str, dict[str, Member]], list[str]]:
    """Return the members of each kit by token, named relative to the kit; and the names that belong to none."""
    outer: list[str] = []
    for root in sorted(name.removesuffix("MANIFEST.json") for name in archive.members if _is_manifest(name)):
        if not (outer and root.startswith(outer[-1])):
            outer.append(root)
        # A task may have a file of that name too: it lies in a kit, and is no kit.
        elif root.removeprefix(outer[-1]).split("/")[0] not in ("inputs", OUTPUT):
            raise KitError(
                f"{archive.path}: {root} is a kit inside the kit {outer[-1] or '.'}, and no part of the kit: move it "
                f"out of there and pack again; {_UNCHANGED}"
            )
    if not outer:
        raise KitError(
            f"{archive.path} holds no kit: there is no MANIFEST.json in it. Pack the whole directory of the kit; "
            f"{_UNCHANGED}"
        )
    inside: dict[str, dict[str, Member]] = {root: {} for root in outer}
    stray = []
    for name, member in archive.members.items():
        # Whatever lies between a root and a name below it, in the order of text, would lie below the root as well.
        root = outer[bisect.bisect_right(outer, name) - 1]
        if name.startswith(root):
            inside[root][name.removeprefix(root)] = member
        else:
            stray.append(name)
    found: dict[str, dict[str, Member]] = {}
    for root in sorted(outer, key=lambda root: archive.members[f"{root}MANIFEST.json"].number):
        token = _token(archive, archive.members[f"{root}MANIFEST.json"], known)
        if token in found:
            raise KitError(f"{archive.path} holds the kit of {known[token].name} twice: leave one; {_UNCHANGED}")
        found[token] = inside[root]
    return found, stray


def _is_manifest(name: str) -> bool:
    return name.rpartition("/")[2] == "MANIFEST.json"


def _token(archive: Archive, member: Member, known: Mapping[str, Path]) -> str:
    """Return whose kit a manifest is."""
    what = f"{archive.path}: {member.name}"
    if member.size > _MANIFEST_BYTES:
        raise KitError(f"{what} cannot be used: it is too large; {_UNCHANGED}")
    raw = b"".join(archive.pieces(member))
    try:
        token: str = parse_json(raw, max_bytes=_MANIFEST_BYTES)["token"]
        home = known.get(token)
    except (InvalidJsonError, TypeError, LookupError) as error:
        raise KitError(f"{what} cannot be used: {error}; {_UNCHANGED}") from None
    if home is None:
        raise KitError(f"{what}: this kit is not of this run; take it out of the archive; {_UNCHANGED}")
    try:
        same = raw == read_inside(home, "MANIFEST.json", _MANIFEST_BYTES)
    except (OSError, UnsafeFileError) as error:
        raise KitError(f"the kit {home.name} cannot be used here: {error}; {_UNCHANGED}") from None
    if not same:
        raise KitError(f"{what} of the kit {home.name} was altered; {_UNCHANGED}")
    return token


def _check_part(archive: Archive, member: Member, name: str, home: Path, expected: str) -> None:
    """Check that a file of a kit is as it went out."""
    digest = hashlib.sha256()
    script = bytearray()
    for piece in archive.pieces(member):
        digest.update(piece)
        if name == "submit.sh" and len(script) < _SCRIPT_BYTES:
            script += piece
    if digest.hexdigest() == expected:
        return
    with contextlib.suppress(OSError, UnsafeFileError):
        if name == "submit.sh" and same_script(bytes(script), read_inside(home, name, _SCRIPT_BYTES)):
            return
    more = " (other than in its #SBATCH lines)" if name == "submit.sh" else ""
    raise KitError(
        f"{archive.path}: {member.name} of the kit {home.name} was altered{more}. If you stand for the results, put "
        f"output/, output.sha256 and status.json by hand into {home}; {_UNCHANGED}"
    )


def _extract(archive: Archive, member: Member, path: Path) -> str:
    """Unpack a file durably into a new folder, and return its SHA-256."""
    with faults(f"{archive.path}: {member.name}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with open(path, "xb") as copy:
            for piece in archive.pieces(member):
                digest.update(piece)
                copy.write(piece)
            copy.flush()
            os.fsync(copy.fileno())
    return digest.hexdigest()


def _check_results(source: Path, token: str, kit: Kit, sums: Mapping[str, str], archive: Path) -> None:
    """Refuse results that are another kit's, or not what its command left; and mend names that changed on the way."""
    what = f"{archive}: of the kit {kit.directory.name}"
    try:
        said = parse_json(read_inside(source, "status.json", MAX_BYTES))
        if isinstance(said, dict) and said.get("token", token) != token:
            raise KitError(f"{what}, status.json is of another kit; {_UNCHANGED}")
    except (FileNotFoundError, InvalidJsonError, UnsafeFileError):
        pass  # the tick shows what is wrong with it
    try:
        listed = read_sums(source)
    except (InvalidJsonError, UnsafeFileError) as error:
        raise KitError(f"{what}, {error}; {_UNCHANGED}") from None
    listed = listed or {}
    came = {name.removeprefix(f"{OUTPUT}/"): sum_ for name, sum_ in sums.items() if name.startswith(f"{OUTPUT}/")}
    sought = names_lost([*kit.outputs, *listed], came)
    others = {name: sum_ for name, sum_ in came.items() if name not in listed and name not in kit.outputs}
    for now, before in match_names(sought, listed, others).items():
        with faults(f"{what}, {now}"):
            (source / OUTPUT / before).parent.mkdir(parents=True, exist_ok=True)
            (source / OUTPUT / now).rename(source / OUTPUT / before)
        came[before] = came.pop(now)
    for name, sum_ in listed.items():
        if came.get(name, sum_) != sum_:
            raise KitError(
                f"{what}, {name} is not what the command left: its SHA-256 differs; copy it again; {_UNCHANGED}"
            )


def place(unpacked: Unpacked, kits: Mapping[str, Path], over: Mapping[str, Path], late: Iterable[str]) -> Imported:
    """Put results that were unpacked into their kits; the run's lock is held.

    Parameters
    ----------
    unpacked : Unpacked
    kits : mapping of str to pathlib.Path
        Directory of each attempt that waits, by token.
    over : mapping of str to pathlib.Path
        The same of the others.
    late : iterable of str
        Tokens of those that failed.
    """
    imported = Imported([], [], [], [], unpacked.left_out)
    ready: list[tuple[Path, Path]] = []
    failed = set(late)
    for token, source in unpacked.results.items():
        if token not in kits:
            (imported.late if token in failed else imported.known).append(over[token].name)
        elif source is None:
            imported.without_results.append(kits[token].name)
        elif token in unpacked.known:
            imported.known.append(kits[token].name)
        else:
            ready.append((source, kits[token]))
            imported.taken.append(kits[token].name)
    for token in unpacked.others:
        (imported.late if token in failed else imported.known).append(over[token].name)
    reach("kits.checked")
    for source, home in ready:
        bring_home(source, home)
    return imported


def _is_known(source: Path, home: Path, token: str) -> bool:
    """Return whether what came is at home already, or is of before what is at home."""
    if read_ending(source, token).status == "RUNNING" and tells_end(home, token):
        return True
    return all(_same(source, home, name) for name in _files(source))


def tells_end(directory: Path, token: str) -> bool:
    """Return whether a kit, or what came of it, says that its command is over."""
    return read_ending(directory, token).status in ("COMPLETED", "FAILED")


def _files(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder, name).relative_to(root).as_posix()


def _same(source: Path, home: Path, name: str) -> bool:
    """Return whether a file has the same content at both places; it is read in pieces."""
    try:
        with open(source / name, "rb") as one, open(open_inside(home, name), "rb") as other:
            if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
                return False
            while piece := one.read(PIECE_BYTES):
                if other.read(PIECE_BYTES) != piece:
                    return False
    except (OSError, UnsafeFileError):
        return False
    return True


def bring_home(source: Path, home: Path) -> None:
    """Move results into a kit; what says that they are whole comes last.

    What comes with a status.json takes the place of an earlier output/. Without one it is a part, and the rest stays.
    """
    is_part = not (source / "status.json").exists() and (source / OUTPUT).is_dir()
    if is_part and is_folder(home / OUTPUT):
        for name in scan(home / OUTPUT).files:
            target = source / OUTPUT / name
            if not os.path.lexists(target):
                with contextlib.suppress(OSError, UnsafeFileError):  # what cannot be there beside what came is replaced
                    target.parent.mkdir(parents=True, exist_ok=True)
                    link_inside(home / OUTPUT, name, target)
    sync_tree(source)  # the names in it: the files were synced as they came
    arriving = [name for name in RESULTS if (source / name).exists()]
    for name in reversed(RESULTS):
        if os.path.lexists(home / name) and name in arriving:
            (home / name).rename(source / f".{name}.before")
    for name in arriving:
        (source / name).rename(home / name)
        reach("kits.placed")
    sync_directory(home)

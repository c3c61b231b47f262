"""A disk that misbehaves as network disks, full disks and power cuts do: FUSE, and it remembers what was synced.

`lying_disk` mounts one, served by a process of its own (``python lying_disk.py FOLDER SETTINGS VIEW...``), and unmounts
it. What it holds is in the memory of that process. It is told things by the names of files that are made in its hidden
folder ``.disk``, so whoever has the disk can tell it, a shell command too, and in order with all else that is done:

====================  ===============================================================================
``note-WORD``         remember that this was reached
``full-N``, ``room``  the Nth thing that would be new or larger fails with ENOSPC, and all after it;
                      there is room again
``readonly``          all that changes something fails with EROFS, until ``writable``; ``readonly-NAME``: from
                      when something of that name was made
``eio-N``             the Nth fsync from now fails with EIO; ``eio-N-on``: and all after it, until ``well``
``cut-N``             at the Nth change from now the power goes: everything fails with EIO
``save``              writes the list of all changes so far to FOLDER/changes
====================  ===============================================================================

A mount has one kind of locks for its life: ``shared`` (they work, and between several views too), ``none`` (ENOLCK) or
``lie`` (everybody gets one); and has hard links or not. Where `stale_s` is given, a view sees attributes, listings and
the absence of names up to so many seconds old, but for its own changes and for a file that it opens: the close-to-open
consistency of NFS (nfs(5), "DATA AND METADATA COHERENCE"). Reads and writes always reach the disk.

What a power cut leaves
-----------------------
POSIX promises what was fsynced, and nothing of the rest; in particular a file's fsync says nothing of its name, for
which the directory has to be fsynced (fsync(2)). `Tree.cut` gives one of the disks that may be found afterwards:

``strict``   what was fsynced and nothing else: a file is as at its last fsync (one never synced is empty), a directory
             has the names of its last fsync. A rename is one change: it is there or not, in both directories.
``names``    every change of a name happened, and contents are as of the last fsync: a journal of metadata that ran
             ahead of the data, which is where empty files behind a rename come from.
``data``     every content is whole, and names are as of the last fsync.
``torn``     by chance: of the changes of names that were not synced the first few happened, in their order; of the
             writes to each file that were not synced any may have happened, an earlier one perhaps not, which
             leaves zeros.

With ``ordered``, an fsync of anything also keeps every change of a name before it, as ext4's journal does.
An fsync that failed keeps nothing, and what it should have kept is not kept by a later one either, though everybody
sees it until the cut: Linux marks pages as clean when it could not write them (https://lwn.net/Articles/752063/).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import json
import os
import pickle
import random
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = 1
HIDDEN = ".disk"
RENAME_NOREPLACE = 1  # rename(2)
CHANGES = "changes"
MODELS = ("strict", "names", "data", "torn")
#: A change of the tree: the name of a method of `Tree`, and its arguments.
Change = tuple[str, tuple[Any, ...]]
#: Who holds a lock: a view, and what it calls an opening or a process.
Owner = tuple[int, int]


class Node:
    """A file, a directory or a symbolic link: as it is, and as the disk has it."""

    def __init__(self, mode: int, at: float, target: str = "") -> None:
        self.mode = mode
        self.at = at
        self.target = target
        self.owner = (os.getuid(), os.getgid())
        self.links = 1
        self.content = bytearray()
        self.kept = b""
        self.unsynced: list[tuple[int, bytes | None]] = []  # writes, and lengths it was cut to
        self.names: dict[str, int] = {}
        self.kept_names: dict[str, int] = {}


def edit(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write into a content; without data, cut or fill it to a length."""
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


class Tree:
    """A file system in memory, made by changes alone: the same ones give the same tree again."""

    def __init__(self, *, ordered: bool = False) -> None:
        self.ordered = ordered
        self.nodes = {ROOT: Node(stat.S_IFDIR | 0o755, 0.0)}
        self.unsynced: list[list[tuple[int, str, int | None]]] = []
        self.notes: list[str] = []

    @classmethod
    def of(cls, changes: Sequence[Change], *, ordered: bool = False) -> Tree:
        """Return the tree that changes lead to."""
        tree = cls(ordered=ordered)
        for name, arguments in changes:
            getattr(tree, name)(*arguments)
        return tree

    # -- changes --------------------------------------------------------------------------

    def note(self, word: str) -> None:
        self.notes.append(word)

    def make(self, directory: int, name: str, mode: int, at: float, target: str = "") -> int:
        """Make a file, a directory or a link, and return its number."""
        number = len(self.nodes) + 1
        self.nodes[number] = Node(mode, at, target)
        self._rename([(directory, name, number)], at)
        return number

    def link(self, number: int, directory: int, name: str, at: float) -> None:
        self.nodes[number].links += 1
        self._rename([(directory, name, number)], at)

    def remove(self, directory: int, name: str, at: float) -> None:
        self.nodes[self.nodes[directory].names[name]].links -= 1
        self._rename([(directory, name, None)], at)

    def rename(self, old: int, old_name: str, new: int, new_name: str, at: float) -> None:
        number = self.nodes[old].names[old_name]
        replaced = self.nodes[new].names.get(new_name)
        if replaced == number:
            return
        if replaced is not None:
            self.nodes[replaced].links -= 1
        self._rename([(old, old_name, None), (new, new_name, number)], at)

    def write(self, number: int, offset: int, data: bytes | None, at: float) -> None:
        node = self.nodes[number]
        edit(node.content, offset, data)
        node.unsynced.append((offset, data))
        node.at = at

    def chmod(self, number: int, mode: int) -> None:
        self.nodes[number].mode = stat.S_IFMT(self.nodes[number].mode) | stat.S_IMODE(mode)

    def touch(self, number: int, at: float) -> None:
        self.nodes[number].at = at

    def sync(self, number: int) -> None:
        """Keep what there is of a file or a directory."""
        node = self.nodes[number]
        content = bytearray(node.kept)
        for offset, data in node.unsynced:
            edit(content, offset, data)
        node.kept = bytes(content)
        node.unsynced.clear()
        kept = [c for c in self.unsynced if self.ordered or any(directory == number for directory, _, _ in c)]
        for change in kept:
            self._keep(change)
        rest = []
        here = {id(change) for change in kept}
        settled: set[tuple[int, str]] = set()  # by a later change that is kept: an earlier one does not come back
        for change in reversed(self.unsynced):
            if id(change) in here:
                settled |= {(directory, name) for directory, name, _ in change}
            elif left := [edited for edited in change if edited[:2] not in settled]:
                rest.append(left)
        self.unsynced = rest[::-1]

    def fail_to_sync(self, number: int) -> None:
        """Keep nothing of a file, now or at its next fsync."""
        self.nodes[number].unsynced.clear()

    def _rename(self, change: list[tuple[int, str, int | None]], at: float) -> None:
        for directory, name, number in change:
            names = self.nodes[directory].names
            self.nodes[directory].at = at
            if number is None:
                del names[name]
            else:
                names[name] = number
        self.unsynced.append(change)

    def _keep(self, change: list[tuple[int, str, int | None]]) -> None:
        for directory, name, number in change:
            kept = self.nodes[directory].kept_names
            if number is None:
                kept.pop(name, None)
            else:
                kept[name] = number

    # -- the power goes -------------------------------------------------------------------

    def cut(self, model: str, seed: int = 0) -> None:
        """Become what is found after a power cut; see the module's page."""
        assert model in MODELS, model
        chance = random.Random(seed)
        happened = {"strict": 0, "data": 0, "names": len(self.unsynced), "torn": chance.randint(0, len(self.unsynced))}
        for change in self.unsynced[: happened[model]]:
            self._keep(change)
        self.unsynced.clear()
        for node in self.nodes.values():
            node.names = dict(node.kept_names)
            if model == "data":
                node.kept = bytes(node.content)
            elif model == "torn" and node.unsynced:
                content = bytearray(node.kept)
                odds = chance.choice((0.0, 0.5, 1.0))
                for offset, data in node.unsynced:
                    if chance.random() < odds:
                        edit(content, offset, data)
                node.kept = bytes(content)
            node.content = bytearray(node.kept)
            node.unsynced.clear()

    def write_to(self, folder: Path) -> None:
        """Write all there is into a folder of a good disk."""
        written: dict[int, Path] = {}

        def put(number: int, path: Path) -> None:
            node = self.nodes[number]
            if number in written:
                os.link(written[number], path)
                return
            if stat.S_ISDIR(node.mode):
                path.mkdir(exist_ok=number == ROOT)
                for name, inner in node.names.items():
                    put(inner, path / name)
            elif stat.S_ISLNK(node.mode):
                path.symlink_to(node.target)
            else:
                written[number] = path
                path.write_bytes(node.content)
                path.chmod(stat.S_IMODE(node.mode))
            if not stat.S_ISLNK(node.mode):
                os.utime(path, (node.at, node.at))

        put(ROOT, folder)


class Faults:
    """What the disk does wrong now."""

    def __init__(self) -> None:
        self.full = False
        self.room_until_full = 0
        self.readonly = False
        self.readonly_after = ""
        self.syncs_until_error = 0
        self.for_good = False
        self.changes_until_cut = 0
        self.cut = False


class Disk:
    """The tree, all that was done to it, and what is wrong with it; several views may look at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = Tree()
        self.changes: list[Change] = []
        self.faults = Faults()
        self.mutex = threading.RLock()
        self.flocks: dict[int, dict[Owner, bool]] = {}  # by file, by opening: whether it is exclusive
        self.ranges: dict[int, list[tuple[Owner, int, int, bool]]] = {}  # by file: owner, first, last, exclusive

    def do(self, name: str, *arguments: Any) -> Any:
        """Make a change, unless the power goes just before it."""
        faults = self.faults
        if faults.readonly and name != "note":
            raise OSError(errno.EROFS, "read-only")
        if faults.changes_until_cut and name != "note":
            faults.changes_until_cut -= 1
            faults.cut = not faults.changes_until_cut
            self.check_power()
        self.changes.append((name, arguments))
        return getattr(self.tree, name)(*arguments)

    def check_power(self) -> None:
        if self.faults.cut:
            raise OSError(errno.EIO, "the power is gone")

    def check_room(self) -> None:
        faults = self.faults
        if faults.room_until_full:
            faults.room_until_full -= 1
            faults.full = not faults.room_until_full
        if faults.full:
            raise OSError(errno.ENOSPC, "full")

    def sync(self, number: int) -> None:
        faults = self.faults
        if faults.syncs_until_error:
            faults.syncs_until_error -= 1
            if not faults.syncs_until_error:
                faults.syncs_until_error = 1 if faults.for_good else 0
                self.do("fail_to_sync", number)
                raise OSError(errno.EIO, "not written")
        self.do("sync", number)

    def say(self, said: str) -> None:
        """Obey a word; see the module's page."""
        faults = self.faults
        word, *rest = said.split("-", 1)
        match word:
            case "note":
                self.check_power()
                self.do("note", rest[0])
            case "full":
                faults.room_until_full = int(rest[0])
            case "room":
                faults.room_until_full, faults.full = 0, False
            case "readonly" | "writable":
                faults.readonly_after = "".join(rest)
                faults.readonly = said == "readonly"
            case "eio":
                number, *for_good = rest[0].split("-")
                faults.syncs_until_error, faults.for_good = int(number), bool(for_good)
            case "well":
                faults.syncs_until_error = 0
            case "cut":
                faults.changes_until_cut = int(rest[0])
            case "save":
                (self.folder / CHANGES).write_bytes(pickle.dumps(self.changes))
            case _:
                raise OSError(errno.EINVAL, said)

    # -- locks ------------------------------------------------------------------------------

    def flock(self, number: int, opening: Owner, exclusive: bool | None) -> None:
        held = self.flocks.setdefault(number, {})
        others = [value for key, value in held.items() if key != opening]
        if exclusive is not None and (any(others) or (exclusive and others)):
            raise OSError(errno.EWOULDBLOCK, "locked")
        held.pop(opening, None)
        if exclusive is not None:
            held[opening] = exclusive

    def conflict(
        self, number: int, owner: Owner, first: int, last: int, exclusive: bool
    ) -> tuple[int, int, bool] | None:
        for other, low, high, strong in self.ranges.get(number, ()):
            if other != owner and low <= last and first <= high and (exclusive or strong):
                return low, high, strong
        return None

    def lock_range(self, number: int, owner: Owner, first: int, last: int, exclusive: bool | None) -> None:
        if exclusive is not None and self.conflict(number, owner, first, last, exclusive):
            raise OSError(errno.EAGAIN, "locked")
        kept: list[tuple[Owner, int, int, bool]] = []
        for other, low, high, strong in self.ranges.get(number, ()):
            if other != owner or last < low or high < first:
                kept.append((other, low, high, strong))
                continue
            if low < first:
                kept.append((other, low, first - 1, strong))
            if last < high:
                kept.append((other, last + 1, high, strong))
        if exclusive is not None:
            kept.append((owner, first, last, exclusive))
        self.ranges[number] = kept


class Range(ctypes.Structure):
    """A ``struct flock`` of Linux."""

    _fields_ = (
        ("type", ctypes.c_short),
        ("whence", ctypes.c_short),
        ("start", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("pid", ctypes.c_int),
    )


def whole(method: Any) -> Any:
    """Make an operation one at a time, and none after the cut."""

    @functools.wraps(method)
    def made(self: View, *arguments: Any) -> Any:
        with self.disk.mutex:
            if method.__name__ not in ("getattr", "create", "release", "flush"):
                self.disk.check_power()
            return method(self, *arguments)

    return made


class View:
    """What one machine sees of the self.disk."""

    use_ns = True

    def __init__(self, disk: Disk, locks: str, links: bool, stale_s: float) -> None:
        self.disk, self.locks, self.links, self.stale_s = disk, locks, links, stale_s
        self.openings: dict[int, int] = {0: 0}  # 0 is any file of the hidden folder
        self.seen: dict[tuple[str, str], tuple[float, Any]] = {}

    def find(self, path: str) -> int:
        number = ROOT
        for name in path.split("/")[1:]:
            if name:
                number = self.disk.tree.nodes[number].names.get(name, 0)
                if not number:
                    raise OSError(errno.ENOENT, path)
        return number

    def place(self, path: str) -> tuple[int, str]:
        """Return directory and name, for a change: this view knows that it has made it."""
        self.seen.clear()
        folder, _, name = path.rpartition("/")
        return self.find(folder), name

    def remembered(self, kind: str, path: str, look: Any) -> Any:
        """Return what a look sees, or what it saw a moment ago."""
        if self.stale_s:
            at, found = self.seen.get((kind, path), (float("-inf"), None))
            if time.monotonic() - at < self.stale_s:
                if isinstance(found, OSError):
                    raise found
                return found
        try:
            found = look()
        except OSError as error:
            self.seen[kind, path] = (time.monotonic(), error)
            raise
        self.seen[kind, path] = (time.monotonic(), found)
        return found

    @whole
    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        if fh == 0 or path == f"/{HIDDEN}":
            return {"st_mode": (stat.S_IFREG if fh == 0 else stat.S_IFDIR) | 0o777, "st_nlink": 1}
        if path is not None and path.startswith(f"/{HIDDEN}/"):
            raise OSError(errno.ENOENT, path)
        self.disk.check_power()
        if fh is not None:
            return self.attributes(self.openings[fh])
        assert path is not None
        return dict(self.remembered("attributes", path, lambda: self.attributes(self.find(path))))

    def attributes(self, number: int) -> dict[str, Any]:
        node = self.disk.tree.nodes[number]
        at = int(node.at * 1e9)
        size = len(node.target.encode() if stat.S_ISLNK(node.mode) else node.content)
        links = node.links + 1 if stat.S_ISDIR(node.mode) else node.links
        return {"st_mode": node.mode, "st_nlink": links, "st_size": size, "st_ino": number, "st_uid": node.owner[0],
                "st_gid": node.owner[1], "st_atime": at, "st_mtime": at, "st_ctime": at}  # fmt: skip

    @whole
    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        names = self.remembered("names", path, lambda: dict(self.disk.tree.nodes[self.find(path)].names))
        listed = {".": ROOT, "..": ROOT, **names}
        return [
            (name, {"st_ino": number, "st_mode": self.disk.tree.nodes[number].mode}, 0)
            for name, number in listed.items()
        ]

    @whole
    def readlink(self, path: str) -> str:
        return self.disk.tree.nodes[self.find(path)].target

    def make(self, path: str, mode: int, target: str = "") -> int:
        self.disk.check_room()
        directory, name = self.place(path)
        if name in self.disk.tree.nodes[directory].names:
            raise OSError(errno.EEXIST, path)
        number = int(self.disk.do("make", directory, name, mode, time.time(), target))
        self.disk.faults.readonly |= name == self.disk.faults.readonly_after
        return number

    @whole
    def mkdir(self, path: str, mode: int) -> None:
        self.make(path, stat.S_IFDIR | mode)

    @whole
    def mknod(self, path: str, mode: int, dev: int) -> None:
        self.make(path, mode)

    @whole
    def symlink(self, target: str, source: str) -> None:
        self.make(target, stat.S_IFLNK | 0o777, source)

    @whole
    def create(self, path: str, mode: int, flags: int = 0) -> int:
        if path.startswith(f"/{HIDDEN}/"):
            self.disk.say(path.rpartition("/")[2])
            return 0
        self.disk.check_power()
        return self.opened(self.make(path, stat.S_IFREG | mode))

    def opened(self, number: int) -> int:
        opening = max(self.openings) + 1
        self.openings[opening] = number
        return opening

    @whole
    def open(self, path: str, flags: int) -> int:
        number = self.find(path)
        if self.stale_s:  # close-to-open: who opens a file sees it as it is
            self.seen["attributes", path] = (time.monotonic(), self.attributes(number))
        if flags & os.O_ACCMODE and self.disk.faults.readonly:
            raise OSError(errno.EROFS, path)
        if flags & os.O_TRUNC:
            self.seen.clear()
            self.disk.do("write", number, 0, None, time.time())
        return self.opened(number)

    @whole
    def release(self, path: str | None, fh: int) -> None:
        number = self.openings.pop(fh) if fh else 0
        self.disk.flocks.get(number, {}).pop((id(self), fh), None)

    @whole
    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        return bytes(self.disk.tree.nodes[self.openings[fh]].content[offset : offset + size])

    @whole
    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        number = self.openings[fh]
        if number:
            if offset + len(data) > len(self.disk.tree.nodes[number].content):
                self.disk.check_room()
            self.seen.clear()
            self.disk.do("write", number, offset, bytes(data), time.time())
        return len(data)

    @whole
    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        number = self.openings[fh] if fh is not None else self.find(str(path))
        self.seen.clear()
        if number:
            self.disk.do("write", number, length, None, time.time())

    @whole
    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        self.disk.sync(self.openings[fh])

    @whole
    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self.disk.sync(self.find(path))

    @whole
    def unlink(self, path: str) -> None:
        directory, name = self.place(path)
        self.find(path)
        self.disk.do("remove", directory, name, time.time())

    @whole
    def rmdir(self, path: str) -> None:
        directory, name = self.place(path)
        if self.disk.tree.nodes[self.find(path)].names:
            raise OSError(errno.ENOTEMPTY, path)
        self.disk.do("remove", directory, name, time.time())

    @whole
    def rename(self, old: str, new: str, flags: int = 0) -> None:
        (source, source_name), (target, target_name) = self.place(old), self.place(new)
        self.find(old)
        if flags & ~RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, new)
        if flags and target_name in self.disk.tree.nodes[target].names:
            raise OSError(errno.EEXIST, new)
        replaced = self.disk.tree.nodes[self.disk.tree.nodes[target].names.get(target_name, ROOT)]
        if replaced.names and replaced is not self.disk.tree.nodes[ROOT]:
            raise OSError(errno.ENOTEMPTY, new)
        self.disk.do("rename", source, source_name, target, target_name, time.time())

    @whole
    def link(self, target: str, source: str) -> None:
        if not self.links:
            raise OSError(errno.EPERM, target)
        self.disk.check_room()
        directory, name = self.place(target)
        if name in self.disk.tree.nodes[directory].names:
            raise OSError(errno.EEXIST, target)
        self.disk.do("link", self.find(source), directory, name, time.time())

    @whole
    def chmod(self, path: str | None, mode: int) -> None:
        self.seen.clear()
        self.disk.do("chmod", self.find(str(path)), mode)

    @whole
    def chown(self, path: str | None, uid: int, gid: int) -> None:
        return

    @whole
    def utimens(self, path: str | None, times: tuple[int, int] | None = None) -> None:
        self.seen.clear()
        self.disk.do("touch", self.find(str(path)), time.time() if times is None else times[1] / 1e9)

    @whole
    def statfs(self, path: str) -> dict[str, int]:
        free = 0 if self.disk.faults.full else 1 << 20
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bfree": free, "f_bavail": free,
                "f_files": 1 << 20, "f_ffree": free, "f_favail": free, "f_namemax": 255}  # fmt: skip

    @whole
    def flush(self, path: str | None, fh: int) -> None:
        return

    @whole
    def flock(self, path: str | None, fh: int, operation: int) -> None:
        if self.locks == "none":
            raise OSError(errno.ENOLCK, "no locks")
        if self.locks == "shared":
            kinds = {fcntl.LOCK_SH: False, fcntl.LOCK_EX: True, fcntl.LOCK_UN: None}
            self.disk.flock(self.openings[fh], (id(self), fh), kinds[operation & ~fcntl.LOCK_NB])

    @whole
    def lock(self, path: str | None, opened: Any, command: int, pointer: Any) -> None:
        if self.locks == "none":
            raise OSError(errno.ENOLCK, "no locks")
        wanted = ctypes.cast(pointer, ctypes.POINTER(Range)).contents
        if self.locks == "lie":
            if command == fcntl.F_GETLK:
                wanted.type = fcntl.F_UNLCK
            return
        number, owner = self.openings[opened.fh], (id(self), opened.lock_owner)
        first = wanted.start
        last = first + wanted.length - 1 if wanted.length else 1 << 62
        exclusive = {fcntl.F_RDLCK: False, fcntl.F_WRLCK: True, fcntl.F_UNLCK: None}[wanted.type]
        if command != fcntl.F_GETLK:
            self.disk.lock_range(number, owner, first, last, exclusive)
        elif (found := self.disk.conflict(number, owner, first, last, bool(exclusive))) is None:
            wanted.type = fcntl.F_UNLCK
        else:
            wanted.type = fcntl.F_WRLCK if found[2] else fcntl.F_RDLCK


def serve(mounts: Sequence[Path], folder: Path, **settings: Any) -> None:
    """Serve a disk at some mount points until all of them are unmounted."""
    os.environ["FUSE_LIBRARY_NAME"] = "fuse3"
    import logging

    import mfusepy

    logging.disable(logging.CRITICAL)
    disk = Disk(folder)

    class Mount(mfusepy.FUSE):  # type: ignore[misc]
        """It tells `lock` who asks, and `rename` what for; and it bears files that have no name any more."""

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
            self.operations.rename(os.fsdecode(old), os.fsdecode(new), flags)
            return 0

        def lock(self, path: Any, opened: Any, command: int, pointer: Any) -> int:
            self.operations.lock(None, opened.contents, command, pointer)
            return 0

        def flock(self, path: Any, opened: Any, operation: int) -> int:
            self.operations.flock(None, opened.contents.fh, operation)
            return 0

    options = {"foreground": True, "nothreads": True, "use_ino": True, "hard_remove": True, "direct_io": True}
    fresh = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}

    def run(mount: Path) -> None:
        Mount(View(disk, **settings), str(mount), fsname="lying-disk", **options, **fresh)

    threads = [threading.Thread(target=run, args=[mount]) for mount in mounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Mounted:
    """A mounted disk.

    Attributes
    ----------
    path : pathlib.Path
        Where it is, as one machine sees it.
    other : pathlib.Path
        Where it is, as another machine sees it.
    server : subprocess.Popen
        Who serves it.
    """

    server: subprocess.Popen[bytes]

    def __init__(self, folder: Path, views: int) -> None:
        self.folder = folder
        self.views = [folder / f"view{number}" for number in range(views)]
        self.path, self.other = self.views[0], self.views[-1]

    def say(self, word: str) -> None:
        """Tell the disk something; see the module's page."""
        tell(self.path, word)

    def changes(self) -> list[Change]:
        """Return all that was done to the disk."""
        self.say("save")
        found: list[Change] = pickle.loads((self.folder / CHANGES).read_bytes())
        return found


def tell(path: Path, word: str) -> None:
    """Tell the disk that is mounted at a path something."""
    os.close(os.open(path / HIDDEN / word, os.O_WRONLY | os.O_CREAT, 0o666))


def require_fuse() -> None:
    """Skip where no disk can be mounted, saying what is missing."""
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    try:
        import mfusepy  # noqa: F401
    except ImportError:
        pytest.skip("there is no mfusepy: it is in the test extra")
    except OSError as error:
        pytest.skip(f"{error}: install Debian's package fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there, or not ours to use")


@contextlib.contextmanager
def lying_disk(
    folder: Path, *, locks: str = "shared", links: bool = True, stale_s: float = 0.0, views: int = 1
) -> Iterator[Mounted]:
    """Mount a disk, and unmount it whatever happens; skip where that is impossible.

    Parameters
    ----------
    folder : pathlib.Path
        Where it may be mounted.
    locks : {'shared', 'none', 'lie'}
        Whether they work.
    links : bool
        Whether there are hard links.
    stale_s : float
        How old attributes and listings may be, in seconds.
    views : int
        As how many machines see it.
    """
    require_fuse()
    disk = Mounted(folder, views)
    for view in disk.views:
        view.mkdir(parents=True)
    kind = json.dumps({"locks": locks, "links": links, "stale_s": stale_s})
    command = [sys.executable, __file__, str(folder), kind, *map(str, disk.views)]
    with open(folder / "server.log", "wb") as log:
        disk.server = server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 180
        while not all(view.is_mount() for view in disk.views):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < until, "it was not mounted in time"
            select.poll().poll(10)
        yield disk
    finally:
        for view in disk.views:
            # Lazily: a process that still has something open there must not keep it mounted.
            subprocess.run(["fusermount3", "-uzq", str(view)], timeout=30, check=False)
        server.kill()
        server.wait(timeout=30)
        for view in disk.views:
            end_runners(view)


def end_runners(place: Path) -> None:
    """Kill the runners of a place that is gone for good, and their commands: both would go on for ever."""
    from matterstack.operators.local.runner.processes import children  # the server needs none of it

    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"\0{place}/".encode() not in arguments.read_bytes():
                continue
            runner = int(arguments.parent.name)
            commands = children(runner)
            os.kill(runner, signal.SIGKILL)  # first, so that it starts nothing more
            for command in commands:
                os.killpg(command, signal.SIGKILL)


if __name__ == "__main__":
    serve([Path(view) for view in sys.argv[3:]], Path(sys.argv[1]), **json.loads(sys.argv[2]))

"""The journal of a runner: claims, starts and ends of attempts, a line each."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import mmap
import os
import re
import time
from collections import deque

from .messages import flaw, is_number, is_time, is_whole
from .points import reach
from .processes import namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .messages import Message

_NAME = "journal.jsonl"
_TOKEN = re.compile(rb'^\["[a-z]+","([^"]*)"', re.MULTILINE)
_BLOCK = 1 << 22  # bytes read at once, and more than any record is long
_SLOTS = 1 << 25  # of memory that the kernel gives as it is written to, so a short journal takes little
_FEW = 8
_LONGEST_S = 1e12
_MOST_KEPT = 100_000
_MAX_PID = 1 << 22
_MAX_TICKS = 1 << 53
_SYNC_AGAIN_S = 1.0


def sync_path(path: str) -> None:
    """Bring a file, or the names in a directory, to disk; no link is followed, and nothing is waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _record(kind: str, token: str, rest: str) -> str:
    """Return a line of the journal; `rest` is JSON text."""
    return f'["{kind}","{token}"{"," if rest else ""}{rest}]\n'


def _slot(token: str) -> int:
    return hash(token.encode()) & (_SLOTS - 1)


class Records:
    """What the journal says of one attempt.

    Attributes
    ----------
    claimed : bool
        It was claimed, and may have been started.
    claim : str
        Of the file that its processes hold locked, the device and the inode; empty where that is not known.
    namespace : str
        In which processes have the ids that are told here; see `processes.namespace`.
    limit_s : float or None
        Its time limit, in seconds.
    grace_s : float
        From SIGTERM to SIGKILL, in seconds.
    pid : int
        Of its first process; 0 where that is not known.
    start : tuple of int
        Clock ticks since boot, between which that process was started.
    started_at : float or None
        Seconds since the Unix epoch.
    end : dict or None
        The message that told of its end.
    """

    __slots__ = ("claim", "claimed", "end", "grace_s", "limit_s", "namespace", "pid", "start", "started_at")

    def __init__(self) -> None:
        self.end: Message | None = None
        self.unclaim()

    def unclaim(self) -> None:
        """Forget the claim and all that followed from it."""
        self.claimed = False
        self.claim = ""
        self.namespace = ""
        self.limit_s: float | None = None
        self.grace_s = 0.0
        self.pid = 0
        self.start = (0, 0)
        self.started_at: float | None = None

    def take(self, line: bytes, token: str, journal: str) -> None:
        """Add a line about the attempt, unless it is not a whole record of one of the kinds.

        Parameters
        ----------
        line : bytes
            One line, whatever is in it.
        token : str
            Of the attempt.
        journal : str
            Device and inode of the journal. In a copy of it they differ from those in the claims: the processes that
            it tells of belong to the original.
        """
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return
        match record:
            case ["free", str(whose)] if whose == token:  # claimed, and then not started
                self.unclaim()
            case ["claim", str(whose)] if whose == token:
                self.claimed = True
            case ["claim", str(whose), str(kept_in), str(claim), str(namespace), limit, grace] if whose == token:
                if (limit is None or is_number(limit, 0, _LONGEST_S)) and is_number(grace, 0, _LONGEST_S):
                    self.claimed = True
                    if kept_in == journal:
                        self.claim, self.namespace, self.limit_s, self.grace_s = claim, namespace, limit, grace
            case ["start", str(whose), pid, since, until, at] if whose == token and self.claim:
                ticks = is_whole(since, 0, _MAX_TICKS) and is_whole(until, 0, _MAX_TICKS)
                if is_whole(pid, 1, _MAX_PID) and ticks and is_time(at):
                    self.pid, self.start, self.started_at = pid, (since, until), at
            case ["end", str(whose), {"event": "ended", "token": str(named)} as message] if whose == named == token:
                if flaw(message) is None:
                    self.end = message


class Journal:
    """The file ``journal.jsonl`` of the present directory.

    It may be long, so no question waits until all of it was read: what it says of some attempts is searched for, and
    kept. Before anything is started, it is read once, bit by bit, into a filter of fixed size, which errs only by
    taking some attempts for known that are not.

    Attributes
    ----------
    unwritten : list of str
        Lines of what has happened already, and has to be written yet.
    dirty_since : float
        When, as `time.monotonic` counts, the first line was written that may not be on disk; 0 for none.
    """

    def __init__(self) -> None:
        self.file = os.open(_NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        self.dirty_since = 0.0
        self._unsynced: list[bytes] = []
        self._sync_not_before = 0.0
        self.unwritten: list[str] = []
        # A bytearray would be written to from end to end now.
        self._slots = mmap.mmap(-1, _SLOTS, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._own = 0  # bytes that this runner has appended; all others are of somebody else
        self._read_to = 0  # up to here it is in the filter
        self._read_others: int | None = None  # how much others had written when all of it was
        self._kept: dict[str, Records] = {}
        # A line that a crash cut off ends now, so that the next one stands alone.
        status = os.fstat(self.file)
        self.mark = f"{status.st_dev}:{status.st_ino}"
        self.namespace = namespace()
        if status.st_size and os.pread(self.file, 1, status.st_size - 1) != b"\n":
            os.write(self.file, b"\n")
        elif not status.st_size:
            with contextlib.suppress(OSError):  # its name; what is written to it is synced as it comes
                sync_path(".")
        self._known_others = self._size()  # how much others had written when something of it was kept

    # -- writing ------------------------------------------------------------------------

    def claim(self, token: str, claim: str, limit_s: float | None, grace_s: float) -> None:
        """Write that an attempt is about to be started; it is visible at once, and on disk soon.

        Parameters
        ----------
        token : str
            Of the attempt.
        claim : str
            Device and inode of the file that its processes hold locked.
        limit_s, grace_s : float
            Its time limit, and the time from SIGTERM to SIGKILL, in seconds.

        Raises
        ------
        OSError
            It could not be written, for example because the disk is full; nothing was.
        """
        limit = "null" if limit_s is None else repr(min(float(limit_s), _LONGEST_S))
        rest = f'"{self.mark}","{claim}","{self.namespace}",{limit},{min(float(grace_s), _LONGEST_S)!r}'
        self._append("".join([*self.unwritten, _record("claim", token, rest)]).encode())
        self.unwritten.clear()
        self._slots[_slot(token)] = 1
        self._kept.pop(token, None)

    def write_later(self, kind: str, token: str, rest: str) -> None:
        """Have a record of what has happened already appended with the next claim, or by `write_rest`.

        Parameters
        ----------
        kind : str
            ``start``, ``free`` or ``end``.
        token : str
            Of the attempt.
        rest : str
            What else is known, as JSON text.
        """
        self.unwritten.append(_record(kind, token, rest))
        self._slots[_slot(token)] = 1
        self._kept.pop(token, None)

    def write_rest(self) -> None:
        """Append what has happened already: when the disk is full, as soon as it is not."""
        if self.unwritten:
            with contextlib.suppress(OSError):
                self._append("".join(self.unwritten).encode())
                self.unwritten.clear()
                reach("runner.journalled")

    def _append(self, lines: bytes) -> None:
        self._write(lines)
        self._unsynced.append(lines)
        self._own += len(lines)
        self.dirty_since = self.dirty_since or time.monotonic()

    def _write(self, lines: bytes) -> None:
        written = os.write(self.file, lines)
        if written != len(lines):
            os.ftruncate(self.file, os.fstat(self.file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Bring the journal to disk.

        What the system could not write it forgets, and the next call would succeed without it: so that is written
        again. A line that is there twice says no more than once.
        """
        if time.monotonic() < self._sync_not_before:
            return
        try:
            if self._sync_not_before:
                again = b"".join(self._unsynced)
                self._write(again)
                self._own += len(again)
            os.fdatasync(self.file)
        except OSError:
            self._sync_not_before = time.monotonic() + _SYNC_AGAIN_S
            return
        self.dirty_since = self._sync_not_before = 0.0
        self._unsynced.clear()

    # -- reading ------------------------------------------------------------------------

    def _size(self) -> int:
        return os.fstat(self.file).st_size

    def read_on(self) -> bool:
        """Read some more of it, and return whether all of it was read."""
        size = self._size()
        if size - self._own == self._read_others:  # what is new is our own, and is in the filter
            self._read_to = size
        if self._read_to > size:  # somebody has cut it
            self._read_to = 0
        if self._read_to < size:
            block = os.pread(self.file, _BLOCK, self._read_to)
            # A line that goes on behind the block is taken in with the next one, unless it is too long for a record.
            block = block[: block.rfind(b"\n") + 1] or block
            # In C from end to end: ten million lines are some seconds.
            slots = map((_SLOTS - 1).__and__, map(hash, _TOKEN.findall(block)))
            deque(map(self._slots.__setitem__, slots, itertools.repeat(1)), maxlen=0)
            self._read_to += len(block)
        if self._read_to == size:
            self._read_others = size - self._own
        return self._read_to == size

    def has_claimed(self, token: str) -> bool:
        """Return whether an attempt was claimed, and may have been started."""
        return bool(self._slots[_slot(token)]) and self.recorded([token])[token].claimed

    def recorded(self, tokens: Iterable[str]) -> dict[str, Records]:
        """Return what the journal says of some attempts, by token."""
        others = self._size() - self._own
        if others != self._known_others:  # another runner has written, which had lost the lock
            self._kept.clear()
            self._known_others = others
        is_read = self._read_others == others
        found: dict[str, Records] = {}
        missing: dict[bytes, Records] = {}
        for token in tokens:
            records = self._kept.get(token)
            if records is None:
                records = Records()
                if not is_read or self._slots[_slot(token)]:
                    missing[token.encode()] = records
            found[token] = records
        if missing:
            self._search(missing)
            if len(self._kept) > _MOST_KEPT:
                self._kept.clear()
            self._kept.update((key.decode(), records) for key, records in missing.items())
        return found

    def _search(self, missing: dict[bytes, Records]) -> None:
        """Read all that the journal says of some attempts."""
        unwritten = "".join(self.unwritten).encode()
        _take_all(itertools.chain(_blocks(self.file), [unwritten]), missing, self.mark)


def records_in(path: str | os.PathLike[str], tokens: Iterable[str]) -> dict[str, Records]:
    """Return what a journal that is nobody's at the moment says of some attempts, by token; it is only read."""
    missing = {token.encode(): Records() for token in tokens}
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        _take_all(_blocks(file), missing, f"{status.st_dev}:{status.st_ino}")
    finally:
        os.close(file)
    return {key.decode(): records for key, records in missing.items()}


def _take_all(blocks: Iterable[bytes], missing: dict[bytes, Records], mark: str) -> None:
    """Add to records of some attempts all that whole lines of a journal say."""
    for block in blocks:
        here: Iterable[bytes] = missing
        if len(missing) > _FEW:
            here = missing.keys() & set(_TOKEN.findall(block))
        for key in here:
            for line in _lines_with(block, b'","' + key + b'"'):
                missing[key].take(line, key.decode(), mark)


def _blocks(file: int) -> Iterator[bytes]:
    """Yield a journal, some whole lines at a time; one longer than a block is no record."""
    rest = b""
    is_cut = False
    offset = 0
    while chunk := os.pread(file, _BLOCK, offset):
        offset += len(chunk)
        lines, newline, tail = chunk.rpartition(b"\n")
        if newline:
            block = rest + lines + newline
            yield block.partition(b"\n")[2] if is_cut else block
            rest, is_cut = tail, False
        elif not is_cut:
            rest += tail
        if len(rest) > _BLOCK:
            rest, is_cut = b"", True


def _lines_with(block: bytes, needle: bytes) -> Iterator[bytes]:
    """Yield the lines of a block that have something in them."""
    position = 0
    while (position := block.find(needle, position)) >= 0:
        end = block.find(b"\n", position)
        yield block[block.rfind(b"\n", 0, position) + 1 : end]
        position = end

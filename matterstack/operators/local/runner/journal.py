"""The journal of a runner: claims, starts and ends of attempts, a line each."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time

from .points import reach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAME = "journal.jsonl"


def _record(kind: str, token: str, rest: str) -> str:
    """Return a line of the journal; `rest` is JSON text."""
    return f'["{kind}","{token}"{"," if rest else ""}{rest}]\n'


class Journal:
    """The file ``journal.jsonl`` of the present directory.

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
        self.unwritten: list[str] = []
        # A line that a crash cut off ends now, so that the next one stands alone.
        size = os.fstat(self.file).st_size
        if size and os.pread(self.file, 1, size - 1) != b"\n":
            os.write(self.file, b"\n")

    def write(self, kind: str, token: str, rest: str = "") -> None:
        """Append a record whole; it is visible at once, and on disk soon.

        Parameters
        ----------
        kind : str
            ``claim``, ``start`` or ``end``.
        token : str
            Of the attempt.
        rest : str
            What else is known, as JSON text.

        Raises
        ------
        OSError
            It could not be written, for example because the disk is full; nothing was.
        """
        lines = "".join([*self.unwritten, _record(kind, token, rest)]).encode()
        self._append(lines)
        self.unwritten.clear()

    def write_later(self, kind: str, token: str, rest: str) -> None:
        """Have a record of what has happened already appended with the next one, or by `write_rest`."""
        self.unwritten.append(_record(kind, token, rest))

    def write_rest(self) -> None:
        """Append what has happened already: when the disk is full, as soon as it is not."""
        if self.unwritten:
            with contextlib.suppress(OSError):
                self._append("".join(self.unwritten).encode())
                self.unwritten.clear()
                reach("runner.journalled")

    def _append(self, lines: bytes) -> None:
        written = os.write(self.file, lines)
        if written != len(lines):
            os.ftruncate(self.file, os.fstat(self.file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.dirty_since = self.dirty_since or time.monotonic()

    def sync(self) -> None:
        """Bring the journal to disk."""
        with contextlib.suppress(OSError):
            os.fdatasync(self.file)
            self.dirty_since = 0.0

    def recorded(self, tokens: list[str]) -> dict[str, dict[str, list[Any]]]:
        """Return the journal's records of some attempts, by token and kind, in one pass."""
        self.write_rest()
        found: dict[str, dict[str, list[Any]]] = {token: {} for token in tokens}
        with open(_NAME, "rb") as journal:
            for line in journal:
                parts = line.split(b'"', 4)
                if len(parts) == 5 and (token := parts[3].decode(errors="replace")) in found:
                    with contextlib.suppress(ValueError):
                        kind, _, *rest = json.loads(line)
                        found[token][kind] = rest
                        if kind == "free":  # claimed, and then not started
                            found[token].pop("claim", None)
        return found

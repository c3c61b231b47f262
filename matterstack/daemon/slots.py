"""Slots: how many workers may be at work at once, shared fairly by the processes of workspaces."""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

#: A workspace that was not heard of for so long hangs with its disk, and its slots are not counted.
_SILENT_S = 30.0
_HUNGRY_S = 2.0
#: Of each workspace: how many it uses, when it was heard of, and when it last wanted one in vain; as doubles.
_USED, _HEARD, _HUNGRY, _CELLS = 0, 1, 2, 3


class Slots:
    """What all workspaces share, in memory that their processes share.

    Parameters
    ----------
    most : int
        How many workers may be at work at once.
    workspaces : int
        How many they are.
    """

    def __init__(self, most: int, workspaces: int) -> None:
        self.most = most
        self._file = os.memfd_create("matterstack-slots", os.MFD_CLOEXEC)
        os.ftruncate(self._file, 8 * _CELLS * workspaces)
        self._cells = memoryview(mmap.mmap(self._file, 0)).cast("d")

    def of(self, number: int) -> Share:
        """Return what one of the workspaces sees of them."""
        return Share(self, number)

    @contextlib.contextmanager
    def alone(self) -> Iterator[memoryview[float]]:
        """Lock the cells, and give them; the lock of a process that is killed is free."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield self._cells
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class Share(NamedTuple):
    """The slots as one workspace sees them."""

    slots: Slots
    number: int

    def take(self) -> bool:
        """Take a slot; return False where there is none, and a share is kept for whoever asks so."""
        now, mine = time.monotonic(), _CELLS * self.number
        with self.slots.alone() as cells:
            cells[mine + _HEARD] = now
            rows = range(0, len(cells), _CELLS)
            hungry = {row for row in rows if now - cells[row + _HUNGRY] < _HUNGRY_S} | {mine}
            used = sum(cells[row + _USED] for row in rows if now - cells[row + _HEARD] < _SILENT_S)
            most = self.slots.most
            if used >= most or (len(hungry) > 1 and cells[mine + _USED] >= math.ceil(most / len(hungry))):
                cells[mine + _HUNGRY] = now
                return False
            cells[mine + _USED] += 1
            return True

    def give(self) -> None:
        """Give a slot back."""
        with self.slots.alone() as cells:
            cells[_CELLS * self.number + _USED] -= 1

    def set_hungry(self, hungry: bool) -> None:
        """Say that the workspace is alive, and whether it has runs that wait for a slot."""
        mine = _CELLS * self.number
        with self.slots.alone() as cells:
            cells[mine + _HEARD] = time.monotonic()
            if not hungry:
                cells[mine + _HUNGRY] = -math.inf

    def is_wanted(self) -> bool:
        """Return whether any workspace waits for a slot."""
        now = time.monotonic()
        with self.slots.alone() as cells:
            return any(now - cells[row + _HUNGRY] < _HUNGRY_S for row in range(0, len(cells), _CELLS))

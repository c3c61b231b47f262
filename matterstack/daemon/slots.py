"""Slots: how many workers may be at work at once, shared fairly by workspaces."""

from __future__ import annotations

import math
import threading
import time

#: A workspace that was not heard of for so long hangs with its disk, and its slots are not counted.
_SILENT_S = 30.0
_HUNGRY_S = 2.0


class Slots:
    """What all workspaces share.

    Parameters
    ----------
    most : int
        How many workers may be at work at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self._hungry: dict[str, float] = {}

    def take(self, workspace: str) -> bool:
        """Take a slot; return False where there is none, and a share is kept for whoever asks so."""
        now = time.monotonic()
        with self._lock:
            self._heard[workspace] = now
            hungry = {name for name, at in self._hungry.items() if now - at < _HUNGRY_S} | {workspace}
            counted = {name: n for name, n in self._used.items() if now - self._heard[name] < _SILENT_S}
            mine = self._used.get(workspace, 0)
            if sum(counted.values()) >= self.most or (len(hungry) > 1 and mine >= math.ceil(self.most / len(hungry))):
                self._hungry[workspace] = now
                return False
            self._used[workspace] = mine + 1
            return True

    def give(self, workspace: str) -> None:
        """Give a slot back."""
        with self._lock:
            self._used[workspace] -= 1

    def set_hungry(self, workspace: str, hungry: bool) -> None:
        """Say that a workspace is alive, and whether it has runs that wait for a slot."""
        now = time.monotonic()
        with self._lock:
            self._heard[workspace] = now
            if not hungry:
                self._hungry.pop(workspace, None)

    def is_wanted(self) -> bool:
        """Return whether any workspace waits for a slot."""
        now = time.monotonic()
        with self._lock:
            return any(now - at < _HUNGRY_S for at in self._hungry.values())

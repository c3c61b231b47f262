"""The memory of commands that may use so much and no more: looked at each second, while there is such a command."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LOOK_EVERY_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_GIB = 1 << 30
#: What to do about it.
RAISE = "raise it with run.retry(task, resources={'memory_gib': ...})"


class MemoryWatch:
    """The commands whose memory is watched.

    Attributes
    ----------
    due : float
        When to look again, as `time.monotonic` counts; infinite while none is watched.
    """

    def __init__(self) -> None:
        self.due = float("inf")
        self._most: dict[int, float] = {}

    def begin(self, pid: int, most_gib: float) -> None:
        """Watch the processes of a command, by the id of its first one, which leads a session."""
        self._most[pid] = most_gib
        self.due = min(self.due, time.monotonic() + _LOOK_EVERY_S)

    def end(self, pid: int) -> None:
        """Watch a command no more."""
        self._most.pop(pid, None)
        if not self._most:
            self.due = float("inf")

    def over(self) -> dict[int, str]:
        """Return why commands have to be stopped that use too much, by their first process, where it is due to look."""
        now = time.monotonic()
        if now < self.due:
            return {}
        self.due = now + _LOOK_EVERY_S
        found = {}
        for pid, processes in sessions(self._most).items():
            most_gib = self._most[pid]
            # What processes share, as after a fork, is in the resident size of each; to divide it takes longer.
            if sum(processes.values()) > most_gib * _GIB:
                used = sum(shared_out(process, resident) for process, resident in processes.items())
                if used > most_gib * _GIB:
                    found[pid] = (
                        f"memory limit: used {used / _GIB:.3g} GiB, and its memory_gib is {most_gib:.3g}; it was "
                        f"watched, each second, and stopped: {RAISE}"
                    )
        return found


def sessions(leaders: Iterable[int]) -> Mapping[int, dict[int, int]]:
    """Return the processes of sessions and of what descends from them, with their resident sizes in bytes."""
    found: dict[int, dict[int, int]] = {leader: {} for leader in leaders}
    session_of: dict[int, int] = {}
    sizes: dict[int, int] = {}
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            pid, parent = int(name), int(fields[1])
            session_of[pid], sizes[pid] = int(fields[3]), int(fields[21]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            continue  # it is over
        below.setdefault(parent, []).append(pid)
    owner = {pid: session for pid, session in session_of.items() if session in found}
    waiting = list(owner)
    while waiting:
        pid = waiting.pop()
        found[owner[pid]][pid] = sizes[pid]
        for child in below.pop(pid, ()):
            if child not in owner:
                owner[child] = owner[pid]
                waiting.append(child)
    return found


def shared_out(pid: int, resident: int) -> int:
    """Return the memory of a process in bytes, where what it shares counts in parts (proc_pid_smaps(5), Pss)."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass  # it is over, or another user's, or the kernel does not tell
    return resident if os.path.exists(f"/proc/{pid}") else 0

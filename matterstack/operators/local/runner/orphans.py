"""Orphans: commands that an earlier runner started, and that go on without it."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .processes import (
    TICKS_PER_S,
    Traces,
    file_mark,
    first_process,
    is_locked,
    may_hide,
    namespace,
    search,
    send,
    start_time,
    stop_trees,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .control_groups import ControlGroups
    from .journal import Records
    from .messages import Message

_LOOK_EVERY_S = 5.0
_LOOK_WHILE_STOPPING_S = 0.05
_KILL_AGAIN_S = 1.0


class Orphan:
    """One attempt whose runner is gone, and whose processes, or the lock they inherited, are there.

    Attributes
    ----------
    processes : dict
        Ids of its processes, with when each started, in clock ticks since boot.
    stopping : str or None
        Why it is being stopped.
    kill_at : float
        When its grace is over, as `time.monotonic` counts.
    """

    began = 0.0  # the present runner did not start it

    def __init__(self, token: str, directory: str, records: Records) -> None:
        self.token = token
        self.directory = directory
        self.grace_s = records.grace_s
        self.limit_s = records.limit_s
        self.started_at = records.started_at or 0.0
        self.processes: dict[int, int] = {}
        self.stopping: str | None = None
        self.kill_at = float("inf")
        self._namespace = records.namespace
        self._is_of_here = records.namespace == namespace()  # ids are those of that namespace
        self._pid = records.pid if self._is_of_here else 0
        self._start = records.start
        self._first_is_over = False  # as what it left shows
        self._claim = records.claim

    @property
    def external_id(self) -> str | None:
        """What identifies its first process on this machine: its id and when it started."""
        return f"{self._pid}:{self._start[0]}" if self._pid else None

    @property
    def traces(self) -> Traces:
        """What its processes are known by."""
        claims = {self._claim} if self._claim else set()
        with contextlib.suppress(OSError):  # its command may have removed it
            claims.add(file_mark(os.lstat(f"{self.directory}/stdout.txt")))
        return Traces(self.token, claims, self.directory, self._pid, self._start)

    def is_over(self) -> bool:
        """Return whether its command is: its first process where that is known, else all that were found."""
        if self._first_is_over:
            return True
        if self._pid:
            return not self._start[0] - 1 <= start_time(self._pid) <= self._start[1] + 1
        return not any(start_time(pid) == start for pid, start in self.processes.items())

    def take(self, processes: dict[int, int]) -> None:
        """Keep which processes it has, and learn from them which came first, where the journal does not tell."""
        self.processes = processes
        if self._pid or self._first_is_over or not self._is_of_here:
            return
        for pid in processes:
            if (first := first_process(pid)) is not None:
                if first[1] >= 0:
                    self._pid, self._start = first[0], (first[1], first[1])
                else:
                    self._first_is_over = True
                return

    def is_locked(self) -> bool:
        """Return whether somebody holds its lock, whether or not that process can be seen."""
        return is_locked(f"{self.directory}/stdout.txt")

    def is_hidden(self) -> bool:
        """Return whether its processes may be alive in another container, and nobody has said that they are not."""
        return may_hide(self._namespace) and os.path.lexists(f"{self.directory}/stdout.txt")

    def remaining_s(self) -> float:
        """Return what is left of its time limit, counted from its start; infinite where it has none."""
        since = self._start[0] if self._pid else min(self.processes.values(), default=None)
        if self.limit_s is None or since is None:
            return float("inf")
        return since / TICKS_PER_S + self.limit_s - time.clock_gettime(time.CLOCK_BOOTTIME)

    def patience_s(self) -> float:
        """Return when to look at it again, in seconds from now."""
        if self.stopping is None:
            return max(0.0, min(_LOOK_EVERY_S, self.remaining_s()))
        return _LOOK_WHILE_STOPPING_S if self.processes else _LOOK_EVERY_S

    def message(self) -> Message:
        """Return what there is to tell of it."""
        reason = "it goes on although the process that started it was killed; its exit code will be unknown"
        if self.stopping is not None:
            reason = f"{self.stopping}; it has not ended yet"
        elif not self.processes and not self.is_locked() and self.is_hidden():
            reason = (
                "it was started in another container, whose processes are not seen from here, and the process that "
                "watched it was killed: step the run in that container or on its host; or, when that container is "
                f"gone, say so by moving stdout.txt out of {self.directory}: then it is LOST"
            )
        elif self.is_over():
            reason = "a process that cannot be seen from here holds the lock of its stdout.txt: end that process"
        return {
            "event": "started",
            "token": self.token,
            "external_id": self.external_id,
            "started_at": self.started_at or None,
            "reason": reason,
        }


class Orphans:
    """The orphans that somebody has asked about; their time limits are kept as those of other commands.

    Of however many, each look is one pass over all processes.

    Parameters
    ----------
    groups : ControlGroups
        Where those lie that keep some to their memory.

    Attributes
    ----------
    known : dict
        By token.
    due : float
        When something has to be done about one, as `time.monotonic` counts; infinite for never.
    """

    def __init__(self, groups: ControlGroups) -> None:
        self._groups = groups
        self.known: dict[str, Orphan] = {}
        self.due = float("inf")

    def find(self, attempts: Iterable[tuple[str, str, Records]]) -> list[Orphan]:
        """Look whether attempts that another runner claimed are alive.

        Parameters
        ----------
        attempts : iterable of tuple
            Token, directory, and what the journal says.

        Returns
        -------
        list of Orphan
            Those that were being stopped, or that the kernel has killed, and are over.
        """
        asked = [
            self.known.setdefault(token, Orphan(token, directory, records)) for token, directory, records in attempts
        ]
        over = self._look(asked)
        self._plan()
        return over

    def stop(self, tokens: Iterable[str], reason: str) -> None:
        """Ask orphans to end; they are killed when their grace is over."""
        self._stop([self.known[token] for token in tokens if token in self.known], lambda _: reason)
        self._plan()

    def tend(self) -> list[Orphan]:
        """Stop those that are over their time, kill those that did not obey, and return those that are over."""
        now = time.monotonic()
        if now < self.due:
            return []
        watched = [orphan for orphan in self.known.values() if orphan.stopping or orphan.limit_s is not None]
        over = self._look(watched)
        self._stop(
            [orphan for orphan in watched if orphan.token in self.known and orphan.remaining_s() <= 0],
            lambda orphan: f"time limit: it was stopped after {orphan.limit_s:g} s",
        )
        late = [orphan for orphan in watched if orphan.token in self.known and now >= orphan.kill_at]
        self._search(late)
        for orphan in late:
            stop_trees(orphan.processes)
            orphan.kill_at = now + _KILL_AGAIN_S
        self._plan()
        return over

    def _plan(self) -> None:
        """Say when to look again."""
        waits = [orphan.patience_s() for orphan in self.known.values() if orphan.stopping or orphan.limit_s is not None]
        self.due = time.monotonic() + min(waits, default=float("inf"))

    def _look(self, orphans: Sequence[Orphan]) -> list[Orphan]:
        """Forget those of which nothing is alive; return of these the ones that were stopped, and are known to be."""
        over = [orphan for orphan in orphans if orphan.is_over()]
        self._search(over)
        for orphan in over:
            if orphan.is_over():  # what its command has left ends with it, as when its runner lives
                stop_trees(orphan.processes)
        gone = [
            orphan
            for orphan in over
            if not orphan.processes and not orphan.is_locked() and (orphan.stopping or not orphan.is_hidden())
        ]
        for orphan in gone:
            del self.known[orphan.token]
            why_killed = self._groups.end(orphan.token)
            orphan.stopping = orphan.stopping or why_killed
        return [orphan for orphan in gone if orphan.stopping]

    def _search(self, orphans: Sequence[Orphan]) -> None:
        if orphans:
            found = search([orphan.traces for orphan in orphans])
            for orphan in orphans:
                orphan.take(found[orphan.token])

    def _stop(self, orphans: Sequence[Orphan], reason: Callable[[Orphan], str]) -> None:
        new = [orphan for orphan in orphans if orphan.stopping is None]
        self._search(new)
        for orphan in new:
            orphan.stopping = reason(orphan)
            orphan.kill_at = time.monotonic() + orphan.grace_s
            for pid in orphan.processes:
                send(pid, signal.SIGTERM)

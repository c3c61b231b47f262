"""Keepers as their daemon sees them: a process per workspace, started, heard once, and told to stop."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matterstack.daemon.keeper import STUCK_S, Keeper
from matterstack.daemon.slots import Share
from matterstack.errors import LockError, RunLockedError
from matterstack.storage.run_lock import RunLock

log = logging.getLogger("matterstack.daemon")

#: A keeper has so long to end beyond what its workers have; one that hangs with its disk has no word of its end.
_LAST_S = 3.0
_MOST_SAID = 10_000


class KeeperProcess:
    """A process that keeps the runs of a workspace going until it is told to stop, or its daemon is no more.

    It has the handlers of signals that the daemon has, and does nothing at a signal that a terminal sends to all: the
    daemon tells it.

    Parameters
    ----------
    base_path : pathlib.Path
    workspace : str
    slots : Share
    once : bool
        Whether it ends when nothing is due any more.
    others : iterable of KeeperProcess
        Those that were started before.

    Attributes
    ----------
    place : pathlib.Path
        The workspace.
    code : int or None
        How it ended, once it has.
    pidfd : int
        Turns readable when it has ended.
    tells : int
        The end of a pipe; when no process has it any more, the keeper stops.
    """

    def __init__(
        self, base_path: Path, workspace: str, slots: Share, *, once: bool, others: Iterable[KeeperProcess]
    ) -> None:
        self.place = base_path / "workspaces" / workspace
        self.code: int | None = None
        told, self.tells = os.pipe2(os.O_CLOEXEC)
        self._answer, answer = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                for descriptor in (self.tells, *(one.tells for one in others)):
                    os.close(descriptor)
                code = _keep(self.place, Keeper(base_path, workspace, slots, told, once=once), answer)
            except BaseException:  # nothing may go on here in whatever called the daemon
                log.exception("workspace %s: what keeps its runs going has failed", self.place)
            finally:
                os._exit(code)
        os.close(told)
        os.close(answer)
        self.pidfd = os.pidfd_open(self._pid)

    def has_begun(self, wait_s: float) -> bool:
        """Return whether it keeps the workspace now.

        Raises
        ------
        RunLockedError
            Another daemon does.
        LockError
            The workspace cannot be locked.
        """
        if not select.select([self._answer], [], [], wait_s)[0]:
            return False
        said: dict[str, Any] = json.loads(os.read(self._answer, _MOST_SAID) or b"{}")
        if "holder" in said:
            raise RunLockedError(said["why"], said["holder"])
        if "why" in said:
            raise LockError(said["why"])
        return True

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        if self.code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def stop(self) -> None:
        """Tell it to stop."""
        os.close(self.tells)

    def kill(self) -> None:
        """Kill it, and leave it to itself where it hangs with its disk even so."""
        if self.is_alive():
            log.warning("workspace %s: it hangs, and so does what keeps its runs going, which was killed", self.place)
            os.kill(self._pid, signal.SIGKILL)
            select.select([self.pidfd], [], [], _LAST_S)
            self.is_alive()

    def close(self) -> None:
        """Let go of it."""
        os.close(self.pidfd)
        os.close(self._answer)


def wait(keepers: Sequence[KeeperProcess], longest_s: float) -> None:
    """Wait until one of some keepers ends, or a while is over."""
    select.select([keeper.pidfd for keeper in keepers if keeper.is_alive()], [], [], longest_s)


def end(keepers: Sequence[KeeperProcess]) -> None:
    """End keepers: their workers have a while for the ticks that they are in."""
    for keeper in keepers:
        keeper.stop()
    until = time.monotonic() + STUCK_S + _LAST_S
    while any(keeper.is_alive() for keeper in keepers) and (left_s := until - time.monotonic()) > 0:
        wait(keepers, left_s)
    for keeper in keepers:
        keeper.kill()
        keeper.close()


def _keep(place: Path, keeper: Keeper, answer: int) -> int:
    """Keep a workspace, under the lock that one daemon of this user has; return the exit code."""
    lock, said = RunLock(place / f".daemon-{os.getuid()}.lock", os.getppid()), dict[str, Any]()
    try:
        lock.acquire()
    except RunLockedError as error:
        who = error.holder
        known = f"pid {who['pid']} on {who.get('host')}, since {who.get('since')}" if "pid" in who else None
        why = f"another daemon of yours steps the runs of {place} ({known or 'its lock does not say which'}): "
        why += "leave them to it, or stop it first"
        said = {"why": why, "holder": who}
    except LockError as error:
        said = {"why": str(error)}
    with contextlib.suppress(BrokenPipeError):  # the daemon was killed just now
        os.write(answer, json.dumps(said).encode())
    os.close(answer)
    if said:
        return 1
    keeper.run()
    return 0

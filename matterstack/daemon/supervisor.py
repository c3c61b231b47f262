"""The supervisor: a keeper a workspace, the signals that end them, and the log."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from matterstack.daemon.keeper import Keeper
from matterstack.daemon.slots import Slots
from matterstack.errors import RunLockedError
from matterstack.storage.run_lock import RunLock

log = logging.getLogger("matterstack.daemon")

#: At the end the workers have so long for the ticks that they are in; they stop after those in any case.
_LAST_TICKS_S = 60.0
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(
    places: Sequence[tuple[Path, str]], workers: int, *, once: bool, log_file: Path | None
) -> signal.Signals | None:
    """Step every run of workspaces that is active and trusted, until a signal ends it.

    Parameters
    ----------
    places : sequence of tuple
        Base path and name of each workspace.
    workers : int
        How many runs are stepped at once.
    once : bool
        Whether to end when nothing moves any more.
    log_file : pathlib.Path or None
        Where the log goes besides the standard error.

    Returns
    -------
    signal.Signals or None
        What ended it; None where it ended by itself.

    Raises
    ------
    RunLockedError
        Another daemon of this user keeps one of them.
    """
    handlers = [logging.StreamHandler(sys.stderr)] + ([logging.FileHandler(log_file)] if log_file else [])
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        return _serve(places, workers, once=once)
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def _serve(places: Sequence[tuple[Path, str]], workers: int, *, once: bool) -> signal.Signals | None:
    slots = Slots(workers)
    came: list[int] = []
    with ExitStack() as stack:
        for base_path, workspace in places:
            stack.callback(_locked(base_path / "workspaces" / workspace).release)
        before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDS}
        stack.callback(lambda: [signal.signal(number, handler) for number, handler in before.items()])
        keepers = [Keeper(base_path, workspace, slots, once=once) for base_path, workspace in places]
        for keeper in keepers:
            keeper.start()
        log.info("pid %s steps the runs of %s", os.getpid(), ", ".join(str(keeper.place) for keeper in keepers))
        alive = any if once else all  # else one that has ended has failed, and told why
        while not came and alive(keeper.is_alive() for keeper in keepers):
            for keeper in keepers:
                keeper.join(0.5 / len(keepers))
        for keeper in keepers:
            keeper.stop()
        until = time.monotonic() + _LAST_TICKS_S
        for keeper in keepers:
            keeper.join(max(0.0, until - time.monotonic()))
        ended_by = signal.Signals(came[0]) if came else None
        log.info("ended%s", f" by {ended_by.name}" if ended_by else "")
    return ended_by


def _locked(place: Path) -> RunLock:
    """Take the lock that one daemon of this user holds of a workspace.

    Raises
    ------
    RunLockedError
        Another one does.
    """
    lock = RunLock(place / f".daemon-{os.getuid()}.lock")
    try:
        lock.acquire()
    except RunLockedError as error:
        who = error.holder
        keeper = (
            f"pid {who['pid']} on {who.get('host')}, since {who.get('since')}" if "pid" in who else "it says not who"
        )
        raise RunLockedError(
            f"another daemon of yours steps the runs of {place} ({keeper}): leave them to it, or stop it first", who
        ) from None
    return lock

"""The supervisor: a keeper per workspace, the signals that end them, and the log."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from matterstack import platforms
from matterstack.daemon.keepers import KeeperProcess, end, wait
from matterstack.daemon.slots import Slots
from matterstack.errors import PlatformError

log = logging.getLogger("matterstack.daemon")

#: So soon a signal is heard.
_LOOK_S = 0.5
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class End(NamedTuple):
    """The end of a daemon.

    Attributes
    ----------
    by : signal.Signals or None
        None where it ended by itself.
    failed : bool
        Whether it ended because a workspace could not be kept any more; the log says which, and why.
    """

    by: signal.Signals | None
    failed: bool


def serve(places: Sequence[tuple[Path, str]], workers: int, *, once: bool, log_file: Path | None) -> End:
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
    End

    Raises
    ------
    PlatformError
        Daemons need Linux.
    RunLockedError
        Another daemon of this user keeps one of them.
    """
    if why := platforms.why_not(platforms.DAEMON):
        raise PlatformError(why)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file:  # what cron sets may have no letter for the name of a run
        handlers.append(logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace"))
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


def _serve(places: Sequence[tuple[Path, str]], workers: int, *, once: bool) -> End:
    slots, keepers, came = Slots(workers, len(places)), list[KeeperProcess](), list[int]()
    with ExitStack() as stack:
        before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDS}
        stack.callback(lambda: [signal.signal(number, handler) for number, handler in before.items()])
        stack.callback(end, keepers)
        for number, (base_path, workspace) in enumerate(places):
            keepers.append(KeeperProcess(base_path, workspace, slots.of(number), once=once, others=keepers))
        for keeper in keepers:
            while not came and not keeper.has_begun(_LOOK_S):
                pass
        log.info("pid %s steps the runs of %s", os.getpid(), ", ".join(str(keeper.place) for keeper in keepers))
        goes_on = any if once else all  # else one that has ended has failed, and told why
        while not came and goes_on([keeper.is_alive() for keeper in keepers]):
            wait(keepers, _LOOK_S)
    by = signal.Signals(came[0]) if came else None
    log.info("ended%s", f" by {by.name}" if by else "")
    return End(by, not by and (not once or any(keeper.code for keeper in keepers)))

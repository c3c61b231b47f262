"""The supervisor: a keeper a workspace, the signals that end them, and the log."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from matterstack.core.identifiers import check_identifier
from matterstack.daemon.keeper import Keeper
from matterstack.daemon.slots import Slots
from matterstack.errors import RunLockedError, RunNotFoundError
from matterstack.storage.run_directory import list_runs
from matterstack.storage.run_lock import RunLock

log = logging.getLogger("matterstack.daemon")

_MOST_WORKERS = 16
#: At the end the workers have so long for the ticks that they are in; they stop after those in any case.
_LAST_TICKS_S = 60.0
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Run ``matterstack daemon``.

    Returns
    -------
    int
        0 once it was told to end, and 1 where it failed.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    RunLockedError
        Another daemon of this user keeps one of them.
    """
    parser = argparse.ArgumentParser(
        prog="matterstack daemon",
        description="Step every run of workspaces that is active and trusted, each as soon as it can go on, until "
        "SIGTERM or SIGINT. Runs go on in the environment that they were made in. See docs/daemon.md.",
    )
    parser.add_argument("workspace", nargs="+", help="a name, or the path of <base_path>/workspaces/<name>")
    parser.add_argument("--base-path", type=Path, default=Path(), help="where workspaces/ is")
    default = min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))
    parser.add_argument("--workers", type=int, default=default, help="how many runs are stepped at once (%(default)s)")
    parser.add_argument("--once", action="store_true", help="step each run until nothing moves, and end: for cron")
    parser.add_argument("--log", type=Path, help="where the log goes besides the standard error")
    given = parser.parse_args(arguments)
    if not 1 <= given.workers <= 1000:
        parser.error("--workers must be a positive number, 1000 at most")
    places = dict.fromkeys(_place(given.base_path, workspace) for workspace in given.workspace)
    handlers = [logging.StreamHandler(sys.stderr)] + ([logging.FileHandler(given.log)] if given.log else [])
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        return _serve(list(places), given.workers, once=given.once)
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def _place(base_path: Path, given: str) -> tuple[Path, str]:
    """Return base path and name of a workspace, by its name or its path."""
    if os.sep in given:
        path = Path(given).absolute()
        if path.parent.name != "workspaces":
            raise RunNotFoundError(f"{path} is no workspace: those are at <base_path>/workspaces/<name>", path=path)
        base_path, given = path.parent.parent, path.name
    check_identifier(given, "workspace name")
    list_runs(base_path, given)  # which says what there is instead
    return base_path.absolute(), given


def _serve(places: list[tuple[Path, str]], workers: int, *, once: bool) -> int:
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
        log.info("ended%s", f" by {signal.Signals(came[0]).name}" if came else "")
    return 0 if came or once else 1


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

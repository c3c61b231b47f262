"""Named crash points: where a test may kill the process, or make a call fail.

Every side effect of a run is preceded and followed by a call of `reach`. Unless a test
armed a point, `reach` returns at once.

A process is armed by ``MATTERSTACK_CRASH="<action>:<point>:<hit>"`` in its environment, or
by `arm`; ``record:<file>`` appends the names of the points it reaches to a file instead.
``MATTERSTACK_CRASH_RUNNER`` does the same for the runner of local commands that the process starts.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

VARIABLE = "MATTERSTACK_CRASH"

_armed: Callable[[str], None] | None = None


class CrashPointError(RuntimeError):
    """What an armed point raises when it shall raise."""


def reach(point: str) -> None:
    """Say that the process has come to a point."""
    if _armed is not None:
        _armed(point)


def arm(action: str, point: str, hit: int = 1) -> None:
    """Make the `hit`-th arrival at a point fail.

    Parameters
    ----------
    action : {'kill', 'children', 'raise', 'ENOSPC', 'EIO'}
        SIGKILL to the process itself, or to its children, a `CrashPointError`, or an `OSError`.
    point : str
        Its name; ``*`` for any.
    hit : int
        Counted from 1.
    """
    arrivals = 0

    def act(name: str) -> None:
        nonlocal arrivals
        if point not in (name, "*"):
            return
        arrivals += 1
        if arrivals != hit:
            return
        if action == "kill":
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # which is one thing on Windows
        if action == "children":
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                for pid in file.read().split():
                    os.kill(int(pid), signal.SIGKILL)
            return
        if action == "raise":
            raise CrashPointError(f"raised at {name}, as armed")
        raise OSError(getattr(errno, action), os.strerror(getattr(errno, action)), name)

    global _armed
    _armed = act


def record(path: str) -> None:
    """Append the name of every point the process reaches to a file, a line each."""

    def write(name: str) -> None:
        with open(path, "a") as file:
            file.write(name + "\n")

    global _armed
    _armed = write


def _arm_from_environment() -> None:
    action, _, rest = os.environ.get(VARIABLE, "").partition(":")
    if action == "record":
        record(rest)
    elif action:
        point, _, hit = rest.rpartition(":")
        arm(action, point, int(hit))


_arm_from_environment()

"""Ticks, each as soon as there is something to do: what `Run.wait` and the cockpit go round in."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

from matterstack.core.results import TickReport
from matterstack.errors import RunLockedError
from matterstack.orchestration import tick
from matterstack.orchestration.loop_memory import LoopMemory
from matterstack.orchestration.session import Session

_LONGEST_S, _LONGEST_FOR_LIMIT_S = 2.0, 1.0
_SOON_S = 0.02
_ASK_TO_STOP_S = 0.5
_LOCKED_TOLERANCE_S = 60.0
_LOCKED_RETRY_S = 0.2


def ticks(
    session: Session, stop: Callable[[], bool] = lambda: False, timeout_s: float | None = None
) -> Iterator[TickReport]:
    """Make ticks until the run ends or nothing changes before somebody acts.

    Parameters
    ----------
    session : Session
    stop : callable
        Asked after each tick, and while nothing happens twice a second: whether to stop.
    timeout_s : float, optional
        Stop after so many seconds.

    Yields
    ------
    TickReport

    Raises
    ------
    RunLockedError
        Another process is stepping the run: at the first tick at once, later for a minute.
    """
    give_up = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    memory = LoopMemory()
    report = tick.step(session, memory)
    patience_s, woken = 0.0, False
    while True:
        yield report
        if report.look_again_s is None or stop() or time.monotonic() >= give_up:
            break
        if report.look_again_s > 0:
            # What has no way to wake us is looked at often first, then less and less: the end of short work is
            # seen late by a quarter of the time it took.
            shortest_s = report.look_again_s
            longest_s = _LONGEST_FOR_LIMIT_S if memory.waits_for_limit else _LONGEST_S
            patience_s = min(max(longest_s, shortest_s), max(shortest_s, 1.25 * patience_s))
            if report.progressed or woken:
                patience_s = shortest_s
            until = min(give_up, time.monotonic() + (_SOON_S if memory.replies else patience_s))
            woken = False
            while not stop() and not woken and (left := until - time.monotonic()) > 0:
                woken = sleep(session, min(left, _ASK_TO_STOP_S))
        report = step_patiently(session, memory)
    if memory.replies:
        yield step_patiently(session)


def until_stopped(session: Session, timeout_s: float) -> None:
    """Make ticks until nothing of a cancelled run is live, or the time is over."""
    until = time.monotonic() + timeout_s
    live = 1
    while live and (left := until - time.monotonic()) > 0:
        sleep(session, min(_LONGEST_S, left))
        live = step_patiently(session).live


def step_patiently(session: Session, memory: LoopMemory | None = None) -> TickReport:
    """Step; let a colleague's single tick pass."""
    until = time.monotonic() + _LOCKED_TOLERANCE_S
    while True:
        try:
            return tick.step(session, memory)
        except RunLockedError:
            if time.monotonic() >= until:
                raise
            time.sleep(_LOCKED_RETRY_S)


def sleep(session: Session, seconds: float) -> bool:
    """Sleep until an operator has news, `seconds` at most; return whether one has."""
    asked = [operator.wakeup(session.directory.operator(name)) for name, operator in session.operators.items()]
    descriptors = [descriptor for descriptor in asked if descriptor is not None]
    if not descriptors:  # so it is on Windows, which has no poll(2)
        time.sleep(seconds)
        return False
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))

"""Run a piece of work in a process of its own, and kill it where a test says."""

from __future__ import annotations

import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from matterstack import crash_points as testing

#: What a child that ran to its end exits with; 99 when it raised.
ENDED, RAISED = 0, 99
#: With ``MATTERSTACK_EVERY_POINT=1``, `sampled` leaves nothing out.
EVERY_POINT = bool(os.environ.get("MATTERSTACK_EVERY_POINT"))


def in_child(work: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> int:
    """Fork, run `prepare` and `work` there, and return the exit code (minus the signal that killed it)."""
    pid = os.fork()
    if pid == 0:
        code = RAISED
        try:
            prepare()
            work()
            code = ENDED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def killed_at(point: str, hit: int, work: Callable[[], object]) -> bool:
    """Return whether the work was killed at the `hit`-th arrival at a crash point, or ended before."""
    code = in_child(work, lambda: testing.arm("kill", point, hit))
    assert code in (ENDED, -signal.SIGKILL), code
    return code == -signal.SIGKILL


def points_of(work: Callable[[], object], record: Path) -> list[tuple[str, int]]:
    """Return every crash point that undisturbed work reaches, with each of its arrivals."""
    assert in_child(work, lambda: testing.record(str(record))) == ENDED
    return [
        (point, hit)
        for point, arrivals in sorted(Counter(record.read_text().split()).items())
        for hit in range(1, arrivals + 1)
    ]


def sampled(arrivals: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return of the arrivals at each crash point the first, the one in the middle and the last, in their order."""
    arrivals = list(arrivals)
    if EVERY_POINT:
        return arrivals
    at: dict[str, list[int]] = {}
    for point, hit in arrivals:
        at.setdefault(point, []).append(hit)
    chosen = {(point, hits[place]) for point, hits in at.items() for place in (0, len(hits) // 2, -1)}
    return [arrival for arrival in arrivals if arrival in chosen]

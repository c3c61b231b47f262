"""Turns: which of the runs that wait for limits of a workspace could go on now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from matterstack.core.limits import NOTHING, OF_CLUSTERS, Granting, Holder, Standing
from matterstack.daemon.stamps import Stamp, stamp_of
from matterstack.errors import MatterstackError
from matterstack.storage.limits import Ledger

#: When these have taken what they want, the file has changed, and the next ones are looked for.
_MOST = 64
_NOBODY = Holder("", "", 0.0)


class Turns:
    """The turns of a workspace, as its keeper sees them: it opens the file of limits only where that has changed.

    Parameters
    ----------
    workspace : pathlib.Path
    """

    def __init__(self, workspace: Path) -> None:
        self._ledger = Ledger(workspace)
        self._seen: Stamp | None = None

    def come(self) -> set[str]:
        """Return the names of the directories whose runs could get now what they wait for, once."""
        stamp = stamp_of(self._ledger.path)
        if stamp is None or stamp == self._seen:
            return set()
        self._seen = stamp
        try:
            standing = self._ledger.standing()
        except MatterstackError:  # each run that wants something of it says so
            standing = NOTHING
        first = islice(_could_go_on(standing, time.time()), _MOST)
        return {path.name for one in first if (path := self._ledger.path_of(one)) is not None}


def _could_go_on(standing: Standing, at: float) -> Iterator[Holder]:
    """Yield the runs that could get all they wait for; of many it is soon told that nothing is free."""
    free = Granting(standing, _NOBODY, at).free
    left = {name: free(name) for one in standing.waiters for name in one.wants}
    for one in sorted(standing.waiters, key=lambda one: (-one.priority, one.turn)):
        if any(name.partition("@")[0] in OF_CLUSTERS for name in one.wants):
            continue  # it is for a queue to say, too, what is free: its run asks that every half minute
        fits = all(amount <= left[name] for name, amount in one.wants.items())
        if fits and not Granting(standing, one.holder, at).lacks(one.wants, one.priority):
            left |= {name: left[name] - amount for name, amount in one.wants.items()}
            yield one.holder

"""Turns: which of the runs that wait for limits of a workspace could go on now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from matterstack.core.limits import NOTHING, OF_CLUSTERS, Granting
from matterstack.daemon.stamps import Stamp, stamp_of
from matterstack.errors import MatterstackError
from matterstack.storage.limits import Ledger


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
        now = time.time()
        return {
            path.name
            for one in standing.waiters
            if not _is_of_cluster(one.wants)
            and not Granting(standing, one.holder, now).lacks(one.wants, one.priority)
            and (path := self._ledger.path_of(one.holder)) is not None
        }


def _is_of_cluster(wants: Mapping[str, int]) -> bool:
    """Return whether it is for a queue to say, too, what is free: its run asks that every half minute."""
    return any(name.partition("@")[0] in OF_CLUSTERS for name in wants)

"""A watched run: what is seen of it from outside, and when it has to be stepped next."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matterstack.core.results import Waiting
from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.daemon.stamps import Stamp, stamp_of
from matterstack.orchestration import trusting
from matterstack.orchestration.capture import capture, describe
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

#: A look costs some system calls; what has not changed for long is looked at less.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.5, 6.0
#: A run is stepped so soon after a step that moved nothing, then later.
_SOONEST_S, _LATEST_S = 0.5, 8.0
#: One that can only be asked, as jobs of a scheduler: so seldom at last.
_ASKED_S = 30.0
_OFTEN = 4
#: One that another process steps, or whose process ended badly.
_LOCKED_S, _LOCKED_MOST_S = 5.0, 60.0
_BROKEN_MOST_S = 600.0
#: Whatever is seen: what nobody thought of is found so often.
_AT_LEAST_S = 6 * 3600.0
_MOST_STEPS = 20_000_000


class WatchedRun:
    """One run of a workspace.

    Parameters
    ----------
    path : pathlib.Path
        Its directory.

    Attributes
    ----------
    due_at : float
        When it has to be stepped, by the monotonic clock.
    look_at : float
        When it is looked at next.
    status : str
        What the log says of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.due_at = math.inf
        self.look_at = 0.0
        self.status = ""
        #: Whether it was stepped until nothing moved any more.
        self.is_done_once = False
        self._database = (str(path / "state.sqlite"), str(path / "config.json"))
        self._lock = path / "run.lock"
        self._seen: dict[str, Stamp | None] = {}
        self._held: Stamp | None = None
        self._may_step = False
        #: Whether it has something to tell, be it over or not.
        self._tells = False
        self._read_at = 0.0
        self._pace_s = _FIRST_LOOK_S
        self._idle = self._locked = self._broken = 0
        self._earliest = self._ended_at = 0.0

    def look(self) -> str | None:
        """Look whether anything has changed; return what there is to tell, as `ended` does."""
        now = time.monotonic()
        changed = [path for path, stamp in self._seen.items() if stamp_of(path) != stamp]
        for path in changed or ([] if self._seen else self._database):
            self._seen[path] = stamp_of(path)
        held = stamp_of(self._lock)
        if held != self._held and self._may_step:  # whoever makes a tick writes there
            self._earliest = max(self._earliest, now + _LOCKED_S)
            self.due_at = max(self.due_at, self._earliest)
        self._held = held
        if changed:
            self._pace_s = _FIRST_LOOK_S
            if self._idle > _OFTEN and self._database[0] in changed and len(changed) == 1:
                self._earliest = max(self._earliest, self._ended_at + _ASKED_S)  # our own ticks change it
            self.due_at = max(now, self._earliest)
        else:
            self._pace_s = min(_LAST_LOOK_S, 1.5 * self._pace_s)
        self.look_at = now + self._pace_s
        return self._read(now) if changed or now >= self._read_at else None

    def _read(self, now: float) -> str | None:
        """Find out whether the run may be stepped at all."""
        directory = RunDirectory(self.path)
        with capture() as caught:
            reader = StoreReader(directory.state, _MOST_STEPS)
            try:
                record = reader.run()
                over = record.status in TERMINAL_RUN and not reader.live_attempts()
            finally:
                reader.close()
            trusted = trusting.is_trusted(directory)
        could, self._may_step, self._read_at = self._may_step, False, now + _ASKED_S
        if caught.error is not None:
            return self._tell(f"cannot be read: {describe(caught.error)}")
        if (over or record.status is RunStatus.PAUSED) and not self._tells:
            self._read_at = math.inf
            return self._tell(_standing(record.status, record.reason))
        if not trusted:
            return self._tell(f"is not trusted here, and is left: matterstack trust {self.path}")
        self._may_step, self._read_at = True, math.inf
        if not could:
            self.due_at = max(now, self._earliest)
        return None

    @property
    def is_due(self) -> bool:
        """Whether it has to be stepped now."""
        return self._may_step and time.monotonic() >= self.due_at

    def note_turn(self) -> None:
        """Take note that it could get now what it waits for."""
        self.due_at = min(self.due_at, max(time.monotonic(), self._earliest))

    def begun(self) -> None:
        """Take note that a worker has begun with it."""
        self.due_at = self.look_at = math.inf

    def ended(self, said: Mapping[str, Any] | None, how: str) -> str | None:
        """Take in what a worker said at its end; return what there is to tell, where that is news.

        Parameters
        ----------
        said : mapping or None
            Nothing where it ended without a word.
        how : str
            How its process ended, and its last words.
        """
        now = self._ended_at = self._earliest = self.look_at = time.monotonic()
        self._pace_s = _FIRST_LOOK_S
        self._held = stamp_of(self._lock)
        self.is_done_once = said is None or not said.get("told")
        match said or {}:
            case {"locked": str(holder)}:
                self._locked += 1
                self._earliest = self.due_at = now + min(_LOCKED_MOST_S, _LOCKED_S * 1.5 ** min(self._locked - 1, 10))
                return self._tell(f"is left to who steps it: {holder}", again=self._locked == 1)
            case {"refused": str(why)} | {"error": str(why)}:
                return self._fail(now, f"cannot be stepped: {why}")
            case {
                "status": str(status),
                "waits_for": str(waits_for),
                "watched": dict(),
                "database": dict(),
            } as outlook:
                self._locked = self._broken = 0
                return self._wait(now, outlook, status, waits_for)
            case _:
                return self._fail(now, f"its worker ended without a word: {how}")

    def _fail(self, now: float, why: str) -> str | None:
        self._broken += 1
        self._earliest = self.due_at = now + min(_BROKEN_MOST_S, _LOCKED_S * 2 ** min(self._broken - 1, 10))
        return self._tell(why)

    def _wait(self, now: float, said: Mapping[str, Any], status: str, waits_for: str) -> str | None:
        self._idle = 0 if said.get("moved") else self._idle + 1
        soonest_s = min(_LATEST_S, _SOONEST_S * 2 ** min(self._idle, 10))
        self._earliest = now + (0.0 if said.get("told") or said.get("moved") else soonest_s)
        # The worker has stamped all this before its last tick, so what came since is seen.
        self._seen = {**dict.fromkeys(self._database), **said["database"], **said["watched"]}
        self._tells = bool(said.get("tells"))
        if (status == RunStatus.PAUSED or waits_for == Waiting.NOTHING) and not self._tells:
            self._may_step = False
        again_s = said.get("look_again_s")
        if said.get("told"):
            self.due_at = now
        elif again_s is None:
            self.due_at = now + _AT_LEAST_S
        else:
            self.due_at = now + max(float(again_s), min(_ASKED_S, 4 * soonest_s))
        needs = status == RunStatus.RUNNING and waits_for in (Waiting.PEOPLE, Waiting.OPERATOR, Waiting.CAMPAIGN)
        return self._tell(_standing(f"{status}, waits for {waits_for}" if needs else status, said.get("reason")))

    def _tell(self, status: str, again: bool = True) -> str | None:
        """Return what is news of the run."""
        if status == self.status or not again:
            return None
        self.status = status
        return status


def _standing(status: str, reason: str | None) -> str:
    """Return where a run stands, without the lines of a traceback that its reason may end with."""
    return f"{status}: {reason.strip().splitlines()[0]}" if reason and reason.strip() else status

"""The budget of a run: what it has spent of tasks, core hours and time, and whether anything more may start."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matterstack.core.amended import amended
from matterstack.core.attempts import LiveAttempt
from matterstack.core.numbers import is_number
from matterstack.core.states import RunStatus
from matterstack.core.text import did_you_mean
from matterstack.errors import InvalidConfigError
from matterstack.storage.reader import StoreReader

HOUR_S = 3600.0
#: How the reason of a run begins that is paused since nothing is left to spend.
SPENT = "the budget is spent"


class Spent(NamedTuple):
    """What a run has spent.

    Attributes
    ----------
    tasks : int
        Tasks that were begun; further attempts at them count no more.
    core_h : float
        Hours that attempts ran, each times the cores that it asked for; of those that run, up to now.
    wall_h : float
        Hours since the first submission in which the run was RUNNING.
    """

    tasks: int
    core_h: float
    wall_h: float


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a run may spend, as `Spent` counts it; None for no limit."""

    tasks: float | None = None
    core_h: float | None = None
    wall_h: float | None = None

    @classmethod
    def from_config(cls, given: object) -> Budget:
        """Check and take what the user gave.

        Raises
        ------
        InvalidConfigError
            An unknown name, or no positive number.
        """
        if not isinstance(given, Mapping):
            raise InvalidConfigError(f"budget must say how much, as in {{'core_h': 100}}, not {given!r}")
        for name, value in given.items():
            if name not in Spent._fields:
                known = ", ".join(Spent._fields)
                raise InvalidConfigError(
                    f"a budget has no {name!r}{did_you_mean(name, Spent._fields)}; it has: {known}"
                )
            if value is not None and not (is_number(value) and math.isfinite(value) and value > 0):
                raise InvalidConfigError(f"budget: {name} must be a positive number, or None, not {value!r}")
        return cls(**given)

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in Spent._fields)

    def why_no_more(self, spent: Spent) -> str | None:
        """Return why nothing more may start; None where something may."""
        for name in Spent._fields:
            most, used = getattr(self, name), getattr(spent, name)
            if most is not None and used >= most:
                return (
                    f"{SPENT}: {used:.6g} of {most:g} {name}; run.configure(budget={{{name!r}: ...}}) raises it, and "
                    "run.resume() goes on"
                )
        return None


class Ledger:
    """What a run has spent, as this process has counted it: of what is over, each event is looked at once."""

    def __init__(self) -> None:
        self._seq = self._attempt = self._begun = 0
        self._core_s = self._wall_s = 0.0
        self._running_since: float | None = None

    def spent(self, reader: StoreReader, live: Sequence[LiveAttempt]) -> Spent:
        """Return what was spent up to now."""
        first = reader.first_submission()
        begun, self._attempt = reader.begun_after(self._attempt)
        self._begun += begun
        for seq, at, status, *ran in reader.spending_after(self._seq):
            if ran[0] is None:
                self._note_run(at, status, first)
            elif None not in ran[1:3]:
                self._core_s += max(0.0, ran[2] - ran[1]) * cores_of(amended(ran[3], ran[4]))
            self._seq = seq
        now = time.time()
        running_s = sum((now - one.started_at) * cores_of(one.spec) for one in live if one.started_at is not None)
        since_s = 0.0 if self._running_since is None or first is None else now - max(first, self._running_since)
        return Spent(
            self._begun, (self._core_s + max(0.0, running_s)) / HOUR_S, (self._wall_s + max(0.0, since_s)) / HOUR_S
        )

    def _note_run(self, at: float, status: str, first: float | None) -> None:
        """Note a move of the run itself: its clock goes while it is RUNNING, from the first submission on."""
        if self._running_since is not None and first is not None:
            self._wall_s += max(0.0, at - max(first, self._running_since))
        self._running_since = at if status == RunStatus.RUNNING else None


def cores_of(spec: str) -> int:
    """Return how many cores an attempt asked for."""
    if '"resources":' not in spec:
        return 1
    try:
        said: Mapping[str, Any] = json.loads(spec)["resources"]
        return math.prod(int(said.get(name, 1)) for name in ("nodes", "tasks", "cpus_per_task"))
    except (ValueError, TypeError, LookupError, AttributeError):
        return 1

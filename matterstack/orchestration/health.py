"""Health of the operators: known before a tick, seen by the tick, and what follows.

An operator that cannot be asked is asked again after a while, and its attempts stay as they are. One that keeps
failing gets nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from matterstack.core.snapshot import OperatorTrouble

_BACKOFF_FREE = 3
_BACKOFF_MAX_S = 60.0

#: By operator that was asked something: None where it answered, else why it could not be asked.
Contacts = Mapping[str, str | None]
NOBODY: Contacts = MappingProxyType({})


def merge(parts: Iterable[Contacts]) -> dict[str, str | None]:
    """Return the contacts of several parts of a tick as one: who failed anywhere has failed."""
    merged: dict[str, str | None] = {}
    for contacts in parts:
        for name, trouble in contacts.items():
            if trouble is not None or name not in merged:
                merged[name] = trouble
    return merged


class Health(NamedTuple):
    """What is known of the operators at one moment of a tick.

    Attributes
    ----------
    before : mapping of str to OperatorTrouble
        As the tick found it in the store.
    at : float
        When the tick began, in seconds since the Unix epoch.
    suspend_after : int
        So many failures in a row suspend an operator.
    contacts : mapping of str to (str or None)
        Of this tick, so far.
    """

    before: Mapping[str, OperatorTrouble]
    at: float
    suspend_after: int
    contacts: Contacts = NOBODY

    def after(self, *contacts: Contacts) -> Health:
        """Return what is known after more contacts."""
        return self._replace(contacts=merge([self.contacts, *contacts]))

    def may_ask(self, name: str) -> bool:
        """Return whether an operator may be asked now; a clock that was set back does not silence it."""
        trouble = self.before.get(name)
        due = trouble is None or not self.at < trouble.ask_again_at <= self.at + _BACKOFF_MAX_S
        return due and self.contacts.get(name) is None

    @property
    def all_well(self) -> bool:
        """Whether every operator that was asked has answered, now and the last time."""
        return not self.before and all(trouble is None for trouble in self.contacts.values())

    def takes_work(self, name: str) -> bool:
        """Return whether something new may go to an operator."""
        trouble = self.before.get(name)
        return self.may_ask(name) and not (trouble is not None and trouble.suspended)

    @property
    def failing(self) -> list[OperatorTrouble]:
        """The operators that could not be asked in this tick, each counted once more."""
        return [
            _counted(self.before.get(name), name, trouble, self.at, self.suspend_after)
            for name, trouble in self.contacts.items()
            if trouble is not None
        ]

    @property
    def recovered(self) -> list[str]:
        """The operators that answered, and were in trouble before."""
        return [name for name, trouble in self.contacts.items() if trouble is None and name in self.before]

    @property
    def now(self) -> dict[str, OperatorTrouble]:
        """The operators in trouble after this tick."""
        left = {name: trouble for name, trouble in self.before.items() if name not in self.recovered}
        return left | {trouble.operator: trouble for trouble in self.failing}


def _counted(before: OperatorTrouble | None, name: str, reason: str, at: float, suspend_after: int) -> OperatorTrouble:
    """Return the record of one more failure: asked again at the next ticks first, then after 1, 2, 4, ... seconds."""
    failures = before.failures + 1 if before else 1
    late = failures - _BACKOFF_FREE
    return OperatorTrouble(
        name,
        failures,
        since=before.since if before else at,
        ask_again_at=at + (0.0 if late < 0 else min(_BACKOFF_MAX_S, 2.0**late)),
        reason=reason,
        suspended=failures >= suspend_after,
    )

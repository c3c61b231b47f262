"""Limits of a workspace: what its runs hold of them, who waits, and to whom the next goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: Who was not seen for so long waits no more: its process has ended, or a person steps it now and then.
SEEN_S = 10.0


class Holder(NamedTuple):
    """A run, as it holds something.

    Attributes
    ----------
    run_id : str
    place : str
        Its directory below the workspace: a copy of it is another one.
    made_at : float
        When it was made, in seconds since the Unix epoch: a later run of its name is another one.
    """

    run_id: str
    place: str
    made_at: float


class Reservation(NamedTuple):
    """What an attempt holds of one limit, from before its intent is stored until it is over."""

    holder: Holder
    token: str
    attempt: str
    name: str
    amount: int
    since: float


class Share(NamedTuple):
    """What a run holds of one limit, in all, and since when the oldest of it."""

    holder: Holder
    name: str
    amount: int
    since: float


class Waiter(NamedTuple):
    """A run that got nothing of a limit.

    Attributes
    ----------
    holder : Holder
    name : str
    wants : mapping of str to int
        All that its first task wants together, this limit's part among it.
    priority : int
        Of that task.
    since, seen_at : float
        Seconds since the Unix epoch: from when on it has waited, and when it asked last.
    turn : int
        Its place among those that wait; the last one, whenever it gives something of this limit back.
    """

    holder: Holder
    name: str
    wants: Mapping[str, int]
    priority: int
    since: float
    seen_at: float
    turn: int


class Standing(NamedTuple):
    """All that is known of the limits of a workspace at one moment."""

    amounts: Mapping[str, int]
    shares: Sequence[Share]
    waiters: Sequence[Waiter]

    def held(self, name: str) -> int:
        """Return how much of a limit is held."""
        return sum(share.amount for share in self.shares if share.name == name)


NOTHING = Standing({}, [], [])


class Granting:
    """Grants of one moment to one run: its attempts ask one after the other, and each gets all that it wants, or none.

    Of those that wait for a limit, the next is for the one with the highest priority; then for who holds less of it;
    then for who has waited longest. So nothing goes to a run as long as another one that comes before it could use
    it. One that waits for something else at the same time keeps nothing back.

    Parameters
    ----------
    standing : Standing
    holder : Holder
        The run that asks.
    at : float
        Seconds since the Unix epoch.

    Attributes
    ----------
    granted : list of Reservation
    refused : dict
        By limit, what the first one that got nothing of it wants, and its priority.
    short : set of str
        The limits that kept somebody from getting it.
    """

    def __init__(self, standing: Standing, holder: Holder, at: float) -> None:
        self.granted: list[Reservation] = []
        self.refused: dict[str, tuple[Mapping[str, int], int]] = {}
        self.short: set[str] = set()
        self.holder = holder
        self._at = at
        self._amounts = standing.amounts
        self._free = dict(standing.amounts)
        self._held: defaultdict[str, defaultdict[Holder, int]] = defaultdict(lambda: defaultdict(int))
        for share in standing.shares:
            self._held[share.name][share.holder] += share.amount
            self._free[share.name] = self._free.get(share.name, 0) - share.amount
        self._turns = {one.name: one.turn for one in standing.waiters if one.holder == holder}
        self._rivals: defaultdict[str, list[Waiter]] = defaultdict(list)
        for one in standing.waiters:
            if one.holder != holder and one.seen_at > at - SEEN_S:
                self._rivals[one.name].append(one)

    def ask(self, token: str, attempt: str, wants: Mapping[str, int], priority: int) -> bool:
        """Return whether an attempt gets all that it wants.

        Parameters
        ----------
        token, attempt : str
            Its token, and its label as ``0.relax.1``.
        wants : mapping of str to int
        priority : int
        """
        if short := self.lacks(wants, priority):
            self.short.update(short)
            for name in wants:
                self.refused.setdefault(name, (wants, priority))
            return False
        for name, amount in wants.items():
            self._free[name] -= amount
            self._held[name][self.holder] += amount
            self.granted.append(Reservation(self.holder, token, attempt, name, amount, self._at))
        return True

    def lacks(self, wants: Mapping[str, int], priority: int) -> list[str]:
        """Return the limits that keep an attempt from getting what it wants."""
        return [name for name, amount in wants.items() if not self._may_have(name, amount, priority)]

    def free(self, name: str) -> int:
        """Return how much of a limit nobody holds."""
        return self._free.get(name, 0)

    def withdraw(self) -> None:
        """Take back all that was granted: it could not be written down."""
        self.short.update(one.name for one in self.granted)
        self.granted.clear()

    def _may_have(self, name: str, amount: int, priority: int) -> bool:
        free = self._free.get(name, 0)
        if name not in self._amounts or free < amount:
            return False
        held = self._held[name]
        mine = (-priority, held[self.holder], self._turns.get(name, float("inf")))
        before = [one.wants for one in self._rivals[name] if (-one.priority, held[one.holder], one.turn) < mine]
        if name in self.refused and self.refused[name][1] >= priority:
            before.append(self.refused[name][0])
        return free - sum(wants[name] for wants in before if self._waits_for_this_only(name, wants)) >= amount

    def _waits_for_this_only(self, name: str, wants: Mapping[str, int]) -> bool:
        """Return whether a limit would do, all else being free that is wanted together with it."""
        fits = all(amount <= self._amounts.get(one, 0) for one, amount in wants.items())
        return fits and all(amount <= self._free[one] for one, amount in wants.items() if one != name)

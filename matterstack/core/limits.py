"""Limits across runs: what runs hold of them, who waits, and to whom the next goes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import NamedTuple

from matterstack.core.resources import check_name
from matterstack.errors import InvalidTaskError

#: Who was not seen for so long waits no more: its process has ended, or a person steps it now and then.
SEEN_S = 10.0
#: Clocks of machines differ by so much; what was seen later than that was seen before a clock was set back.
AHEAD_S = 60.0
#: A limit whose name ends so is a rate: what was taken of it counts for a minute, and is not given back before.
RATE = "_per_min"
RATE_S = 60.0
#: So long it counts where nobody can tell when it was used: who took it was killed, or has not used it yet.
RATE_UNKNOWN_S = 600.0
#: What each job of a cluster takes of by itself: the jobs at once, and the submissions a minute, of each cluster.
OF_CLUSTERS = ("slurm_jobs", f"slurm_submissions{RATE}")
#: The cluster that this machine belongs to.
OWN_CLUSTER = "localhost"
_AT = "@"


def is_rate(name: str) -> bool:
    """Return whether a limit is a rate, so much a minute."""
    return name.partition(_AT)[0].endswith(RATE)


def of_cluster(name: str, host: str | None) -> str:
    """Return how a limit is called of the cluster that a host reaches, or this machine does.

    Examples
    --------
    >>> of_cluster("slurm_jobs", "hpc"), of_cluster("slurm_jobs", None)
    ('slurm_jobs@hpc', 'slurm_jobs@localhost')
    """
    return f"{name}{_AT}{OWN_CLUSTER if host is None else host}"


def amount_of(amounts: Mapping[str, int], name: str) -> int | None:
    """Return how much there is of a limit; that of a cluster has an amount of its own, or that of each cluster.

    Examples
    --------
    >>> amounts = {"slurm_jobs": 500, "slurm_jobs@hpc": 20}
    >>> amount_of(amounts, "slurm_jobs@hpc"), amount_of(amounts, "slurm_jobs@lab"), amount_of(amounts, "furnace")
    (20, 500, None)
    """
    return amounts.get(name, amounts.get(name.partition(_AT)[0]))


def check_limit(name: str) -> None:
    """Raise unless a limit may be called so.

    Raises
    ------
    InvalidTaskError
        It is no name of a resource, or one of a cluster that no job takes.
    """
    limit, at, host = name.partition(_AT)
    check_name(limit)
    is_host = host.isprintable() and not any(letter.isspace() for letter in host) and host[:1] not in ("", "-")
    if at and not (limit in OF_CLUSTERS and is_host):
        raise InvalidTaskError(
            f"{name!r:.80} is no limit of a cluster: these are {' and '.join(OF_CLUSTERS)}, each with '@' and the host "
            f"of its operator, as in 'slurm_jobs@hpc', or with '@{OWN_CLUSTER}' for the cluster of this machine"
        )


class Holder(NamedTuple):
    """A run, as it holds something.

    Attributes
    ----------
    run_id : str
    place : str
        Its directory, below the workspace where the limits are of one: a copy of it is another one.
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

    def is_there(self, at: float) -> bool:
        """Return whether somebody steps it at a moment, as far as that is known."""
        return at - SEEN_S < self.seen_at < at + AHEAD_S


class Standing(NamedTuple):
    """All that is known of limits at one moment."""

    amounts: Mapping[str, int]
    shares: Sequence[Share]
    waiters: Sequence[Waiter]

    def names(self) -> list[str]:
        """Return the names of limits that are set, held or waited for."""
        return sorted({*self.amounts, *(one.name for one in self.shares), *(one.name for one in self.waiters)})

    def held(self, name: str) -> int:
        """Return how much of a limit is held."""
        return sum(share.amount for share in self.shares if share.name == name)


class Offer(NamedTuple):
    """How much there is for who asks.

    Attributes
    ----------
    amounts : mapping of str to int
        By limit.
    parts : mapping of str to sequence of str
        Of a limit whose units are told apart, as graphics processors are: what each is called where it is held, which
        is ``<limit>:<which>``.
    """

    amounts: Mapping[str, int]
    parts: Mapping[str, Sequence[str]] = MappingProxyType({})


NOTHING = Standing({}, [], [])


class Wants(NamedTuple):
    """What an attempt wants of limits, all together.

    Attributes
    ----------
    named : mapping of str to int
        Of the workspace.
    counted : mapping of str to int
        Of this machine.
    offer : Offer or None
        How much of this machine its operator may use.
    priority : int
        Of the task.
    """

    named: Mapping[str, int]
    counted: Mapping[str, int]
    offer: Offer | None
    priority: int


class Granting:
    """Grants of one moment to one run: its attempts ask one after the other, and each gets all that it wants, or none.

    Of those that wait for a limit, the next is for the one with the highest priority; then for who holds less of it;
    then for who has waited longest. So nothing goes to a run as long as another one that comes before it could use
    it. One that waits for something else at the same time keeps nothing back, and neither does one that is not first
    in the queue for something else.

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
    is_withdrawn : bool
        Whether what was granted could not be written down.
    """

    def __init__(self, standing: Standing, holder: Holder, at: float) -> None:
        self.granted: list[Reservation] = []
        self.refused: dict[str, tuple[Mapping[str, int], int]] = {}
        self.short: set[str] = set()
        self.holder = holder
        self.is_withdrawn = False
        self._at = at
        self._whole = self._offer = Offer(standing.amounts)
        self._held: defaultdict[str, defaultdict[Holder, int]] = defaultdict(lambda: defaultdict(int))
        for share in standing.shares:
            self._held[share.name][share.holder] += share.amount
        self._besides: Counter[str] = Counter()
        self._turns = {one.name: one.turn for one in standing.waiters if one.holder == holder}
        self._rivals: defaultdict[str, list[Waiter]] = defaultdict(list)
        for one in standing.waiters:
            if one.holder != holder and one.is_there(at):
                self._rivals[one.name].append(one)

    def ask(
        self, token: str, attempt: str, wants: Mapping[str, int], priority: int, offer: Offer | None = None
    ) -> bool:
        """Return whether an attempt gets all that it wants.

        Parameters
        ----------
        token, attempt : str
            Its token, and its label as ``0.relax.1``.
        wants : mapping of str to int
        priority : int
        offer : Offer, optional
            How much there is for it, where that is not the same for all.
        """
        if short := self.lacks(wants, priority, offer):
            self.short.update(short)
            for name in wants:
                self.refused.setdefault(name, (wants, priority))
            return False
        for name, amount in wants.items():
            parts = self._offer.parts.get(name)
            taken = [(name, amount)] if parts is None else [(one, 1) for one in self._free_parts(parts)[:amount]]
            for part, much in taken:
                self._held[part][self.holder] += much
                since = self._at + RATE_UNKNOWN_S - RATE_S if is_rate(name) else self._at
                self.granted.append(Reservation(self.holder, token, attempt, part, much, since))
        return True

    def count_besides(self, amounts: Mapping[str, int]) -> None:
        """Count what is taken of limits by what no run of the workspace knows of."""
        self._besides.update(amounts)

    def lacks(self, wants: Mapping[str, int], priority: int, offer: Offer | None = None) -> list[str]:
        """Return the limits that keep an attempt from getting what it wants."""
        self._offer = offer or self._whole
        if not self._fits(wants):
            return [name for name, amount in wants.items() if not self._fits({name: amount})]
        queues = self._queues(wants, priority)
        return [
            name
            for name, amount in wants.items()
            if self.free(name) - self._kept_back(name, queues) - self._kept_for_own(name, priority) < amount
        ]

    def free(self, name: str) -> int:
        """Return how much of a limit nobody holds, as who asked last sees it."""
        parts = self._offer.parts.get(name)
        if parts is not None:
            return len(self._free_parts(parts))
        return (amount_of(self._offer.amounts, name) or 0) - sum(self._held[name].values()) - self._besides[name]

    def withdraw(self) -> None:
        """Take back all that was granted: it could not be written down."""
        self.short.update(one.name for one in self.granted)
        self.granted.clear()
        self.is_withdrawn = True

    def _free_parts(self, parts: Sequence[str]) -> list[str]:
        return [part for part in parts if not any(self._held[part].values())]

    def _holds(self, name: str, holder: Holder) -> int:
        return sum(self._held[part][holder] for part in self._offer.parts.get(name, (name,)))

    def _fits(self, wants: Mapping[str, int]) -> bool:
        """Return whether all that is wanted together is free."""
        there = self._offer.amounts
        return all(amount_of(there, name) is not None and amount <= self.free(name) for name, amount in wants.items())

    def _queues(self, wants: Mapping[str, int], priority: int) -> Mapping[str, list[_Place]]:
        """Return who waits for each limit and for nothing else, in their order; who asks is among them."""
        queues: defaultdict[str, list[_Place]] = defaultdict(list)
        for rivals in self._rivals.values():
            for one in rivals:
                if self._waits_for_this_only(one.name, one.wants):
                    key = (-one.priority, self._holds(one.name, one.holder), float(one.turn))
                    queues[one.name].append(_Place(key, one.holder, one.wants))
        for name in wants:
            key = (-priority, self._holds(name, self.holder), self._turns.get(name, float("inf")))
            queues[name].append(_Place(key, self.holder, wants))
            queues[name].sort(key=lambda place: place.key)
        return queues

    def _kept_back(self, name: str, queues: Mapping[str, list[_Place]]) -> int:
        """Return how much of a limit is left to those that come first.

        Who comes first here may come later in the queue for something else that it wants: it keeps nothing back then,
        or two runs would wait for each other.
        """
        return sum(
            place.wants[name]
            for place in _before(self.holder, queues[name])
            if all(
                amount + sum(one.wants[other] for one in _before(place.holder, queues[other])) <= self.free(other)
                for other, amount in place.wants.items()
                if other != name
            )
        )

    def _kept_for_own(self, name: str, priority: int) -> int:
        """Return how much of a limit is left to an earlier task of the same run."""
        wants, of = self.refused.get(name, ({}, priority))
        return wants[name] if wants and of >= priority and self._waits_for_this_only(name, wants) else 0

    def _waits_for_this_only(self, name: str, wants: Mapping[str, int]) -> bool:
        """Return whether a limit would do, all else being free that is wanted together with it."""
        fits = all(amount <= (amount_of(self._offer.amounts, one) or 0) for one, amount in wants.items())
        return fits and all(amount <= self.free(one) for one, amount in wants.items() if one != name)


class _Place(NamedTuple):
    """A place in the queue for a limit; the smallest key is first."""

    key: tuple[int, int, float]
    holder: Holder
    wants: Mapping[str, int]


def _before(holder: Holder, queue: Sequence[_Place]) -> Iterator[_Place]:
    """Yield who comes before a run; all, where it is not there."""
    return takewhile(lambda place: place.holder != holder, queue)

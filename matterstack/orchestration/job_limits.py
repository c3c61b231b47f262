"""Job limits: what each job of an operator takes of limits of the workspace without naming it, and what others take.

A job is that of one attempt, or of several that it packs: then the first of them takes it, and the others go with it.
What is in the queue and is no reservation of the workspace counts too, whoever submitted it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from matterstack.core.amended import amended
from matterstack.core.limits import Wants, amount_of
from matterstack.core.snapshot import ReadyTask
from matterstack.operators.base import Operator, Traits
from matterstack.orchestration.capture import capture, describe
from matterstack.storage.limits import Ledger
from matterstack.storage.reader import StoreReader

log = logging.getLogger("matterstack.limits")

#: So old what is in a queue may be: nobody is asked more often.
_QUEUE_AGE_S = 10.0
#: So old it may be where somebody only looks.
_SHOWN_AGE_S = 60.0


class _Group(NamedTuple):
    """A job that more attempts may go with: the token of its first one, and how many."""

    leader: str
    room: int


class JobLimits:
    """The job limits of the operators of a run, in one tick.

    Parameters
    ----------
    takes : mapping of str to tuple of str
        By operator, the limits that each of its jobs takes one of.
    packs : mapping of str to int
        By operator, how many attempts a job takes.
    besides : mapping of str to int
        By limit, how much of it is taken by what no run of the workspace knows of.
    """

    def __init__(
        self, takes: Mapping[str, tuple[str, ...]], packs: Mapping[str, int], besides: Mapping[str, int]
    ) -> None:
        self._takes = takes
        self._packs = packs
        self._groups: dict[tuple[str, str], _Group] = {}
        self.besides = besides
        self.leaders: dict[str, str] = {}

    def wants(self, task: ReadyTask, own: Wants | None) -> Wants | None:
        """Return what the next attempt of a task wants, with what it wants itself; None where it wants nothing."""
        takes = self._takes.get(task.operator, ())
        if not takes or self._group_of(task) is not None:
            return own
        wants = own or Wants({}, {}, None, _priority(task))
        return wants._replace(named={**dict.fromkeys(takes, 1), **wants.named})

    def note(self, task: ReadyTask, token: str) -> None:
        """Note that a task is submitted: it goes with others, or they may go with it."""
        if task.operator not in self._takes or self._packs[task.operator] == 1:
            return
        group = self._group_of(task) or _Group(token, self._packs[task.operator])
        self._groups[task.operator, _resources(task)] = group._replace(room=group.room - 1)
        if group.leader != token:
            self.leaders[token] = group.leader

    def all_wait(self, short: Collection[str]) -> set[str]:
        """Return the operators none of whose jobs can be submitted where some limits are short."""
        return {name for name, takes in self._takes.items() if not set(takes).isdisjoint(short)}

    def _group_of(self, task: ReadyTask) -> _Group | None:
        if self._packs[task.operator] == 1:
            return None
        group = self._groups.get((task.operator, _resources(task)))
        return group if group is not None and group.room > 0 else None


NO_JOB_LIMITS = JobLimits({}, {}, {})


def job_limits(ledger: Ledger, operators: Mapping[str, Operator], *, ask: bool) -> JobLimits:
    """Return the job limits of some operators, as they stand.

    Parameters
    ----------
    ledger : Ledger
    operators : mapping of str to Operator
    ask : bool
        Whether a queue may be asked now.

    Raises
    ------
    StoreError
        The ledger cannot be used.
    """
    counting = {name: one for name, one in operators.items() if _named_by(one.traits)}
    if not counting:
        return NO_JOB_LIMITS
    amounts = ledger.standing().amounts
    takes = {
        name: limits
        for name, one in counting.items()
        if (limits := tuple(limit for limit in _named_by(one.traits) if amount_of(amounts, limit) is not None))
    }
    if not takes:
        return NO_JOB_LIMITS
    packs = {name: counting[name].traits.pack for name in takes}
    return JobLimits(takes, packs, _besides(ledger, list(counting.values()), amounts, ask=ask))


def _besides(
    ledger: Ledger, operators: Sequence[Operator], amounts: Mapping[str, int], *, ask: bool
) -> Mapping[str, int]:
    """Return how much of limits is taken by jobs in queues that are no reservation of the workspace."""
    besides: dict[str, int] = {}
    queues: dict[str, Sequence[str]] = {}
    age_s = _QUEUE_AGE_S if ask else _SHOWN_AGE_S
    for operator in operators:
        limit = operator.traits.queue_limit
        if (amount := amount_of(amounts, limit)) is None or limit in queues:  # operators of one cluster have one queue
            continue
        names: Sequence[str] | None = None
        with capture() as caught:
            names = operator.queued(age_s, ask=ask)
        if caught.error is not None:
            log.warning("nothing takes %s, since nobody can tell who has it: %s", limit, describe(caught.error))
            besides[limit] = amount
        elif names is not None:
            queues[limit] = names
    if queues:
        # After the queues have answered: whatever of ours is in them was reserved before.
        held = {(one.name, one.token) for one in ledger.reservations()}
        besides |= {limit: sum((limit, name) not in held for name in names) for limit, names in queues.items()}
    return besides


def all_job_limits(operators: Mapping[str, Operator]) -> JobLimits:
    """Return what jobs of some operators may take, where nobody can tell which limits are set."""
    takes = {name: tuple(limits) for name, one in operators.items() if (limits := _named_by(one.traits))}
    return JobLimits(takes, {name: operators[name].traits.pack for name in takes}, {})


def still_leading(store: StoreReader, tokens: Collection[str]) -> set[str]:
    """Return those of some attempts that are over which others go with that are not: their job is in its queue."""
    from matterstack.operators.jobs.chunks import leader_of  # most runs have none

    return {leader_of(name) for name in store.live_external_ids()}.intersection(tokens) if tokens else set()


def _named_by(traits: Traits) -> list[str]:
    return [limit for limit in (traits.queue_limit, traits.rate_limit) if limit]


def _resources(task: ReadyTask) -> str:
    """Return what tells attempts that share a job from others; as text, so finer than the operator needs."""
    try:
        wanted = json.loads(amended(task.spec, task.changes)).get("resources") or {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return task.spec
    return json.dumps([wanted, task.attempts], sort_keys=True)


def _priority(task: ReadyTask) -> int:
    try:
        return int(json.loads(amended(task.spec, task.changes)).get("priority", 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0  # the attempt fails of it

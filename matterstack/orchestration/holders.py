"""Holders of limits, as their own runs tell: what is over, what is under way, and which run cannot be found."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

from matterstack import interrupts
from matterstack.core.attempts import LiveAttempt
from matterstack.core.limits import Holder
from matterstack.core.machine import is_of
from matterstack.core.states import LIVE_ATTEMPT, AttemptStatus
from matterstack.errors import LockError, MatterstackError
from matterstack.orchestration.job_limits import still_leading
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory
from matterstack.storage.run_lock import RunLock

#: Of SQLite's virtual machine, before a run's database is cut off: it may be anybody's.
_MOST_STEPS = 20_000_000


class Holding(NamedTuple):
    """What a run says of attempts that hold something.

    Attributes
    ----------
    over : frozenset of str
        Tokens of attempts that are over, which is final: their run knows it, or, of commands of this machine, what they
        left proves it.
    unknown : frozenset of str
        Tokens that its database does not have: its tick is about to write them, or was killed before it did.
    missing : str or None
        Why the run cannot be found, or not be read; nothing is known of its attempts then.
    """

    over: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    missing: str | None = None


def directory_of(ledger: Ledger, holder: Holder) -> RunDirectory | None:
    """Return where a run should be; None for a place that no run of ours has."""
    path = ledger.path_of(holder)
    return None if path is None else RunDirectory(path)


def look(ledger: Ledger, holder: Holder, tokens: Collection[str]) -> Holding:
    """Return what a run says of some attempts; nothing of it is changed."""
    directory = directory_of(ledger, holder)
    if directory is None or not directory.may_be_run:
        return Holding(missing=f"there is no run at {holder.place} any more: it was moved or removed")
    try:
        store = StoreReader(directory.state, _MOST_STEPS)
        with store.reading():
            run, found = store.run(), store.statuses_of(tokens)
            over = {token for token, status in found.items() if AttemptStatus(status) not in LIVE_ATTEMPT}
            over -= still_leading(store, over)
            live = store.live_attempts() if len(over) < len(found) and isinstance(ledger, MachineLedger) else []
        over |= _ended_here(directory, [one for one in live if one.token in tokens])
    except (MatterstackError, OSError, ValueError) as error:  # a stranger's database may say anything
        return Holding(missing=f"the run at {holder.place} cannot be read: {error}")
    if (run.run_id, run.created_at) != (holder.run_id, holder.made_at):
        return Holding(missing=f"another run is at {holder.place} now")
    return Holding(frozenset(over), frozenset(tokens) - found.keys())


def _ended_here(directory: RunDirectory, live: Collection[LiveAttempt]) -> set[str]:
    """Return the tokens of commands of this machine that have ended, and whose run does not know it yet."""
    if not live:
        return set()
    from matterstack.operators.local.ended import ended  # most runs count nothing of the machine

    by_operator: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for one in live:
        by_operator[one.operator][one.token] = one.name
    return set().union(*(ended(directory.operator(name), attempts) for name, attempts in by_operator.items()))


@interrupts.held()
def give_back_what_is_over(ledger: Ledger, but: Holder | None = None, names: Collection[str] | None = None) -> bool:
    """Give back what runs hold with attempts that are over: those that were killed before they did so themselves.

    What a run does not know is given back under its lock, when none of its ticks can be about to write it.

    Parameters
    ----------
    ledger : Ledger
    but : Holder, optional
        Not of this run.
    names : collection of str, optional
        Only of these limits.

    Returns
    -------
    bool
        Whether anything was.
    """
    given_back = False
    for holder, tokens in held(ledger, names).items():
        if holder == but:
            continue
        said = look(ledger, holder, tokens)
        gone = set(said.over)
        with contextlib.ExitStack() as stack:
            directory = directory_of(ledger, holder)
            if said.unknown and directory is not None:
                with contextlib.suppress(LockError, OSError):
                    stack.enter_context(RunLock(directory.lock))
                    gone |= look(ledger, holder, said.unknown).unknown
            if gone:
                ledger.give_back(holder, gone)
                given_back = True
    return given_back


def take_over(ledger: Ledger, me: Holder) -> None:
    """Have a run hold what it held where it was before it was moved; a copy leaves the original's alone."""
    for holder, tokens in held(ledger).items():
        is_same = (holder.run_id, holder.made_at) == (me.run_id, me.made_at) and holder != me
        if is_same and look(ledger, holder, tokens).missing is not None:
            ledger.hand_over(holder, me)


def held(ledger: Ledger, names: Collection[str] | None = None) -> Mapping[Holder, set[str]]:
    """Return the tokens with which runs hold something of some limits, or of any."""
    tokens: defaultdict[Holder, set[str]] = defaultdict(set)
    for one in ledger.reservations():
        if names is None or any(is_of(name, one.name) for name in names):
            tokens[one.holder].add(one.token)
    return tokens

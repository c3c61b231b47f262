"""Handing new attempts to their operators: directories, submission, and the start of what waits for one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from matterstack import interrupts
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Deferred,
    LiveAttempt,
    Refused,
    Submitted,
)
from matterstack.core.changes import AttemptNote, Change
from matterstack.core.made import Recalled
from matterstack.core.snapshot import Upstream
from matterstack.crash_points import reach
from matterstack.errors import (
    AttemptFailedError,
    InvalidTaskError,
    OperatorUnreachableError,
    UnsafeFileError,
)
from matterstack.files import is_machine_trouble
from matterstack.operators.base import Operator
from matterstack.orchestration import decisions as scheduling
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.health import Contacts, Health, merge
from matterstack.orchestration.inputs import place_inputs
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader

if TYPE_CHECKING:
    from matterstack.core.cache_keys import Key

log = logging.getLogger("matterstack.cache")

_NOTHING_NEW = Submitted()


class Executed(NamedTuple):
    """What became of submissions.

    Attributes
    ----------
    changes : sequence of Change
        What has to be stored.
    contacts : mapping
        Who answered.
    submitted : int
        How many attempts the outside has taken.
    to_start : mapping of str to list of Attempt
        By operator, those that have to be started once the changes are stored.
    untold : mapping of str to Submitted
        By token, replies that say nothing but "taken": a loop may store them a moment later.
    """

    changes: Sequence[Change]
    contacts: Contacts
    submitted: int = 0
    to_start: Mapping[str, list[Attempt]] = MappingProxyType({})
    untold: Mapping[str, Submitted] = MappingProxyType({})


def execute(
    session: Session,
    reader: StoreReader,
    submissions: Sequence[LiveAttempt],
    interrupted: frozenset[int],
    health: Health,
    at: float,
    *,
    soon: bool,
) -> Executed:
    """Make the directories of attempts and submit them.

    Parameters
    ----------
    session : Session
    reader : StoreReader
        Knows what the tasks before gave.
    submissions : sequence of LiveAttempt
        In SUBMITTING.
    interrupted : frozenset of int
        Those of them whose directory may be there already.
    health : Health
    at : float
        Seconds since the Unix epoch.
    soon : bool
        Whether a loop makes another tick within a moment.
    """
    groups: dict[str, list[LiveAttempt]] = {}
    for live in submissions:
        groups.setdefault(live.operator, []).append(live)
    for name in {live.operator for live in submissions if live.id in interrupted}:
        session.directory.sweep_attempts(name)
    parts = [
        _execute_operator(session, name, group, reader, interrupted, at, soon)
        for name, group in groups.items()
        if name in session.operators and health.may_ask(name)
    ]
    return Executed(
        [change for part in parts for change in part.changes],
        merge(part.contacts for part in parts),
        sum(part.submitted for part in parts),
        {name: attempts for part in parts for name, attempts in part.to_start.items()},
        {token: reply for part in parts for token, reply in part.untold.items()},
    )


def _execute_operator(
    session: Session,
    name: str,
    group: Sequence[LiveAttempt],
    reader: StoreReader,
    interrupted: frozenset[int],
    at: float,
    soon: bool,
) -> Executed:
    operator = session.operators[name]
    changes: list[Change] = []
    contacts: list[Contacts] = []
    prepared = []
    for live, upstream in zip(group, reader.upstream_of([live.task for live in group]), strict=True):
        attempt = session.attempt(live)
        built = build(session, operator, attempt, upstream, may_exist=live.id in interrupted)
        match built:
            case None:
                prepared.append(attempt)
            case Recalled():
                changes += scheduling.recalled(live, at, *built, _whence(built))
                reach("cache.recalled")
            case Refused(reason):
                changes += scheduling.refused(live, at, reason)
            case str():
                contacts.append({name: built})
    if not prepared and not changes:
        return Executed(changes, merge(contacts))
    try:
        session.directory.sync_attempts(name)
    except OSError as error:
        return Executed(changes, merge([*contacts, {name: describe(error)}]))
    if not prepared:
        return Executed(changes, merge(contacts))
    reach("submit.prepared")
    with capture() as caught:
        replies = dict(operator.submit(prepared))
    reach("submit.submitted")
    if caught.error is not None:
        return Executed(changes, merge([*contacts, {name: describe(caught.error)}]))
    taken = _taken(prepared, replies, at, soon=soon)
    to_start = {name: taken.to_start} if taken.to_start else {}
    return Executed(
        [*changes, *taken.changes], merge([*contacts, {name: None}]), taken.submitted, to_start, taken.untold
    )


class _Taken(NamedTuple):
    """What an operator's replies mean."""

    changes: list[Change]
    submitted: int
    to_start: list[Attempt]
    untold: dict[str, Submitted]


def _taken(
    prepared: Sequence[Attempt], replies: Mapping[str, Submitted | Refused | Deferred], at: float, *, soon: bool
) -> _Taken:
    """Return what the replies about submitted attempts mean; one that is missing says nothing."""
    changes: list[Change] = []
    submitted = 0
    to_start: list[Attempt] = []
    untold: dict[str, Submitted] = {}
    for attempt in prepared:
        match replies.get(attempt.token):
            case Submitted() as reply:
                submitted += 1
                if soon and reply == _NOTHING_NEW:
                    untold[attempt.token] = reply
                    continue
                changes += scheduling.submitted(attempt.record, reply, at)
                if reply.to_start:
                    to_start.append(attempt.taken(reply.external_id))
            case Refused(reason):
                changes += scheduling.refused(attempt.record, at, reason)
            case Deferred(reason) if reason != attempt.record.reason:
                changes.append(AttemptNote(attempt.record.id, reason))
    return _Taken(changes, submitted, to_start, untold)


def start(session: Session, to_start: Mapping[str, Sequence[Attempt]]) -> Contacts:
    """Let begin what was taken and waits for that, now that it is stored."""
    contacts: dict[str, str | None] = {}
    for name, attempts in to_start.items():
        reach("submit.stored")
        with capture() as caught:
            session.operators[name].start(attempts)
        contacts[name] = None if caught.error is None else describe(caught.error)
    return contacts


def build(
    session: Session, operator: Operator, attempt: Attempt, upstream: Sequence[Upstream], *, may_exist: bool
) -> Recalled | Refused | str | None:
    """Make an attempt's directory; return what was known from before, or why it cannot be made at all, or not now."""
    try:
        cached = session.caches(attempt.task) is not False
    except InvalidTaskError as error:  # what the database says of the task cannot be read
        return Refused(str(error))
    is_there = may_exist and attempt.directory.exists()
    if cached:
        from matterstack.orchestration import caching  # most runs need none of it

        if is_there and (before := caching.recalled_before(operator, attempt)) is not None:
            return before
    known: list[Recalled] = []

    def populate(directory: str) -> None:
        staged = attempt.at(directory.rpartition("/")[2])
        with interrupts.heard():  # they may be large
            place_inputs(session, staged, upstream)
        key: Key | bytes | None = None
        if cached and is_there and attempt.directory.exists():
            key = caching.noted_before(attempt)
        elif cached:
            found = _recall(session, operator, staged, upstream)
            if isinstance(found, Recalled):
                known.append(found)
                return
            key = found
        with capture() as preparing:
            operator.prepare(staged)
        match preparing.error:
            case OperatorUnreachableError() as error:
                raise error
            case OSError() as error if is_machine_trouble(error):
                raise error
        if preparing.error is not None:
            raise AttemptFailedError(f"it cannot be prepared: {describe(preparing.error)}")
        if key is not None:
            caching.note(key, staged)

    live = attempt.record
    try:
        session.directory.build_attempt(live.operator, live.name, live.token, populate, may_exist=may_exist)
    except (AttemptFailedError, InvalidTaskError, UnsafeFileError) as error:
        if isinstance(error, UnsafeFileError) and may_exist and not _is_absent(operator, attempt):
            return f"{error}; it was submitted meanwhile, by a tick that had lost its lock, and is asked about next"
        return Refused(str(error))
    except (OperatorUnreachableError, OSError) as error:
        return describe(error)  # the operator is out of reach, or our own files cannot be written: not its fault
    return known[0] if known else None


def _recall(
    session: Session, operator: Operator, staged: Attempt, upstream: Sequence[Upstream]
) -> Recalled | Key | None:
    """Return what is known from before, or the key to keep it under; that nobody can tell is no reason not to run."""
    from matterstack.orchestration import caching

    found = None
    with capture() as caught:
        found = caching.recall(session, operator, staged, upstream)
    if isinstance(caught.error, OSError) and is_machine_trouble(caught.error):
        raise caught.error
    if caught.error is not None:
        log.warning("%s is not cached: %s", staged.record.name, describe(caught.error))
    return found


def _whence(recalled: Recalled) -> str:
    """Return in words where a result comes from."""
    said = json.loads(recalled.cached)
    return f"cached: {said['attempt']} of {said['run']}"


def _is_absent(operator: Operator, attempt: Attempt) -> bool:
    """Return whether the outside says, asked once more, that it does not know an attempt."""
    with capture():
        return isinstance(operator.find([attempt]).get(attempt.token), Absent)
    return False

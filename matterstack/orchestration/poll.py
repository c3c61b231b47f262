"""Asking every operator about its live attempts, and what the answers mean. Nothing is stored here.

Each question is put inside `capture`, which surrounds the operator's code alone. What it raises is not guessed
about: the operator could not be asked, and its attempts stay as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from matterstack.core.attempts import (
    Absent,
    Attempt,
    LiveAttempt,
    Observation,
    Rejected,
    Seen,
    Submitted,
)
from matterstack.core.changes import Change
from matterstack.core.made import Made
from matterstack.core.snapshot import Snapshot
from matterstack.core.states import TERMINAL_TASK, AttemptStatus
from matterstack.core.strict_json import dump_json, to_text
from matterstack.crash_points import reach
from matterstack.errors import InvalidJsonError, OperatorUnreachableError
from matterstack.files import is_machine_trouble
from matterstack.operators.base import Operator
from matterstack.orchestration import decisions as scheduling
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.health import (
    NOBODY,
    Contacts,
    Health,
    merge,
)
from matterstack.orchestration.loop_memory import LoopMemory
from matterstack.orchestration.session import Session

if TYPE_CHECKING:
    from matterstack.orchestration.monitors import Monitors

T = TypeVar("T")


class Polled(NamedTuple):
    """What the operators said.

    Attributes
    ----------
    changes : sequence of Change
        What it means.
    absent : sequence of LiveAttempt
        Interrupted submissions that surely did not reach the outside, or were lost there before they began.
    contacts : mapping
        Who answered.
    settling : bool
        Another look soon may say more, without anybody's doing.
    """

    changes: Sequence[Change] = ()
    absent: Sequence[LiveAttempt] = ()
    contacts: Contacts = NOBODY
    settling: bool = False


def merge_polled(parts: Iterable[Polled]) -> Polled:
    """Return what several questions brought as one."""
    found = list(parts)
    return Polled(
        list(itertools.chain.from_iterable(part.changes for part in found)),
        list(itertools.chain.from_iterable(part.absent for part in found)),
        merge(part.contacts for part in found),
        any(part.settling for part in found),
    )


class _Sorted(NamedTuple):
    """The live attempts of an operator, by what has to be asked about them."""

    told: list[tuple[LiveAttempt, Submitted]]
    interrupted: list[Attempt]
    unwanted: list[Attempt]
    watched: list[Attempt]
    collecting: list[Attempt]


def poll(session: Session, snapshot: Snapshot, health: Health, memory: LoopMemory | None) -> Polled:
    """Ask every operator that may be asked about its live attempts.

    Parameters
    ----------
    session : Session
    snapshot : Snapshot
    health : Health
    memory : LoopMemory or None
        Of a loop of ticks.
    """
    told = memory.take_replies() if memory is not None else {}
    groups: dict[str, list[LiveAttempt]] = {}
    for live in snapshot.live:
        groups.setdefault(live.operator, []).append(live)
    return merge_polled(
        _poll_operator(session, name, _sort(session, group, told), snapshot.at, memory)
        for name, group in groups.items()
        if name in session.operators and health.may_ask(name)
    )


def _sort(session: Session, group: Sequence[LiveAttempt], told: Mapping[str, Submitted]) -> _Sorted:
    found = _Sorted([], [], [], [], [])
    for live in group:
        attempt = session.attempt(live)
        if live.status is AttemptStatus.COLLECTING:
            found.collecting.append(attempt)
        elif live.task_status in TERMINAL_TASK:
            found.unwanted.append(attempt)
        elif live.status is not AttemptStatus.SUBMITTING:
            found.watched.append(attempt)
        elif live.token in told:
            found.told.append((live, told[live.token]))
            found.watched.append(session.attempt(live._replace(status=AttemptStatus.SUBMITTED)))
        else:
            found.interrupted.append(attempt)
    return found


def _poll_operator(session: Session, name: str, group: _Sorted, at: float, memory: LoopMemory | None) -> Polled:
    operator = session.operators[name]
    parts = [Polled([change for live, reply in group.told for change in scheduling.submitted(live, reply, at)])]
    collecting = group.collecting
    record = session.settings.made_from
    if group.interrupted:
        parts.append(_find(name, operator, group.interrupted, at))
    monitors = session.monitors_of(name) if group.watched else None
    stopped = monitors.stopped(group.watched) if monitors is not None else {}
    if group.unwanted or stopped:
        over = [*group.unwanted, *(attempt for attempt in group.watched if attempt.token in stopped)]
        parts.append(_cancel(name, operator, over, stopped, at, record=record))
    if watched := [attempt for attempt in group.watched if attempt.token not in stopped]:
        looked, ended = _look(name, operator, watched, at, memory, monitors, record=record)
        parts.append(looked)
        collecting = [*collecting, *ended]
    parts += [_collect(name, operator, attempt, at, record=record) for attempt in collecting]
    return merge_polled(parts)


def _replies(kind: type[T] | tuple[type[T], ...], reply: Any) -> dict[str, T]:
    """Return an operator's reply as what it should be; part of a question, so that another shape is its error."""
    for token, said in reply.items():
        if not isinstance(said, kind):
            raise TypeError(f"about {token} it said {said!r}")
    return dict(reply)


def _find(name: str, operator: Operator, interrupted: Sequence[Attempt], at: float) -> Polled:
    with capture() as caught:
        found = _replies((Submitted, Absent), operator.find(interrupted))
    if caught.error is not None:
        return Polled(contacts={name: describe(caught.error)})
    changes: list[Change] = []
    absent = []
    for attempt in interrupted:
        match found.get(attempt.token):
            case Submitted() as reply:
                changes += scheduling.submitted(attempt.record, reply, at)
            case Absent():
                absent.append(attempt.record)
    return Polled(changes, absent, {name: None})


def _cancel(
    name: str, operator: Operator, unwanted: Sequence[Attempt], stopped: Mapping[str, str], at: float, *, record: bool
) -> Polled:
    """Have attempts end: those that are not wanted any more, and those that a monitor has stopped, with its reason."""
    reach("cancel.begin")
    with capture() as caught:
        gone = set(operator.cancel(unwanted))
    reach("cancel.asked")
    if caught.error is not None:
        return Polled(contacts={name: describe(caught.error)})
    changes: list[Change] = []
    for attempt in unwanted:
        if attempt.token not in gone:
            continue
        if attempt.token in stopped:
            implied = scheduling.stopped(attempt.record, at, stopped[attempt.token])
            changes += scheduling.with_made(implied, _made(operator, attempt)) if record else implied
        else:
            changes += scheduling.cancelled(attempt.record, at)
    return Polled(changes, contacts={name: None})


def _look(
    name: str,
    operator: Operator,
    watched: Sequence[Attempt],
    at: float,
    memory: LoopMemory | None,
    monitors: Monitors | None,
    *,
    record: bool,
) -> tuple[Polled, list[Attempt]]:
    """Look at attempts; return what was seen, and those whose results have to be collected."""
    # Between two questions of a loop; that something is seen then does not mean that the operator answers.
    only_files = memory is not None and memory.may_only_poll_files(name)
    look: Callable[[Sequence[Attempt]], Mapping[str, Observation]]
    look = operator.poll_local_files if only_files else operator.check_status
    with capture() as caught:
        seen = _replies(Observation, look(watched))
    if caught.error is not None:
        return Polled(contacts={name: describe(caught.error)}), []
    if memory is not None and not only_files:
        memory.note_asked(name, operator.traits.poll_s)
    if monitors is not None:
        seen |= monitors.ask(watched, seen, at)  # of what has ended meanwhile, the end counts
    changes: list[Change] = []
    ended = []
    absent = []
    settling = False
    for attempt in watched:
        observation = seen.get(attempt.token)
        if observation is None:
            continue
        settling |= observation.settling
        implied = scheduling.judge(attempt.record, observation, at)
        if record and implied and observation.seen is Seen.ENDED and not observation.ok:
            implied = scheduling.with_made(implied, _made(operator, attempt))
        changes += implied
        if implied and observation.seen is Seen.ENDED and observation.ok:
            ended.append(attempt)
        elif implied and observation.seen is Seen.ABSENT:
            absent.append(attempt.record._replace(status=AttemptStatus.SUBMITTING))
    return Polled(changes, absent, NOBODY if only_files else {name: None}, settling), ended


def _collect(name: str, operator: Operator, attempt: Attempt, at: float, *, record: bool) -> Polled:
    reach("collect.begin")
    live = attempt.record
    with capture() as caught:
        data = operator.collect_results(attempt)
    match caught.error:
        case None:
            pass
        case OperatorUnreachableError() as error:
            return Polled(contacts={name: describe(error)})
        case OSError() as error if is_machine_trouble(error):
            return Polled(contacts={name: describe(error)})
        case error:
            return Polled(scheduling.failed(live, at, f"its results cannot be collected: {describe(error)}"))
    if isinstance(data, Rejected):
        return Polled(scheduling.rejected(live, at, data.reason, to_text(data.data), data.then))
    try:
        text = "{}" if data is None or data == {} else dump_json(data, f"the results of {live.task_id}", "data")
    except InvalidJsonError as error:
        return Polled(scheduling.failed(live, at, f"its results cannot be collected: {error}"))
    return Polled(scheduling.collected(live, at, text, _made(operator, attempt) if record else None))


def _made(operator: Operator, attempt: Attempt) -> Made | None:
    """Return what an attempt was made with; that nobody can tell is no reason not to have its result."""
    made = None
    with capture():
        made = operator.made(attempt)
    return made if isinstance(made, Made) else None

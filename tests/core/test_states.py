"""The three tables of moves, and the one function that knows them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from matterstack.core.states import (
    ATTEMPT_TRANSITIONS,
    LIVE_ATTEMPT,
    RUN_TRANSITIONS,
    TASK_TRANSITIONS,
    TERMINAL_ATTEMPT,
    TERMINAL_RUN,
    TERMINAL_TASK,
    AttemptEvent,
    AttemptStatus,
    RunEvent,
    RunStatus,
    TaskEvent,
    TaskStatus,
    advance,
)
from matterstack.errors import InvalidTransitionError

KINDS: list[tuple[Any, Any, Any]] = [
    (RunStatus, RunEvent, RUN_TRANSITIONS),
    (TaskStatus, TaskEvent, TASK_TRANSITIONS),
    (AttemptStatus, AttemptEvent, ATTEMPT_TRANSITIONS),
]
EVENTS = st.sampled_from([*RunEvent, *TaskEvent, *AttemptEvent])


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_advance_is_the_table_and_nothing_else(kind: tuple[Any, Any, Any], data: st.DataObject) -> None:
    statuses, events, table = kind
    status, event = data.draw(st.sampled_from(list(statuses))), data.draw(EVENTS)
    if type(event) is events and event in table[status]:
        assert advance(status, event) is table[status][event]
    else:
        with pytest.raises(InvalidTransitionError, match=str(status)):
            advance(status, event)


def test_an_event_of_another_kind_is_refused_though_its_text_is_the_same() -> None:
    assert str(RunEvent.CANCEL) == str(TaskEvent.CANCEL)
    with pytest.raises(InvalidTransitionError, match="TaskEvent"):
        advance(RunStatus.PENDING, TaskEvent.CANCEL)


@pytest.mark.parametrize("text", ["", "READY", "BLOCKED", "completed", "DONE"])
def test_no_other_string_is_a_status(text: str) -> None:
    for statuses, _, _ in KINDS:
        with pytest.raises(ValueError, match="not a valid"):
            statuses(text)


@pytest.mark.parametrize(("statuses", "events", "table"), KINDS)
def test_every_status_is_reached_and_every_event_used(statuses: Any, events: Any, table: Any) -> None:
    reached = {next(iter(statuses))} | {to for moves in table.values() for to in moves.values()}
    assert reached == set(statuses) == set(table)
    assert {event for moves in table.values() for event in moves} == set(events)


def test_terminal_statuses() -> None:
    assert {
        s for s, moves in RUN_TRANSITIONS.items() if set(moves) <= {RunEvent.RETRY, RunEvent.REOPEN}
    } == TERMINAL_RUN
    assert {s for s, moves in TASK_TRANSITIONS.items() if set(moves) == {TaskEvent.RETRY}} == TERMINAL_TASK
    assert {s for s, moves in ATTEMPT_TRANSITIONS.items() if not moves} == TERMINAL_ATTEMPT
    assert set(AttemptStatus) == LIVE_ATTEMPT | TERMINAL_ATTEMPT


class Walk(RuleBasedStateMachine):
    """Whatever is thrown at a thing, it walks along its table, and an attempt that is over stays so."""

    @initialize(kind=st.sampled_from(KINDS))
    def begin(self, kind: tuple[Any, Any, Any]) -> None:
        statuses, self.events, self.table = kind
        self.status = next(iter(statuses))
        self.trail = [self.status]

    @rule(event=EVENTS)
    def happen(self, event: Any) -> None:
        try:
            self.status = advance(self.status, event)
        except InvalidTransitionError:
            return
        self.trail.append(self.status)

    @invariant()
    def stays_in_the_table(self) -> None:
        trail = getattr(self, "trail", [])
        for before, after in pairwise(trail):
            assert after in self.table[before].values()
            assert before not in TERMINAL_ATTEMPT or not isinstance(before, AttemptStatus)


TestWalk = Walk.TestCase

"""The tasks of a run as views show them, kept up to date by what changed."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from matterstack.notebook.statuses import code_of
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import TaskRow

#: Tasks are read so many at a time: of a million, their rows would take more memory than what is kept of them.
_AT_ONCE = 20_000


class Card(NamedTuple):
    """A task, as views show it."""

    id: int
    iteration: int
    task_id: str
    code: str
    operator: str
    attempt: int
    group: str | None
    reason: str | None
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    exit_code: int | None

    @property
    def name(self) -> str:
        """``<iteration>.<task_id>``, as `Run.tasks` calls it."""
        return f"{self.iteration}.{self.task_id}"


class News(NamedTuple):
    """What a refresh found: tasks that changed, whether there are new ones, and tasks of which more may be told."""

    changed: list[Card]
    grown: bool
    touched: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.changed) or self.grown


@dataclass
class Board:
    """The tasks of a run, in the order of the plan.

    Parameters
    ----------
    store : StoreReader
    """

    store: StoreReader
    cards: dict[int, Card] = field(default_factory=dict)
    _edges: list[tuple[int, int]] | None = None
    _stamp: tuple[int, ...] | None = None
    _seq: int = 0

    def refresh(self) -> News:
        """Take in what changed since the last time; next to nothing is read when nothing did."""
        stamp = self.store.stamp()
        if stamp == self._stamp:
            return News([], False)
        with self.store.reading():
            last = self._last()
            seq, rows = self.store.tasks_changed(self._seq) if last else (self.store.last_event(), [])
            while fresh := self.store.tasks(after=self._last(), at_most=_AT_ONCE):
                self.cards.update((row.id, _card(row)) for row in fresh)
            if self._edges is not None:
                self._edges += self.store.edges(after=last)
        changed = [card for card in map(_card, rows) if card.id <= last and self.cards.get(card.id) != card]
        self._stamp, self._seq = stamp, seq
        self.cards.update((card.id, card) for card in changed)
        return News(changed, self._last() > last, frozenset(row.id for row in rows))

    def _last(self) -> int:
        return next(reversed(self.cards), 0)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Which task waits for which, as pairs of rows; read when it is first asked for, which no table does."""
        if self._edges is None:
            last = self._last()
            self._edges = [(before, task) for before, task in self.store.edges() if task <= last]
        return self._edges

    @property
    def counts(self) -> Counter[str]:
        """How many tasks look how."""
        return Counter(card.code for card in self.cards.values())

    def find(self, name: str) -> Card | None:
        """Return the task of a name as ``0.relax``."""
        iteration, _, task_id = name.partition(".")
        alike = (card for card in self.cards.values() if card.task_id == task_id)
        return next((card for card in alike if str(card.iteration) == iteration), None)


def _shared(value: Any) -> Any:
    """Return a text that many tasks have in common as one object."""
    return sys.intern(value) if isinstance(value, str) else value


def _card(row: TaskRow) -> Card:
    return Card(
        row.id,
        row.iteration,
        row.task_id,
        code_of(row.status, row.unmet, row.attempt_status, asks=row.asks, held=row.held is not None),
        _shared(row.operator),
        row.attempt,
        _shared(row.group),
        _shared(row.reason),
        row.submitted_at,
        row.started_at,
        row.ended_at,
        row.exit_code,
    )

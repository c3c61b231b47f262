"""The tasks of a run as views show them, kept up to date by what changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from matterstack.notebook.statuses import code_of
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import TaskRow


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
    edges: list[tuple[int, int]] = field(default_factory=list)
    _stamp: tuple[int, ...] | None = None
    _seq: int = 0

    def refresh(self) -> News:
        """Take in what changed since the last time; next to nothing is read when nothing did."""
        stamp = self.store.stamp()
        if stamp == self._stamp:
            return News([], False)
        with self.store.reading():
            last = max(self.cards, default=0)
            fresh = [_card(row) for row in self.store.tasks(after=last)]
            if fresh:
                self.edges += self.store.edges(after=last)
            seq, rows = self.store.tasks_changed(self._seq) if self.cards else (self.store.last_event(), [])
        changed = [card for card in map(_card, rows) if card.id <= last and self.cards.get(card.id) != card]
        self._stamp, self._seq = stamp, seq
        for card in [*fresh, *changed]:
            self.cards[card.id] = card
        return News(changed, bool(fresh), frozenset(row.id for row in rows))

    @property
    def counts(self) -> Counter[str]:
        """How many tasks look how."""
        return Counter(card.code for card in self.cards.values())

    def find(self, name: str) -> Card | None:
        """Return the task of a name as ``0.relax``."""
        return next((card for card in self.cards.values() if card.name == name), None)


def _card(row: TaskRow) -> Card:
    return Card(
        row.id,
        row.iteration,
        row.task_id,
        code_of(row.status, row.unmet, row.attempt_status),
        row.operator,
        row.attempt,
        row.group,
        row.reason,
        row.submitted_at,
        row.started_at,
        row.ended_at,
        row.exit_code,
    )

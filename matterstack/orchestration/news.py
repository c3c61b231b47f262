"""News of a run: what somebody may have to be told, in plain words, and how it becomes one notice."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from matterstack.core.notices import Notice, NoticeKind
from matterstack.core.secrets import masked
from matterstack.core.snapshot import OperatorTrouble, RunRecord
from matterstack.core.text import format_time, neutral, storable
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import NewsRow

#: So many of each kind are named; what others have written is cut off there.
MOST_NAMED = 5
_MOST_CHARACTERS, _MOST_TITLE, _MOST_TEXT = 300, 150, 10_000
_VARIABLE = re.compile(r'"env:([A-Za-z_][A-Za-z0-9_]*)"')
_OF_RUN = {"fail": NoticeKind.FAILED, "complete": NoticeKind.COMPLETED, "pause": NoticeKind.PAUSED}
_OF_TASKS = {"fail": NoticeKind.TASKS_FAILED, "ask": NoticeKind.NEEDS_YOU, "waiting": NoticeKind.NEEDS_YOU}
_ORDER = list(NoticeKind)


class News(NamedTuple):
    """One thing that somebody may have to be told.

    Attributes
    ----------
    kind : NoticeKind
    headline : str
        In a few words.
    lines : tuple of str
        What is to be said besides, a line each.
    """

    kind: NoticeKind
    headline: str
    lines: tuple[str, ...] = ()


def of_events(rows: Iterable[NewsRow], by_people: Collection[str]) -> list[News]:
    """Return the news in events.

    Parameters
    ----------
    rows : iterable of NewsRow
        In their order; those of one kind name the first few.
    by_people : collection of str
        Operators whose requests wait for a person.
    """
    groups: dict[tuple[str, str | None], list[NewsRow]] = {}
    for row in rows:
        if row.event != "waiting" or row.operator in by_people:
            groups.setdefault((row.event, row.operator), []).append(row)
    return [_of_run(group[-1]) if operator is None else _of_tasks(group) for (_, operator), group in groups.items()]


def _of_run(row: NewsRow) -> News:
    return News(_OF_RUN[row.event], row.status, (_cut(row.reason),) if row.reason else ())


def _of_tasks(group: Sequence[NewsRow]) -> News:
    total, first = group[0].total, group[0]
    one = total == 1
    what = {
        "fail": f"{'a task' if one else f'{total} tasks'} failed",
        "ask": f"{'a task' if one else f'{total} tasks'} failed and {'asks' if one else 'ask'} what to do",
        "waiting": f"{'a request' if one else f'{total} requests'} at {first.operator} {'waits' if one else 'wait'}",
    }[first.event]
    named = [f"{row.iteration}.{row.task_id}{': ' + _cut(row.reason) if row.reason else ''}" for row in group]
    if total > len(group):
        named.append(f"and {total - len(group)} more")
    way_out = "run.explain() tells what to do" if first.event == "fail" else "run.inbox() shows what is asked"
    return News(_OF_TASKS[first.event], what, (*named, way_out))


def of_suspended(trouble: OperatorTrouble) -> News:
    """Return that nothing new goes to an operator."""
    last = (trouble.reason.strip().splitlines() or [""])[-1]
    why = f"it has not answered {trouble.failures} times, since {format_time(trouble.since)}: {_cut(last)}"
    headline = f"nothing new goes to the operator {trouble.operator}"
    return News(NoticeKind.OPERATOR_SUSPENDED, headline, (why, "it is asked again by itself; run.resume() at once"))


def of_budget(shares: Iterable[tuple[str, float, float]]) -> News:
    """Return that most of a budget is spent: name, amount spent, and amount there is, of each part that is near."""
    named = ", ".join(f"{used:.6g} of {most:g} {name}" for name, used, most in shares)
    return News(
        NoticeKind.BUDGET_NEAR, f"the budget is nearly spent: {named}", ("run.configure(budget={...}) raises it",)
    )


def of_stillness(hours: float, since: float) -> News:
    """Return that nothing has moved for long."""
    headline = f"nothing has moved for {hours:.3g} hours"
    return News(NoticeKind.STILL, headline, (f"since {format_time(since)}; run.explain() tells what it waits for",))


def of_reminder(waiting: int, asked_at: float) -> News:
    """Return that requests wait still."""
    what = "a request waits" if waiting == 1 else f"{waiting} requests wait"
    lines = (f"somebody was told last at {format_time(asked_at)}", "run.inbox() shows what is asked")
    return News(NoticeKind.REMINDER, f"{what} still", lines)


def compose(number: int, run: RunRecord, path: str, news: Sequence[News], at: float, secret: Collection[str]) -> Notice:
    """Return one notice of all news of a moment.

    Parameters
    ----------
    number : int
    run : RunRecord
    path : str
        The run's directory.
    news : sequence of News
    at : float
    secret : collection of str
        Variables whose values are in no text.
    """

    def harmless(text: str) -> str:
        return neutral(storable(masked(text, os.environ, secret)))

    ordered = sorted(news, key=lambda one: _ORDER.index(one.kind))
    title = harmless(f"{run.workspace}/{run.run_id}: {'; '.join(one.headline for one in ordered)}")
    parts = ["\n".join([one.headline, *(f"  {line}" for line in one.lines)]) for one in ordered]
    text = "\n".join([*parts, "", f"run {run.run_id} of {run.workspace}, {run.status}, {path}"])
    return Notice(
        number,
        tuple(dict.fromkeys(str(one.kind) for one in ordered)),
        title if len(title) <= _MOST_TITLE else f"{title[:_MOST_TITLE]}...",
        harmless(text)[:_MOST_TEXT],
        run.workspace,
        run.run_id,
        harmless(path),
        at,
    )


def secret_variables(store: StoreReader, rows: Iterable[NewsRow]) -> set[str]:
    """Return the variables that tasks take by name, and that are in no text about them."""
    tasks = {row.task for row in rows if row.task is not None}
    return {name for task in tasks for name in _VARIABLE.findall(store.specification(task))}


def _cut(reason: str | None) -> str:
    """Return the first line of a reason, or so much of it."""
    line = (reason or "").strip().partition("\n")[0]
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}..."

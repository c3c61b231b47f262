"""Tags of a run and of its tasks, added and taken away by a person."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matterstack.core.strict_json import to_text
from matterstack.core.tags import tags_in, tags_of
from matterstack.errors import InvalidConfigError
from matterstack.orchestration.naming import find_named
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader

if TYPE_CHECKING:
    from matterstack.storage.rows import TaskRow

_MOST_NAMED = 5


def invalid(rule: str, value: object) -> InvalidConfigError:
    """Return the error of tags that are none."""
    return InvalidConfigError(f"tags {rule}, not {value!r}")


def tag(session: Session, words: Sequence[str], names: Sequence[str] | None, *, away: bool = False) -> None:
    """Add tags to a run, or to tasks of it, or take them away; where that changes nothing, nothing is written.

    Raises
    ------
    InvalidConfigError, UnknownTaskError
        What is no tag, or no task; nothing was changed.
    """
    tags = tags_of(words, invalid)
    if not tags:
        raise InvalidConfigError("name the tags, as in run.tag('cathode')")
    event = "untag" if away else "tag"
    with session.locked() as store, store.act():
        run = store.run()
        tasks: list[str] = []
        if names is None:
            now = _changed(run.tags, tags, away=away)
            if now == run.tags:
                return
            store.set_tags(now)
        else:
            new = _new_tags(store, names, tags, away=away)
            if not new:
                return
            store.set_task_tags([(row.id, now) for row, now in new])
            tasks = [f"{row.iteration}.{row.task_id}" for row, _ in new]
        data = to_text({"tags": tags, "tasks": tasks})
        store.note_tags(time.time(), event, run.status, _said(tags, tasks), data)


def _new_tags(
    store: StoreReader, names: Sequence[str], tags: Sequence[str], *, away: bool
) -> list[tuple[TaskRow, tuple[str, ...]]]:
    """Return the tags of those tasks that get others than they have."""
    found = []
    for name in dict.fromkeys(names):
        row = store.task(*find_named(store, name))
        assert row is not None
        before = tags_in(row.tags)
        if (now := _changed(before, tags, away=away)) != before:
            found.append((row, now))
    return found


def _changed(before: Sequence[str], tags: Sequence[str], *, away: bool) -> tuple[str, ...]:
    if away:
        return tuple(tag for tag in before if tag not in tags)
    return tags_of([*before, *tags], invalid)


def _said(tags: Sequence[str], tasks: Sequence[str]) -> str:
    """Return in words what was tagged with what."""
    words = ", ".join(tags)
    if not tasks:
        return words
    named = ", ".join(tasks) if len(tasks) <= _MOST_NAMED else f"{len(tasks)} tasks"
    return f"{words}: {named}"

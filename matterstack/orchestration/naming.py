"""Tasks by the names that people use: `pick`, or `0.pick` as every table calls it."""

from __future__ import annotations

import re

from matterstack.core.calls import Reference
from matterstack.core.text import did_you_mean
from matterstack.errors import UnknownTaskError
from matterstack.storage.reader import StoreReader

_LABEL = re.compile(r"(\d{1,9})\.(.+)\Z")


def find_named(store: StoreReader, name: str, iteration: int | None = None) -> tuple[int, str]:
    """Return the iteration and the id of the task that is meant.

    Parameters
    ----------
    store : StoreReader
    name : str
        The task's id, or ``<iteration>.<task_id>``. A task of the current iteration that has this very id wins.
    iteration : int, optional
        The iteration it is of, where that is said besides.

    Raises
    ------
    UnknownTaskError
        There is no such task; naming one of nearly that name.
    """
    _check(name)
    if isinstance(iteration, int) and iteration.bit_length() > 63:  # which SQLite could not be asked for
        raise UnknownTaskError(f"there is no iteration {iteration}; run.tasks lists what there is", task_id=name)
    wanted = store.run().iteration if iteration is None else iteration
    if store.find_task(wanted, name) is not None:
        return wanted, name
    if iteration is None and (label := _LABEL.match(name)) is not None:
        wanted, name = int(label[1]), label[2]
        if store.find_task(wanted, name) is not None:
            return wanted, name
    raise UnknownTaskError(
        f"there is no task {name!r} in iteration {wanted}{did_you_mean(name, store.task_ids(wanted))}; run.tasks lists "
        "them",
        task_id=name,
    )


def _check(name: object) -> None:
    if not isinstance(name, str):
        task_id = name.task_id if isinstance(name, Reference) else None
        hint = "" if task_id is None else f": say {task_id!r}"
        raise UnknownTaskError(f"a task is named by its id, a text, and not by {name!r}{hint}", task_id=task_id)


def find_latest(store: StoreReader, name: str, iteration: int | None = None) -> tuple[int, str]:
    """Return the latest iteration that has a task, and the id of the task; otherwise as `find_named`.

    Raises
    ------
    UnknownTaskError
        No iteration has it.
    """
    _check(name)
    if iteration is None:
        for number in range(store.run().iteration, -1, -1):
            if store.find_task(number, name) is not None:
                return number, name
    return find_named(store, name, iteration)

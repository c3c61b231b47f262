"""Ends of commands that their run does not know of yet, as the journal, the locks and the processes prove them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from matterstack.errors import OperatorUnreachableError
from matterstack.operators.local.link import holder_of
from matterstack.operators.local.runner.journal import Records, records_in
from matterstack.operators.local.runner.processes import (
    Traces,
    file_mark,
    is_locked,
    may_hide,
    namespace,
    search,
)


def ended(directory: Path, attempts: Mapping[str, str]) -> set[str]:
    """Return which attempts are over, surely; nothing is changed.

    One whose end the journal tells is. One without is where no runner is left to look after it, it was claimed, so
    that it is never started again, and nothing of it is alive or may be without being seen.

    Parameters
    ----------
    directory : pathlib.Path
        Where a run keeps the attempts of a local operator.
    attempts : mapping of str to str
        The names of their directories, by token.
    """
    try:
        # First: a runner that begins after it holds the lock of each attempt that it starts.
        is_watched = holder_of(directory) is not None
        records = records_in(directory / "journal.jsonl", attempts)
    except (OSError, OperatorUnreachableError):
        return set()
    over = {token for token, one in records.items() if one.end is not None}
    if is_watched:
        return over
    left = {token: one for token, one in records.items() if one.end is None and one.claim}
    alive = search([_traces(directory, attempts[token], token, one) for token, one in left.items()]) if left else {}
    for token, one in left.items():
        stdout = directory / attempts[token] / "stdout.txt"
        if not alive[token] and not is_locked(str(stdout)) and not may_hide(one.namespace):
            over.add(token)
    return over


def _traces(directory: Path, name: str, token: str, records: Records) -> Traces:
    claims = {records.claim}
    with contextlib.suppress(OSError):  # its command may have removed it
        claims.add(file_mark(os.lstat(directory / name / "stdout.txt")))
    return Traces(token, claims, name, records.pid if records.namespace == namespace() else 0, records.start)

"""An overview of a run from its directory alone: no operator and no campaign is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from matterstack.core.snapshot import IterationCounts, RunRecord
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory


class Overview(NamedTuple):
    """One look at a run.

    Attributes
    ----------
    record : RunRecord
        Its row.
    counts : IterationCounts
        How many tasks of the current iteration stand where.
    path : pathlib.Path
        Its directory.
    """

    record: RunRecord
    counts: IterationCounts
    path: Path


def shown_path(path: Path) -> str:
    """Return a path as a reader of this notebook would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def look(store: StoreReader, path: Path) -> Overview:
    """Return where the run of an open store stands."""
    with store.reading():
        record = store.run()
        return Overview(record, store.counts(record.iteration), path)


def check(path: str | os.PathLike[str]) -> list[str]:
    """Return where the database of the run in a directory contradicts itself; see `StoreReader.check`.

    Raises
    ------
    RunNotFoundError
        There is no run at the path.
    StoreError
        Its database cannot be used.
    """
    return StoreReader(RunDirectory.at(path).state).check()


def overview(path: str | os.PathLike[str]) -> Overview:
    """Return where the run in a directory stands.

    Raises
    ------
    RunNotFoundError
        There is no run at the path.
    StoreError
        Its database cannot be used.
    """
    directory = RunDirectory.at(path)
    return look(StoreReader(directory.state), directory.path)

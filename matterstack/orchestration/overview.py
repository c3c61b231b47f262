"""An overview of a run from its directory alone: no operator and no campaign is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matterstack.core.snapshot import IterationCounts, RunRecord
from matterstack.core.states import TERMINAL_RUN
from matterstack.orchestration import trusting
from matterstack.orchestration.capture import capture, describe
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory, list_runs

#: Of SQLite's virtual machine, before a database of anybody is cut off, where many are looked at; one of a hundred
#: thousand tasks needs a hundredth.
MOST_STEPS = 20_000_000


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
    would_run : str or None
        What stepping it would run, where it is not over and this user has neither made nor trusted it.
    """

    record: RunRecord
    counts: IterationCounts
    path: Path
    would_run: str | None = None


def shown_path(path: Path) -> str:
    """Return a path as a reader of this notebook would type it."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return str(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def look(store: StoreReader, path: Path) -> Overview:
    """Return where the run of an open store stands."""
    with store.reading():
        record = store.run()
        counts = store.counts(record.iteration)
    directory = RunDirectory(path)
    asked = record.status not in TERMINAL_RUN and not trusting.is_trusted(directory)
    return Overview(record, counts, path, trusting.would_run(directory, store) if asked else None)


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


def overview(path: str | os.PathLike[str], most_steps: int | None = None) -> Overview:
    """Return where the run in a directory stands.

    Parameters
    ----------
    path : path-like
        The run's directory.
    most_steps : int, optional
        How much work its database may make; see `StoreReader`.

    Raises
    ------
    RunNotFoundError
        There is no run at the path.
    StoreError
        Its database cannot be used.
    """
    directory = RunDirectory.at(path)
    return look(StoreReader(directory.state, most_steps), directory.path)


def overviews(base_path: str | os.PathLike[str], workspace: str) -> Iterator[tuple[Path, Overview | str]]:
    """Yield the directory of each run of a workspace, by name, and where it stands, or why that cannot be read.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    """
    for directory in list_runs(base_path, workspace):
        seen: Overview | str = ""
        with capture() as caught:  # one bad run is its own row, whatever is wrong with it
            seen = overview(directory.path, MOST_STEPS)
        yield directory.path, seen if caught.error is None else describe(caught.error)

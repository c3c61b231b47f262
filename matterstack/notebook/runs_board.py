"""The runs of a workspace as views show them, kept up to date by what changed.

Between two looks no file of a run is open, and nothing is read of a run whose database looks as it did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.snapshot import IterationCounts, OperatorTrouble
from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.core.text import neutral, storable
from matterstack.notebook.standing import Need, needs_of
from matterstack.notebook.statuses import RUN_LOOKS
from matterstack.notebook.summary import in_a_line
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.overview import MOST_STEPS, Overview, look
from matterstack.orchestration.requests import Request, waiting
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

#: Two changes within one tick of a file system's clock look alike: what just changed is read once more after so long.
_SURE_S = 1.0
#: By clocks that may differ: what changed before that was not just now.
_OLD_S = 60.0
#: Looks are so far apart while something changes, and when nothing has changed for half a minute.
_BUSY_S, _IDLE_S, _CALM_S = 0.25, 1.5, 30.0
#: So many runs are read at the same time: one that cannot be read holds up no other.
_AT_ONCE = 4
#: A run is read in at most this share of the time, however large it is; one that could not be read, so often.
_SHARE = 0.1
_TRY_AGAIN_S = 10.0
_MOST_TEXT = 300


class RunCard(NamedTuple):
    """A run, as views show it; without a status it could not be read, and its reason says why."""

    path: Path
    workspace: str
    status: RunStatus | None
    reason: str
    iteration: int = 0
    counts: IterationCounts = IterationCounts()
    needs: tuple[Need, ...] = ()
    #: Stepping it takes a word of this user first.
    untrusted: bool = False
    created_at: float | None = None
    changed_at: float | None = None

    @property
    def key(self) -> str:
        """``<workspace>/<run_id>``."""
        return storable(f"{self.workspace}/{self.path.name}")


class RunsNews(NamedTuple):
    """What a look found: runs that are new or changed, and the keys of those that are gone."""

    changed: list[RunCard]
    gone: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


@dataclass
class _Stamp:
    """What a file looked like when it was last read."""

    seen: tuple[int, int, int] | None = None
    again_at: float | None = None

    def changed(self, path: str, now: float) -> bool:
        """Return whether a file has to be read; raise OSError where it is not there."""
        status = os.stat(path)
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if seen != self.seen:
            self.seen = seen
            self.again_at = now + _SURE_S if time.time() - status.st_mtime < _OLD_S else None
            return True
        if self.again_at is None or now < self.again_at:
            return False
        self.again_at = None
        return True


@dataclass
class _Folder:
    """The names in a folder, read again when it changed."""

    path: str
    stamp: _Stamp = field(default_factory=_Stamp)
    names: list[str] = field(default_factory=list)

    def look(self, now: float) -> list[str]:
        try:
            if self.stamp.changed(self.path, now):
                self.names = sorted(name for name in os.listdir(self.path) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            self.names = []
        except OSError:
            pass  # its disk is away for a moment
        return self.names


class _Read(NamedTuple):
    """What was read of a run; how its requests tell that they are over; how long it took."""

    card: RunCard
    verdicts: list[str]
    took_s: float


@dataclass
class _Place:
    """A run's directory, and what is known of it."""

    directory: RunDirectory
    workspace: str
    state: str
    stamp: _Stamp = field(default_factory=_Stamp)
    due: bool = False
    not_before: float = 0.0
    reading: Future[_Read] | None = None
    #: An answer is a file, and changes no database before the next tick.
    verdicts: list[str] = field(default_factory=list)
    card: RunCard | None = None

    @property
    def unsettled(self) -> bool:
        """Whether it may be seen otherwise though its database stays as it is."""
        return self.card is not None and (self.card.status is None or self.card.untrusted)


class RunsBoard:
    """The runs of a workspace, or of all of them.

    Parameters
    ----------
    base_path : path-like
        Where ``workspaces/`` is.
    workspace : str or None
        None for all.
    """

    def __init__(self, base_path: str | os.PathLike[str], workspace: str | None) -> None:
        self.root = Path(base_path).absolute() / "workspaces"
        self.workspace = workspace
        self._workspaces = _Folder(str(self.root))
        self._folders: dict[str, _Folder] = {}
        self._places: dict[str, _Place] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, "matterstack-runs")
        self._changed_at = time.monotonic()

    @property
    def cards(self) -> list[RunCard]:
        """The runs that were read, by workspace and name."""
        return [place.card for place in self._places.values() if place.card is not None]

    @property
    def pause_s(self) -> float:
        """In how many seconds to look again: the later, the longer nothing has changed."""
        calm = (time.monotonic() - self._changed_at) / _CALM_S
        return min(_IDLE_S, _BUSY_S + calm * (_IDLE_S - _BUSY_S))

    def find(self, key: str) -> RunCard | None:
        """Return the run of a key."""
        place = self._places.get(key)
        return None if place is None else place.card

    def look(self, patience_s: float = 1.0) -> RunsNews:
        """Return what changed since the last look.

        Parameters
        ----------
        patience_s : float
            How long to wait for what is being read; what takes longer comes with a later look.
        """
        now = time.monotonic()
        there: dict[str, _Place] = {}
        for workspace, name in self._names(now):
            key = storable(f"{workspace}/{name}")
            place = self._places.get(key) or self._new(workspace, name)
            if self._is_there(place, now):
                there[key] = place
        gone = [key for key, place in self._places.items() if key not in there and place.card is not None]
        self._places = there
        wait([place.reading for place in there.values() if place.reading is not None], timeout=patience_s)
        changed = [card for place in there.values() if (card := self._taken(place)) is not None]
        if changed or gone:
            self._changed_at = time.monotonic()
        return RunsNews(changed, gone)

    def _names(self, now: float) -> Iterator[tuple[str, str]]:
        every = self._workspaces.look(now) if self.workspace is None else [self.workspace]
        for workspace in every:
            folder = self._folders.get(workspace)
            if folder is None:
                folder = self._folders[workspace] = _Folder(str(self.root / workspace / "runs"))
            for name in folder.look(now):
                yield workspace, name

    def _new(self, workspace: str, name: str) -> _Place:
        directory = RunDirectory(self.root / workspace / "runs" / name)
        return _Place(directory, workspace, str(directory.state))

    def _is_there(self, place: _Place, now: float) -> bool:
        """Return whether a run is there, and have it read where it may have changed."""
        try:
            changed = place.stamp.changed(place.state, now)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return place.card is not None  # its disk is away for a moment
        if changed and place.card is not None and place.card.status is None:
            place.not_before = now  # it may have been mended
        place.due |= changed or place.unsettled or any(map(os.path.lexists, place.verdicts))
        if place.due and place.reading is None and now >= place.not_before:
            place.due = False
            place.reading = self._pool.submit(_read, place.directory, place.workspace)
        return True

    def _taken(self, place: _Place) -> RunCard | None:
        """Return what was read of a run, where it is not what was known."""
        if place.reading is None or not place.reading.done():
            return None
        card, place.verdicts, took_s = place.reading.result()
        place.reading = None
        known, place.card = place.card, card
        place.not_before = time.monotonic() + (_TRY_AGAIN_S if place.unsettled else took_s / _SHARE)
        return None if card == known else card


def _read(directory: RunDirectory, workspace: str) -> _Read:
    begun = time.monotonic()
    verdicts: list[str] = []
    with capture() as caught:  # one bad run is its own row, whatever is wrong with it
        reader = StoreReader(directory.state, MOST_STEPS)
        try:
            overview = look(reader, directory.path)
            requests = waiting(reader, directory)
            troubles = reader.troubles()
            last = reader.events_after(0, 1)
        finally:
            reader.close()
        record = overview.record
        names = (f"{request.directory}/{MACHINERY}/verdict.json" for request in requests if request.token)
        verdicts = [name for name in names if not os.path.lexists(name)]
        card = RunCard(
            directory.path,
            workspace,
            record.status,
            _short(record.reason or ""),
            record.iteration,
            overview.counts,
            tuple(_needs(overview, requests, troubles)),
            overview.would_run is not None,
            record.created_at,
            last[0].at if last else record.created_at,
        )
    if caught.error is not None:
        why = describe(caught.error).replace(f"{directory.path}/", "")  # the row says which run it is
        card = RunCard(directory.path, workspace, None, _short(why))
    return _Read(card, verdicts, time.monotonic() - begun)


def _short(text: str) -> str:
    return neutral(in_a_line(text))[:_MOST_TEXT]


def _needs(overview: Overview, requests: list[Request], troubles: dict[str, OperatorTrouble]) -> list[Need]:
    """Return what of a run that is not over needs somebody."""
    record = overview.record
    if record.status in TERMINAL_RUN:
        return []
    found = needs_of(overview, [], 0, requests, troubles)
    if record.status is RunStatus.PAUSED:
        found.append(Need(RUN_LOOKS[record.status].code, _short(record.reason or "paused"), "It is paused."))
    return found

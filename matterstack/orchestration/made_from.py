"""Origins of results, and their uses, across attempts, iterations and the runs of a workspace."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.core.changes import NewInput
from matterstack.core.made import Output
from matterstack.core.text import neutral
from matterstack.errors import MatterstackError
from matterstack.orchestration import outcomes
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import LinkRow
from matterstack.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

_MOST_LINKS = 10_000
_COLUMNS = ("depth", "run", "attempt", "takes", "of_run", "of_attempt", "path", "sha256")


def inputs_of(spec: str, iteration: int) -> list[NewInput]:
    """Return the files and values that an attempt takes, by its task's specification as JSON text."""
    if not ('"files":' in spec or '"values":' in spec or '"show":' in spec):
        return []  # of most commands
    said = json.loads(spec)
    found = [_file(name, source, iteration) for name, source in said.get("files", {}).items()]
    for one in said.get("show", ()):
        task_id, path = (one, "result.json") if isinstance(one, str) else (one["task_id"], one["path"])
        found.append(NewInput(f"show/{task_id}/{path}", task_id, iteration, None, path))
    found += [_value(source, iteration) for source in said.get("call", {}).get("values", ())]
    return [one for one in found if one is not None]


def _file(name: str, source: Any, iteration: int) -> NewInput | None:
    if isinstance(source, str) or "base64" in source:
        return None  # the specification holds it
    if "sha256" in source:
        origin, _, path = source.get("origin", "").partition(": ")
        return NewInput(name, path=path or None, sha256=source["sha256"], origin=origin or None)
    return NewInput(name, source["task_id"], source.get("iteration", iteration), source.get("attempt"), source["path"])


def _value(source: Any, iteration: int) -> NewInput:
    if isinstance(source, str):
        return NewInput(f"values/{source}", source, iteration, None, "value.json")
    path = "result.json" if source.get("is_data") else "value.json"
    task_id = source["task_id"]
    if source.get("run") is not None:
        sha256 = (source.get("files") or {}).get(path)
        label = f"{source['run']}/{source.get('iteration', 0)}.{task_id}"
        return NewInput(f"values/{label}", path=path, sha256=sha256, origin=source.get("origin"))
    own = source.get("iteration")
    name = task_id if own is None else f"{own}.{task_id}"
    return NewInput(f"values/{name}", task_id, iteration if own is None else own, source.get("attempt"), path)


@dataclass(frozen=True)
class Link:
    """That one attempt took something of another.

    Attributes
    ----------
    run, attempt : str
        Which attempt took it, as ``0.relax.1``.
    takes : str
        Where it lay in its directory; ``inputs.json`` for the data of a task that it came after.
    of_run : str
        Whose run it is of; empty for a file from outside.
    of_attempt : str
        Which attempt left it.
    path : str
        What it was called there.
    sha256 : str or None
        Of its content, where that was hashed.
    """

    run: str
    attempt: str
    takes: str
    of_run: str
    of_attempt: str
    path: str
    sha256: str | None


class _Links:
    """Links, direct ones first, and all of them as a table."""

    links: Sequence[Link]
    _further: Callable[[], Iterator[tuple[int, Link]]]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per link, however far: ``depth`` 1 for what is direct."""
        import pandas as pd

        rows = [(depth, *(getattr(link, name) for name in _COLUMNS[1:])) for depth, link in self._further()]
        return pd.DataFrame(rows, columns=list(_COLUMNS))


@dataclass(frozen=True)
class MadeFrom(_Links):
    """What one attempt was made from.

    Attributes
    ----------
    run, attempt : str
        Which attempt, as ``0.relax.1``.
    environment : dict
        ``host``, ``python``, ``packages`` with their versions, ``container``, ``modules``: what is known of it.
    code : dict
        Revision of the user's own modules when the run was made: by repository, its commit and whether it was changed.
    cached : dict or None
        Which entry of a cache it took, in place of running.
    links : sequence of Link
        What it took, directly; ``table`` has all that led to it.
    outputs : sequence of Output
        What it left, with SHA-256 and size in bytes.
    not_hashed : dict
        By the name of an output, why nobody has hashed it.
    """

    run: str
    attempt: str
    environment: dict[str, Any]
    code: dict[str, Any]
    cached: dict[str, Any] | None
    links: Sequence[Link]
    outputs: Sequence[Output]
    not_hashed: dict[str, str]
    _further: Callable[[], Iterator[tuple[int, Link]]] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return neutral(
            "\n".join([f"{self.attempt} of {self.run}", *(f"- {what}: {said}" for what, said in self.facts)])
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What is known, each as a word and a text."""
        told = self.environment
        facts: list[tuple[str, str]] = []
        facts += [(name, str(told[name])) for name in ("host", "python", "container", "modules") if name in told]
        if packages := told.get("packages"):
            facts.append(("packages", ", ".join(f"{name} {version}" for name, version in packages.items())))
        for name, one in self.code.items():
            changed = {True: ", changed since", None: ", not known whether changed since"}.get(one.get("dirty"), "")
            facts.append(("code", f"{name} {str(one.get('commit'))[:12]}{changed}"))
        if self.cached is not None:
            facts.append(("cached", f"{self.cached.get('attempt')} of {self.cached.get('run')}"))
        for link in self.links:
            whose = f" of {link.of_attempt}" if link.of_attempt else ""
            whose += f" of {link.of_run}" if link.of_run not in ("", self.run) else ""
            facts.append(
                ("takes", f"{link.takes}: {link.path or 'a file'}{whose or ' from outside'}{_short(link.sha256)}")
            )
        facts += [("left", f"{one.name}, {one.size} bytes{_short(one.sha256)}") for one in self.outputs]
        return [*facts, *(("not hashed", f"{name}: {why}") for name, why in self.not_hashed.items())]


@dataclass(frozen=True)
class UsedBy(_Links):
    """What took something of one attempt: `links` directly, and `table` however far."""

    run: str
    attempt: str
    links: Sequence[Link]
    _further: Callable[[], Iterator[tuple[int, Link]]] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        lines = [f"- {link.attempt} of {link.run} takes {link.path} as {link.takes}" for link in self.links]
        return neutral("\n".join([f"{self.attempt} of {self.run} is used by {len(lines) or 'nothing'}", *lines]))


def _short(sha256: str | None) -> str:
    return f" (SHA-256 {sha256[:12]}...)" if sha256 else ""


def made_from(session: Session, name: str, iteration: int | None, attempt: int | None) -> MadeFrom:
    """Return what an attempt was made from."""
    found = outcomes.find(session, name, iteration, attempt, completed=False)
    here = _Place(session.directory.path, session.reader)
    row = here.row_of(found.label)
    record, not_hashed, cached, outputs = session.reader.made_of(row)
    return MadeFrom(
        here.run_id,
        found.label,
        _object(record),
        _object(session.reader.code()),
        _object(cached) or None,
        [link for link, _ in here.up(row, found.label)],
        [Output(*one) for one in outputs],
        _object(not_hashed),
        lambda: _walk(here, found.label, _Place.up),
    )


def used_by(session: Session, name: str, iteration: int | None, attempt: int | None) -> UsedBy:
    """Return what took something of an attempt, in this run and in others of its workspace."""
    found = outcomes.find(session, name, iteration, attempt, completed=False)
    here = _Place(session.directory.path, session.reader)
    links = [link for link, _ in here.down(here.row_of(found.label), found.label)]
    return UsedBy(here.run_id, found.label, links, lambda: _walk(here, found.label, _Place.down))


class _Place:
    """A run to look for links in."""

    def __init__(self, path: Path, reader: StoreReader, others: dict[str, _Place] | None = None) -> None:
        self.path, self.reader = path, reader
        self.run_id = reader.run().run_id
        #: By run id, those of the workspace that were opened so far.
        self.others: dict[str, _Place] = {} if others is None else others
        self.others[self.run_id] = self

    def other(self, run_id: str) -> _Place | None:
        """Return another run of the workspace; None where it is not there, or cannot be read."""
        if run_id not in self.others:
            with contextlib.suppress(MatterstackError, OSError):
                directory = RunDirectory.at(self.path.parent / run_id)
                place = _Place(directory.path, StoreReader(directory.state), self.others)
                return place if place.run_id == run_id else None
        return self.others.get(run_id)

    def row_of(self, label: str) -> int:
        """Return the row of an attempt by its label."""
        return self.reader.attempt_row(label)

    def up(self, row: int, label: str) -> Iterator[tuple[Link, tuple[_Place, str] | None]]:
        """Yield what an attempt took, and which attempt to look at next."""
        for one in self.reader.links_up(row):
            origin_run, _, origin_label = (one.origin or "").partition(" ")
            of_run = origin_run or (self.run_id if one.task_id is not None else "")
            of_attempt = origin_label or _label(one)
            link = Link(self.run_id, label, one.name, of_run, of_attempt, one.path or "", one.sha256)
            place = self if of_run == self.run_id else self.other(of_run) if of_run else None
            yield link, (place, of_attempt) if place is not None and of_attempt else None

    def down(self, row: int, label: str) -> Iterator[tuple[Link, tuple[_Place, str] | None]]:
        """Yield what took something of an attempt, and which attempt to look at next."""
        for one in self.reader.links_down(row):
            link = Link(self.run_id, _label(one), one.name, self.run_id, label, one.path or "", one.sha256)
            yield link, (self, link.attempt)
        siblings = sorted(path.name for path in self.path.parent.iterdir() if not path.name.startswith("."))
        for place in (self.other(name) for name in siblings if name != self.path.name):
            if place is None or place is self:
                continue
            for one in place.reader.links_from(f"{self.run_id} {label}"):
                link = Link(place.run_id, _label(one), one.name, self.run_id, label, one.path or "", one.sha256)
                yield link, (place, link.attempt)


def _walk(place: _Place, label: str, links: Callable[..., Any]) -> Iterator[tuple[int, Link]]:
    """Yield all links from an attempt on, the nearest first, each once."""
    waiting = [(1, place, label)]
    seen = {(place.run_id, label)}
    count = 0
    while waiting and count < _MOST_LINKS:
        depth, now, which = waiting.pop(0)
        with contextlib.suppress(MatterstackError, KeyError):  # one that is not there any more has no more to tell
            for link, following in links(now, now.row_of(which), which):
                count += 1
                yield depth, link
                if following is not None and (key := (following[0].run_id, following[1])) not in seen:
                    seen.add(key)
                    waiting.append((depth + 1, *following))


def _label(row: LinkRow) -> str:
    return "" if row.task_id is None else f"{row.iteration}.{row.task_id}.{row.attempt}"


def _object(text: str | None) -> dict[str, Any]:
    """Return an object of JSON, which may be anything in a run of somebody else."""
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(text or "{}")
        if isinstance(said, dict):
            return said
    return {}

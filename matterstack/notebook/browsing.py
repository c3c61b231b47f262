"""Questions of a page about an attempt, each with its answer: what it wrote, what it left, what it was made from."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.identifiers import check_identifier, check_relative_path
from matterstack.core.text import neutral, storable
from matterstack.errors import RunNotFoundError, UnknownTaskError, UnsafeFileError, UnsafePathError
from matterstack.files import names_inside, opened_inside
from matterstack.notebook import contents, pages, structures
from matterstack.notebook.details import rooted
from matterstack.notebook.file_keys import key_of, path_of
from matterstack.notebook.statuses import look_of_attempt
from matterstack.orchestration.cleaning import why_gone
from matterstack.orchestration.naming import find_latest
from matterstack.orchestration.opening import open_session
from matterstack.orchestration.overview import shown_path

if TYPE_CHECKING:
    from matterstack.orchestration.made_from import Link
    from matterstack.run import Run
    from matterstack.storage.rows import AttemptRow

#: What attempts write meanwhile, the first that one wants to read first; in the folder of its results, or beside that.
_LOGS = ("stdout.txt", "stderr.txt", "slurm.out", ".matterstack/job.out")
_MOST_NAMES = 1000
_MOST_LINKS = 500
_MOST_FACT = 2000
#: Of what is known of an attempt, what is among its links and its files.
_TOLD_ELSEWHERE = frozenset({"takes", "left", "not hashed"})
#: A larger piece is not sent at once.
PIECE_BYTES = 1 << 20


class Answer(NamedTuple):
    """What a page is told: plain data, and bytes where it asked for some."""

    said: dict[str, Any]
    content: bytes | None = None


class Place(NamedTuple):
    """An attempt, and where it lies.

    Attributes
    ----------
    run : Run
    row : AttemptRow
    root : pathlib.Path
        A directory that is trusted.
    home : str
        The attempt's directory, below it.
    results : str
        Where results are, below that; empty where that is the same.
    """

    run: Run
    row: AttemptRow
    root: Path
    home: str
    results: str

    def inside(self, path: str) -> str:
        """Return where a path from the attempt's directory on is, from the root on; raise if it leads elsewhere."""
        if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise UnsafePathError(f"{path!r} is no path inside the attempt's directory")
        return f"{self.home}/{path}"


class Browsing:
    """The attempts of a run, and of the runs beside it, to be asked about; in any thread.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._others: dict[str, Run] = {}
        #: The last JSON file that was opened, and what it holds.
        self._tree: tuple[tuple[Any, ...], Any] = ((), None)

    @cached_property
    def _answers(self) -> Mapping[str, Callable[[Place, Mapping[str, Any]], Answer]]:
        return {
            "attempt": self._attempt,
            "folder": self._folder,
            "file": self._file,
            "page": self._page,
            "bytes": self._bytes,
            "table": lambda place, asked: Answer(contents.table_of(place.root, _asked_file(place, asked))),
            "tree": self._entries,
            "array": lambda place, asked: Answer(contents.array_of(place.root, _asked_file(place, asked))),
            "hex": lambda place, asked: Answer({"said": contents.hex_of(place.root, _asked_file(place, asked))}),
            "structure": self._structure,
            "links": self._links,
        }

    def answer(self, asked: Mapping[str, Any]) -> Answer:
        """Return the answer to what a page asks.

        Raises
        ------
        MatterstackError, OSError
            There is no such thing, or it cannot be looked at.
        """
        what = asked.get("what")
        if not isinstance(what, str) or what not in self._answers:
            raise UnsafeFileError(f"a page asked for {what!r}, which nothing answers")
        return self._answers[what](self.place(asked), asked)

    def search(self, asked: Mapping[str, Any]) -> Iterator[pages.Found]:
        """Yield how far the search for a word in a file has come."""
        place = self.place(asked)
        word = asked.get("word")
        if not isinstance(word, str) or not word:
            return
        yield from pages.search(place.root, _asked_file(place, asked), word, _number(asked, "at"))

    def growing(self, asked: Mapping[str, Any]) -> Growing:
        """Return what tells a page that a file has grown."""
        place = self.place(asked)
        return Growing(place.root, _asked_file(place, asked), _number(asked, "at"))

    # -- which attempt --------------------------------------------------------------------

    def place(self, asked: Mapping[str, Any]) -> Place:
        """Return the attempt that a question is about."""
        run = self._run(asked.get("run"))
        iteration, attempt = (
            one if isinstance(one := asked.get(name), int) else None for name in ("iteration", "attempt")
        )
        row = _row(run, asked.get("task"), iteration, attempt)
        home = run.task_directory(row.task_id, iteration=row.iteration, attempt=row.attempt)
        operator = run.operators.get(row.operator)
        root, below = rooted(run, home)
        return Place(run, row, root, below, operator.traits.results_folder if operator is not None else "")

    def _run(self, run_id: object) -> Run:
        """Return a run of the workspace by its name; to look at it runs nothing of it."""
        if not isinstance(run_id, str) or run_id in ("", self.run.run_id):
            return self.run
        if run_id not in self._others:
            path = self.run.path.parent / check_identifier(run_id, "run id")
            other = type(self.run)(open_session(path, None, None))
            if other.run_id != run_id:
                raise RunNotFoundError(f"{path} is the run {other.run_id}, and not {run_id}", path=path)
            self._others[run_id] = other
        return self._others[run_id]

    def _attempt(self, place: Place, _: Mapping[str, Any]) -> Answer:
        run, row = place.run, place.row
        found = run.store.find_task(row.iteration, row.task_id)
        assert found is not None
        rows = run.store.attempts_of_task(found[0])
        said = {
            "name": f"{row.iteration}.{row.task_id}",
            "task": row.task_id,
            "iteration": row.iteration,
            "attempt": row.attempt,
            "run": run.run_id,
            "is_here": run is self.run,
            "attempts": [{"attempt": one.attempt, **_status(one)} for one in rows],
            **_status(row),
            "reason": neutral((row.reason or "")[-500:]),
            "times": [row.submitted_at, row.started_at, row.ended_at],
            "directory": neutral(storable(shown_path(place.root / place.home))),
            "results": place.results,
            "logs": list(self._logs(place)),
        }
        try:
            with opened_inside(place.root, place.home):
                pass
        except FileNotFoundError:
            gone = why_gone(run.store, row.iteration, row.task_id, row.attempt, "stdout.txt")
            said["gone"] = gone or "its directory is not there: it has not begun here, or was removed"
        return Answer(said)

    def _logs(self, place: Place) -> Iterator[dict[str, Any]]:
        for name in _LOGS:
            path = f"{place.results}/{name}" if place.results and name.startswith("std") else name
            try:
                _, size = contents.kind_of(place.root, place.inside(path))
            except (OSError, UnsafeFileError):
                continue
            yield {"name": name.rpartition("/")[2], "key": key_of(path), "size": size}

    # -- what it left ---------------------------------------------------------------------

    def _folder(self, place: Place, asked: Mapping[str, Any]) -> Answer:
        path = path_of(asked.get("path", ""))
        entries, total = names_inside(place.root, place.inside(path) if path else place.home, _MOST_NAMES)
        # Folders first, machinery last.
        entries.sort(key=lambda entry: (entry[0].startswith("."), not stat.S_ISDIR(entry[1].st_mode), entry[0].lower()))
        told = [
            {
                "name": neutral(storable(name)),
                "key": key_of(f"{path}/{name}" if path else name),
                "size": status.st_size,
                "kind": _kind(name, status.st_mode),
            }
            for name, status in entries
        ]
        return Answer({"entries": told, "more": total - len(told)})

    def _file(self, place: Place, asked: Mapping[str, Any]) -> Answer:
        path = path_of(asked.get("path"))
        kind, size = contents.kind_of(place.root, place.inside(path))
        _, status = contents.read_at(place.root, place.inside(path), 0, 0)
        return Answer(
            {
                "name": neutral(storable(path)),
                "kind": kind,
                "type": contents.TYPES.get(PurePosixPath(path).suffix.lower(), "application/octet-stream"),
                "size": size,
                "changed": status.st_mtime,
                "cell": cell_of(self.run, place, path),
                "where": neutral(storable(shown_path(place.root / place.inside(path)))),
            }
        )

    def _page(self, place: Place, asked: Mapping[str, Any]) -> Answer:
        ways = {"from": pages.page_from, "before": pages.page_before, "around": pages.page_around}
        read = ways.get(str(asked.get("way")), pages.page_from)
        return Answer(read(place.root, _asked_file(place, asked), _number(asked, "at"))._asdict())

    def _bytes(self, place: Place, asked: Mapping[str, Any]) -> Answer:
        count = min(_number(asked, "count") or PIECE_BYTES, PIECE_BYTES)
        content, status = contents.read_at(place.root, _asked_file(place, asked), _number(asked, "at"), count)
        return Answer({"size": status.st_size, "file": pages.identity(status)}, content)

    def _entries(self, place: Place, asked: Mapping[str, Any]) -> Answer:
        relative = _asked_file(place, asked)
        _, status = contents.read_at(place.root, relative, 0, 0)
        key = (place.root, relative, pages.identity(status), status.st_size, status.st_mtime_ns)
        known, data = self._tree
        if known != key:
            data = contents.parse(place.root, relative)
            self._tree = (key, data)
        places = asked.get("places")
        return Answer(contents.entries_of(data, places if isinstance(places, list) else [], _number(asked, "at")))

    def _structure(self, place: Place, asked: Mapping[str, Any]) -> Answer:
        most = structures.MOST_ATOMS if asked.get("all") is True else structures.AT_ONCE
        return Answer(structures.frames_of_file(place.root, _asked_file(place, asked)).as_data(most))

    # -- what it was made from ------------------------------------------------------------

    def _links(self, place: Place, asked: Mapping[str, Any]) -> Answer:
        row, up = place.row, asked.get("way") != "down"
        which = {"iteration": row.iteration, "attempt": row.attempt}
        facts: list[tuple[str, str]] = []
        if up:
            made = place.run.made_from(row.task_id, **which)
            links = made.links
            facts = [(what, neutral(said[:_MOST_FACT])) for what, said in made.facts if what not in _TOLD_ELSEWHERE]
        else:
            links = place.run.used_by(row.task_id, **which).links
        told = [self._link(link, up) for link in links[:_MOST_LINKS]]
        return Answer({"links": told, "more": len(links) - len(told), "facts": facts})

    def _link(self, link: Link, up: bool) -> dict[str, Any]:
        run_id, label = (link.of_run, link.of_attempt) if up else (link.run, link.attempt)
        iteration, _, rest = label.partition(".")
        task_id, _, attempt = rest.rpartition(".")
        named = bool(run_id and task_id and iteration.isdecimal() and attempt.isdecimal())
        return {
            "path": neutral(link.path or ("" if up else "a file")),
            "takes": neutral(link.takes),
            "sha256": neutral(link.sha256 or ""),
            "run": run_id,
            "is_here": run_id == self.run.run_id,
            "label": neutral(label),
            **({"task": task_id, "iteration": int(iteration), "attempt": int(attempt)} if named else {}),
        }


class Growing:
    """What tells a page that a file has grown, been cut short, or become another one.

    Parameters
    ----------
    root : pathlib.Path
    relative : str
    at : int
        Up to where the page has it.
    """

    def __init__(self, root: Path, relative: str, at: int) -> None:
        self.root, self.relative, self.at = root, relative, at
        self._file: str | None = None
        self._size = -1

    def look(self) -> pages.Page | None:
        """Return the page that is new; None where there is nothing new."""
        try:
            with pages.opened(self.root, self.relative) as (_, status):
                size, file = status.st_size, pages.identity(status)
        except (OSError, UnsafeFileError):
            return None  # it is not there any more: what was read of it stays
        if (size, file) == (self._size, self._file):
            return None
        another = size < self.at or self._file not in (None, file)
        is_first = self._file is None
        self._size, self._file = size, file
        if is_first and size == self.at:
            return None
        try:
            if not another and size - self.at <= pages.PAGE_BYTES:
                page = pages.page_from(self.root, self.relative, self.at)
            else:
                page = pages.page_before(self.root, self.relative, size)
        except (OSError, UnsafeFileError):
            return None
        self.at = page.end
        return page


def cell_of(run: Run, place: Place, path: str) -> str:
    """Return the Python that gets a file of an attempt.

    Parameters
    ----------
    run : Run
        The one that the reader calls ``run``.
    place : Place
    path : str
        From the attempt's directory on.
    """
    row = place.row
    whose = "run" if place.run is run else f"ms.open_run({str(place.run.path)!r})"
    which = f"iteration={row.iteration}, attempt={row.attempt}"
    within = path
    if place.results:
        within = path.removeprefix(f"{place.results}/") if path.startswith(f"{place.results}/") else ""
    try:
        return f"{whose}.file({row.task_id!r}, {check_relative_path(within, 'the file')!r}, {which})"
    except UnsafePathError:
        return f"{whose}.task_directory({row.task_id!r}, {which}) / {path!r}"


def _asked_file(place: Place, asked: Mapping[str, Any]) -> str:
    return place.inside(path_of(asked.get("path")))


def _number_or_none(asked: Mapping[str, Any], name: str) -> int | None:
    value = asked.get(name)
    return value if isinstance(value, int) else None


def _number(asked: Mapping[str, Any], name: str) -> int:
    return max(0, _number_or_none(asked, name) or 0)


def _row(run: Run, task: object, iteration: int | None, attempt: int | None) -> AttemptRow:
    """Return the attempt that is meant; by default the last one, whether it is completed or not."""
    if not isinstance(task, str):
        raise UnknownTaskError("a page asked for no task", task_id=None)
    wanted, task_id = find_latest(run.store, task, iteration)
    found = run.store.find_task(wanted, task_id)
    assert found is not None
    rows = run.store.attempts_of_task(found[0])
    row = next((row for row in reversed(rows) if attempt in (None, row.attempt)), None)
    if row is None:
        why = "has not begun" if attempt is None else f"has no attempt {attempt}"
        raise UnknownTaskError(f"{wanted}.{task_id} {why}: it is {found[1]}", task_id=task_id)
    return row


def _status(row: AttemptRow) -> dict[str, Any]:
    return {"status": row.status, "look": look_of_attempt(row.status).name}


def _kind(name: str, mode: int) -> str:
    """Return as what a name in a folder is shown; what is neither a file nor a folder is not looked into."""
    if not stat.S_ISREG(mode):
        return "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "other"
    return contents.kind_by_name(name)

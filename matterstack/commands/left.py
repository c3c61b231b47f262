"""Left by an attempt: its files, and its logs as they grow."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import Table, cell_text, moment, show, write
from matterstack.commands.places import add_run, add_task, run_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matterstack.notebook.browsing import Place

_LOOK_EACH_S = 0.5
_COLUMNS = ("path", "bytes", "modified")


def add(commands: Commands) -> None:
    """Add what shows what an attempt has written."""
    log = commands.add(
        "log",
        _log,
        "Show what a task has written: its standard output, or a file that it left.",
        "matterstack log oxides/r1 relax_3 -f --file OUTCAR",
        more="Of the last attempt, where none is named.",
        when_stopped="stopped following; the task goes on",
    )
    add_run(log)
    add_task(log)
    log.add_argument("-f", "--follow", action="store_true", help="go on until the run knows that the attempt is over")
    what = log.add_mutually_exclusive_group()
    what.add_argument("--stderr", action="store_true", help="its standard error")
    what.add_argument("--file", metavar="PATH", help="a file, by its path below the results")
    files = commands.add(
        "files",
        _files,
        "List the files in the directory of an attempt: what it was given, and what it left.",
        "matterstack files oxides/r1 relax_3",
        more="Of the last attempt, where none is named.",
    )
    add_run(files)
    add_task(files)


def _place(given: argparse.Namespace) -> Place:
    from matterstack.notebook.browsing import Browsing
    from matterstack.run_lifecycle import open_run

    names = ("task", "iteration", "attempt")
    return Browsing(open_run(run_path(given))).place({name: getattr(given, name) for name in names})


def _log(given: argparse.Namespace) -> int:
    from matterstack.core.identifiers import check_relative_path

    place = _place(given)
    name = "stderr.txt" if given.stderr else check_relative_path(given.file or "stdout.txt", "the file")
    texts: list[str] = []
    for text in _texts(place, f"{place.results}/{name}" if place.results else name, follow=given.follow):
        if given.json:
            texts.append(text)
        else:
            write(text, end="")
    if given.json:
        row = place.row
        which = {"iteration": row.iteration, "task_id": row.task_id, "attempt": row.attempt}
        show(given, {**which, "file": name, "text": "".join(texts)})
    return DONE


def _texts(place: Place, path: str, *, follow: bool) -> Iterator[str]:
    """Yield a file as harmless text, page by page; and what it gets, until the attempt is over.

    Raises
    ------
    MissingFileError
        It has none, and waits for none.
    """
    from matterstack.errors import MissingFileError
    from matterstack.notebook.pages import page_from

    at = 0
    while True:
        is_over = not follow or _is_over(place)  # asked first: what is written before the end is read after it
        try:
            page = page_from(place.root, place.inside(path), at)
        except FileNotFoundError:
            if is_over:
                where = place.root / place.home
                raise MissingFileError(
                    f"{place.row.task_id} has no {path}: matterstack files RUN TASK lists what there is in {where}",
                    path=where / path,
                ) from None
        else:
            if page.text:
                yield page.text
            if page.size < at:  # somebody has begun the file anew
                at = 0
                continue
            if page.end > at:
                at = page.end
                continue
            if is_over:
                return
        time.sleep(_LOOK_EACH_S)


def _is_over(place: Place) -> bool:
    from matterstack.core.states import LIVE_ATTEMPT, AttemptStatus

    store, row = place.run.store, place.row
    found = store.find_task(row.iteration, row.task_id)
    tries = store.attempts_of_task(found[0]) if found is not None else []
    return not any(one.attempt == row.attempt and AttemptStatus(one.status) in LIVE_ATTEMPT for one in tries)


def _files(given: argparse.Namespace) -> int:
    import stat

    from matterstack.core.attempt_files import MACHINERY
    from matterstack.files import walk_inside
    from matterstack.orchestration.overview import shown_path

    place = _place(given)
    rows = []
    for path, status in sorted(walk_inside(place.root, place.home)):
        if not stat.S_ISDIR(status.st_mode) and path.split("/")[0] != MACHINERY:
            rows.append({"path": path, "bytes": status.st_size, "modified": moment(status.st_mtime)})
    row, directory = place.row, place.root / place.home
    which = {"iteration": row.iteration, "task_id": row.task_id, "attempt": row.attempt}
    where = cell_text(shown_path(directory))
    show(given, {**which, "directory": directory, "files": rows}, where, Table(_COLUMNS, rows))
    return DONE

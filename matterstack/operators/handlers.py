"""Handlers that mend the inputs of a next attempt, in the shape of custodian's: found by name, and run in a copy.

One that is a monitor is asked about attempts that run, too: see `matterstack.orchestration.monitors`.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt
from matterstack.core.strict_json import dump_json
from matterstack.errors import InvalidConfigError, InvalidTaskError

#: Where it is written down what handlers did.
CORRECTIONS = "corrections.json"
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
#: Larger files of a failed attempt are linked in place of copied: a handler may read and remove them.
_MOST_COPIED = 64 << 20
#: What custodian leaves beside the inputs.
_BACKUPS = "error.*.tar.gz"
#: How often a monitor is asked that does not say how often.
_EVERY_S = 300.0


class Handler(Protocol):
    """What may mend the inputs of a task after an attempt at it failed.

    The shape is that of custodian's error handlers (https://materialsproject.github.io/custodian/).

    Notes
    -----
    With ``is_monitor = True`` it is asked about attempts that run as well, where their directory is here: at most every
    ``monitor_every_s`` seconds (300, where it does not say). Its `check` then gets the directory itself, and only
    reads; when it returns True, the attempt is stopped and has failed. ``is_terminating = False`` keeps it from that.
    """

    def check(self, directory: Any) -> bool:
        """Return whether the failed attempt, whose files are in `directory`, ended of what this handler can mend."""

    def correct(self, directory: Any) -> Any:
        """Edit the inputs in `directory`, beside what the failed attempt left; return as JSON data what was done."""


def check_handlers(handlers: Sequence[Handler | str]) -> tuple[Handler | str, ...]:
    """Return handlers as an operator keeps them; nothing is imported.

    Raises
    ------
    InvalidConfigError
        One is neither a handler nor named as ``"package.module:Class"``.
    """
    if isinstance(handlers, str):
        raise InvalidConfigError(f"handlers must be a list, as in [{handlers!r}]")
    for handler in handlers:
        if isinstance(handler, str):
            if not _NAME.match(handler):
                raise InvalidConfigError(f"a handler is named as 'package.module:Class', not {handler!r}")
        elif not (callable(getattr(handler, "check", None)) and callable(getattr(handler, "correct", None))):
            raise InvalidConfigError(f"a handler needs check(directory) and correct(directory): {handler!r}")
        else:
            every_s(handler)
    return tuple(handlers)


def watches(handler: Handler | str) -> bool:
    """Return whether a handler is asked about attempts that run; one that is named is imported."""
    of = _found(handler)
    return bool(getattr(of, "is_monitor", False)) and bool(getattr(of, "is_terminating", True))


def every_s(handler: Handler | str) -> float:
    """Return how long, in seconds, a monitor is not asked again.

    Raises
    ------
    InvalidConfigError
        It says something else.
    """
    seconds = getattr(_found(handler), "monitor_every_s", _EVERY_S)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise InvalidConfigError(f"monitor_every_s of {name_of(handler)} must be a number of seconds, not {seconds!r}")
    return float(seconds)


def name_of(handler: Handler | str) -> str:
    """Return what a handler is called in a reason."""
    return handler.partition(":")[2] if isinstance(handler, str) else type(handler).__name__


def _found(handler: Handler | str) -> Any:
    if not isinstance(handler, str):
        return handler
    module, _, name = handler.partition(":")
    return getattr(importlib.import_module(module), name)


def settings_of(handlers: Sequence[Handler | str]) -> list[str] | None:
    """Return handlers as config.json keeps them; None with objects, which no file can hold."""
    names = [handler for handler in handlers if isinstance(handler, str)]
    return names if len(names) == len(handlers) else None


def mend(handlers: Sequence[Handler | str], attempt: Attempt, results_folder: str = "") -> None:
    """Have handlers mend the inputs of an attempt after those before it, and write down what they did.

    Inputs are those of the task each time, so what was mended after the first attempt is mended again: handlers are
    made anew, and asked about every earlier attempt in its order.
    """
    if not handlers or attempt.attempt == 1:
        return
    handlers_made = [made(attempt, handler) for handler in handlers]
    done = []
    for number in range(1, attempt.attempt):
        earlier = Path(attempt.parent, f"{attempt.iteration}.{attempt.task_id}.{number}")
        if not earlier.is_dir():
            continue  # it was cleaned since
        with tempfile.TemporaryDirectory(prefix="matterstack-handler-") as place:
            work = Path(place)
            if results_folder:
                _lay_out(earlier / "inputs", work)
            _lay_out(earlier / results_folder, work)
            for handler in handlers_made:
                if handler.check(work):
                    said = _correct(handler, work, attempt.directory)
                    done.append({"attempt": number, "handler": type(handler).__name__, "done": said})
    if done:
        text = dump_json(done, f"what handlers did to {attempt.task_id}")
        (attempt.directory / CORRECTIONS).write_bytes(text.encode() + b"\n")


def made(attempt: Attempt, handler: Handler | str) -> Handler:
    """Return a handler that is named, made anew; an object as it is.

    Raises
    ------
    InvalidTaskError
        It cannot be made here.
    """
    if not isinstance(handler, str):
        return handler
    try:
        new: Handler = _found(handler)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InvalidTaskError(
            f"the handler {handler} of {attempt.task.operator!r} cannot be made here ({type(error).__name__}: {error})",
            task_id=attempt.task_id,
        ) from error
    return new


def _lay_out(source: Path, work: Path) -> None:
    """Lay the plain files of a directory out in another one, in the place of those that are there."""
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if name != MACHINERY]
        target = work / Path(folder).relative_to(source)
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            (target / name).unlink(missing_ok=True)
            if path.stat().st_size > _MOST_COPIED:
                (target / name).symlink_to(path.absolute())
            else:
                shutil.copy2(path, target / name)


def _correct(handler: Handler, work: Path, inputs: Path) -> Any:
    """Have a handler correct inputs beside what an attempt left, and take home what it changed of them."""
    left = _files(work)
    _lay_out(inputs, work)
    mine = {name: (work / name).read_bytes() for name in _files(inputs) if not (work / name).is_symlink()}
    said = handler.correct(work)
    now = _files(work)
    for name in sorted(mine.keys() - now):
        (inputs / name).unlink()
    for name in sorted(now - (left - mine.keys())):
        path = work / name
        if path.is_symlink() or fnmatch.fnmatch(name, _BACKUPS) or mine.get(name) == path.read_bytes():
            continue
        (inputs / name).parent.mkdir(parents=True, exist_ok=True)
        (inputs / name).unlink(missing_ok=True)  # it may be a link to what many share
        shutil.copyfile(path, inputs / name)
    return said


def _files(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}

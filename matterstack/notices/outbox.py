"""The outbox of a run: its notices as files, and beside each who has claimed to send it, and what came of that.

``notices/<number>.json`` is written before the run's database says that the notice is due, so one without a word there
was never due. ``<number>.<sink>.<attempt>.claim`` is made once, by the process that sends it to that sink, and
``....end`` says how that ended. A claim without an end is of a process that is gone: nobody knows, and nobody tries
again.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.notices import Notice
from matterstack.core.strict_json import parse_json
from matterstack.core.text import storable
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.files import read_inside, write_inside
from matterstack.notices.sinks import Sink

#: The longest that the sending of a notice to one sink may take; a claim that is so old is of a process that is gone.
MOST_S = 60.0
GONE_S = 5 * MOST_S
FOLDER = "notices"
_MOST_BYTES = 1_000_000
#: What a process begins with: it finds modules where this one does.
_BEGIN = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from matterstack.notices import sender; "
_BEGIN += "sys.exit(sender.main(sys.argv[1:]))"
#: It is left alone with what it does: nobody waits for it, and nobody has to reap it.
_LEFT_ALONE = '"$@" </dev/null >/dev/null 2>&1 &'


class Errand(NamedTuple):
    """The sending of one notice to one of its sinks, and which attempt at that it is."""

    number: int
    sink: int
    attempt: int

    @property
    def file(self) -> str:
        """What its files are called, up to their last part."""
        return f"{FOLDER}/{self.number:06d}.{self.sink}.{self.attempt}"


class Standing(StrEnum):
    """How an errand stands."""

    OPEN = "open"
    CLAIMED = "claimed"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Outcome(NamedTuple):
    """How an errand stands, why, and since when in seconds since the Unix epoch."""

    standing: Standing
    why: str = ""
    at: float = 0.0


def write(run: Path, notice: Notice, to: Sequence[Sink]) -> None:
    """Write a notice, in place of one of that number that was never due."""
    content = json.dumps({"notice": asdict(notice), "to": list(to)}, indent=1).encode()
    write_inside(run, f"{FOLDER}/{notice.number:06d}.json", content)


def read(run: Path, number: int) -> tuple[Notice, list[Sink]]:
    """Return a notice, and whom it goes to.

    Raises
    ------
    OSError, UnsafeFileError, InvalidJsonError, TypeError, KeyError
        It is not there, or not as it was written.
    """
    said: Any = parse_json(read_inside(run, f"{FOLDER}/{number:06d}.json", _MOST_BYTES), max_bytes=_MOST_BYTES)
    notice = Notice(**{**said["notice"], "kinds": tuple(said["notice"]["kinds"])})
    return notice, [tuple(sink) if isinstance(sink, list) else sink for sink in said["to"]]


def last_number(run: str) -> int:
    """Return the number of the last notice that was written; 0 where none was."""
    try:
        names = os.listdir(f"{run}/{FOLDER}")
    except OSError:
        return 0
    return max((int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal()), default=0)


def claim(run: Path, errand: Errand) -> bool:
    """Take an errand; return whether it is ours: of several processes that try, one gets it."""
    said = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "at": time.time()}).encode()
    try:
        write_inside(run, f"{errand.file}.claim", said, new=True)
    except FileExistsError:
        return False
    return True


def end(run: Path, errand: Errand, outcome: Outcome) -> None:
    """Say how an errand has ended."""
    said = {"standing": str(outcome.standing), "why": storable(outcome.why), "at": time.time()}
    write_inside(run, f"{errand.file}.end", json.dumps(said).encode())


def standing(run: Path, errand: Errand) -> Outcome:
    """Return how an errand stands."""
    said = _said(run, f"{errand.file}.end")
    if said is not None:
        found = said.get("standing")
        how = Standing(found) if found in tuple(Standing) else Standing.UNKNOWN
        return Outcome(how, str(said.get("why", "")), _time(said.get("at")))
    try:
        claimed_at = os.lstat(run / f"{errand.file}.claim").st_mtime
    except OSError:
        if os.path.lexists(run / f"{FOLDER}/{errand.number:06d}.json"):
            return Outcome(Standing.OPEN)
        return Outcome(Standing.UNKNOWN, "its file was removed")
    if abs(time.time() - claimed_at) > GONE_S:
        return Outcome(Standing.UNKNOWN, "the process that was sending it is gone", claimed_at)
    return Outcome(Standing.CLAIMED, "", claimed_at)


def start(run: Path, errand: Errand, *, wait: bool = False) -> None:
    """Start a process that sends a notice to one sink.

    Parameters
    ----------
    run : pathlib.Path
        The run's directory.
    errand : Errand
    wait : bool
        Whether to wait for its end; what has come of it is told by `standing` in any case.

    Raises
    ------
    OSError
        There is no room for another process.
    """
    path = json.dumps([place or os.getcwd() for place in sys.path])
    program = [sys.executable, "-P", "-c", _BEGIN, path, str(run), *map(str, errand)]
    subprocess.run(
        program if wait else ["/bin/sh", "-c", _LEFT_ALONE, "sh", *program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # its files tell
        cwd=run,
        start_new_session=True,
    )


def _said(run: Path, name: str) -> Mapping[str, Any] | None:
    try:
        found = parse_json(read_inside(run, name, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, UnsafeFileError, InvalidJsonError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0

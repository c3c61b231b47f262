"""The end of a kit's command, as ``status.json`` or a person's ``done`` tell it; and that it began.

Whatever a file says is judged here: it is the trouble of this kit alone.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.core.text import neutral
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.files import open_inside, read_inside
from matterstack.operators.requests.kit_script import SLURM_OUT
from matterstack.operators.results import last_line

#: What a shell may give back; anything else is no exit code.
_EXIT_CODES = range(-255, 256)


class Kind(Enum):
    """What can become of results that cannot be taken as they are."""

    FINAL = "they cannot become right by themselves"
    ARRIVING = "a transfer may be under way"
    HELD = "somebody has to do something first"
    SUMMING = "their sums are being made"


class Problem(NamedTuple):
    """Why results cannot be taken as they are, in words for whoever carries the kit."""

    kind: Kind
    text: str


class Ending(NamedTuple):
    """What ``status.json`` or ``done`` say.

    Attributes
    ----------
    status : str or None
        ``COMPLETED``, ``FAILED``, ``RUNNING``, or None where nothing is told.
    exit_code : int or None
    began : str
        Where and when, as the end of "it began".
    sums : str
        SHA-256 of the ``output.sha256`` that the kit left; empty where it left none.
    problem : Problem or None
        Why it cannot be understood.
    """

    status: str | None = None
    exit_code: int | None = None
    began: str = ""
    sums: str = ""
    problem: Problem | None = None


def read_ending(directory: Path, token: str) -> Ending:
    """Return what is told of how the command ended."""
    told = _status(directory, token)
    if told.problem is not None or told.status not in (None, "RUNNING"):
        return told
    try:
        os.close(open_inside(directory, "done"))
    except PermissionError:
        pass  # it is there, and nothing is read from it
    except (FileNotFoundError, UnsafeFileError):
        return told
    return Ending("COMPLETED")


def _status(directory: Path, token: str) -> Ending:
    def unclear(text: str, kind: Kind = Kind.ARRIVING) -> Ending:
        return Ending(problem=Problem(kind, text))

    try:
        said = parse_json(read_inside(directory, "status.json", MAX_BYTES))
    except FileNotFoundError:
        return Ending()
    except PermissionError:
        return unclear("status.json cannot be read: whoever owns it runs chmod a+r status.json", Kind.HELD)
    except UnsafeFileError as error:
        return unclear(f"{error}: bring the file itself that the kit left (rsync -L, scp or cp -L)", Kind.HELD)
    except InvalidJsonError as error:
        return unclear(f"status.json cannot be read: {error}")
    status = said.get("status") if isinstance(said, dict) else None
    if not isinstance(status, str) or status not in ("COMPLETED", "FAILED", "RUNNING"):
        return unclear("status.json must say COMPLETED or FAILED (or RUNNING) as its status")
    theirs = said.get("token", token)
    if theirs != token:
        return unclear(f"status.json is of another kit ({str(theirs)[:40]!r}); this one is {token}")
    code = said.get("exit_code")
    known = isinstance(code, int) and not isinstance(code, bool) and code in _EXIT_CODES
    host, since = (
        neutral(value[:80]) if isinstance(value := said.get(key), str) else "" for key in ("host", "started_at")
    )
    began = (f" on {host}" if host else "") + (f" at {since}" if since else "")
    sums = said.get("sums")
    return Ending(status, code if known else None, began, sums if isinstance(sums, str) else "")


def not_over(directory: Path, ending: Ending) -> Problem:
    """Return what to say of a kit that began and left no end."""
    line = last_line(directory, SLURM_OUT)
    said = f"; {SLURM_OUT} ends with: {neutral(line)}" if line else ""
    return Problem(
        Kind.HELD,
        f"it began{ending.began} and left no end: it runs, or was killed{said}. When it is over, status.json must say "
        "COMPLETED or FAILED: bring it, output/ and output.sha256 home once more; if it was killed, run it again "
        "there, or write FAILED for RUNNING in status.json",
    )

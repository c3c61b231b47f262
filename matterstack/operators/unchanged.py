"""Notes of since when something in an attempt's directory looks as it does, kept over restarts."""

from __future__ import annotations

import json

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt
from matterstack.core.strict_json import parse_json
from matterstack.errors import InvalidJsonError
from matterstack.files import read_inside, write_inside

_MOST_BYTES = 10_000


def note_unchanged(attempt: Attempt, name: str, state: str, at: float) -> float | None:
    """Note what the state is now, and return since when it has been that; None when it was another at the last look.

    Parameters
    ----------
    attempt : Attempt
    name : str
        Of the file in the folder of ours that keeps it.
    state : str
        Changes whenever what is watched changes.
    at : float
        Now, in seconds since the Unix epoch. What was noted later than that, by a clock that was set back since, does
        not count.
    """
    place = f"{MACHINERY}/{name}"
    try:
        said = parse_json(read_inside(attempt.directory, place, _MOST_BYTES))
        if said["state"] == state and said["at"] <= at:
            return float(said["at"])
    except (FileNotFoundError, InvalidJsonError, KeyError, TypeError, ValueError, OverflowError):
        pass
    write_inside(attempt.directory, place, json.dumps({"state": state, "at": at}).encode())
    return None

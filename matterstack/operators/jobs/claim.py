"""The claim of an attempt by its job, and what else the job leaves: how it ended, and signs of life."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt
from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.files import is_machine_trouble, read_inside
from matterstack.operators.unchanged import note_unchanged


class End(NamedTuple):
    """What a job wrote when it was over.

    Attributes
    ----------
    exit_code : int
        Of the command; minus the signal's number where one killed it. Of the job's script, where that ended before.
    ended_at : float
        Seconds since the Unix epoch.
    state : str or None
        Why the command was ended by us.
    of_command : bool
        Whether the command is known to have ended, and not only the script that should have run it.
    """

    exit_code: int
    ended_at: float
    state: str | None = None
    of_command: bool = True

    @property
    def well(self) -> bool:
        """Whether the command ended well."""
        return self.exit_code == 0 and self.state is None and self.of_command

    def __str__(self) -> str:
        state = "" if self.state is None else f"{self.state}: "
        return f"{state}exit code {self.exit_code}{'' if self.of_command else ' before its command had ended'}"


def end_of(attempt: Attempt) -> End | None:
    """Return what the job wrote when its command ended; None where it has not, or is being written.

    Raises
    ------
    OSError
        The machine or its disk has a trouble that is not the file's.
    """
    if not has_ended(attempt):
        return None  # of most attempts, and asked at every look
    try:
        said = parse_json(read_inside(attempt.directory, f"{MACHINERY}/exit.json", MAX_BYTES))
        state = said.get("state")
        return End(
            int(said["exit_code"]),
            float(said["ended_at"]),
            state if isinstance(state, str) else None,
            said.get("command") is not False,
        )
    except OSError as error:
        if is_machine_trouble(error):
            raise
        return None
    except (UnsafeFileError, InvalidJsonError, AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def has_ended(attempt: Attempt) -> bool:
    """Return whether something stands where the job writes how its command ended."""
    return os.path.lexists(f"{attempt.parent}/{attempt.name}/{MACHINERY}/exit.json")


_JOB = re.compile(r"\w[\w.\[\]-]*")


class Claim(NamedTuple):
    """What a job wrote when it claimed an attempt.

    Attributes
    ----------
    started_at : float
        Seconds since the Unix epoch; 0 where it could not say.
    job : str
        Its id; empty where it has none, or could not say.
    """

    started_at: float
    job: str


def has_begun(attempt: Attempt) -> bool:
    """Return whether a job has claimed the attempt."""
    return os.path.lexists(f"{attempt.parent}/{attempt.name}/{MACHINERY}/claim")


def claim_of(attempt: Attempt) -> Claim | None:
    """Return what the job wrote that claimed the attempt; None where none has."""
    if not has_begun(attempt):
        return None
    try:
        said = parse_json(read_inside(attempt.directory, f"{MACHINERY}/claim/started.json", MAX_BYTES))
        job = str(said.get("job", ""))
        return Claim(float(said["started_at"]), job if _JOB.fullmatch(job) else "")
    except (OSError, UnsafeFileError, InvalidJsonError, AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return Claim(0.0, "")


def began_at(attempt: Attempt) -> float | None:
    """Return when the job claimed the attempt; 0 where it did, and could not say when."""
    claim = claim_of(attempt)
    return None if claim is None else claim.started_at


def silent_s(attempt: Attempt, at: float) -> float:
    """Return for how many seconds the attempt has been missing without a sign of life, by our own clock."""
    try:
        beat = os.stat(attempt.directory / MACHINERY / "claim/alive").st_mtime_ns
    except OSError:
        beat = 0
    since = note_unchanged(attempt, "missing.json", str(beat), at)
    return 0.0 if since is None else at - since

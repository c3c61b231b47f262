"""Answers: how the requests of a run ended, who ended them, and with which bytes."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any, NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.numbers import is_time
from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.evidence.attempt_files import AttemptFiles
from matterstack.operators.requests.base import RequestOperator
from matterstack.operators.requests.experiment import given_by
from matterstack.orchestration.session import Session
from matterstack.storage.rows import AttemptRecord

_MOST_REFUSED = 1000


class Answer(NamedTuple):
    """How a request ended.

    Attributes
    ----------
    outcome : str
        ``accepted``, ``failed``, ``expired`` or ``cancelled``.
    by : str
        Who ended it, as the owner of the file says, or the user of the process.
    at : float
        Seconds since the Unix epoch.
    reason : str
    source : str
        The name of the file that was accepted; empty where none was.
    sha256 : str
        Of its bytes.
    path : str
        Where these bytes are kept, from the run's directory on; empty where nothing was accepted.
    refused : int
        How many answers were refused before.
    """

    outcome: str
    by: str
    at: float
    reason: str
    source: str
    sha256: str
    path: str
    refused: int


def is_answered(session: Session, record: AttemptRecord) -> bool:
    """Return whether an attempt is a request that a person or an instrument answers; a kit is none."""
    operator = session.operators.get(record.attempt.operator)
    return isinstance(operator, RequestOperator) and not operator.traits.results_folder


def answer_of(files: AttemptFiles, record: AttemptRecord) -> Answer | None:
    """Return how a request ended; None where its directory says nothing of it.

    Raises
    ------
    UnsafeFileError
        What it says makes no sense, or is of another request.
    """
    home = files.home(record)
    try:
        said = parse_json(files.read(record, f"{home}/{MACHINERY}/verdict.json", MAX_BYTES))
    except FileNotFoundError:
        return None
    except InvalidJsonError as error:
        raise UnsafeFileError(f"verdict.json is not as it was written: {error}") from None
    if not isinstance(said, dict) or said.get("token") != record.attempt.token or not is_time(said.get("at")):
        raise UnsafeFileError("verdict.json is not as it was written, or is of another request")
    text = {name: str(said.get(name, "")) for name in ("outcome", "by", "reason", "source", "sha256")}
    path = ""
    if text["outcome"] == "accepted":
        path = f"{home}/{MACHINERY}/accepted/{text['sha256']}{PurePath(text['source']).suffix}"
    return Answer(
        text["outcome"],
        text["by"].partition("#")[0],
        float(said["at"]),
        text["reason"],
        text["source"],
        text["sha256"],
        path,
        _refused(files, record),
    )


def _refused(files: AttemptFiles, record: AttemptRecord) -> int:
    for number in range(1, _MOST_REFUSED):
        try:
            files.read(record, f"{files.home(record)}/{MACHINERY}/rejected/{number}.reason.json", MAX_BYTES)
        except (FileNotFoundError, UnsafeFileError):
            return number - 1
    return _MOST_REFUSED


def says_otherwise(record: AttemptRecord, answer: Answer, content: bytes) -> bool:
    """Return whether the database has another answer than the bytes that were accepted."""
    if not answer.source.endswith(".json") or record.attempt.data is None:
        return False
    try:
        given: Any = parse_json(content)
        if answer.source.startswith("experiment_result"):
            given = given_by(given)
        return bool(given != json.loads(record.attempt.data))
    except (InvalidJsonError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return True

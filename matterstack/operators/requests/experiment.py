"""Instruments that exchange files: a request out, a result in, a heartbeat in between.

The directory of an attempt is the exchange::

    experiment_request.json      what shall be measured; it is there from the beginning
    experiment_ack.json          the instrument's claim, made once (O_EXCL): it begins
    experiment_heartbeat.json    rewritten by the instrument while it works; any change counts
    experiment_result.json       what it measured, with the SHA-256 of each file it leaves
    experiment_abort.json        ours: stop, nobody waits for this any more

The claim is also what withdraws a request: a request that nobody claimed in time is
claimed by the run itself, so that no instrument can begin it afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import posixpath
import re
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.attempt_files import Family, check_names
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.identifiers import check_relative_path
from matterstack.core.keywords import suggesting_class
from matterstack.core.schemas import check_schema, violations
from matterstack.core.states import AttemptStatus
from matterstack.core.strict_json import MAX_BYTES
from matterstack.core.task import Task
from matterstack.errors import (
    AttemptFailedError,
    InvalidConfigError,
    InvalidTaskError,
    UnsafeFileError,
    UnsafePathError,
)
from matterstack.files import read_inside, sync_tree, write_inside
from matterstack.operators.requests.base import RequestOperator, refuse_call
from matterstack.operators.requests.kit_sums import digest
from matterstack.operators.requests.notices import Notify, check_notify
from matterstack.operators.requests.rejection_policy import RejectionPolicy
from matterstack.operators.requests.request_directory import RequestDirectory, Verdict, unreadable
from matterstack.operators.unchanged import note_unchanged

_REQUEST, _ACK, _HEARTBEAT, _ABORT = (
    "experiment_request.json",
    "experiment_ack.json",
    "experiment_heartbeat.json",
    "experiment_abort.json",
)
_STEM = "experiment_result"

#: What an instrument is asked, whatever its parameters.
REQUEST_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "protocol": {"const": 1},
        "token": {"type": "string"},
        "task_id": {"type": "string"},
        "iteration": {"type": "integer"},
        "attempt": {"type": "integer"},
        "instructions": {"type": "string"},
        "parameters": {"type": "object"},
        "result_schema": {"type": "object"},
        "heartbeat_timeout_s": {"type": ["number", "null"]},
    },
    "required": ["protocol", "token", "task_id", "iteration", "attempt", "parameters", "result_schema"],
    "additionalProperties": False,
}


def result_schema(data: Mapping[str, Any], token: str) -> dict[str, Any]:
    """Return the JSON Schema of ``experiment_result.json``.

    Parameters
    ----------
    data : mapping
        JSON Schema of what was measured.
    token : str
        Of the attempt: a result of another request is refused.
    """
    return {
        "type": "object",
        "properties": {
            "token": {"const": token},
            "status": {"enum": ["COMPLETED", "FAILED", "ABORTED"]},
            "reason": {"type": "string"},
            "data": {"type": "object"},
            "files": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "path": {"type": "string", "minLength": 1},
                        "sha256": {"type": "string", "minLength": 64, "maxLength": 64},
                    },
                    "required": ["path", "sha256"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["token", "status"],
        "additionalProperties": False,
        "if": {"properties": {"status": {"const": "COMPLETED"}}, "required": ["status"]},
        "then": {"required": ["data"], "properties": {"data": dict(data)}},
        "else": {"required": ["reason"]},
    }


@suggesting_class
class ExperimentOperator(RequestOperator):
    """Ask an instrument, through files.

    Parameters
    ----------
    request_schema : mapping, optional
        JSON Schema of ``Task.parameters``; checked before the run is made.
    result_schema : mapping, optional
        JSON Schema of the measured data; ``Task.schema`` takes its place.
    heartbeat_timeout_s : float, optional
        An instrument that has begun and shows no sign of life for so long is asked to abort,
        and the attempt is LOST. Without it, it is waited for.
    max_rejections : int
        So many different bad results fail the attempt.
    notify : callable or sequence of str, optional
        Told once of each request; see `HumanOperator`.

    Raises
    ------
    InvalidConfigError
        An argument cannot be used; the message names it.
    """

    wants = f"an instrument that takes up {_REQUEST}"

    def __init__(
        self,
        *,
        request_schema: Mapping[str, Any] | None = None,
        result_schema: Mapping[str, Any] | None = None,
        heartbeat_timeout_s: float | None = None,
        max_rejections: int = 3,
        notify: Notify | None = None,
    ) -> None:
        limit = heartbeat_timeout_s
        if limit is not None and not (isinstance(limit, int | float) and limit > 0):
            raise InvalidConfigError(f"heartbeat_timeout_s must be a positive number of seconds, not {limit!r}")
        for name, schema in (("request_schema", request_schema), ("result_schema", result_schema)):
            if schema is not None:
                check_schema(schema, name)
        check_notify(notify)
        self.request_schema = dict(request_schema or {"type": "object"})
        self.result_schema = dict(result_schema or {"type": "object"})
        self.heartbeat_timeout_s = heartbeat_timeout_s
        self.policy = RejectionPolicy(max_rejections)
        self.notify = notify

    def __repr__(self) -> str:
        return f"ExperimentOperator(heartbeat_timeout_s={self.heartbeat_timeout_s!r})"

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments; None where ``notify`` is a function."""
        if callable(self.notify):
            return None
        return {
            "request_schema": self.request_schema,
            "result_schema": self.result_schema,
            "heartbeat_timeout_s": self.heartbeat_timeout_s,
            "max_rejections": self.policy.max_rejections,
            "notify": None if self.notify is None else list(self.notify),
        }

    def check_task(self, task: Task) -> None:
        """Refuse parameters the instrument does not take, a schema that cannot be obeyed, and calls."""
        refuse_call(task)
        if task.schema is not None:
            check_schema(task.schema, f"task {task.task_id!r}: schema")
        if found := violations(self.request_schema, dict(task.parameters or {})):
            raise InvalidTaskError(f"task {task.task_id!r}: parameters: {'; '.join(found)}", task_id=task.task_id)
        check_names(task.task_id, task.files, Family.INSTRUMENT)

    def _schema(self, attempt: Attempt) -> dict[str, Any]:
        return result_schema(attempt.task.schema or self.result_schema, attempt.token)

    def prepare(self, attempt: Attempt) -> None:
        """Write the request."""
        task = attempt.task
        request = {
            "protocol": 1,
            "token": attempt.token,
            "task_id": attempt.task_id,
            "iteration": attempt.iteration,
            "attempt": attempt.attempt,
            "instructions": task.instructions or "",
            "parameters": task.parameters or {},
            "result_schema": self._schema(attempt),
            "heartbeat_timeout_s": self.heartbeat_timeout_s,
        }
        text = json.dumps(request, indent=2, ensure_ascii=False) + "\n"
        (attempt.directory / _REQUEST).write_bytes(text.encode())
        sync_tree(attempt.directory)

    def _request_directory(self, attempt: Attempt) -> RequestDirectory:
        return RequestDirectory(
            attempt.directory,
            self._schema(attempt),
            attempt.token,
            _STEM,
            self.patience,
            lacks=lambda result: _lacks(attempt, result),
            objects=_wrong_paths,
        )

    def judge(self, attempt: Attempt, at: float) -> Observation:
        """Look for a claim, signs of life and a result."""
        request = self._request_directory(attempt)
        begun = _begun(attempt)
        limit_s = attempt.task.timeout_s
        late = limit_s is not None and at - attempt.submitted_at >= limit_s
        if late and not begun:
            begun = not _withdraw(attempt)
        # What has begun does not expire: it is asked to abort, and says itself that it has.
        came = request.judge(attempt, self.policy, None if begun else limit_s, at)
        if came.seen is Seen.ENDED:
            return self._ended(attempt, request, came)
        if came.seen is Seen.EXPIRED or request.verdict() is not None:
            write_inside(attempt.directory, _ABORT, _abort(attempt))
            if attempt.status is AttemptStatus.RUNNING:
                return Observation(Seen.ENDED, ok=False, reason=came.reason, ended_at=at)
            return came
        if not begun:
            return came
        if attempt.status is AttemptStatus.WAITING:
            return Observation(Seen.RUNNING, reason="the instrument has begun", started_at=at)
        if late:
            write_inside(attempt.directory, _ABORT, _abort(attempt))
        silent_s = _silent(attempt, at)
        if self.heartbeat_timeout_s is not None and silent_s >= self.heartbeat_timeout_s:
            why = f"the instrument shows no sign of life for {silent_s:.0f} s; it finds {_ABORT} when it comes back"
            if request.decide(Verdict("expired", at, reason=why)).outcome == "accepted":
                return self._ended(attempt, request, came)
            write_inside(attempt.directory, _ABORT, _abort(attempt))
            return Observation(Seen.VANISHED, reason=why)
        said = "the instrument works" if came.reason == request.wish(attempt) else came.reason
        asked = f"; its {limit_s:g} s are over, and it was asked to abort" if late else ""
        return Observation(Seen.RUNNING, reason=f"{said}{asked}", settling=came.settling)

    def _ended(self, attempt: Attempt, request: RequestDirectory, came: Observation) -> Observation:
        result = request.accepted(attempt)
        if result["status"] == "COMPLETED":
            return came._replace(reason=None)
        return came._replace(ok=False, reason=f"the instrument says {result['status']}: {result['reason']}")

    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Withdraw what nobody has begun; ask an instrument that has begun to abort, and wait until it says so."""
        over = []
        for attempt in attempts:
            if not attempt.directory.is_dir():
                over.append(attempt.token)
                continue
            with contextlib.suppress(OSError, UnsafeFileError):  # it is asked again, and holds no other one up
                write_inside(attempt.directory, _ABORT, _abort(attempt))
                if _withdraw(attempt) or _present(attempt, f"{_STEM}.json") or self._is_silent(attempt):
                    over.append(attempt.token)
                    self._request_directory(attempt).decide(
                        Verdict("cancelled", time.time(), reason="it is no longer wanted")
                    )
        return over

    def _is_silent(self, attempt: Attempt) -> bool:
        limit = self.heartbeat_timeout_s
        return limit is not None and _silent(attempt, time.time()) >= limit

    def collect_results(self, attempt: Attempt) -> Any:
        """Check the files by their hashes, and return the measured data with their list."""
        result = self._request_directory(attempt).accepted(attempt)
        if (lacking := _lacks(attempt, result)) is not None:
            raise AttemptFailedError(lacking)
        given = given_by(result)
        for output in attempt.task.outputs:
            if output not in given.get("files", ()):
                raise AttemptFailedError(f"the expected output {output} is not among the files of the result")
        return given


def given_by(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a task that a result of an instrument gives: what was measured, with the list of its files."""
    files = {_plain_path(entry["path"]): entry["sha256"].lower() for entry in result.get("files", ())}
    return {**result["data"], **({"files": files} if files else {})}


def _present(attempt: Attempt, name: str) -> bool:
    try:
        read_inside(attempt.directory, name, MAX_BYTES)
    except FileNotFoundError:
        return False
    return True


def _begun(attempt: Attempt) -> bool:
    """Return whether an instrument has claimed the request."""
    try:
        return read_inside(attempt.directory, _ACK, MAX_BYTES) != _withdrawal(attempt)
    except FileNotFoundError:
        return False


def _withdrawal(attempt: Attempt) -> bytes:
    return json.dumps({"withdrawn": True, "token": attempt.token}).encode()


def _plain_path(path: str) -> str:
    r"""Return a path as it is meant here, where an instrument wrote ``data\scan1.xy`` or ``./scan1.xy``."""
    return posixpath.normpath(path.replace("\\", "/")) if ".." not in path else path


def _wrong_paths(result: Any) -> list[str]:
    """Return which paths can never name a measurement file of this request."""
    found = []
    for number, entry in enumerate(result.get("files", ())):
        try:
            if re.match(r"[A-Za-z]:", entry["path"]):
                raise UnsafePathError(f"{entry['path']!r} begins with a drive")
            check_relative_path(_plain_path(entry["path"]), "the measurement file")
        except UnsafePathError:
            found.append(
                f"$.files[{number}].path: the measurement file {entry['path']!r} cannot be used: it has to lie in the "
                "folder of the request, and is named from there, as in 'data/scan1.xy'"
            )
    return found


def _lacks(attempt: Attempt, result: Any) -> str | None:
    """Return which measurement file is not whole yet."""
    for entry in result.get("files", ()):
        path = _plain_path(entry["path"])
        try:
            status = os.lstat(attempt.directory / path)
            found = _digest(str(attempt.directory), path, (status.st_size, status.st_mtime_ns, status.st_ino))
        except PermissionError as error:
            return unreadable(f"the measurement file {path}", error)
        except (OSError, UnsafeFileError) as error:
            return f"the measurement file {path!r} cannot be used yet: {error}"
        if found != entry["sha256"].lower():
            return f"the measurement file {path!r} is not whole yet: its SHA-256 is {found}"
    return None


@functools.lru_cache(maxsize=1024)
def _digest(directory: str, path: str, stamp: tuple[int, int, int]) -> str:
    """Return the SHA-256 of a file, computed once for each state of it."""
    return digest(Path(directory), path)


def _silent(attempt: Attempt, at: float) -> float:
    """Return for how many seconds the instrument's files have not changed, by our own clock."""
    life = hashlib.sha256()
    for name in (_HEARTBEAT, _ACK):
        with contextlib.suppress(FileNotFoundError):
            life.update(read_inside(attempt.directory, name, MAX_BYTES) + b"|")
    since = note_unchanged(attempt, "silent.json", life.hexdigest(), at)
    return 0.0 if since is None else at - since


def _withdraw(attempt: Attempt) -> bool:
    """Claim a request in the instrument's place; return whether nobody else has or will."""
    mine = _withdrawal(attempt)
    try:
        write_inside(attempt.directory, _ACK, mine, new=True)
    except FileExistsError:
        return read_inside(attempt.directory, _ACK, MAX_BYTES) == mine
    return True


def _abort(attempt: Attempt) -> bytes:
    return json.dumps({"token": attempt.token, "abort": True}).encode()

"""The record of a run for others: all that is known of it, as plain data; report, tables and crate are made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from matterstack import __version__
from matterstack.core.amended import in_words
from matterstack.core.numbers import is_time
from matterstack.core.states import AttemptStatus, TaskStatus
from matterstack.core.strict_json import parse_json
from matterstack.core.text import neutral, storable
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.evidence.answers import answer_of, is_answered
from matterstack.evidence.attempt_files import SHA256, AttemptFiles, as_object
from matterstack.evidence.kept_files import literal
from matterstack.evidence.left_out import EVIDENCE, MOST_BYTES
from matterstack.files import read_inside
from matterstack.orchestration import campaigns
from matterstack.orchestration.session import Session
from matterstack.storage.rows import AttemptRecord, EventRow, LinkRow, TaskRow

#: Of evidence.json, and of its schema.
VERSION = 1
_MOST_CHARACTERS = 20_000
_MOST_BYTES = 10_000_000
#: What a specification says of a task that is told as it stands.
_TOLD = (
    "command", "group", "operator", "instructions", "assignee", "schema", "resources", "outputs", "retries",
    "allow_failure", "on_failure", "cache",
)  # fmt: skip


def record_of(session: Session) -> dict[str, Any]:
    """Return all that is known of a run, of one moment; the files of an export are added by that.

    Parameters
    ----------
    session : Session
    """
    reader = session.reader
    files = AttemptFiles(session)
    with reader.reading():
        run = reader.run()
        tasks = reader.tasks()
        records = list(reader.records())
        environments = _Environments()
        attempts = [_attempt(session, files, record, environments) for record in records]
        last = reader.events_after(0, 1)
        last_at = moment(last[-1].at if last else run.created_at)
        if last_at is None:
            raise ValueError(f"the last event was at {last[-1].at}")
        return {
            "evidence": VERSION,
            "exported_with": {"name": "matterstack", "version": __version__},
            "run": {
                "run_id": run.run_id,
                "workspace": run.workspace,
                "status": str(run.status),
                "reason": run.reason,
                "tags": list(run.tags),
                "created_at": moment(run.created_at),
                "iteration": run.iteration,
                "last_event": last[-1].seq if last else 0,
                "last_event_at": last_at,
                "state": _json(run.campaign_state),
            },
            "asked": _asked(session),
            "iterations": [
                {
                    "iteration": one.iteration,
                    "created_at": moment(one.created_at),
                    "ended_at": moment(one.ended_at),
                    "tasks": one.counts._asdict(),
                }
                for one in reader.iterations()
            ],
            "software": _software(session),
            "environments": environments.told,
            "tasks": list(_tasks(session, tasks)),
            "attempts": attempts,
            "acts": [_act(one) for one in reader.acts()],
        }


def moment(at: object) -> str | None:
    """Return a moment, in seconds since the Unix epoch, as ISO 8601, in UTC and whole milliseconds; None for none.

    Examples
    --------
    >>> moment(0.0625)
    '1970-01-01T00:00:00.062Z'
    """
    if not (isinstance(at, int | float) and is_time(at)):  # a database of a stranger may say anything
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- what was asked ---------------------------------------------------------------------------------


def _asked(session: Session) -> dict[str, Any]:
    """Return the campaign, its targets and settings; paths of the machine that made the run are left out."""
    config = session.directory.read_config()
    settings = config.get("settings")
    said = dict(settings) if isinstance(settings, Mapping) else {}
    operators = config.get("operators")
    return {
        "campaign": _campaign(session, config.get("campaign")),
        "target": dict(session.settings.target),
        "settings": {name: value for name, value in said.items() if name not in ("target", "environment")},
        "operators": {
            str(name): {"kind": one.get("kind") if isinstance(one, Mapping) else None}
            for name, one in (operators.items() if isinstance(operators, Mapping) else ())
        },
    }


def _campaign(session: Session, reference: Any) -> dict[str, Any]:
    if reference == campaigns.ONE_WORKFLOW:
        return {"kind": "workflow", "name": "one workflow"}
    if not isinstance(reference, str):
        return {"kind": "not kept", "name": "a campaign that the run could not keep"}
    if not campaigns.is_stored(reference):
        return {"kind": "importable", "name": reference}
    folder = campaigns.folder_of(reference)
    said: Any = {}
    try:
        said = json.loads(read_inside(session.directory.path / folder, campaigns.ABOUT, _MOST_BYTES))
    except (OSError, UnsafeFileError, ValueError):
        said = {}
    name = said.get("name") if isinstance(said, dict) else None
    data = said.get("data") if isinstance(said, dict) else None
    return {"kind": "source", "name": str(name), "source": f"{folder}/{campaigns.TEXT}", "data": bounded(data)}


def _software(session: Session) -> dict[str, Any]:
    config = session.directory.read_config()
    made_in = config.get("environment")
    said = made_in if isinstance(made_in, Mapping) else _made_in_before(session)
    packages = said.get("packages")
    return {
        "matterstack": str(config.get("matterstack")),
        "python": said.get("version"),
        "packages": dict(packages) if isinstance(packages, Mapping) else {},
        "code": _json(session.reader.code()) or {},
    }


def _made_in_before(session: Session) -> dict[str, Any]:
    """Return what a run was planned in, as an export says it in evidence.json, since its config.json does not."""
    try:
        said = _before(session)["software"]
        return {"version": None if said["python"] is None else str(said["python"]), "packages": said["packages"]}
    except (LookupError, TypeError):
        return {}


def _before(session: Session) -> Any:
    """Return what the export that a run is says of itself; None where it is none."""
    try:
        return parse_json(read_inside(session.directory.path, EVIDENCE, MOST_BYTES), max_bytes=MOST_BYTES)
    except (OSError, UnsafeFileError, InvalidJsonError):
        return None


# -- tasks and attempts -----------------------------------------------------------------------------


def _tasks(session: Session, rows: Sequence[TaskRow]) -> Iterator[dict[str, Any]]:
    names = {row.id: f"{row.iteration}.{row.task_id}" for row in rows}
    after: dict[int, list[str]] = {}
    for before, task in session.reader.edges():
        after.setdefault(task, []).append(names.get(before, ""))
    specs = session.reader.specifications()
    for row, (_, _, text) in zip(rows, specs, strict=True):
        spec = as_object(text)
        call = as_object(spec.get("call"))
        told = {name: bounded(spec[name]) for name in _TOLD if spec.get(name) is not None}
        yield {
            "task": names[row.id],
            "iteration": row.iteration,
            "task_id": row.task_id,
            "status": str(TaskStatus(row.status)),
            "reason": row.reason,
            "attempts": row.attempt,
            "after": after.get(row.id, []),
            **({"function": str(call["function"])} if "function" in call else {}),
            **({"program": f"files/{call['program']}"} if "program" in call else {}),
            "done_with": bounded(_done_with(spec)),
            **told,
            "operator": row.operator,
        }


def _done_with(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a task; of a call its arguments, as args.json has them."""
    call = as_object(spec.get("call"))
    named = as_object(call.get("kwargs")) if call else as_object(spec.get("parameters"))
    return {**({"args": call["args"]} if call.get("args") else {}), **named}


class _Environments:
    """What attempts ran in, each once."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self._known: dict[str, int] = {}

    def number(self, text: str | None) -> int | None:
        """Return which one it is; None for nothing."""
        if text is None:
            return None
        if text not in self._known:
            self._known[text] = len(self.told)
            self.told.append(as_object(text))
        return self._known[text]


def _attempt(
    session: Session, files: AttemptFiles, record: AttemptRecord, environments: _Environments
) -> dict[str, Any]:
    row = record.attempt
    said: dict[str, Any] = {
        "attempt": record.name,
        "task": f"{row.iteration}.{row.task_id}",
        "token": row.token,
        "status": str(AttemptStatus(row.status)),
        "reason": row.reason,
        "operator": row.operator,
        "submitted_at": moment(row.submitted_at),
        "started_at": moment(row.started_at),
        "ended_at": moment(row.ended_at),
        "exit_code": row.exit_code,
        "cpu_s": row.cpu_s,
        "peak_memory_gib": row.peak_memory_gib,
        "environment": environments.number(record.environment),
        "changes": in_words(row.changes) or None,
        "cached": row.cached,
        "packed": record.archive,
        "directory": f"{files.home(record)}/",
        "inputs": [*_written(record), *(_link(session, one) for one in session.reader.links_up(record.id))],
        "outputs": [
            {"name": name, "path": files.results(record, name), "sha256": _sum(sha256), "bytes": size}
            for name, sha256, size in files.left(record)
        ],
        "not_hashed": {str(name): str(why) for name, why in as_object(record.not_hashed).items()},
        "data": bounded(_json(row.data)),
        "removed": [_json(text) for text in record.removed],
    }
    if is_answered(session, record):
        said["answer"] = _answer(files, record)
    return said


def _sum(sha256: str) -> str:
    if not SHA256.match(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256")
    return sha256


def _answer(files: AttemptFiles, record: AttemptRecord) -> dict[str, Any] | None:
    try:
        answer = answer_of(files, record)
    except (UnsafeFileError, OSError) as error:
        return {"outcome": "unknown", "reason": neutral(str(error))}
    return None if answer is None else {**answer._asdict(), "at": moment(answer.at)}


def _written(record: AttemptRecord) -> Iterator[dict[str, Any]]:
    """Yield the inputs whose content the plan itself holds, or a person's word that has changed it."""
    changed = as_object(as_object(record.attempt.changes).get("files"))
    for name, source in as_object(as_object(record.spec).get("files")).items():
        if (content := literal(source)) is not None:
            of = "a change of the plan" if name in changed else "the plan"
            yield {"name": name, "of": of, "path": None, "sha256": hashlib.sha256(content).hexdigest()}


def _link(session: Session, link: LinkRow) -> dict[str, Any]:
    of = link.origin
    if of is None and link.task_id is not None:
        of = f"{link.iteration}.{link.task_id}.{link.attempt}"
    return {"name": link.name, "of": of, "path": link.path, "sha256": link.sha256}


def _act(event: EventRow) -> dict[str, Any]:
    """Return a person's word; of which task and attempt it was, where it was not on the run."""
    of = None if event.task_id is None else f"{event.iteration}.{event.task_id}"
    return {
        "event": event.seq,
        "at": moment(event.at),
        "who": event.who,
        "did": event.event,
        "of": of if event.attempt is None else f"{of}.{event.attempt}",
        "status": event.status,
        "reason": event.reason,
    }


# -- plain data -------------------------------------------------------------------------------------


def bounded(value: Any) -> Any:
    """Return a value as it is, or, where it is large, how large: the database has it."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= _MOST_CHARACTERS:
        return value
    return {"left_out": f"{len(text)} characters, which state.sqlite has"}


def as_text(record: Mapping[str, Any]) -> bytes:
    """Return a record as JSON, the same for the same record."""
    return storable(json.dumps(record, indent=1, ensure_ascii=False)).encode() + b"\n"


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None

"""Cached results: the key of an attempt whose inputs lie there, what is taken in its place, and what is kept of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, cast

from matterstack.cache import DamagedEntryError, Entry
from matterstack.core.attempt_files import CACHED, KEY, MACHINERY
from matterstack.core.attempts import Attempt
from matterstack.core.cache_keys import Key, digest_of, short
from matterstack.core.calls import VALUE, VALUES, Call
from matterstack.core.made import Made, Output, Recalled
from matterstack.core.snapshot import Upstream
from matterstack.core.states import AttemptStatus
from matterstack.core.strict_json import dump_json, parse_json, to_text
from matterstack.core.task import RESULT, Task
from matterstack.crash_points import reach
from matterstack.errors import AttemptFailedError, InvalidJsonError, UnsafeFileError
from matterstack.files import open_inside, read_inside, remove_tree, write_new
from matterstack.operators.base import Operator
from matterstack.operators.interpreters import ask
from matterstack.operators.results import collect
from matterstack.orchestration.call_inputs import arrays_of_value
from matterstack.orchestration.capture import capture
from matterstack.orchestration.session import Session

_MOST_BYTES = 10_000_000
#: Of all that one attempt left; more is not kept.
MOST_KEPT_BYTES = 2 << 30


# -- keys ---------------------------------------------------------------------------------------


def key_of(session: Session, operator: Operator, attempt: Attempt, upstream: Sequence[Upstream]) -> Key | str:
    """Return the key of an attempt whose inputs lie in its directory; or why it has none."""
    task, home = attempt.task, f"{attempt.parent}/{attempt.name}"
    parts: dict[str, dict[str, str]] = {}
    if task.call is not None:
        program = session.program(str(task.call.program))
        environment = _environment(operator, task, program.packages)
        if isinstance(environment, str):
            return environment
        name = task.call.function
        parts["source"] = dict(program.parts(name))
        parts["arguments"] = _arguments(task.call, home)
    else:
        said = task.command if isinstance(task.command, str) else shlex.join(task.command or ())
        name, environment = said.split()[0], {}
        if (named := operator.environment_of(task).name) is not None:
            environment = {"environment": named}
        parts["command"] = {"command": said}
    depends = depends_of(task)
    if isinstance(depends, str):
        return depends
    sources = {source.task_id for source in task.call.sources} if task.call else set()
    parts |= {
        "environment": environment,
        "files": {path: _hash_of(home, path) for path in task.files},
        "data": {
            one.task_id: short(f"{one.status} {one.data or '{}'}") for one in upstream if one.task_id not in sources
        },
        "env": {name: value if value.startswith("env:") else digest_of(value) for name, value in task.env.items()},
        "outputs": dict.fromkeys(task.outputs, "wanted"),
        "parameters": {} if task.parameters is None else {"all": digest_of(task.parameters)},
        "depends": depends,
    }
    return Key(name, {kind: part for kind, part in parts.items() if part})


def depends_of(task: Task) -> dict[str, str] | str:
    """Return what a task depends on besides, as it is now: files by their content; or what cannot be read."""
    found = {}
    for one in cast("Sequence[str | PurePath]", task.depends):  # as it is kept
        if isinstance(one, str):
            found[one] = "said"
            continue
        try:
            with open(one, "rb") as file:
                found[str(one)] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            return f"{one}, which it depends on, cannot be read: {error.strerror}"
    return found


def _environment(operator: Operator, task: Task, packages: Sequence[str]) -> dict[str, str] | str:
    """Return what will run a call, as far as that can be known; or why it cannot."""
    known = operator.environment_of(task)
    if known.name is not None:
        return {"environment": known.name}
    if known.python is None:
        return known.why_not
    env = {name: value for name, value in task.env.items() if not value.startswith("env:")}
    answer = ask(known.python, packages, env)
    if isinstance(answer, str):
        return answer
    if known.elsewhere and answer.executable != known.python[0]:
        return (
            f"{known.python[0]} is {answer.executable} here, which may be another one where the jobs run: environment="
        )
    return dict(answer.parts)


def _arguments(call: Call, home: str) -> dict[str, str]:
    """Return the arguments by name, with the content of values in place of the names of tasks."""
    contents = _Contents(home)
    given = {str(number): said for number, said in enumerate(call.arguments.get("args", ()))}
    return {name: short(to_text(contents.put_into(said))) for name, said in (given | call.arguments["kwargs"]).items()}


class _Contents:
    """What tasks before gave, as it lies in an attempt's directory."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._inputs: Any = None
        self._known: dict[str, str] = {}

    def put_into(self, said: Any) -> Any:
        """Return an encoded argument with contents in place of references."""
        if isinstance(said, list):
            return [self.put_into(one) for one in said]
        if not isinstance(said, dict):
            return said
        if said.get("@") == "reference":
            return {"@": "content", "is": self._of(said["task"]), "at": said["at"]}
        return {name: self.put_into(one) for name, one in said.items()}

    def _of(self, label: str) -> str:
        if label not in self._known:
            path = f"{VALUES}/{label}/{VALUE}"
            if os.path.lexists(f"{self._home}/{path}"):
                self._known[label] = _hash_of(self._home, path)
            else:
                if self._inputs is None:
                    self._inputs = json.loads(read_inside(self._home, "inputs.json", 1 << 40))
                before = self._inputs[label]
                self._known[label] = digest_of([before["status"], before["data"]])
        return self._known[label]


def _hash_of(home: str, path: str) -> str:
    with open(open_inside(home, path), "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


# -- in place of running ------------------------------------------------------------------------


def recall(
    session: Session, operator: Operator, attempt: Attempt, upstream: Sequence[Upstream]
) -> Recalled | Key | None:
    """Place what is known from before into an attempt's directory, which nobody else sees yet.

    Where nothing is known, return the key that what it gives shall be kept under; None where nothing shall.
    """
    wanted = session.caches(attempt.task)
    if wanted is False:
        return None
    key = key_of(session, operator, attempt, upstream)
    if isinstance(key, str):
        return None  # `run.explain_cache` says why
    entry = session.cache.find(key)
    if entry is not None and not why_not_taken(session, attempt, entry):
        found = _place(session, operator, attempt, entry)
        if found is not None:
            return found
    return key if wanted is True else None


def why_not_taken(session: Session, attempt: Attempt, entry: Entry) -> str | None:
    """Return why a result is not taken, although all that it depends on is equal; None where it is."""
    if _was_completed(session, attempt):
        return "somebody asked for the task once more, and it was completed"
    if not _is_of_task(entry, attempt.task):
        return "it has other files than the task leaves"
    return taken_of(session, attempt, entry.files)


def taken_of(session: Session, attempt: Attempt, files: Iterable[str]) -> str | None:
    """Return in words what other tasks take of a task that is not among some files; None for nothing."""
    missing = {*session.reader.files_taken_of(attempt.record.task)} - {*files, RESULT}
    if not missing:
        return None
    return f"other tasks take {', '.join(sorted(missing))} of it, which is kept where outputs= names it"


def _was_completed(session: Session, attempt: Attempt) -> bool:
    """Return whether a person has asked for the task once more that was completed: then it is computed anew."""
    return attempt.record.attempt > 1 and any(
        before.status == AttemptStatus.COMPLETED for before in session.reader.attempts_of_task(attempt.record.task)
    )


def note(key: Key | bytes, attempt: Attempt) -> None:
    """Note the key of an attempt in its directory, which is ready but for that."""
    home = f"{attempt.parent}/{attempt.name}"
    said = (
        key
        if isinstance(key, bytes)
        else to_text({"name": key.name, "parts": key.parts}).encode("utf-8", "surrogatepass")
    )
    os.makedirs(f"{home}/{MACHINERY}", exist_ok=True)
    write_new(f"{home}/{KEY}", said)


def _is_of_task(entry: Entry, task: Task) -> bool:
    """Return whether the files of an entry are what a task leaves, and nothing else."""
    allowed = {*task.outputs, RESULT}
    others = entry.files.keys() - allowed
    arrays = task.call is not None and all(name.startswith("value/") and name.endswith(".npy") for name in others)
    return not task.outputs or (set(task.outputs) <= entry.files.keys() and (not others or arrays))


def _place(session: Session, operator: Operator, attempt: Attempt, entry: Entry) -> Recalled | None:
    home = f"{attempt.parent}/{attempt.name}"
    results = f"{home}/{operator.traits.results_folder}".rstrip("/")
    os.makedirs(results, exist_ok=True)
    said = {"key": entry.key, **entry.told, "files": {name: list(pair) for name, pair in entry.files.items()}}
    found = None
    with contextlib.suppress(DamagedEntryError):
        session.cache.take(entry, results)
        found = _recalled(results, attempt.task, said)
    if found is None:
        _clear(results, home, entry)
        return None
    os.makedirs(f"{home}/{MACHINERY}", exist_ok=True)
    write_new(f"{home}/{CACHED}", to_text(said).encode("utf-8", "surrogatepass"))
    return found


def _clear(results: str, home: str, entry: Entry) -> None:
    """Remove what was placed of an entry that cannot be used: the attempt runs here after all."""
    for name in entry.files:
        place = f"{results}/{name}"
        with contextlib.suppress(OSError):
            os.unlink(place)
        while (place := os.path.dirname(place)) != home:
            with contextlib.suppress(OSError):  # it holds files of the task
                os.rmdir(place)


def _recalled(results: str, task: Task, said: Mapping[str, Any]) -> Recalled | None:
    try:
        data = dump_json(collect(results, task.outputs), "the data of a cached result")
    except (AttemptFailedError, InvalidJsonError):
        return None
    outputs = [Output(name, *pair) for name, pair in said["files"].items()]
    environment = said.get("environment")
    told = {name: said.get(name) for name in ("key", "run", "attempt", "host", "at")}
    return Recalled(data, to_text(told), Made(environment if isinstance(environment, str) else None, outputs))


def recalled_before(operator: Operator, attempt: Attempt) -> Recalled | None:
    """Return what a tick that was killed has placed for an attempt; a directory that the power tore is removed."""
    try:
        said = parse_json(read_inside(attempt.directory, CACHED, _MOST_BYTES))
    except (OSError, UnsafeFileError, InvalidJsonError):
        return None
    results = f"{attempt.directory}/{operator.traits.results_folder}".rstrip("/")
    try:
        whole = all(_hash_of(results, name) == f"sha256:{sha256}" for name, (sha256, _) in said["files"].items())
        found = _recalled(results, attempt.task, said) if whole else None
    except (OSError, UnsafeFileError, KeyError, TypeError, ValueError, AttributeError):
        found = None
    if found is None:
        remove_tree(attempt.directory)
    return found


def noted_before(attempt: Attempt) -> bytes | None:
    """Return the key that a tick which was killed has noted, for the directory that is made once more."""
    try:
        return read_inside(attempt.directory, KEY, _MOST_BYTES)
    except (OSError, UnsafeFileError):
        return None


# -- what is kept -------------------------------------------------------------------------------


def keep(session: Session, attempt: Attempt, made: Made | None) -> None:
    """Keep what an attempt left that is COMPLETED, now that this is on disk."""
    reach("cache.committed")
    with capture():  # an entry that is lost is no reason to stop
        _keep(session, attempt, made)
    reach("cache.kept")


def sizes_of(results: Path, task: Task) -> dict[str, int]:
    """Return the files of a result by name, and their sizes in bytes."""
    names = [*task.outputs, *([RESULT] if os.path.lexists(results / RESULT) else [])]
    names += arrays_of_value(results) if task.call is not None else []
    return {name: os.stat(results / name, follow_symlinks=False).st_size for name in dict.fromkeys(names)}


def _keep(session: Session, attempt: Attempt, made: Made | None) -> None:
    home, task = attempt.directory, attempt.task
    said = parse_json(read_inside(home, KEY, _MOST_BYTES))
    key = Key(said["name"], said["parts"])
    operator = session.operators[attempt.record.operator]
    now: dict[str, dict[str, str] | str] = {"depends": depends_of(task)}
    if task.call is not None:
        now["environment"] = _environment(operator, task, session.program(str(task.call.program)).packages)
    if any(said != key.parts.get(kind, {}) for kind, said in now.items()):
        return  # something was changed meanwhile: nobody knows which of the two it used
    if os.path.lexists(home / "corrections.json"):
        return  # a handler has changed the inputs
    results = home / session.results_folder(attempt.record.operator)
    sizes = sizes_of(results, task)
    if sum(sizes.values()) > MOST_KEPT_BYTES:
        return
    files = {name: (_hash_of(str(results), name).removeprefix("sha256:"), size) for name, size in sizes.items()}
    hashed = {output.name: (output.sha256, output.size) for output in made.outputs} if made else {}
    if any(files[name] != pair for name, pair in hashed.items() if name in files):
        return  # it is not what was left: cut off on the way, or changed since
    environment = made.environment if made is not None else None
    host = json.loads(environment or "{}").get("host")
    run_id = session.reader.run().run_id
    told = {"run": run_id, "attempt": attempt.record.name, "host": host, "at": time.time(), "environment": environment}
    session.cache.keep(Entry(key.digest, key.name, key.parts, told, files), str(results))

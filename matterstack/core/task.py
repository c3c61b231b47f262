"""One thing to be done."""

from __future__ import annotations

import base64
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, cast

from matterstack.core.attempt_files import SHOWN, Family, check_names
from matterstack.core.calls import COMMAND, VALUE, Call
from matterstack.core.identifiers import check_identifier, check_relative_path, check_task_id
from matterstack.core.keywords import suggesting_class
from matterstack.core.numbers import is_number
from matterstack.core.resources import Resources
from matterstack.core.schemas import ON_REJECT, Approve
from matterstack.core.scratch import check_scratch
from matterstack.core.strict_json import dump_json
from matterstack.core.tags import tags_of
from matterstack.core.text import has_utf8, is_storable
from matterstack.errors import InvalidTaskError

_DEFAULT_RESOURCES = Resources()
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_MOST_SHOWN = 100
#: The file that holds the data of a task.
RESULT = "result.json"
#: What a task may do when no retry is left.
ON_FAILURE = ("fail", "ask")
#: Of `FromTask`: the last attempt.
LAST = -1


@dataclass(frozen=True, slots=True)
class FromTask:
    """A file that another task leaves in its directory.

    Parameters
    ----------
    task_id : str
        The task that makes the file; it becomes a dependency.
    path : str
        Where, relative to that task's directory.
    iteration : int, optional
        Of which iteration of the run; by default of the one that is planned. Only a task of that one becomes a
        dependency; one of an earlier iteration has to be completed.
    run : Run or path-like, optional
        Another run, whose file is taken in when the workflow is planned.
    attempt : int, optional
        Which attempt of an earlier iteration or of another run; by default the one that completed the task. -1, in
        `Run.retry` only, is the last attempt of the very task that left the file.

    Raises
    ------
    InvalidTaskError, InvalidIdentifierError, UnsafePathError
        A field makes no sense; the message names it.

    Examples
    --------
    >>> Task("band", "./bands relaxed.xyz", files={"relaxed.xyz": FromTask("relax", "final.xyz")}).upstream
    ('relax',)
    """

    task_id: str
    path: str
    iteration: int | None = None
    run: Any = None
    attempt: int | None = None

    def __post_init__(self) -> None:
        check_identifier(self.task_id, "task id")
        check_relative_path(self.path, "the file")
        for name in ("iteration", "attempt"):
            number = getattr(self, name)
            is_whole = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and not (is_whole and (number >= 0 or (name == "attempt" and number == LAST))):
                raise InvalidTaskError(f"FromTask: {name} must be a whole number, not {number!r}")
        object.__setattr__(self, "run", path_of_run(self.run))

    @property
    def is_here(self) -> bool:
        """Whether it is of the iteration of the task that uses it."""
        return self.iteration is None and self.run is None


def path_of_run(run: Any) -> str | None:
    """Return the directory of a run that was given as an object or a path; None for none."""
    given = getattr(run, "path", run)
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, PurePath):
        return str(given)
    raise InvalidTaskError(f"run must be a run, or the path of one, not {run!r}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file from outside, as the run keeps it: by the SHA-256 of its content.

    Parameters
    ----------
    sha256 : str
    origin : str, optional
        The run, task and attempt it was taken from.
    """

    sha256: str
    origin: str | None = None


FileSource = str | bytes | PurePath | FromTask | StoredFile


@suggesting_class
@dataclass(frozen=True, slots=True)
class Task:
    """One thing to be done.

    Parameters
    ----------
    task_id : str
        ``[A-Za-z0-9][A-Za-z0-9._-]*``, at most 128 characters, unique in its workflow.
    command : str or sequence of str, optional
        A string for ``/bin/sh``, or a program and its arguments. It runs in the attempt's
        own directory.
    dependencies : sequence of (str or Task), or one
        Tasks that must be completed before.
    operator : str
        The name of the operator that carries it out.
    files : mapping of str to str, bytes, pathlib.Path or FromTask
        Files to place in the attempt's directory: text, bytes, a copy of a file (taken
        when the workflow is planned), or a file of another task.
    env : mapping of str to str
        Environment variables. ``"env:NAME"`` stands for the value that NAME has where the
        task is started, so that a secret is never stored.
    resources : Resources
        What one attempt may use.
    outputs : sequence of str
        Files the command must leave behind; a missing one fails the attempt.
    retries : int
        How many more attempts a failed one gets.
    retry_on : sequence of str, optional
        Only after these: ``FAILED``, ``LOST``, ``STOPPED`` (by a monitor), and what Slurm calls an end: ``TIMEOUT``,
        ``OUT_OF_MEMORY``, ``NODE_FAIL``, ``PREEMPTED``, ...
    retry_delay_s : float
        How long, in seconds, the next attempt waits after a failed one.
    retry_delay_factor : float
        How much longer each further one waits.
    on_failure : {'fail', 'ask'}
        What a task does when no retry is left: it fails, or asks a person in the inbox, and waits for the word.
    call : Call, optional
        The call of a function, as `Workflow.add` makes it.
    restart : mapping of str to str, optional
        Where a further attempt begins: ``{"POSCAR": "CONTCAR"}`` gives it as ``POSCAR`` what the last attempt that
        left a ``CONTCAR``, not empty, has left; where none has, the file that was planned.
    priority : int
        Of tasks that can start, those of a higher one are submitted first.
    allow_failure : bool
        The run goes on to ``analyze`` although this task failed.
    allow_dependency_failure : bool
        Start when the dependencies have ended, however they ended.
    group : str, optional
        A name under which views collapse tasks.
    instructions : str, optional
        What a person or an instrument is asked to do; markdown.
    show : sequence of (FromTask, str or Task), optional
        What a person shall see with the request: files that tasks before left, and their data,
        by the task. Each is a dependency. They lie in ``show/`` of the request's directory, and
        the form shows pictures, tables, structures and text.
    schema : mapping, optional
        JSON Schema (2020-12 unless ``$schema`` says otherwise) of the answer.
    assignee : str, optional
        Whom the request is for.
    timeout_s : float, optional
        How long, in seconds, an answer may take from when it was asked for.
    parameters : mapping, optional
        Plain JSON data that goes with the request: what an instrument shall set.
    on_reject : {'fail', 'skip', 'replan'}, optional
        What it means that a person answers ``{"decision": "reject"}``; by default what the schema
        says, if it is `matterstack.core.schemas.Approve`. ``fail``: the task fails, and so does the
        run in the end. ``skip``: the task and all that waits for it are skipped, and the run goes
        on. ``replan``: nothing more of the iteration starts; once what runs is over, the campaign's
        ``analyze`` sees the comment, and it plans again.
    scratch : sequence of str
        Patterns of files, and of folders with all in them, that nobody wants once the task and all that depend on it
        are completed: ``["WAVECAR", "*.tmp", "work/**/core"]``. They are removed then. Names of ``outputs`` and of the
        run's own are refused.
    cache : bool or 'read', optional
        Whether a result that is known from before is taken in place of running, and this one kept; ``"read"`` keeps
        nothing. By default what the run does: see `matterstack.initialize_run`.
    depends : sequence of (pathlib.Path or str), optional
        What else a cached result depends on: files of this machine, by their content, and texts such as ``"seed 7"``.
    tags : sequence of str, or one
        Words of your own by which `matterstack.find_tasks` finds it; `Run.tag` adds more later. No result depends on
        them.

    Raises
    ------
    InvalidTaskError, InvalidIdentifierError, UnsafePathError
        Naming the task and the value.

    Examples
    --------
    >>> Task("relax_Cu", ["python", "relax.py", "Cu"], outputs=["final.xyz"]).outputs
    ('final.xyz',)
    """

    task_id: str
    command: str | Sequence[str] | None = None
    dependencies: Sequence[str | Task] | str | Task = ()
    operator: str = "local"
    files: Mapping[str, FileSource] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = _DEFAULT_RESOURCES
    outputs: Sequence[str] = ()
    retries: int = 0
    allow_failure: bool = False
    allow_dependency_failure: bool = False
    group: str | None = None
    instructions: str | None = None
    schema: Mapping[str, Any] | None = None
    assignee: str | None = None
    timeout_s: float | None = None
    parameters: Mapping[str, Any] | None = None
    retry_on: Sequence[str] | None = None
    on_reject: str | None = None
    show: Sequence[FromTask | str | Task] | FromTask | str | Task = ()
    scratch: Sequence[str] | str = ()
    cache: bool | str | None = None
    depends: Sequence[str | PurePath] | str | PurePath = ()
    call: Call | None = None
    restart: Mapping[str, str] | None = None
    retry_delay_s: float = 0.0
    retry_delay_factor: float = 1.0
    on_failure: str = "fail"
    priority: int = 0
    tags: Sequence[str] | str = ()

    def __post_init__(self) -> None:
        put = object.__setattr__  # the documented way into a frozen dataclass
        check_task_id(self.task_id)
        check_identifier(self.operator, "operator name")
        if self.call is not None:
            self._take_call(self.call)
        elif self.command is not None:
            self._check_command()
        put(self, "dependencies", self._dependencies() if self.dependencies else ())
        put(self, "outputs", self._strings("outputs", self.outputs) if self.outputs else ())
        for path in self.outputs:
            check_relative_path(path, f"task {self.task_id!r}: the output")
        put(self, "scratch", self._check_scratch() if self.scratch else ())
        if self.files:
            self._check_files()
        put(self, "files", MappingProxyType(dict(self.files)))
        if self.restart is not None:
            self._check_restart()
        if self.env:
            self._check_env()
        put(self, "env", MappingProxyType(dict(self.env)))
        put(self, "show", self._check_show() if self.show else ())
        if self.depends:
            put(self, "depends", self._check_depends())
        if self.tags != ():
            put(self, "tags", tags_of(self.tags, lambda rule, value: self._invalid("tags", rule, value)))
        if self.cache not in (None, True, False, "read"):
            raise self._invalid("cache", "must be True, False or 'read'", self.cache)
        self._check_policies()
        self._check_request()

    def _take_call(self, call: Call) -> None:
        """Note what a call runs and leaves."""
        if not isinstance(call, Call) or self.command not in (None, COMMAND):
            raise self._invalid("call", "is made by Workflow.add and Workflow.map, and has no command", self.command)
        object.__setattr__(self, "command", COMMAND)
        object.__setattr__(self, "outputs", (VALUE, *(path for path in self.outputs if path != VALUE)))

    def _dependencies(self) -> tuple[str, ...]:
        """Return the ids of what it waits for, each once: given as ids or as tasks, several or one."""
        given: Any = [self.dependencies] if isinstance(self.dependencies, str | Task) else self.dependencies
        if isinstance(given, list | tuple):
            given = [one.task_id if isinstance(one, Task) else one for one in given]
        return tuple(dict.fromkeys(self._strings("dependencies", given)))

    def _check_show(self) -> tuple[FromTask | str, ...]:
        """Return what is shown, each once: data of tasks by their ids, and files."""
        given: Any = [self.show] if isinstance(self.show, FromTask | str | Task) else self.show
        if not isinstance(given, list | tuple) or len(given) > _MOST_SHOWN:
            raise self._invalid("show", f"must be a list of at most {_MOST_SHOWN} FromTask or task ids", given)
        shown = tuple(dict.fromkeys(one.task_id if isinstance(one, Task) else one for one in given))
        for one in shown:
            if isinstance(one, str):
                check_identifier(one, "task id")
            elif not isinstance(one, FromTask) or not one.is_here:
                raise self._invalid(
                    "show", "must hold ms.FromTask(task_id, path), or ids of tasks of the workflow", one
                )
        if wrong := next((path for path in self.files if path.split("/")[0].casefold() == SHOWN), None):
            raise self._invalid("files", f"must leave the folder {SHOWN}/ to what show= brings", wrong)
        return shown

    def _check_scratch(self) -> tuple[str, ...]:
        given = [self.scratch] if isinstance(self.scratch, str) else self.scratch
        patterns = tuple(dict.fromkeys(self._strings("scratch", given)))
        check_scratch(self.task_id, patterns, self.outputs, is_call=self.call is not None)
        return patterns

    def _check_depends(self) -> tuple[str | PurePath, ...]:
        given: Any = [self.depends] if isinstance(self.depends, str | PurePath) else self.depends
        if not isinstance(given, list | tuple):
            raise self._invalid("depends", "must be a list of pathlib.Path and texts", given)
        for one in given:
            if not isinstance(one, str | PurePath) or not str(one) or not is_storable(str(one)):
                raise self._invalid("depends", "must hold pathlib.Path and texts, in UTF-8 and without NUL", one)
        return tuple(dict.fromkeys(given))

    def _check_command(self) -> None:
        if callable(self.command):
            raise self._invalid("command", "must be a text for /bin/sh or a list of texts", self.command)
        if isinstance(self.command, str):
            if not self.command.strip() or not is_storable(self.command):
                raise self._invalid("command", "must be a text in UTF-8, not empty and without NUL", self.command)
            return
        words = self._strings("command", self.command)
        if not words or not words[0]:
            raise self._invalid("command", "must name a program", self.command)
        object.__setattr__(self, "command", words)

    def _check_policies(self) -> None:
        """Check what is said of resources, retries and failures."""
        if not isinstance(self.resources, Resources):
            raise self._invalid(
                "resources", "must be an ms.Resources, as in ms.Resources(walltime_s=60)", self.resources
            )
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0:
            raise self._invalid("retries", "must be a whole number, 0 or more", self.retries)
        if self.retry_on is not None:
            given = sorted(self.retry_on) if isinstance(self.retry_on, set | frozenset) else self.retry_on
            object.__setattr__(self, "retry_on", self._strings("retry_on", given))
        for name, least in (("retry_delay_s", 0), ("retry_delay_factor", 1)):
            number = getattr(self, name)
            if not (is_number(number) and isfinite(number) and number >= least):
                raise self._invalid(name, f"must be a number, {least} or more", number)
        if not (isinstance(self.priority, int) and not isinstance(self.priority, bool) and abs(self.priority) < 2**31):
            raise self._invalid("priority", "must be a whole number", self.priority)
        if self.on_failure not in ON_FAILURE:
            raise self._invalid("on_failure", "must be 'fail' or 'ask'", self.on_failure)
        for name in ("allow_failure", "allow_dependency_failure"):
            if not isinstance(getattr(self, name), bool):
                raise self._invalid(name, "must be True or False", getattr(self, name))
        if self.group is not None and not (is_storable(self.group) and 0 < len(self.group) <= 128):
            raise self._invalid("group", "must be a text in UTF-8 of at most 128 characters", self.group)

    def _check_request(self) -> None:
        """Check what is said to a person or an instrument."""
        for name in ("instructions", "assignee"):
            text = getattr(self, name)
            if text is not None and not (is_storable(text) and text.strip()):
                raise self._invalid(name, "must be a text in UTF-8 without NUL", text)
        limit_s = self.timeout_s
        if limit_s is not None and not (is_number(limit_s) and isfinite(limit_s) and limit_s > 0):
            raise self._invalid("timeout_s", "must be a positive number", limit_s)
        if self.on_reject is None and isinstance(self.schema, Approve):
            object.__setattr__(self, "on_reject", self.schema.on_reject)
        if self.on_reject is not None and self.on_reject not in ON_REJECT:
            raise self._invalid("on_reject", "must be 'fail', 'skip' or 'replan'", self.on_reject)
        for name in ("schema", "parameters"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self._plain(name, getattr(self, name)))

    @property
    def upstream(self) -> tuple[str, ...]:
        """Ids this task waits for: its dependencies, and the sources of its files."""
        named = cast("tuple[str, ...]", self.dependencies)  # as it is kept
        if not (self.files or self.show or self.call):
            return named
        called = self.call.upstream if self.call else ()
        sources = (source.task_id for source in self.files.values() if isinstance(source, FromTask) and source.is_here)
        return tuple(dict.fromkeys([*named, *called, *sources, *(task_id for task_id, _ in self.shown)]))

    def command_with(self, python: str | None = None) -> str | Sequence[str]:
        """Return the command, as an operator runs it.

        Parameters
        ----------
        python : str, optional
            How Python is called there, for a call of a function: a program, with arguments if need be; by default
            the interpreter that planned it.
        """
        if self.call is None:
            return self.command or ()
        return [*(shlex.split(python) if python else [self.call.python]), *COMMAND[1:]]

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        """What ``show`` names, as task id and path; the data of a task is its ``result.json``."""
        kept = cast("tuple[FromTask | str, ...]", self.show)
        return tuple(dict.fromkeys((one, RESULT) if isinstance(one, str) else (one.task_id, one.path) for one in kept))

    def _invalid(self, name: str, rule: str, value: object) -> InvalidTaskError:
        return InvalidTaskError(f"task {self.task_id!r}: {name} {rule}, not {value!r}", task_id=self.task_id)

    def _strings(self, name: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, str | bytes) and isinstance(value, Sequence):
            items = tuple(value)
            if all(map(is_storable, items)):
                return items
            value = next(item for item in items if not is_storable(item))
            hint = f"; for a number: '{value}', or str(...)" if isinstance(value, int | float) else ""
            text = f"task {self.task_id!r}: {name} must hold texts in UTF-8 without NUL, and not {value!r}{hint}"
            raise InvalidTaskError(text, task_id=self.task_id)
        raise self._invalid(name, "must be a list of texts in UTF-8 without NUL", value)

    def _plain(self, name: str, value: object) -> Mapping[str, Any]:
        """Return a copy of what must be plain JSON data, as it will be read back."""
        if not isinstance(value, Mapping):
            raise self._invalid(name, "must be a mapping", value)
        copy: dict[str, Any] = json.loads(dump_json(dict(value), f"task {self.task_id!r}: {name}", name))
        return copy

    def _check_files(self) -> None:
        if not isinstance(self.files, Mapping):
            raise self._invalid("files", "must be a mapping of paths to content", self.files)
        for path in self.files:
            check_relative_path(path, f"task {self.task_id!r}: the file")
        check_names(self.task_id, self.files, *((Family.EVERY, Family.CALL) if self.call else (Family.EVERY,)))
        for path, source in self.files.items():
            if not isinstance(source, str | bytes | PurePath | FromTask | StoredFile):
                raise self._invalid(f"files[{path!r}]", "must be text, bytes, a Path or FromTask", source)
            if isinstance(source, str) and not has_utf8(source):
                raise self._invalid(f"files[{path!r}]", "must be a text in UTF-8, or bytes", source)
            if isinstance(source, FromTask) and source.attempt == LAST:
                raise self._invalid(
                    f"files[{path!r}]", "has attempt=-1, which run.retry takes; of a plan, restart=", source
                )
            if source == path:
                raise InvalidTaskError(
                    f"task {self.task_id!r}: files[{path!r}] would hold the text {path!r}. For the file of that name: "
                    f"files={{{path!r}: pathlib.Path({path!r})}}; for the text: bytes, or a newline at its end",
                    task_id=self.task_id,
                )
            for other in self.files:
                if path != other and path.startswith(other + "/"):
                    raise self._invalid("files", f"cannot hold both {other!r} and a file below it", path)

    def _check_restart(self) -> None:
        given = self.restart
        if not (isinstance(given, Mapping) and all(isinstance(one, str) for pair in given.items() for one in pair)):
            raise self._invalid("restart", 'must say which file comes of which, as in {"POSCAR": "CONTCAR"}', given)
        for path, left in given.items():
            check_relative_path(left, f"task {self.task_id!r}: restart: the file")
            dataclasses.replace(self, restart=None, files={**self.files, path: b""})  # as one of its files
        object.__setattr__(self, "restart", dict(given))

    def _check_env(self) -> None:
        if not isinstance(self.env, Mapping):
            raise self._invalid("env", "must be a mapping of texts", self.env)
        for name, value in self.env.items():
            if not (is_storable(name) and name and "=" not in name):
                raise self._invalid("env", "must have names in UTF-8 without '=' and NUL", name)
            if not is_storable(value):
                raise self._invalid(f"env[{name!r}]", "must be a text in UTF-8 without NUL", value)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` turns into an equal task; defaults are left out."""
        data: dict[str, Any] = {"task_id": self.task_id}
        for name, default in _TASK_DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                data[name] = list(value) if isinstance(value, tuple) else value
        if self.call is not None:
            data["call"] = self.call.to_json()
            del data["command"], data["outputs"][0]
            if not data["outputs"]:
                del data["outputs"]
        if self.env:
            data["env"] = dict(self.env)
        if self.files:
            data["files"] = {path: file_to_json(source) for path, source in self.files.items()}
        if self.show:
            kept = cast("tuple[FromTask | str, ...]", self.show)
            data["show"] = [one if isinstance(one, str) else file_to_json(one) for one in kept]
        if self.depends:
            kept_depends = cast("tuple[str | PurePath, ...]", self.depends)
            data["depends"] = [one if isinstance(one, str) else {"file": str(one)} for one in kept_depends]
        if self.resources is not _DEFAULT_RESOURCES:
            data["resources"] = {
                f.name: list(value) if isinstance(value, tuple) else value
                for f in fields(Resources)
                if (value := getattr(self.resources, f.name)) != f.default
            }
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """Rebuild a task from `to_json`, which a run stored after checking it: nothing is checked again."""
        task = object.__new__(cls)
        put = object.__setattr__
        put(task, "task_id", data["task_id"])
        for name, default in _TASK_DEFAULTS.items():
            value = data.get(name, default)
            put(task, name, tuple(value) if type(value) is list else value)
        call = data.get("call")
        put(task, "call", None if call is None else Call.from_json(call))
        if call is not None:
            put(task, "command", COMMAND)
            put(task, "outputs", (VALUE, *task.outputs))
        env, files = data.get("env"), data.get("files")
        put(task, "env", MappingProxyType(env) if env else _NOTHING)
        made = {path: _file_from_json(source) for path, source in files.items()} if files else None
        put(task, "files", MappingProxyType(made) if made else _NOTHING)
        shown = data.get("show", ())
        put(task, "show", tuple(one if isinstance(one, str) else _file_from_json(one) for one in shown))
        depends = data.get("depends", ())
        put(task, "depends", tuple(one if isinstance(one, str) else PurePath(one["file"]) for one in depends))
        resources = data.get("resources")
        put(task, "resources", _DEFAULT_RESOURCES if resources is None else Resources(**resources))
        return task


_TASK_DEFAULTS: dict[str, Any] = {
    "command": None,
    "dependencies": (),
    "operator": "local",
    "outputs": (),
    "retries": 0,
    "allow_failure": False,
    "allow_dependency_failure": False,
    "group": None,
    "instructions": None,
    "schema": None,
    "assignee": None,
    "timeout_s": None,
    "parameters": None,
    "retry_on": None,
    "on_reject": None,
    "scratch": (),
    "restart": None,
    "cache": None,
    "retry_delay_s": 0.0,
    "retry_delay_factor": 1.0,
    "on_failure": "fail",
    "priority": 0,
    "tags": (),
}


def file_to_json(source: FileSource) -> Any:
    """Return a file of a task as plain data; one from outside has to be in the run already."""
    match source:
        case str():
            return source
        case bytes():
            return {"base64": base64.b64encode(source).decode()}
        case FromTask():
            return {f.name: value for f in fields(source) if (value := getattr(source, f.name)) is not None}
        case StoredFile():
            return {"sha256": source.sha256} | ({"origin": source.origin} if source.origin else {})
        case _:
            raise InvalidTaskError(f"the file {source} has to be taken into the run before it can be stored")


def _file_from_json(data: Any) -> FileSource:
    if isinstance(data, str):
        return data
    if "base64" in data:
        return base64.b64decode(data["base64"])
    if "sha256" in data:
        return StoredFile(**data)
    return FromTask(**data)

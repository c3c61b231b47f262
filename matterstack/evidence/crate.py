"""The RO-Crate of an export, after the Workflow Run Crate's provenance profile: https://w3id.org/ro/wfrun/provenance."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from matterstack.core.text import neutral, storable

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

CRATE = "ro-crate-metadata.json"
_RO_CRATE, _PROFILES, _WORKFLOW_CRATE = "1.1", "0.5", "1.0"
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
_OWN_TERMS = ("sha256", "resourceUsage")
_ENGINE = "https://pypi.org/project/matterstack"
_LONGEST = 300
#: Only what Python itself knows: what a machine adds would make another crate of the same run.
_TYPES = mimetypes.MimeTypes(filenames=())
_TYPES_OF_OURS = {
    ".sqlite": "application/vnd.sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".md": "text/markdown",
}
_DONE, _FAILED = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"

Reference = dict[str, str]


def crate_of(record: Mapping[str, Any], own: Mapping[str, tuple[str, int]]) -> bytes | None:
    """Return the metadata of an export as an RO-Crate; None where rocrate is not installed.

    Parameters
    ----------
    record : mapping
        As evidence.json has it.
    own : mapping of str to tuple
        SHA-256 and size of each file that the export itself has made, by its path.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        return None
    made = _Crate(record, ROCrate(version=_RO_CRATE))
    made.describe(own)
    text = json.dumps(made.crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False)
    return storable(text).encode() + b"\n"


class _Crate:
    """A crate that is being described."""

    def __init__(self, record: Mapping[str, Any], crate: ROCrate) -> None:
        self.record = record
        self.crate = crate
        self._files = {one["path"]: one for one in record["files"]["included"]}
        self._tasks = {task["task"]: task for task in record["tasks"]}
        self._outputs: dict[tuple[str, str], Reference] = {}
        #: What was described: rocrate looks through all of a crate for what it does not know.
        self._described: dict[str, Any] = {}
        #: Files by their paths: rocrate writes these as URIs.
        self._referred: dict[str, Reference] = {}

    def describe(self, own: Mapping[str, tuple[str, int]]) -> None:
        """Describe all of it."""
        self._files |= {path: {"sha256": sha256, "bytes": size} for path, (sha256, size) in own.items()}
        self._about()
        self._workflow()
        for path in own:
            self._file(path)
        given = [self._file(path) for path in sorted(self._files) if path.startswith("files/")]
        if self.record["attempts"]:
            self._actions(given)

    # -- the whole --------------------------------------------------------------------------

    def _about(self) -> None:
        run = self.record["run"]
        self.crate.metadata.extra_terms.update({name: f"{_TERMS}{name}" for name in _OWN_TERMS})
        profiles = [
            self._add(
                f"https://w3id.org/ro/wfrun/{name}/{_PROFILES}",
                "CreativeWork",
                name=f"{name.capitalize()} Run Crate",
                version=_PROFILES,
            )
            # Of what was not begun there is no action to tell: it is a workflow, and the run of none.
            for name in (("process", "workflow", "provenance") if self.record["attempts"] else ())
        ]
        base = "https://w3id.org/workflowhub/workflow-ro-crate"
        profiles.append(
            self._add(f"{base}/{_WORKFLOW_CRATE}", "CreativeWork", name="Workflow RO-Crate", version=_WORKFLOW_CRATE)
        )
        self.crate.metadata["conformsTo"] = [{"@id": f"https://w3id.org/ro/crate/{_RO_CRATE}"}, profiles[-1]]
        licence = self._add(
            "#licence",
            "CreativeWork",
            name="Not stated",
            description="Whoever made the run has not said under which terms it may be used: ask them.",
        )
        root = self.crate.root_dataset
        root["name"] = _text(f"Run {run['run_id']} of {run['workspace']}")
        root["description"] = f"A run of MatterStack that stands at {run['status']}, with all that its record names."
        root["datePublished"] = run["last_event_at"]
        root["license"] = licence
        root["conformsTo"] = profiles

    def _workflow(self) -> None:
        """Describe what was asked: the source of the campaign, or else the plan as evidence.json has it."""
        campaign = self.record["asked"]["campaign"]
        source = campaign.get("source")
        path = source if source in self._files else "evidence.json"
        if path == source:
            language = self._add(
                "https://www.python.org", "ComputerLanguage", name="Python", url={"@id": "https://www.python.org"}
            )
        else:
            language = self._add("#plan", "ComputerLanguage", name="Plan of MatterStack, as evidence.json has it")
        reference = self._file(path, {"@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]})
        entity = self._described[reference["@id"]]
        entity["name"] = _text(campaign["name"])
        entity["programmingLanguage"] = language
        entity["version"] = self.record["run"]["run_id"]
        entity["conformsTo"] = {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"}
        self.crate.root_dataset["mainEntity"] = reference
        self._main = entity

    # -- what was done ----------------------------------------------------------------------

    def _actions(self, given: list[Reference]) -> None:
        run = self.record["run"]
        tools: dict[str, Reference] = {}
        steps: dict[str, Reference] = {}
        controls: list[Reference] = []
        actions: list[Reference] = []
        for attempt in self.record["attempts"]:
            self._leave(attempt)
        for attempt in self.record["attempts"]:
            task = self._tasks[attempt["task"]]
            tool = self._tool(task)
            tools.setdefault(tool["@id"], tool)
            if task["task"] not in steps:
                steps[task["task"]] = self._add(
                    _id(f"#step-{task['task']}"),
                    "HowToStep",
                    name=task["task"],
                    position=str(len(steps)),
                    workExample=tool,
                )
            action = self._attempt(attempt, tool)
            actions.append(action)
            controls.append(
                self._add(
                    f"#control-{attempt['token']}",
                    "ControlAction",
                    name=f"Orchestrate {attempt['attempt']}",
                    instrument=steps[task["task"]],
                    object=action,
                )
            )
        self._main["hasPart"] = _single(list(tools.values()))
        self._main["step"] = _single(list(steps.values()))
        left = [self._file(path) for path in ("report.html", "tables/results.csv")]
        whole = self._add(
            "#run",
            "CreateAction",
            name=f"Run {_text(run['run_id'])} of {_text(self.record['asked']['campaign']['name'])}",
            description=_text(run["reason"] or f"It stands at {run['status']}."),
            instrument={"@id": self._main.id},
            object=given,
            result=[*left, *self._outputs.values()],
            startTime=run["created_at"],
            endTime=run["last_event_at"],
            **_ending(run["status"], run["reason"]),
        )
        self.crate.root_dataset["mentions"] = [whole, *actions]
        engine = self._add(
            _ENGINE,
            "SoftwareApplication",
            name="MatterStack",
            softwareVersion=self.record["software"]["matterstack"],
            url={"@id": _ENGINE},
        )
        self._add(
            "#engine",
            "OrganizeAction",
            name="MatterStack steps the run",
            instrument=engine,
            object=controls,
            result=whole,
            startTime=run["created_at"],
            endTime=run["last_event_at"],
        )

    def _tool(self, task: Mapping[str, Any]) -> Reference:
        """Return what carries a task out: a function by its program, a command by its text, a request by its words."""
        command = task.get("command")
        if "function" in task:
            name, kind, said = f"{task['function']}()", "a function", task.get("program", "")
        elif command is not None:
            text = command if isinstance(command, str) else json.dumps(command, ensure_ascii=False)
            name, kind, said = text, "a command", text
        else:
            name, kind, said = (
                f"request by {task['operator']}",
                "a request to people",
                str(task.get("instructions") or ""),
            )
        identity = f"#tool-{hashlib.sha256(json.dumps([kind, name, said]).encode()).hexdigest()[:16]}"
        if (known := self._known(identity)) is not None:
            return known
        about = _text(said if kind == "a request to people" else f"{kind} of the plan")
        version = identity.rpartition("-")[2]
        return self._add(identity, "SoftwareApplication", name=_text(name), description=about, softwareVersion=version)

    def _attempt(self, attempt: Mapping[str, Any], tool: Reference) -> Reference:
        where = self._where(attempt)
        took = [self._input(attempt, one) for one in attempt["inputs"]]
        left = [self._outputs[(attempt["attempt"], one["name"])] for one in attempt["outputs"]]
        answer = attempt.get("answer") or {}
        if answer.get("path"):
            left.append(self._content(answer["path"], answer["sha256"], attempt))
        said: dict[str, Any] = {
            "name": attempt["attempt"],
            "description": _text(f"{attempt['status']}{where}"),
            "instrument": tool,
            "object": took,
            "result": left,
            "startTime": attempt["started_at"] or attempt["submitted_at"],
            "endTime": attempt["ended_at"],
            "resourceUsage": list(self._usage(attempt)),
            "agent": self._person(answer["by"]) if answer.get("by") else None,
            **_ending(attempt["status"], attempt["reason"]),
        }
        return self._add(f"#{attempt['token']}", "CreateAction", **said)

    def _where(self, attempt: Mapping[str, Any]) -> str:
        if attempt["environment"] is None:
            return ""
        told = self.record["environments"][attempt["environment"]]
        parts = [f"{name} {told[name]}" for name in ("host", "python", "container", "modules") if name in told]
        packages = told.get("packages")
        parts += [f"{name} {version}" for name, version in packages.items()] if isinstance(packages, dict) else []
        return f"; {', '.join(parts)}" if parts else ""

    def _usage(self, attempt: Mapping[str, Any]) -> Iterable[Reference]:
        for name, title, unit in (("cpu_s", "CPU time", "SEC"), ("peak_memory_gib", "peak memory", "GibiBYTE")):
            if attempt[name] is not None:
                yield self._add(
                    f"#{attempt['token']}-{name}",
                    "PropertyValue",
                    name=title,
                    propertyID=f"{_ENGINE}#{name}",
                    value=str(attempt[name]),
                    unitCode=f"http://qudt.org/vocab/unit/{unit}",
                )

    def _person(self, name: str) -> Reference:
        return self._known(_id(f"#person-{name}")) or self._add(_id(f"#person-{name}"), "Person", name=_text(name))

    # -- files ------------------------------------------------------------------------------

    def _leave(self, attempt: Mapping[str, Any]) -> None:
        for one in attempt["outputs"]:
            self._outputs[(attempt["attempt"], one["name"])] = self._content(one["path"], one["sha256"], attempt)

    def _input(self, attempt: Mapping[str, Any], one: Mapping[str, Any]) -> Reference:
        """Return what an attempt took: what another one left, what the run keeps, or its own copy."""
        left = self._outputs.get((str(one["of"]), str(one["path"])))
        if left is not None:
            return left
        kept = f"files/{one['sha256']}"
        return (
            self._file(kept)
            if kept in self._files
            else self._content(f"{attempt['directory']}{one['name']}", one["sha256"] or "", attempt)
        )

    def _content(self, path: str, sha256: str, attempt: Mapping[str, Any]) -> Reference:
        """Return a file of an attempt: as it is here, or as one that is known and not here."""
        if path in self._files:
            return self._file(path)
        identity = _id(f"#{attempt['token']}/{path.removeprefix(attempt['directory'])}")
        about = "It is known by its SHA-256, and is not in this crate."
        return self._known(identity) or self._add(
            identity, "CreativeWork", name=_text(path), description=about, sha256=sha256
        )

    def _file(self, path: str, more: Mapping[str, Any] | None = None) -> Reference:
        if (known := self._referred.get(path)) is not None:
            return known
        one = self._files[path]
        suffix = f".{path.rpartition('.')[2]}"
        kind = _TYPES_OF_OURS.get(suffix) or _TYPES.guess_type(path)[0] or "application/octet-stream"
        properties = {
            "name": _text(path),
            "contentSize": str(one["bytes"]),
            "encodingFormat": kind,
            "sha256": one["sha256"],
            **(more or {}),
        }
        entity = self.crate.add_file(dest_path=storable(path), properties=properties)
        self._described[entity.id] = entity
        self._referred[path] = {"@id": entity.id}
        return self._referred[path]

    def _known(self, identity: str) -> Reference | None:
        return {"@id": identity} if identity in self._described else None

    def _add(self, identity: str, kind: str, **properties: Any) -> Reference:
        from rocrate.model.contextentity import ContextEntity

        said = {name: _single(value) for name, value in properties.items() if value not in (None, [], "")}
        said |= {name: f"{said[name].removesuffix('Z')}+00:00" for name in ("startTime", "endTime") if name in said}
        entity = ContextEntity(self.crate, identity, properties={"@type": kind, **said})
        self._described[identity] = self.crate.add(entity)
        return {"@id": identity}


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _ending(status: str, reason: str | None) -> dict[str, str]:
    if status == "COMPLETED":
        return {"actionStatus": _DONE}
    if status in ("FAILED", "LOST", "CANCELLED"):
        return {"actionStatus": _FAILED, "error": _text(reason or status)}
    return {}


def _id(path: str) -> str:
    return quote(storable(path), safe="/#:@!$&'()*+,;=~")


def _text(text: str) -> str:
    text = neutral(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."

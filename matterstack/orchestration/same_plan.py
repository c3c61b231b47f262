"""Sameness of a plan that is given again: whether a run was made of this workflow, or of this campaign."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from matterstack.core.strict_json import to_text
from matterstack.errors import FunctionSourceError, RunExistsError, UnsafeFileError
from matterstack.files import read_inside
from matterstack.functions.campaign import Campaign
from matterstack.functions.workflow import Workflow
from matterstack.orchestration import campaigns
from matterstack.orchestration.campaign_calls import taken_in
from matterstack.orchestration.capture import capture
from matterstack.orchestration.intake import Intake
from matterstack.orchestration.programs import SUPPORT
from matterstack.orchestration.session import Session
from matterstack.storage.run_directory import open_outside

_MOST_BYTES = 100_000_000
_WAY_OUT = "open_run(path) goes on with what the run was made of; another run_id makes a run of what you have now"


class _Hashes:
    """The keeper of a plan that is only compared: it keeps nothing but what small contents were."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def take_file(self, source: PurePath) -> str:
        """Return the SHA-256 of a file."""
        with open_outside(source) as content:
            return self.take(content)

    def take(self, content: BinaryIO) -> str:
        """Return the SHA-256 of what can be read here."""
        found = hashlib.sha256()
        while chunk := content.read(1 << 20):
            found.update(chunk)
        return found.hexdigest()

    def keep(self, content: bytes) -> str:
        """Return the SHA-256 of a content, and remember it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.known[sha256] = content
        return sha256


def require_same_workflow(session: Session, workflow: Workflow) -> None:
    """Raise `RunExistsError` unless the run was made of this workflow, naming the first task that differs."""
    where = session.directory.path
    if session.directory.read_config()["campaign"] != campaigns.ONE_WORKFLOW:
        raise RunExistsError(f"the run at {where} was made of a campaign, and not of one workflow; {_WAY_OUT}")
    hashes = _Hashes()
    reader = session.reader
    names = {row.id: row.task_id for row in reader.tasks() if row.iteration == 0}
    before: dict[str, set[str]] = {name: set() for name in names.values()}
    for dependency, dependant in reader.edges():
        if dependant in names:
            before[names[dependant]].add(names[dependency])
    rows = {name: row for row, name in names.items()}
    for task, upstream, spec in taken_in(workflow, session.operators, Intake(hashes, None)):
        row = rows.pop(task.task_id, None)
        how = "is not in it" if row is None else _how_it_differs(session, hashes, reader.specification(row), spec)
        if not how and set(upstream) != before[task.task_id]:
            how = "waits for other tasks there"
        if how:
            raise RunExistsError(f"the run at {where} was made of another workflow: {task.task_id!r} {how}; {_WAY_OUT}")
    if rows:
        raise RunExistsError(
            f"the run at {where} was made of another workflow: {next(iter(rows))!r} is in it as well; {_WAY_OUT}"
        )


def _how_it_differs(session: Session, hashes: _Hashes, stored: str, planned: str) -> str:
    """Return which part of a task's specification is another one; empty where none is."""
    old, new = (_comparable(json.loads(text)) for text in (stored, planned))
    if "call" in old and "call" in new:
        old["program"] = _program(old["call"].pop("program"), session.directory.read_stored)
        new["program"] = _program(new["call"].pop("program"), lambda sha256, _: hashes.known[sha256])
    differ = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return f"differs in {', '.join(differ)}" if differ else ""


def _comparable(spec: dict[str, Any]) -> dict[str, Any]:
    spec.pop("tags", None)  # what it is found by is no part of what is done
    if "call" in spec:
        spec["call"].pop("python")  # which interpreter asks is no part of what is asked
    return spec


def _program(sha256: str, read: Callable[[str, int], bytes]) -> Mapping[str, str]:
    """Return the files of a program, without those that MatterStack brings."""
    listing = json.loads(read(sha256, _MOST_BYTES))
    return {path: content for path, content in listing["files"].items() if path not in SUPPORT}


def require_same_campaign(session: Session, campaign: Campaign) -> None:
    """Raise `RunExistsError` unless the run was made of a campaign of this name, or of this source."""
    reference = session.directory.read_config()["campaign"]
    if reference is None:
        return  # the run could not keep it, so that nobody can tell
    kind = type(campaign)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if campaigns.is_stored(reference):
        if _source(session.directory.path / campaigns.folder_of(reference)) == _source_of(campaign):
            return
        what = "a campaign of another source"
    elif reference == name:
        return
    else:
        what = "one workflow" if reference == campaigns.ONE_WORKFLOW else f"the campaign {reference}"
    raise RunExistsError(
        f"the run at {session.directory.path} was made of {what}, and not of {kind.__qualname__} as it is now; "
        f"open_run(path, campaign=...) goes on with yours; {_WAY_OUT}"
    )


def _source(home: Path) -> str | None:
    try:
        return to_text([read_inside(home, campaigns.TEXT, _MOST_BYTES).decode()])
    except (OSError, UnsafeFileError):
        return None


def _source_of(campaign: Campaign) -> str | None:
    from matterstack.functions.campaign_source import capture_campaign

    with capture() as caught:
        return to_text([capture_campaign(campaign).text])
    assert isinstance(caught.error, FunctionSourceError | None)
    return None

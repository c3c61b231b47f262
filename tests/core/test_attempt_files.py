"""Two parties never write one name in an attempt's directory: ours is refused to tasks, and the rest is theirs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pytest

import matterstack as ms
from matterstack.core.attempt_files import (
    MACHINERY,
    TABLE,
    Entry,
    Family,
    taken_names,
)
from matterstack.core.attempts import Submitted
from matterstack.errors import InvalidTaskError
from matterstack.operators.jobs.base import JobOperator

OPERATORS: dict[Family, ms.HumanOperator | ms.ExperimentOperator | ms.ManualHPCOperator | ms.SlurmOperator] = {
    Family.JOB: ms.SlurmOperator(),
    Family.REQUEST: ms.HumanOperator(),
    Family.INSTRUMENT: ms.ExperimentOperator(),
    Family.KIT: ms.ManualHPCOperator(),
}


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: f"{entry.family.name}-{entry.name}")
def test_a_name_of_ours_is_refused_to_tasks(entry: Entry) -> None:
    """In whatever letters, and also as a folder; but a kit keeps the task's files apart."""
    top = entry.name.split("/")[0]
    operator = OPERATORS.get(entry.family, OPERATORS[Family.JOB])

    def check(name: str) -> None:
        if entry.family is Family.CALL:
            ms.Workflow().add("a", ms.task(files={name: "x"})(geometric_mean), [1.0])
        operator.check_task(ms.Task("a", "true", instructions="?", files={name: "x"}))

    for name in (top, top.upper(), f"{top}/below"):
        if entry.family is Family.KIT and not entry.name.startswith(MACHINERY):
            check(name)
        else:
            with pytest.raises(InvalidTaskError, match="a name of the run's own"):
                check(name)


class Shell(JobOperator):
    """Runs the script of each job at once, as a scheduler would."""

    def submit(self, attempts: Sequence[Any]) -> Any:
        for attempt in attempts:
            done = subprocess.run(["/bin/sh", f"{MACHINERY}/job.sh"], cwd=attempt.directory, capture_output=True)
            assert done.stderr == b""
        return {attempt.token: Submitted(attempt.token) for attempt in attempts}

    def check_status(self, attempts: Sequence[Any]) -> Any:
        from matterstack.operators.jobs.base import ended_badly, good_end
        from matterstack.operators.jobs.claim import end_of

        seen = {}
        for attempt in attempts:
            ended = end_of(attempt)
            assert ended is not None
            seen[attempt.token] = good_end(attempt, ended) if ended.well else ended_badly(attempt, ended, "")
        return seen

    def find(self, attempts: Sequence[Any]) -> Any:
        return {}

    def cancel(self, attempts: Sequence[Any]) -> Any:
        return []


THEIRS = [
    "job.sh",
    "job.out",
    "exit.json",
    "claim",
    "cancel",
    "chunk",
    "verdict.json",
    "accepted",
    "notified",
]


@pytest.mark.parametrize("operator", ["local", "jobs", "manual"])
def test_names_that_once_were_ours_are_the_tasks(tmp_path: Path, operator: str) -> None:
    """A task whose script is called job.sh runs it; one whose input is exit.json has not ended; and so on."""
    files = {name: f"echo {name} >> said" for name in THEIRS}
    files["inputs/deep"] = "echo inputs >> said"
    command = (
        "set -e; for name in "
        + " ".join(files)
        + "; do sh ./$name; done; printf '{\"n\": %d}' $(wc -l < said) > result.json"
    )
    task = ms.Task("a", command, operator=operator, files=files, outputs=["said"], parameters={"fmax_eV_per_A": 0.05})
    operators = {"local": ms.LocalOperator(), "jobs": Shell(), "manual": ms.ManualHPCOperator()}
    run = ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path, operators=operators)
    run.step()
    home = run.task_directory("a")
    if operator == "manual":
        done = subprocess.run(["/bin/sh", "submit.sh"], cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED, str(run.explain())
    assert int(run.results.loc["0.a", "n"]) == len(files)
    place = home / "inputs" if operator == "manual" else home
    assert json.loads((place / "parameters.json").read_text()) == {"fmax_eV_per_A": 0.05}
    family = {"local": Family.EVERY, "jobs": Family.JOB, "manual": Family.KIT}[operator]
    ours = {path.name for path in home.iterdir()} - {"said", *(name.split("/")[0] for name in files)}
    assert {name.casefold() for name in ours} <= taken_names(Family.EVERY, family)


def test_all_that_a_request_leaves_is_in_the_table(tmp_path: Path) -> None:
    schema = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    flow = ms.Workflow(
        [
            ms.Task("before", "echo '{\"n\": 1}' > result.json"),
            ms.Task("ask", operator="human", instructions="?", schema=schema, dependencies=["before"]),
            ms.Task("measure", operator="xrd", parameters={"T_K": 300}),
        ]
    )
    told: list[Any] = []
    operators = {
        "local": ms.LocalOperator(),
        "human": ms.HumanOperator(notify=told.append),
        "xrd": ms.ExperimentOperator(notify=told.append, heartbeat_timeout_s=100),
    }
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    while "0.ask.1" not in run.attempts.index:
        run.step()
    asked, measured = run.task_directory("ask"), run.task_directory("measure")
    for text in ("[{}", '[{"n": "one"}]', '[{"n": 1}]'):
        (asked / "response.json").write_text(text)
        for _ in range(3):
            run.step()
    (measured / "experiment_ack.json").write_text("{}")
    run.step()
    run.step()
    token = json.loads((measured / "experiment_request.json").read_text())["token"]
    for content in ({}, {"token": token, "status": "COMPLETED", "data": {"I": 1}}):
        (measured / "experiment_result.json").write_text(json.dumps(content))
        run.step()
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED, str(run.explain())
    assert len(told) >= 3
    for home, family in ((asked, Family.REQUEST), (measured, Family.INSTRUMENT)):
        listed = {entry.name.rstrip("/") for entry in TABLE if entry.family in (Family.EVERY, family)}
        there = {str(path.relative_to(home)) for path in home.rglob("*")}
        below = {name for name in there if any(name.startswith(f"{one}/") for one in listed if one != MACHINERY)}
        assert there - below <= listed

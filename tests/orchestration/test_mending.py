"""An input is mended, and the next attempt goes on with it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crashes import ENDED, in_child, killed_at, points_of
from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack.errors import InvalidTaskError, MatterstackError, RunStatusError

#: A relaxation that needs three steps, and makes one an attempt.
RELAX = 'read n < POSCAR; n=$((n+1)); echo $n > CONTCAR; [ "$n" -ge "$(cat GOAL)" ]'


def relaxing(base: Path, **settings: Any) -> ms.Run:
    task = witnessed(
        "relax", RELAX, base / "ledger", files={"POSCAR": b"0\n", "GOAL": b"2\n"}, outputs=["CONTCAR"], **settings
    )
    taken = {"CONTCAR": ms.FromTask("relax", "CONTCAR")}
    after = witnessed("band", "cat CONTCAR", base / "ledger", files=taken)
    return ms.initialize_run("w", ms.Workflow([task, after]), base_path=base, run_id="r")


def go_on(run: ms.Run, base: Path) -> None:
    """Mend, and go on to the end, whatever was done before."""
    if run.status is ms.RunStatus.FAILED:
        run.retry("relax", files={"POSCAR": ms.FromTask("relax", "CONTCAR", attempt=-1)}, env={"ISIF": "3"})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.file("band", "CONTCAR").read_text() == "2\n"
    check_executions(run, base / "ledger")
    assert sum(starts(base / "ledger").values()) == 3
    assert list(run.attempts["changes"]) == ["", "files POSCAR from CONTCAR of relax.1; env ISIF", ""]


def test_the_next_attempt_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    run = relaxing(tmp_path)
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert "mended: files=" in run.explain()[0].remedy
    go_on(run, tmp_path)
    (link,) = [one for one in run.made_from("relax", attempt=2).links if one.takes == "POSCAR"]
    assert (link.of_attempt, link.path) == ("0.relax.1", "CONTCAR")
    retried = run.events[run.events["event"] == "retry"]["reason"]
    assert "retried by a person, with files POSCAR from CONTCAR of relax; env ISIF" in list(retried)
    assert ms.open_run(run.path).task_directory("relax").name == "0.relax.2"


def test_killed_anywhere_from_the_word_to_the_next_attempt(tmp_path: Path) -> None:
    def mend(base: Path) -> None:
        run = ms.open_run(base / "workspaces/w/runs/r")
        run.retry("relax", files={"POSCAR": ms.FromTask("relax", "CONTCAR", attempt=-1)}, env={"ISIF": "3"})
        run.step()

    def prepare(name: str) -> Path:
        base = tmp_path / name
        base.mkdir()
        assert relaxing(base).wait(timeout_s=60) is ms.RunStatus.FAILED
        return base

    first = prepare("first")
    points = points_of(lambda: mend(first), tmp_path / "points")
    assert {"store.committed", "attempt.filled", "submit.submitted"} <= {point for point, _ in points}
    for point, hit in points:
        base = prepare(f"{point}.{hit}")
        killed_at(point, hit, lambda base=base: mend(base))  # type: ignore[misc]
        go_on(ms.open_run(base / "workspaces/w/runs/r"), base)


def test_words_add_up_name_by_name_and_can_be_taken_back(tmp_path: Path) -> None:
    plan = ms.Task(
        "t", "cat in && test -e go", files={"in": b"planned"}, env={"A": "1"}, resources=ms.Resources(tasks=2)
    )
    run = ms.initialize_run("w", ms.Workflow([plan]), base_path=tmp_path)
    changes = [
        {"files": {"in": b"first", "more": b"x"}, "resources": {"walltime_s": 60}},
        {"env": {"A": "2"}, "files": {"in": b"second"}},
        {"files": {"in": None}, "resources": {"walltime_s": None}},
        {},
        {"as_planned": True, "command": ["test", "-e", "in"]},
    ]
    seen = []
    for change in changes:
        run.wait(timeout_s=60)
        run.retry("t", **change)  # type: ignore[arg-type]
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    for attempt in range(1, 7):
        home = run.task_directory("t", attempt=attempt)
        seen.append(((home / "in").read_text(), (home / "more").exists()))
    assert seen == [("planned", False), ("first", True), ("second", True), *[("planned", True)] * 2, ("planned", False)]
    assert list(run.attempts["changes"]) == [
        "",
        "files in, more; resources walltime_s 60",
        "files in, more; env A; resources walltime_s 60",
        "files more; env A",
        "files more; env A",
        "command",
    ]


@ms.task
def relax(start: float, /, fmax: float = 0.1, *, steps: int = 1, names: Any = None) -> Mapping[str, Any]:
    if fmax < 0.1:
        raise ValueError("too fine")
    return {"start": start, "fmax": fmax, "steps": steps, "names": names}


def test_arguments_of_a_call_are_changed_by_name(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("relax", relax, 1.0, fmax=0.05)
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    for wrong, said in [
        ({"fmaxx": 1}, r"has no argument 'fmaxx' \(did you mean 'fmax'"),
        ({"fmax": object()}, "object"),
        ({"fmax": flow.reference("relax")}, "no dependency"),
        ({"names": Odd("x")}, "does not import"),
    ]:
        with pytest.raises(InvalidTaskError, match=said):
            run.retry("relax", arguments=wrong)
    with pytest.raises(InvalidTaskError, match="no command"):
        run.retry("relax", command="true")
    assert run.status is ms.RunStatus.FAILED
    run.retry("relax", arguments={"fmax": 0.2, "start": 3.0, "names": None, "steps": 7})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.value("relax") == {"start": 3.0, "fmax": 0.2, "steps": 7, "names": None}


class Odd(str):
    def as_dict(self) -> dict[str, str]:
        return {"text": str(self)}

    @classmethod
    def from_dict(cls, said: dict[str, str]) -> Odd:
        return cls(said["text"])


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    run = ms.initialize_run(
        "w", ms.Workflow([ms.Task("t", "false"), ms.Task("u", "true")]), base_path=tmp_path / "base"
    )
    run.wait(timeout_s=60)
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    before = (run.path / "state.sqlite").read_bytes()
    for wrong in [
        {"files": {"../out": b""}},
        {"files": {"/etc/x": b""}},
        {"files": {"stdout.txt": b""}},
        {"files": {"a": b"", "a/b": b""}},
        {"files": {"a": tmp_path / "nothing"}},
        {"files": {"a": tmp_path / "pipe"}},
        {"files": {"a": tmp_path}},
        {"files": {"a": ms.FromTask("t", "left", attempt=-1)}},
        {"files": {"a": ms.FromTask("u", "left", attempt=-1)}},
        {"files": {"a": ms.FromTask("t", "left", attempt=9)}},
        {"files": ["a"]},
        {"env": {"A=B": ""}},
        {"env": {"A": "\0"}},
        {"resources": {"wall": 1}},
        {"resources": {"walltime_s": -1}},
        {"resources": 5},
        {"command": ""},
        {"arguments": {"x": 1}},
        {"as_planned": "no"},
    ]:
        with pytest.raises(MatterstackError):
            run.retry("t", **wrong)  # type: ignore[arg-type]
    assert (run.path / "state.sqlite").read_bytes() == before
    with pytest.raises(InvalidTaskError, match="attempt=-1"):
        ms.Task("t", "true", files={"a": ms.FromTask("u", "left", attempt=-1)})


def test_a_file_that_is_gone_fails_the_attempt_with_that_reason(tmp_path: Path) -> None:
    run = relaxing(tmp_path)
    run.wait(timeout_s=60)
    run.retry("relax", files={"POSCAR": ms.FromTask("relax", "CONTCAR", attempt=1)})
    (run.task_directory("relax", attempt=1) / "CONTCAR").unlink()
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert "relax did not leave the file CONTCAR" in str(run.tasks.loc["0.relax", "reason"])


def test_of_two_that_mend_at_once_one_is_told(tmp_path: Path) -> None:
    run = relaxing(tmp_path)
    run.wait(timeout_s=60)
    assert in_child(lambda: ms.open_run(run.path).retry("relax", files={"GOAL": b"1\n"})) == ENDED
    with pytest.raises(RunStatusError, match="nothing to retry yet"):
        run.retry("relax", files={"GOAL": b"7\n"})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert json.loads(run.store.attempts()[1].changes or "")["files"] == {"GOAL": {"base64": "MQo="}}


def test_by_policy_each_attempt_begins_where_one_before_it_ended(tmp_path: Path) -> None:
    command = (
        "read n < POSCAR; n=$((n+1)); echo $n > CONTCAR; case $MATTERSTACK_ATTEMPT in 1) exec sleep 600;; "
        '2) : > CONTCAR; exec sleep 600;; esac; [ "$n" = 2 ]'
    )
    limit = ms.Resources(walltime_s=0.5)
    policy: dict[str, Any] = {"restart": {"POSCAR": "CONTCAR"}, "retry_on": {"TIMEOUT"}, "retries": 5}
    run = relaxing(tmp_path, **policy)
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED, "an exit code is no TIMEOUT"
    run.retry("relax", files={"POSCAR": b"5\n"})  # the word counts for the attempt after it
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.attempts["changes"].iloc[1] == "files POSCAR"
    plan = ms.Task("t", command, files={"POSCAR": b"0\n"}, resources=limit, **policy)
    run = ms.initialize_run("w", ms.Workflow([plan]), base_path=tmp_path / "other")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(run.attempts["changes"]) == [
        "",
        "files POSCAR from CONTCAR of t.1",
        "files POSCAR from CONTCAR of t.1",
    ]
    assert [(run.task_directory("t", attempt=n) / "POSCAR").read_text() for n in (1, 2, 3)] == ["0\n", "1\n", "1\n"]


def test_a_kit_goes_on_from_what_came_home(tmp_path: Path) -> None:
    policy: dict[str, Any] = {"restart": {"POSCAR": "CONTCAR"}, "retries": 1}
    task = ms.Task("t", "vasp", files={"POSCAR": b"0\n"}, operator="far", **policy)
    operators = {"far": ms.ManualHPCOperator()}
    run = ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path, operators=operators)
    run.step()
    first = run.path / "operators/far/0.t.1"
    token = json.loads((first / "MANIFEST.json").read_text())["token"]
    (first / "output").mkdir()
    (first / "output/CONTCAR").write_text("1\n")
    (first / "status.json").write_text(json.dumps({"token": token, "status": "FAILED", "exit_code": 1}))
    for _ in range(3):
        run.step()
    assert (run.path / "operators/far/0.t.2/inputs/POSCAR").read_text() == "1\n"


@pytest.mark.parametrize(
    "odd", ["{", '{"files": 5}', '{"files": {"../x": {"task_id": "t", "path": "/", "attempt": -1}}}']
)
def test_changes_that_make_no_sense_fail_their_task_alone(tmp_path: Path, odd: str) -> None:
    flow = ms.Workflow([ms.Task("t", "true", allow_failure=True), ms.Task("u", "true")])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        store.execute("UPDATE tasks SET changes = ? WHERE task_id = 't'", (odd,))
        store.execute("UPDATE tasks SET held = '[' WHERE task_id = 'u'")
    assert run.explain()[-1].what
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        store.execute("UPDATE tasks SET held = NULL")
    run = ms.open_run(run.path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(run.tasks["status"]) == ["FAILED", "COMPLETED"]

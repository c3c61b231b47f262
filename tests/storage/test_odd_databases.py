"""A database that somebody else has written into: refused where it is not ours, its own row where it makes no sense."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import matterstack as ms
from matterstack.errors import DamagedStoreError, ForeignStoreError, MatterstackError, StoreError
from matterstack.storage.reader import StoreReader


def make(base: Path, run_id: str) -> ms.Run:
    """Return a run that waits for a person."""
    tasks = [ms.Task("look", operator="human", instructions="good?"), ms.Task("after", "true", dependencies=["look"])]
    run = ms.initialize_run(
        "w",
        ms.Workflow(tasks),
        base_path=base,
        operators={"human": ms.HumanOperator(), "local": ms.LocalOperator()},
        run_id=run_id,
    )
    run.step()
    return run


def write(run: ms.Run, *statements: str) -> None:
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


FOREIGN = {
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON tasks BEGIN DELETE FROM attempts; END",
    "a view": "CREATE VIEW v AS SELECT * FROM tasks",
    "a column": "ALTER TABLE tasks ADD COLUMN mine TEXT",
    "a computed column": "ALTER TABLE runs ADD COLUMN mine TEXT AS (hex(zeroblob(1000000000))) VIRTUAL",
}


@pytest.mark.parametrize("statement", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_somebody_added_is_refused_and_left(tmp_path: Path, statement: str) -> None:
    run = make(tmp_path, "r")
    path = run.path
    write(run, statement)
    before = (path / "state.sqlite").read_bytes()
    del run
    with pytest.raises(ForeignStoreError, match="somebody else added"):
        ms.open_run(path)
    assert (path / "state.sqlite").read_bytes() == before


SENSELESS = {
    "status": "UPDATE runs SET status = 'SPLENDID'",
    "blob": "UPDATE runs SET status = x'ff00'",
    "time": "UPDATE runs SET created_at = 9e99",
    "no time": "UPDATE runs SET created_at = 'now'",
    "iteration": "UPDATE runs SET iteration = -1",
    "name": "UPDATE runs SET run_id = x'0017'",
    "not utf-8": "UPDATE runs SET run_id = CAST(x'ff' AS TEXT)",
    "no run": "DELETE FROM runs",
    "counts": "UPDATE iterations SET total = 'many'",
    "huge counts": "UPDATE iterations SET total = 9223372036854775807",
}


@pytest.mark.parametrize("statement", SENSELESS.values(), ids=SENSELESS.keys())
def test_a_run_that_makes_no_sense_is_its_own_row(tmp_path: Path, statement: str) -> None:
    good, bad = make(tmp_path, "good"), make(tmp_path, "bad")
    write(bad, "PRAGMA ignore_check_constraints = ON", statement)
    table = ms.runs("w", tmp_path).set_index("run_id")
    assert table.loc["good", "status"] == str(good.status)
    assert str(bad.path / "state.sqlite") in table.loc["bad", "reason"]
    assert "good" in {request.run_id for request in ms.inbox("w", tmp_path)}
    with pytest.raises(MatterstackError):
        bad.step()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tasks SET task_id = '../../../../elsewhere' WHERE task_id = 'look'",
        "UPDATE tasks SET task_id = x'2f' WHERE task_id = 'look'",
        "UPDATE tasks SET operator = '../..' WHERE task_id = 'look'",
        "UPDATE attempts SET attempt = -3",
    ],
)
def test_an_attempt_that_makes_no_sense_is_not_gone_after(tmp_path: Path, statement: str) -> None:
    good, bad = make(tmp_path, "good"), make(tmp_path, "bad")
    write(bad, "PRAGMA ignore_check_constraints = ON", statement)
    with pytest.raises(DamagedStoreError, match="makes no sense"):
        bad.step()
    assert [request.run_id for request in ms.inbox("w", tmp_path)] == [good.run_id]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "spec", ["'not json'", "'[]'", "'{\"instructions\": [1]}'", '\'{"assignee": {"a": 1}}\'', "'" + "[" * 5000 + "'"]
)
def test_a_waiting_task_that_cannot_be_read_hides_no_other_run(tmp_path: Path, spec: str) -> None:
    good, bad = make(tmp_path, "good"), make(tmp_path, "bad")
    write(bad, f"UPDATE tasks SET spec = {spec} WHERE task_id = 'look'")
    assert [request.run_id for request in ms.inbox("w", tmp_path)] == [good.run_id]


def test_a_database_that_would_keep_one_busy_is_cut_off(tmp_path: Path) -> None:
    tasks = [ms.Task(f"t{number}", "true") for number in range(3000)]
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=tmp_path, run_id="big")
    assert len(StoreReader(run.path / "state.sqlite", most_steps=20_000_000).ready_tasks("local", 3000, 0.0)) == 3000
    with pytest.raises(StoreError, match="cut off"):
        StoreReader(run.path / "state.sqlite", most_steps=20_000).ready_tasks("local", 3000, 0.0)


def panel_of(run: ms.Run) -> str:
    view = run.dag()
    view.selected = "0.look"
    return str(view.panel)


SPECS = [
    "[]",
    "null",
    '{"instructions": [1], "command": 3}',
    '{"assignee": {"a": "\\u001b[31m"}}',
    '{"command": {"a": [null]}}',
]


@pytest.mark.parametrize("spec", SPECS)
def test_the_panel_of_a_task_that_makes_no_sense_shows_what_it_can(tmp_path: Path, spec: str) -> None:
    run = make(tmp_path, "r")
    write(run, f"UPDATE tasks SET spec = '{spec}' WHERE task_id = 'look'")
    panel = panel_of(run)
    assert "0.look" in panel
    assert "\x1b" not in panel


@pytest.mark.parametrize(
    "data", ["[" * 5000, "{", '{"positions": 1, "numbers": {"__ndarray__": 3}, "cell": []}', "1e999"]
)
def test_the_panel_of_a_result_that_makes_no_sense_shows_what_it_can(tmp_path: Path, data: str) -> None:
    run = make(tmp_path, "r")
    write(run, f"UPDATE attempts SET data = '{data}'")
    assert "0.look" in panel_of(run)

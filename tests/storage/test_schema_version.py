"""What the store opens, what it refuses with its bytes unchanged, and what it migrates."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from crashes import in_child
from older import run_of_version_1

import matterstack as ms
from matterstack import crash_points as testing
from matterstack.core.changes import AttemptChange, RunChange, TaskChange
from matterstack.core.states import AttemptEvent, RunEvent, TaskEvent
from matterstack.errors import (
    DamagedStoreError,
    ForeignStoreError,
    InvalidConfigError,
    InvalidTransitionError,
    NewerStoreError,
    RunNotFoundError,
    StoreConflictError,
    StoreError,
    StoreUnwritableError,
    UntrustedRunError,
)
from matterstack.storage import migrations
from matterstack.storage.state_store import SQLiteStateStore


def fresh(directory: Path) -> Path:
    path = directory / "state.sqlite"
    SQLiteStateStore(path)
    return path


def alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_version_says_what_a_database_of_it_has(tmp_path: Path) -> None:
    assert migrations.SCHEMA_VERSION in migrations.OBJECTS
    with closing(sqlite3.connect(fresh(tmp_path))) as connection:
        made = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex%'")
        assert set(made) == migrations.OBJECTS[migrations.SCHEMA_VERSION]


def test_a_new_database_has_version_1(tmp_path: Path) -> None:
    path = fresh(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version FROM schema_info").fetchall() == [(2,)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"schema_info", "runs", "iterations", "tasks", "dependencies", "attempts", "events"} <= tables


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").touch()
    assert SQLiteStateStore(tmp_path / "state.sqlite").version == 2


def test_opening_logs_path_and_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "matterstack")
    path = fresh(tmp_path)
    record = caplog.records[-1]
    assert str(path) in record.getMessage()
    assert "version 2" in record.getMessage()
    assert (record.database, record.schema_version) == (str(path), 2)  # type: ignore[attr-defined]


def newer(path: Path) -> None:
    alter(path, "UPDATE schema_info SET version = 99")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:108] = b"\xff" * 8  # the root page of sqlite_master
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    alter(path, "CREATE TABLE recipes (name TEXT)", "INSERT INTO recipes VALUES ('goulash')")


def versionless(path: Path) -> None:
    alter(path, "DROP TABLE schema_info")


def two_versions(path: Path) -> None:
    alter(path, "INSERT INTO schema_info VALUES (1)")


def text_version(path: Path) -> None:
    alter(path, "UPDATE schema_info SET version = 'one'")


def without_tasks(path: Path) -> None:
    alter(path, "DROP TABLE events")


def without_an_index(path: Path) -> None:
    alter(path, "DROP INDEX live_attempts")


def with_a_trigger(path: Path) -> None:
    alter(path, "CREATE TRIGGER sly AFTER INSERT ON events BEGIN UPDATE tasks SET spec = '{}'; END")


def with_a_table(path: Path) -> None:
    alter(path, "CREATE TABLE recipes (name TEXT)")


def too_old(path: Path) -> None:
    alter(path, "UPDATE schema_info SET version = -3")


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (newer, NewerStoreError, "99"),
        (truncated, DamagedStoreError, "not a readable database"),
        (garbage, DamagedStoreError, "not a database"),
        (flipped, DamagedStoreError, "not a readable database"),
        (foreign, ForeignStoreError, "schema_info"),
        (versionless, ForeignStoreError, "no schema version"),
        (two_versions, DamagedStoreError, "one version number"),
        (text_version, DamagedStoreError, "one version number"),
        (without_tasks, DamagedStoreError, "lacks the table events"),
        (without_an_index, DamagedStoreError, "lacks the index live_attempts"),
        (with_a_trigger, ForeignStoreError, "has the trigger sly"),
        (with_a_table, ForeignStoreError, "has the table recipes"),
        (too_old, ForeignStoreError, "no migration"),
    ],
)
def test_refused_with_its_bytes_unchanged(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[StoreError], says: str
) -> None:
    path = fresh(tmp_path)
    spoil(path)
    before = {beside: digest(beside) for beside in tmp_path.iterdir()}
    for _ in range(2):
        with pytest.raises(error, match=says) as caught:
            SQLiteStateStore(path)
        assert str(path) in str(caught.value)
    assert {beside: digest(beside) for beside in tmp_path.iterdir()} == before, "nothing left beside it"


def test_links_and_directories_are_refused(tmp_path: Path) -> None:
    path = fresh(tmp_path)
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    for odd in (link, tmp_path):
        with pytest.raises(ForeignStoreError, match="regular file"):
            SQLiteStateStore(odd)


# -- migration: of a run that was made with version 1 (`fixtures/make_version_1.py`) ---------


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def shape(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return what the tables and indexes of a database are like, whatever text made them."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {
            f"{pragma} {name}": connection.execute(f"PRAGMA {pragma}({name})").fetchall()
            for name in tables
            for pragma in ("table_xinfo", "foreign_key_list")
        }
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        return found | {f"index {name}": [(" ".join(sql.split()),)] for name, sql in connection.execute(indexes)}


def content(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): digest(file) for file in path.rglob("*") if file.is_file()}


def test_a_run_of_version_1_is_looked_at_without_a_change_then_stepped_to_its_end(tmp_path: Path) -> None:
    path = run_of_version_1(tmp_path)
    before, lines = content(path), dump(path / "state.sqlite")
    run = ms.open_run(path, operators={"local": ms.LocalOperator(python=sys.executable)})
    assert dict(run.tasks["status"]) == {
        "0.cube": "COMPLETED", "0.cube_of_cube": "PENDING", "0.relax": "COMPLETED", "0.broken": "FAILED",
        "0.approve": "SUBMITTED", "0.use": "PENDING",
    }  # fmt: skip
    assert run.value("cube") == 0.125
    assert run.results.loc["0.relax", "energy_eV"] == -3.7
    assert len(run.inbox()) == 1
    assert run.explain()
    assert run.store.check() == []
    with pytest.raises(UntrustedRunError):
        run.step()
    assert content(path) == before, "to look, and to be refused, changes no byte and no name"

    ms.trust(path)
    run.step()
    assert dump(path / "state.sqlite.v1.backup") == lines
    assert SQLiteStateStore(path / "state.sqlite").version == 2
    run.respond("approve", {"decision": "approve"})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.value("cube_of_cube") == 0.125**3
    assert json.loads((run.task_directory("use") / "stdout.txt").read_text()) == {"energy_eV": -3.7}
    assert list(run.attempts["attempt"]) == [1, 1, 1, 1, 2, 1, 1], "what was over is not done again"
    assert run.store.check() == []
    assert (path / "state.sqlite.v1.backup").exists()


def test_a_database_that_was_lifted_is_as_one_that_was_made_new(tmp_path: Path) -> None:
    path = run_of_version_1(tmp_path) / "state.sqlite"
    SQLiteStateStore(path).close()
    assert shape(path) == shape(fresh(tmp_path))


def test_a_migration_that_fails_changes_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_of_version_1(tmp_path) / "state.sqlite"
    before = digest(path)
    lift = migrations.MIGRATIONS[1]

    def fail(connection: sqlite3.Connection) -> None:
        lift(connection)
        connection.execute("INSERT INTO no_such_table VALUES (1)")

    monkeypatch.setattr(migrations, "MIGRATIONS", {1: fail})
    with pytest.raises(StoreError, match="no_such_table"):
        SQLiteStateStore(path)
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: lift})
    assert digest(path) == before
    assert SQLiteStateStore(path).run().run_id == "version-1"


@pytest.mark.parametrize("point", ["migrate.backed_up", "migrate.commit", "migrate.committed"])
def test_killed_in_a_migration_and_killed_again_then_healed(tmp_path: Path, point: str) -> None:
    path = run_of_version_1(tmp_path) / "state.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT token, status FROM attempts ORDER BY id").fetchall()
    code = in_child(lambda: SQLiteStateStore(path), lambda: testing.arm("kill", point))
    assert code == -signal.SIGKILL
    in_child(lambda: SQLiteStateStore(path), lambda: testing.arm("kill", "migrate.commit"))
    store = SQLiteStateStore(path)
    assert store.query("SELECT token, status FROM attempts ORDER BY id") == rows
    assert store.check() == []
    assert not list(path.parent.glob("*.partial"))


def test_four_processes_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    program = "import sys; from matterstack.storage.state_store import SQLiteStateStore as S; sys.stdin.readline(); "
    program += "print(S(sys.argv[1]).version)"
    for name in ("a", "b", "c"):
        path = tmp_path / name / "state.sqlite"
        path.parent.mkdir()
        waiting = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        for process in waiting:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60)[0] for process in waiting] == ["2\n"] * 4


# -- what the database itself refuses --------------------------------------------------------


def test_a_status_that_is_in_no_table_cannot_be_stored(tmp_path: Path) -> None:
    path = fresh(tmp_path)
    for table, columns, values in [
        ("runs", "run_id, workspace, status, created_at, iteration, campaign_state", "'r', 'w', 'DONE', 0, 0, '{}'"),
        ("attempts", "task, attempt, status, token, submitted_at", "1, 1, 'READY', 't', 0"),
    ]:
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            alter(path, f"INSERT INTO {table} ({columns}) VALUES ({values})")


def test_a_second_live_attempt_of_a_task_cannot_be_stored(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    insert = "INSERT INTO attempts (task, attempt, status, token, submitted_at) VALUES (1, ?, ?, ?, 0)"
    store = run._session.store
    with store.transaction():
        store._connection().execute(insert, (1, "RUNNING", "t1"))
    with pytest.raises(StoreConflictError, match="UNIQUE"), store.transaction():
        store._connection().execute(insert, (2, "SUBMITTING", "t2"))
    with store.transaction():
        store._connection().execute("UPDATE attempts SET status = 'LOST'")
        store._connection().execute(insert, (2, "SUBMITTING", "t2"))


def test_a_change_that_leaves_another_status_than_the_stored_one_changes_nothing(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    store = run._session.store
    stale = [TaskChange(1, ms.TaskStatus.SUBMITTED, TaskEvent.COMPLETE, 0.0)]
    with (
        pytest.raises(StoreConflictError, match=r"task 0\.a is PENDING, and a change leaves SUBMITTED"),
        store.transaction(),
    ):
        store.apply(stale, 0)
    assert (run.tasks["status"] == "PENDING").all()
    assert run.events.empty
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def attempt_changes() -> list[AttemptChange]:
    """Return the life of an attempt that ends in one tick."""
    status = ms.AttemptStatus
    return [
        AttemptChange(1, 1, status.SUBMITTING, AttemptEvent.SUBMITTED, 1.0, external_id="7", reason="taken"),
        AttemptChange(1, 1, status.SUBMITTED, AttemptEvent.ENDED, 2.0, started_at=1.5, ended_at=1.9, exit_code=0),
        AttemptChange(1, 1, status.COLLECTING, AttemptEvent.COLLECTED, 3.0, ended_at=3.0, data='{"x":1}'),
    ]


@pytest.mark.parametrize("said", [None, "answered by ann"])
@pytest.mark.parametrize("together", [True, False])
def test_changes_of_one_attempt_end_alike_written_together_or_one_by_one(
    tmp_path: Path, together: bool, said: str | None
) -> None:
    """Why it stood where it stood before is no reason of its end; what was said of the end is."""
    store = SQLiteStateStore(tmp_path / "state.sqlite")
    changes = attempt_changes()
    changes[1] = changes[1]._replace(reason=said)
    with store.transaction():
        store._connection().execute("PRAGMA defer_foreign_keys = 1")
        insert = "INSERT INTO attempts (task, attempt, status, token, submitted_at) VALUES (1, 1, 'SUBMITTING', 't', 0)"
        store._connection().execute(insert)
        for some in [changes] if together else [[change] for change in changes]:
            store.apply(some, 0)
        columns = "status, external_id, reason, started_at, ended_at, exit_code, data"
        rows = store.query(f"SELECT {columns} FROM attempts")
        events = store.query("SELECT event, status FROM events ORDER BY seq")
        store._connection().execute("DELETE FROM attempts")  # it has no task here
    assert rows == [("COMPLETED", "7", said, 1.5, 1.9, 0, '{"x":1}')]
    assert events == [("submitted", "SUBMITTED"), ("ended", "COLLECTING"), ("collected", "COMPLETED")]


def test_a_conflict_and_an_invalid_transition_name_their_subject_and_tell_its_story(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("good", "true"), ms.Task("relax", "exit 1", allow_failure=True)])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait(timeout_s=30)
    store = run._session.store
    changes = [
        TaskChange(1, ms.TaskStatus.COMPLETED, TaskEvent.RETRY, 0.0),  # this one would do
        TaskChange(2, ms.TaskStatus.SUBMITTED, TaskEvent.COMPLETE, 0.0),
    ]
    with pytest.raises(StoreConflictError) as caught, store.transaction():
        store.apply(changes, 0)
    assert "task 0.relax is FAILED, and a change leaves SUBMITTED" in str(caught.value)
    assert "submit -> SUBMITTED, fail -> FAILED" in str(caught.value)
    attempt = [AttemptChange(2, 2, ms.AttemptStatus.RUNNING, AttemptEvent.ENDED, 0.0)]
    with (
        pytest.raises(StoreConflictError, match=r"attempt 0\.relax\.1 is FAILED.*failed -> FAILED"),
        store.transaction(),
    ):
        store.apply(attempt, 0)
    wrong = [TaskChange(2, ms.TaskStatus.FAILED, TaskEvent.SUBMIT, 0.0)]
    with pytest.raises(InvalidTransitionError, match=r"task 0\.relax: a TaskStatus of FAILED"), store.transaction():
        store.apply(wrong, 0)
    with pytest.raises(StoreConflictError, match="the run is COMPLETED"), store.transaction():
        store.apply([RunChange(ms.RunStatus.RUNNING, RunEvent.PAUSE, 0.0)], 0)
    assert list(run.tasks["status"]) == ["COMPLETED", "FAILED"]
    assert store.check() == []


def test_changes_of_one_attempt_that_do_not_follow_each_other_change_nothing(tmp_path: Path) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite")
    with pytest.raises(StoreConflictError, match="COLLECTING"), store.transaction():
        store.apply([attempt_changes()[0], attempt_changes()[2]], 0)
    assert store.query("SELECT * FROM events") == []


def test_a_run_whose_database_went_away_says_so(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    run.path.rename(tmp_path / "elsewhere")
    with pytest.raises(RunNotFoundError, match="moved"):
        _ = run.status
    with pytest.raises(RunNotFoundError, match="no run at"):
        ms.open_run(run.path)
    assert ms.open_run(tmp_path / "elsewhere").wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_a_database_that_cannot_be_written_says_so_and_is_read(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    store = run._session.store
    store._connection().execute("PRAGMA query_only = 1")
    with pytest.raises(StoreUnwritableError, match="nothing was changed"), store.transaction():
        store.set_iteration(5)
    store.close()
    assert run.iteration == 0


@pytest.mark.parametrize("longer", [0, 1])
def test_a_path_that_sqlite_does_not_open_is_refused_with_nothing_made(tmp_path: Path, longer: int) -> None:
    base = tmp_path
    while (left := 440 + longer - len(str(base / "workspaces/w/runs/r"))) > 1:
        base /= "d" * min(left - 1, 200)
    base = base.with_name(base.name + "d" * (440 + longer - len(str(base / "workspaces/w/runs/r"))))
    flow = ms.Workflow([ms.Task("a", "true")])
    if longer:
        with pytest.raises(InvalidConfigError, match="choose another base_path"):
            ms.initialize_run("w", flow, base_path=base, run_id="r")
        assert list(tmp_path.iterdir()) == []
    else:
        assert ms.initialize_run("w", flow, base_path=base, run_id="r").wait(timeout_s=30) is ms.RunStatus.COMPLETED

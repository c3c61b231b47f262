"""To look at a run changes nothing: no byte and no name in its directory, whatever lies there; a step heals."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child
from older import run_of_version_1

import matterstack as ms
from matterstack import crash_points as testing
from matterstack.errors import (
    DamagedStoreError,
    ForeignStoreError,
    MatterstackError,
    StoreError,
)
from matterstack.storage import database
from matterstack.storage.reader import StoreReader
from matterstack.storage.state_store import SQLiteStateStore

MAGIC = bytes.fromhex("d9d505f920a163d7")


def make(base: Path) -> ms.Run:
    flow = ms.Workflow([ms.Task(f"t{n}", "true", files={"in.txt": "x" * 3000}) for n in range(40)])
    return ms.initialize_run("w", flow, base_path=base, run_id="r")


def everything(directory: Path) -> dict[str, Any]:
    """Return every name below a directory, with what is there."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_ino, status.st_mtime_ns, content)
    return found


def status(path: Path) -> str:
    command = [sys.executable, "-m", "matterstack", "status", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


#: Everything that looks at a run in a directory.
LOOKS: dict[str, Callable[[Path], str]] = {
    "runs": lambda path: ms.runs("w", path.parents[3]).to_string(),
    "inbox": lambda path: repr(ms.inbox("w", path.parents[3])),
    "status": status,
    "open_run": lambda path: repr(ms.open_run(path)),
    "tables": lambda path: repr([getattr(ms.open_run(path), n) for n in ("tasks", "attempts", "events", "results")]),
    "explain": lambda path: repr(ms.open_run(path).explain()),
    "dag": lambda path: ms.open_run(path).dag().twin_text(),
}


def look(how: str, path: Path) -> str:
    """Look, whatever comes of it; nothing may have changed by it."""
    before = everything(path.parents[3])
    try:
        return LOOKS[how](path)
    except MatterstackError as error:
        return str(error)
    finally:
        assert everything(path.parents[3]) == before


def spill(path: Path) -> None:
    """Kill a writer that has written half of its transaction into the database itself."""
    program = """if True:
        import os, signal, sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE runs SET status = 'COMPLETED'")
        connection.execute("UPDATE tasks SET status = 'COMPLETED', spec = upper(spec)")
        os.kill(os.getpid(), signal.SIGKILL)
        """
    done = subprocess.run([sys.executable, "-c", program, str(path / "state.sqlite")])
    assert done.returncode == -signal.SIGKILL


def kill_a_step(path: Path) -> None:
    """Kill a step when it is about to commit."""
    run = ms.open_run(path)
    assert in_child(run.step, lambda: testing.arm("kill", "store.commit")) == -signal.SIGKILL


@pytest.mark.parametrize("how", LOOKS)
@pytest.mark.parametrize("kill", [spill, kill_a_step])
def test_after_a_kill_in_the_middle_of_a_commit_the_last_one_is_shown(
    tmp_path: Path, how: str, kill: Callable[[Path], None]
) -> None:
    path = make(tmp_path).path
    untouched = LOOKS[how](path)
    kill(path)
    assert (path / "state.sqlite-journal").stat().st_size
    for _ in range(2):
        assert look(how, path) == untouched


def test_a_view_that_is_open_goes_on_over_a_kill_and_over_the_recovery(tmp_path: Path) -> None:
    run = make(tmp_path)
    view = run.table()
    spill(run.path)
    before = everything(tmp_path)
    view.follower.look()
    assert {row[1] for row in view.window["rows"]} == {"READY"}
    assert everything(tmp_path) == before
    assert ms.open_run(run.path).wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert not database.look_at(run.path / "state.sqlite").journal
    view.follower.look()
    assert {row[1] for row in view.window["rows"]} == {"COMPLETED"}


def test_a_step_recovers_what_a_killed_writer_left(tmp_path: Path) -> None:
    run = make(tmp_path)
    spill(run.path)
    assert run.step().ready == 40
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_a_run_began_at_its_first_move_and_ended_at_its_last(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    moves = [event.at for event in run.store.events() if event.task_id is None]
    assert moves[0] < moves[-1]
    assert (run.store.moved_at(), run.store.moved_at(last=True)) == (moves[0], moves[-1])


def test_a_commit_makes_and_removes_no_name(tmp_path: Path) -> None:
    """So it has no directory to bring to disk; and what lies there afterwards is not taken for a writer at work."""
    run = make(tmp_path)
    run.step()
    before = os.stat(run.path)
    for word in ("one", "two"):
        run.pause(word).resume()
        assert not database.look_at(run.path / "state.sqlite").journal
    assert os.stat(run.path).st_mtime_ns == before.st_mtime_ns


def test_a_copy_that_cannot_be_written_to_is_shown_all_the_same(tmp_path: Path) -> None:
    run = make(tmp_path)
    spill(run.path)
    read_only = tmp_path / "mnt"
    read_only.mkdir()
    if subprocess.run(["mount", "--bind", run.path, read_only], capture_output=True).returncode:
        pytest.skip("only root can mount a directory read-only")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", read_only], check=True)
        assert "PENDING" in repr(ms.open_run(read_only))
    finally:
        subprocess.run(["umount", "--lazy", read_only], check=True)


def super_journal(path: Path, victim: Path) -> None:
    """Lay a journal that names a file, as SQLite's file format has it; opening the database would remove the file."""
    pages = (path / "state.sqlite").stat().st_size // 4096
    numbers = (0, 7, pages, 512, 4096)
    head = (MAGIC + b"".join(number.to_bytes(4, "big") for number in numbers)).ljust(512, b"\0")
    name = str(victim).encode()
    end = (len(name).to_bytes(4, "big"), sum(name).to_bytes(4, "big"), MAGIC)
    page = (0x4000_0000 // 4096 + 1).to_bytes(4, "big")
    (path / "state.sqlite-journal").write_bytes(head + page + name + b"".join(end))


@pytest.mark.parametrize("how", [*LOOKS, "step", "pause", "cancel"])
def test_a_journal_that_names_another_file_removes_none(tmp_path: Path, how: str) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("ten years of work\n")
    run = make(tmp_path)
    super_journal(run.path, victim)
    if how in LOOKS:
        said = look(how, run.path)
        assert "names another file" in said or how == "inbox"
    else:
        before = everything(run.path)
        with pytest.raises(ForeignStoreError, match="names another file"):
            getattr(run, how)()
        assert {k: v for k, v in everything(run.path).items() if k != "run.lock"} == {
            k: v for k, v in before.items() if k != "run.lock"
        }
    assert victim.read_text() == "ten years of work\n"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("lay", [fifo, link, folder, Path.touch])
@pytest.mark.parametrize("end", ["-journal", "-wal", "-shm"])
def test_whatever_lies_beside_the_database_is_looked_at_first(
    tmp_path: Path, lay: Callable[[Path], None], end: str
) -> None:
    run = make(tmp_path)
    (run.path / f"state.sqlite{end}").unlink(missing_ok=True)
    lay(run.path / f"state.sqlite{end}")
    said = look("open_run", run.path)
    if (lay, end) == (Path.touch, "-journal"):
        assert "PENDING" in said, "an empty journal says that there is nothing to roll back"
    else:
        assert f"state.sqlite{end}" in said
        with pytest.raises(ForeignStoreError):
            run.step()


def test_a_database_in_write_ahead_mode_is_refused_and_gets_no_company(tmp_path: Path) -> None:
    path = make(tmp_path).path
    with closing(sqlite3.connect(path / "state.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    assert "write-ahead mode" in look("status", path)
    assert sorted(name.name for name in path.glob("state.sqlite*")) == ["state.sqlite"]


@pytest.mark.parametrize("how", LOOKS)
def test_an_empty_database_is_refused_unwritten(tmp_path: Path, how: str) -> None:
    run = make(tmp_path)
    os.truncate(run.path / "state.sqlite", 0)
    assert "is empty" in look(how, run.path) or how == "inbox"
    with pytest.raises(DamagedStoreError, match="empty"):
        run.step()
    assert (run.path / "state.sqlite").stat().st_size == 0


def test_all_that_shows_a_run_reads_by_read_only_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    flow = ms.Workflow([ms.Task("a", "true"), ms.Task("ask", operator="human", instructions="?", dependencies=["a"])])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.wait(timeout_s=30)
    modes: list[str] = []
    connect = database.connect

    def noted(path: Path, mode: str, *rest: float) -> database.Connection:
        modes.append(mode)
        return connect(path, mode, *rest)

    monkeypatch.setattr(database, "connect", noted)
    ms.open_run(run.path).made_from("a")
    ms.open_run(run.path).used_by("a")
    ms.open_run(run.path).explain_cache("a")
    for name in ("tasks", "attempts", "events", "results", "graph", "overview", "counts", "status", "campaign_state"):
        getattr(ms.open_run(run.path), name)
    for show in ("dag", "table", "watch", "explain", "inbox", "timeline", "time_spent", "plot_timeline"):
        shown = getattr(ms.open_run(run.path), show)()
        assert repr(shown)
    view = ms.open_run(run.path).dag()
    view.selected = "0.ask"
    assert view.panel
    ms.runs("w", tmp_path)
    ms.inbox("w", tmp_path)
    assert set(modes) == {"ro"}
    public = [name for name in vars(StoreReader) if not name.startswith("_")]
    arguments: dict[str, tuple[Any, ...]] = {
        "query": ("SELECT 1",), "counts": (0,), "snapshot": (0.0,), "ready_tasks": ("local", 5, 0.0),
        "upstream_of": ([2],),
        "pending_dependants": (1,), "attempts_of": (["human"],), "pending_tasks": (0,), "task_name": (1,),
        "stream": (0,), "untaken": (0,), "under_way": (0,), "ended_since": (0, 1),
        "streamed": (0, ["a"]), "hopeless": ([1],),
        "failed_for_good": (0,), "results": (0,), "find_task": (0, "a"), "downstream": ([1],), "failed_tasks": (0,),
        "culprits": (1,), "tasks_changed": (0,), "times_changed": (0, 1), "attempts_of_task": (1,),
        "events_after": (0, 5), "task_columns": (0, 9), "edge_columns": (0, 9), "tasks_of": ([1],),
        "tasks_sorted": ("since",), "tasks_that_say": ("a",), "given_after": (0, 9),
        "task": (0, "a"), "specification": (1,), "task_ids": (0,), "neighbours": (1,),
        "attempt_row": ("0.a.1",), "made_of": (1,), "links_up": (1,), "links_down": (1,), "links_from": ("r 0.a.1",),
        "statuses_of": (["ms-0"],),
        "has_scratch": (0,), "scratch_after": ([1],), "scratch_of": (0,), "cleaned": (0, "a", 1),
        "attempts_to_pack": (0,), "archive_of": (0, "a", 1), "amendment": (1,), "waits": (1,), "kept_back": (0,),
        "delayed": (0, 0.0, 5), "unfinished": (0,),
        "files_taken_of": (1,),
        "copy_to": (tmp_path.parent / f"{tmp_path.name}.sqlite",),
        "begun_after": (0,), "spending_after": (0,), "next_start": ([],), "ready_operators": (0.0,),
            "news_after": (0, 5),
    }  # fmt: skip
    reader = StoreReader(run.path / "state.sqlite")
    before = everything(tmp_path)
    for name in public:
        if name != "reading":
            said = getattr(reader, name)(*arguments.get(name, ()))
            if isinstance(said, Iterator):
                assert list(said)
    assert everything(tmp_path) == before
    assert set(modes) == {"ro"}
    with pytest.raises(StoreError, match="readonly"):
        reader.query("DELETE FROM events")
    with pytest.raises(StoreError, match="cannot be asked that: no such column: energy"):
        reader.query("SELECT energy FROM tasks")


def test_a_live_writer_is_waited_for(tmp_path: Path) -> None:
    """A reader that comes in the middle of a commit sees what was before or after it, and needs no copy."""
    run = make(tmp_path)
    writer = sqlite3.connect(run.path / "state.sqlite", isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("UPDATE runs SET reason = 'because'")
    seen: list[str | None] = []
    looking = threading.Thread(target=lambda: seen.append(ms.open_run(run.path).reason))
    looking.start()
    looking.join(0.2)
    assert looking.is_alive()
    writer.execute("COMMIT")
    looking.join(60)
    assert seen == ["because"]
    writer.close()


def test_looking_keeps_the_locks_of_a_writer_of_this_process(tmp_path: Path) -> None:
    """POSIX gives up a process's locks on a file when it closes any descriptor of it; looking must not do that."""
    run = make(tmp_path)
    store = SQLiteStateStore(run.path / "state.sqlite")
    other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0); c.execute('BEGIN IMMEDIATE')"
    command = [sys.executable, "-c", other, str(store.path)]
    with store.transaction():
        ms.open_run(run.path)
        ms.runs("w", tmp_path)
        done = subprocess.run(command, capture_output=True, text=True)
        assert "database is locked" in done.stderr
    assert subprocess.run(command).returncode == 0


def test_an_older_run_is_looked_at_as_it_is_and_migrated_by_the_first_step(tmp_path: Path) -> None:
    path = run_of_version_1(tmp_path)
    for how in LOOKS:
        assert look(how, path)
    assert "RUNNING" in look("open_run", path)
    reader = StoreReader(path / "state.sqlite")
    assert reader.version == 1
    ms.trust(path)
    assert ms.open_run(path).step().live == 1
    assert (path / "state.sqlite.v1.backup").exists()
    assert reader.query("SELECT count(*) FROM inputs") == [(0,)], "what was open goes on with what it is now"


def test_a_database_that_never_rests_is_given_up_with_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    spill(run.path)
    copy = database._copy

    def copy_and_touch(path: Path, *rest: Any, **options: Any) -> None:
        copy(path, *rest, **options)
        os.utime(path)

    monkeypatch.setattr(database, "_copy", copy_and_touch)
    with pytest.raises(StoreError, match="look again"):
        ms.open_run(run.path)
    monkeypatch.setattr(database, "_copy", copy)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StoreError, match="private copy"):
        ms.open_run(run.path)

"""All the runs of a workspace in one view: what changed is read and sent, nothing else; one bad run is its own row."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import ipywidgets
import pytest

import matterstack as ms
from matterstack.notebook import runs_board, workspace_view
from matterstack.notebook.runs_board import RunsBoard

EVIL = "</script><img src=x onerror=alert(1)>"
ASKS = ms.Task("ask", operator="human", instructions="well?", schema={"type": "object"})


def make(base: Path, run_id: str, *tasks: ms.Task, workspace: str = "w") -> ms.Run:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    flow = ms.Workflow(tasks or (ms.Task("a", "true"), ms.Task("b", "true")))
    return ms.initialize_run(workspace, flow, base_path=base, run_id=run_id, operators=operators)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first picture wait for all runs, however busy this machine is."""
    monkeypatch.setattr(workspace_view, "_FIRST_LOOK_S", 90.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which runs are read, by name."""
    names: list[str] = []
    plain = runs_board._read

    def read(directory: Any, workspace: str) -> Any:
        names.append(directory.path.name)
        return plain(directory, workspace)

    monkeypatch.setattr(runs_board, "_read", read)
    monkeypatch.setattr(runs_board, "_SURE_S", 0.0)
    monkeypatch.setattr(runs_board, "_SHARE", 1e9)  # a run may be read again at once
    return names


def settled(board: RunsBoard) -> RunsBoard:
    """Look until nothing is left to be made sure of."""
    board.look(90)
    board.look(90)
    return board


def words(board: RunsBoard, key: str) -> list[str]:
    card = board.find(key)
    assert card is not None
    return [need.title for need in card.needs]


def state_of(runs: list[ms.Run]) -> dict[Path, tuple[int, ...]]:
    """Return what tells whether anything in some runs was changed."""
    paths = [path for run in runs for path in run.path.rglob("*")]
    return {path: (path.stat().st_ino, path.stat().st_size, path.stat().st_ctime_ns) for path in paths}


# -- what is read ------------------------------------------------------------------------------


def test_only_runs_that_changed_are_read_and_no_file_of_them_stays_open(tmp_path: Path, reads: list[str]) -> None:
    made = [make(tmp_path, f"r{number}") for number in range(5)]
    made[3].step()
    quiet = [run for run in made if run is not made[3]]
    before = state_of(quiet)
    board = settled(RunsBoard(tmp_path, "w"))
    assert [card.path.name for card in board.cards] == [f"r{number}" for number in range(5)]
    assert state_of(quiet) == before, "to look changes nothing"
    reads.clear()
    for run in quiet:
        run.store.close()
    assert not board.look(90)
    assert reads == []
    held = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert held.isdisjoint(os.path.realpath(run.path / "state.sqlite") for run in quiet)
    made[3].pause("lunch")
    news = board.look(90)
    assert ([card.key for card in news.changed], news.gone) == (["w/r3"], [])
    assert set(reads) == {"r3"}
    assert words(board, "w/r3") == ["lunch"]


def test_runs_come_and_go(tmp_path: Path, reads: list[str]) -> None:
    make(tmp_path, "first")
    board = settled(RunsBoard(tmp_path, "w"))
    other = make(tmp_path, "second")
    assert [card.key for card in board.look(90).changed] == ["w/second"]
    board.look(90)
    shutil.rmtree(other.path)
    assert board.look(90).gone == ["w/second"]
    assert [card.key for card in board.cards] == ["w/first"]
    # A run that is copied here gets its database after its folder.
    copied = tmp_path / "workspaces/w/runs/third"
    copied.mkdir()
    board.look(90)
    board.look(90)
    shutil.copytree(tmp_path / "workspaces/w/runs/first", copied, dirs_exist_ok=True)
    assert [card.key for card in board.look(90).changed] == ["w/third"]


def test_a_change_that_looks_like_the_one_before_is_seen_too(tmp_path: Path, reads: list[str]) -> None:
    run = make(tmp_path, "r")
    run.step()
    state = run.path / "state.sqlite"
    board = RunsBoard(tmp_path, "w")
    board.look(90)
    same = state.stat()
    with sqlite3.connect(state) as connection:
        connection.execute("UPDATE runs SET reason = 'at once'")
    connection.close()
    os.utime(state, ns=(same.st_atime_ns, same.st_mtime_ns))  # within one tick of the file system's clock
    assert state.stat().st_size == same.st_size
    assert [card.reason for card in board.look(90).changed] == ["at once"]


def test_a_damaged_run_is_a_row_that_says_so_and_is_seen_when_it_was_mended(tmp_path: Path, reads: list[str]) -> None:
    make(tmp_path, "good")
    state = make(tmp_path, "bad").path / "state.sqlite"
    whole = state.read_bytes()
    state.write_bytes(b"no database" * 100)
    board = settled(RunsBoard(tmp_path, "w"))
    bad = board.find("w/bad")
    assert bad is not None
    assert bad.status is None
    assert "not a readable database" in bad.reason
    state.write_bytes(whole)
    assert [(card.key, card.status) for card in board.look(90).changed] == [("w/bad", ms.RunStatus.PENDING)]


def test_runs_that_cannot_be_read_now_hold_up_no_other(tmp_path: Path) -> None:
    for number in range(3):
        make(tmp_path, f"r{number}")
    other = sqlite3.connect(tmp_path / "workspaces/w/runs/r1/state.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")  # another program has it locked
    board = RunsBoard(tmp_path, "w")
    while len(board.cards) < 2:
        board.look(0.1)
    assert [card.key for card in board.cards] == ["w/r0", "w/r2"]
    other.execute("ROLLBACK")
    other.close()
    assert [card.key for card in board.look(90).changed] == ["w/r1"]


def test_what_needs_a_person_is_said_and_no_longer_when_it_is_done(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, "r", ASKS)
    run.step()
    asks = make(tmp_path, "fails", ms.Task("a", "exit 1", on_failure="ask"))
    asks.wait(timeout_s=90)
    board = settled(RunsBoard(tmp_path, "w"))
    assert words(board, "w/r") == ["1 waits"]
    assert words(board, "w/fails") == ["1 waits"]
    run.respond("ask", {})  # a file says so, the database does not
    assert [card.key for card in board.look(90).changed] == ["w/r"]
    assert words(board, "w/r") == []
    run.wait(timeout_s=90)
    board.look(90)
    card = board.find("w/r")
    assert card is not None
    assert card.status is ms.RunStatus.COMPLETED
    # A copy is not trusted here, until somebody says so, which changes nothing in it.
    monkeypatch.setattr(runs_board, "_TRY_AGAIN_S", 0.0)
    copy = shutil.copytree(make(tmp_path, "made").path, tmp_path / "workspaces/w/runs/copy")
    settled(board)
    assert words(board, "w/copy") == ["not trusted here"]
    ms.trust(copy)
    board.look(90)
    assert words(board, "w/copy") == []


def test_all_workspaces_are_shown_where_none_is_named(tmp_path: Path) -> None:
    make(tmp_path, "r", workspace="one")
    make(tmp_path, "r", workspace="two")
    view = ms.watch(base_path=tmp_path)
    assert sorted(view.list.rows["rows"]) == ["one/r", "two/r"]
    with pytest.raises(ms.errors.RunNotFoundError, match="did you mean 'one'"):
        ms.watch("onee", tmp_path)


def test_looks_come_less_often_the_longer_nothing_changes(tmp_path: Path) -> None:
    make(tmp_path, "r")
    board, began = RunsBoard(tmp_path, "w"), time.monotonic()
    board.look(90)
    assert board.pause_s < 0.3 + (time.monotonic() - began) / 20, "longer only by what the look took"
    board._changed_at -= 3600
    assert board.pause_s == 1.5, "with the look itself, a change is seen within two seconds"


# -- what a page gets ---------------------------------------------------------------------------


def listen(view: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    sent: list[Any] = []
    monkeypatch.setattr(view.list, "send", sent.append)
    monkeypatch.setattr(view.list, "send_state", lambda key=None: sent.append(key))
    return sent


def tell(view: Any, **message: Any) -> None:
    view.list._heard(None, message, None)


def opened(view: Any, what: str, *keys: str) -> dict[str, Any]:
    """Open something as a page does, and wait until it is there."""
    there = threading.Event()

    def look(change: Any) -> None:
        if not change["new"]["busy"]:
            there.set()

    view.list.observe(look, "opened")
    tell(view, do=what, keys=list(keys))
    assert there.wait(90)
    for thread in threading.enumerate():
        if thread.name == "matterstack-opening":
            thread.join(90)  # until then it holds what was there before
    view.list.unobserve(look, "opened")
    found: dict[str, Any] = view.list.opened
    return found


def test_only_rows_that_changed_are_sent(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = [make(tmp_path, f"r{number:02}") for number in range(30)]
    made[7].step()
    view = ms.watch("w", tmp_path)
    settled(view.board)
    sent = listen(view, monkeypatch)
    made[7].pause()
    view.list.take(view.board.look(90))
    (message,) = sent
    assert list(message["patch"]["rows"]) == ["w/r07"]
    assert message["patch"]["rows"]["w/r07"]["status"] == "PAUSED"
    assert view.list.rows["rows"]["w/r07"]["status"] == "PAUSED", "a page that is opened later is not stale"
    view.list.take(view.board.look(90))
    assert len(sent) == 1, "nothing changed, nothing is sent"
    shutil.rmtree(made[8].path)
    view.list.take(view.board.look(90))
    assert sent[-1]["patch"] == {"number": 2, "rows": {}, "gone": ["w/r08"]}
    # A page that has missed something asks for all; one that has not gets nothing.
    tell(view, want=2)
    assert len(sent) == 2
    tell(view, want=1)
    assert sent[-1] == "rows"


@pytest.mark.parametrize(
    "message",
    [
        {"do": "run", "keys": ["w/../../etc"]},
        {"do": "run", "keys": "w/r"},
        {"do": "comparison", "keys": ["w/r"]},
        {"do": "run", "keys": [["w/r"], 7]},
        {"do": ["run"], "keys": ["w/r"]},
        {"change": {"rows": {}, "opened": {}, "asked": 7, "looks": []}},
        {"change": {"asked": {"text": 3, "status": [], "by": "no column", "down": "yes"}}},
        [],
        7,
    ],
)
def test_what_makes_no_sense_opens_and_changes_nothing(tmp_path: Path, message: Any) -> None:
    make(tmp_path, "r")
    view = ms.watch("w", tmp_path)
    view.list._heard(None, message, None)
    assert not view.slot.children
    assert (view.list.opened["kind"], view.list.opened["busy"]) == ("", False)
    assert list(view.list.rows["rows"]) == ["w/r"]
    assert view.list.asked == {"text": "", "status": "", "by": "run", "down": False}


def test_a_cockpit_that_is_closed_is_let_go(tmp_path: Path) -> None:
    make(tmp_path, "r", ms.Task("a", "true"), ASKS).step()
    make(tmp_path, "s")
    view = ms.watch("w", tmp_path)
    gc.collect()
    before = len(ipywidgets.widgets.widget._instances)
    said = opened(view, "run", "w/r")
    assert (said["kind"], said["keys"], said["said"]) == ("run", ["w/r"], "")
    (cockpit,) = view.slot.children
    assert cockpit.run.run_id == "r"
    gone = [weakref.ref(thing) for thing in (cockpit, cockpit.head, cockpit.dag, cockpit.table, cockpit.run)]
    del cockpit
    opened(view, "inbox", "w/r")
    (inbox,) = view.slot.children
    assert [form.asked.task_id for form in inbox.forms] == ["ask"]
    del inbox
    said = opened(view, "comparison", "w/r", "w/s")
    assert "In sum" in view.slot.children[0].value
    opened(view, "close")
    assert not view.slot.children
    gc.collect()
    assert [thing() for thing in gone] == [None] * 5
    assert len(ipywidgets.widgets.widget._instances) == before


def test_a_cockpit_whose_run_is_on_goes_on_when_another_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    make(tmp_path, "r", ms.Task("waits", f"cat {tmp_path}/gate"))
    make(tmp_path, "s")
    view = ms.watch("w", tmp_path)
    opened(view, "run", "w/r")
    (cockpit,) = view.slot.children
    cockpit.running = True
    assert opened(view, "run", "w/s")["kept"] == ["w/r"]
    assert opened(view, "run", "w/r")["kept"] == ["w/r"]
    assert view.slot.children == (cockpit,), "it is the same, and goes on"
    opened(view, "close")
    let_go = threading.Event()
    view.list.observe(lambda change: change["new"]["kept"] or let_go.set(), "opened")
    with open(tmp_path / "gate", "w") as gate:
        gate.write("on\n")
    assert let_go.wait(90), "the run is over, and nobody sees its cockpit"
    assert cockpit.run.status is ms.RunStatus.COMPLETED
    assert cockpit.comm is None


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    run = make(tmp_path, "r")
    view = ms.watch("w", tmp_path)
    (run.path / "config.json").write_text("{")
    said = opened(view, "run", "w/r")
    assert "config.json" in said["said"]
    assert not view.slot.children


def test_outside_a_page_no_thread_looks(tmp_path: Path) -> None:
    make(tmp_path, "r")
    view = ms.watch("w", tmp_path)
    names = [thread.name for thread in threading.enumerate()]
    assert "matterstack-workspace" not in names
    tell(view, here=True)
    assert "matterstack-workspace" in [thread.name for thread in threading.enumerate()]
    looker = view.list._looker
    view.list.close()
    looker.join(90)
    assert not looker.is_alive()


@pytest.mark.parametrize("form", ["html", "plain"])
def test_a_page_without_a_kernel_shows_the_same_and_runs_nothing_of_it(tmp_path: Path, form: str) -> None:
    make(tmp_path, "quiet")
    stopped = make(tmp_path, "stopped")
    stopped.step()
    stopped.pause(f"because of {EVIL}")
    broken = make(tmp_path, "broken")
    (broken.path / "state.sqlite").write_bytes(b"no database" * 100)
    view = ms.watch("w", tmp_path)
    shown = view._repr_mimebundle_()
    data = shown[0] if isinstance(shown, tuple) else shown
    text: str = data[f"text/{form}"]
    for said in ("3 runs, 1 needs you", "1 pending", "1 paused", "1 unreadable", "quiet", "0 of 2", "not a readable"):
        assert said in text
    assert (EVIL in text) == (form == "plain")


def test_watch_needs_no_trust_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "r", ms.Task("a", f"touch {tmp_path}/ran"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody-else"))
    view = ms.watch("w", tmp_path)
    opened(view, "run", "w/r")
    assert [need["words"] for need in view.list.rows["rows"]["w/r"]["needs"]] == ["not trusted here"]
    assert run.status is ms.RunStatus.PENDING
    assert not (tmp_path / "ran").exists()

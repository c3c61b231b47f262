"""The table answers in windows, whatever it is asked; the cockpit says what is true."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack.core.snapshot import IterationCounts, RunRecord
from matterstack.core.states import LIVE_ATTEMPT, AttemptStatus
from matterstack.notebook import progress, table_view
from matterstack.notebook.board import Board
from matterstack.notebook.standing import Standing, standing_data
from matterstack.notebook.statuses import BY_CODE
from matterstack.notebook.table_view import COLUMNS, WINDOW, Question, TableView
from matterstack.orchestration.overview import Overview
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import IterationRow

EVIL = "</script><img src=x onerror=alert(1)>"


def make(base: Path, *tasks: ms.Task) -> ms.Run:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators)


def shown(table: Any) -> list[str]:
    return [row[0] for row in table.window["rows"]]


def ask(table: Any, **asked: Any) -> None:
    change(table, asked={"first": 0, "number": "1", **asked})


def change(table: Any, **traits: Any) -> None:
    table._heard(None, {"change": traits}, None)


def text(html: str) -> str:
    return re.sub("<[^>]+>", "", html)


# -- the table -------------------------------------------------------------------------------


def test_a_page_gets_the_rows_around_those_in_sight_however_many_there_are(tmp_path: Path) -> None:
    run = make(tmp_path, *(ms.Task(f"t{n}", "true", group="odd" if n % 2 else None) for n in range(2000)))
    table = run.table()
    assert len(table.window["rows"]) == WINDOW
    assert table.window["total"] == 2000
    ask(table, first=1500, number="7")
    assert table.window["number"] == "7"
    first = table.window["first"]
    assert first < 1500 < first + WINDOW
    assert shown(table)[1500 - first] == "0.t1500"
    ask(table, first=10**9)
    assert shown(table)[-1] == "0.t1999"
    ask(table, by="task", down=True)
    assert shown(table)[:2] == ["0.t1999", "0.t1998"], "t10 comes after t2"
    ask(table, text="ODD")
    assert table.window["found"] == 1000
    assert shown(table)[:2] == ["0.t1", "0.t3"]
    ask(table, by="group")
    assert (shown(table)[0], table.window["found"]) == ("0.t1", 2000), "what has no value comes last"


def test_the_first_message_has_the_rows_of_a_window_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, Any]] = []
    plain_open = TableView.open

    def keep_and_open(table: TableView) -> None:
        opened.append(dict(table.window))
        plain_open(table)

    monkeypatch.setattr(TableView, "open", keep_and_open)
    statements: list[str] = []
    run = make(tmp_path, *(ms.Task(f"t{n}", "true", dependencies=[f"t{n - 1}"] if n else []) for n in range(1000)))
    run.store._connection().set_trace_callback(statements.append)
    run.table()
    (window,) = opened
    assert (len(window["rows"]), window["total"]) == (WINDOW, 1000)
    assert not [sql for sql in statements if "FROM dependencies" in sql], "a table holds no edges"


ROWS = 9
texts = st.none() | st.text("aZé1 ", max_size=4)
times = st.none() | st.floats(1, 9)
facts = st.lists(
    st.tuples(st.sampled_from(AttemptStatus), texts, st.floats(1, 9), times, times, st.none() | st.integers(-2, 2)),
    min_size=ROWS,
    max_size=ROWS,
)


@pytest.fixture(scope="module")
def some_run(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """A run whose tasks have an attempt each, of which any fact may be set."""
    names = ("t10", "t2", "T1", "b", "a-3", "a-20", "c", "x", "y")
    tasks = [ms.Task(name, "true", group="g" if n % 3 else None) for n, name in enumerate(names)]
    run = make(tmp_path_factory.mktemp("some"), *tasks)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        made = "INSERT INTO attempts (task, attempt, status, token, submitted_at)"
        connection.execute(f"{made} SELECT id, 1, 'RUNNING', id, 1 FROM tasks")
        connection.execute("UPDATE tasks SET attempts = 1")
    return run


def set_facts(run: ms.Run, facts: list[tuple[Any, ...]]) -> Board:
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for row, (status, reason, submitted, started, ended, code) in enumerate(facts, 1):
            live = status in LIVE_ATTEMPT
            task = "SUBMITTED" if live else "COMPLETED" if status == "COMPLETED" else "FAILED"
            connection.execute("UPDATE tasks SET status = ?, reason = ? WHERE id = ?", (task, reason, row))
            connection.execute(
                "UPDATE attempts SET status = ?, reason = ?, submitted_at = ?, started_at = ?, ended_at = ?, "
                "exit_code = ? WHERE task = ?",
                (str(status), reason, submitted, started, ended, code, row),
            )
    board = Board(run.store)
    board.refresh()
    return board


@settings(max_examples=60, deadline=None)
@given(facts, st.sampled_from([column.name for column in COLUMNS if column.name != "task"]), st.booleans())
def test_any_column_sorts_and_loses_no_task(some_run: ms.Run, facts: Any, by: str, down: bool) -> None:
    board = set_facts(some_run, facts)
    order = Question(by=by, down=down).answer(board)
    assert sorted(order) == list(range(ROWS))
    value = next(column.value for column in COLUMNS if column.name == by)
    values = [value(card) for card in board.cards(order)]
    some = [v for v in values if v is not None]
    assert values == some + [None] * (len(values) - len(some))
    assert some == sorted(some, reverse=down)


@settings(max_examples=60, deadline=None)
@given(facts, st.text("aZ1gl ", min_size=1, max_size=2), st.booleans())
def test_a_filter_finds_what_any_column_of_text_says(some_run: ms.Run, facts: Any, text: str, down: bool) -> None:
    board = set_facts(some_run, facts)
    question = Question.of({"text": text, "by": "took_s", "down": down})
    wanted = [
        card.name
        for card in board.cards(range(ROWS))
        for words in [(card.name, BY_CODE[card.code].name, card.operator, card.group or "", card.reason or "")]
        if any(question.text in word.lower() for word in words)
    ]
    assert sorted(card.name for card in board.cards(question.answer(board))) == sorted(wanted)


def test_names_are_sorted_by_their_numbers_also_in_parts(some_run: ms.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(some_run.store)
    board.refresh()
    monkeypatch.setattr(table_view, "_AT_ONCE", 2)
    up = [board.names[place] for place in Question(by="task").answer(board)]
    assert up == ["T1", "a-3", "a-20", "b", "c", "t2", "t10", "x", "y"]
    assert [board.names[place] for place in Question(by="task", down=True).answer(board)] == up[::-1]


def test_many_tasks_are_sorted_beside_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_view, "_MANY", 2)
    run = make(tmp_path, *(ms.Task(name, "true") for name in ("b", "a", "c")))
    gate = threading.Event()
    plain = StoreReader.tasks_sorted

    def held_up(store: StoreReader, by: str, *, down: bool = False) -> Any:
        assert gate.wait(60)
        return plain(store, by, down=down)

    monkeypatch.setattr(StoreReader, "tasks_sorted", held_up)

    async def scene() -> None:
        table = run.table()
        ask(table, by="since", number="1")  # returns at once, although the sort has not ended
        assert table.window["number"] == ""
        ask(table, by="task", number="2")
        gate.set()
        async with asyncio.timeout(60):
            while table.window["number"] != "2":
                await asyncio.sleep(0.01)
        assert shown(table) == ["0.a", "0.b", "0.c"], "what was asked last is what is shown"
        table.follower.task.cancel()

    asyncio.run(scene())


@pytest.mark.parametrize(
    "message",
    [
        {"change": {"asked": {"text": 3, "status": [], "by": "no column", "first": "x", "down": "yes"}}},
        {"change": {"asked": 7, "selected": 7, "columns": 7}},
        {"change": {"columns": [{"name": "no column", "width": 5}, {"name": "task", "width": "x", "shown": "yes"}, 7]}},
        {"change": {"columns": [{"name": column.name, "shown": False} for column in COLUMNS]}},
        {"change": {"window": {}, "places": [], "panel": "<b>", "no trait": 1}},
        {"change": []},
        [],
    ],
)
def test_what_makes_no_sense_changes_nothing(tmp_path: Path, message: Any) -> None:
    table = make(tmp_path, ms.Task("a", "true"), ms.Task("b", "true")).table()
    table._heard(None, message, None)
    assert shown(table) == ["0.a", "0.b"]
    assert sorted(column["name"] for column in table.columns) == sorted(column.name for column in COLUMNS)
    assert any(column["shown"] for column in table.columns)
    assert all(column["width"] >= 40 for column in table.columns)
    assert table.places == [column.name for column in COLUMNS]


def test_columns_keep_the_order_and_the_width_that_a_page_gave_them(tmp_path: Path) -> None:
    table = make(tmp_path, ms.Task("a", "true")).table()
    wanted = [{"name": "reason", "width": 1e9, "shown": True}, {"name": "task", "width": 1, "shown": True}]
    change(table, columns=wanted)
    assert [column["name"] for column in table.columns[:3]] == ["reason", "task", "status"]
    assert [column["width"] for column in table.columns[:2]] == [2000, 40]


def test_details_are_those_of_the_row_that_is_selected_and_change_with_it(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", f"echo '{EVIL}' >&2; exit 3", allow_failure=True))
    table = run.table()
    change(table, selected="0.a")
    assert "READY" in table.panel
    run.wait(timeout_s=180)
    table.follower.look()
    assert "FAILED" in table.panel
    assert "<img" not in table.panel
    change(table, selected="")
    assert (table.panel, table.panel_of) == ("", "")


def test_details_show_what_a_task_writes_as_it_writes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        os.mkfifo(tmp_path / name)
    run = make(tmp_path / "w", ms.Task("a", f"cat {tmp_path}/one; cat {tmp_path}/two"))
    table = run.table()
    change(table, selected="0.a")
    run.step()
    run.step()

    def write(name: str) -> None:
        (tmp_path / name).write_text(f"said {name}\n")
        deadline = time.monotonic() + 90
        written = run.task_directory("a") / "stdout.txt"
        while f"said {name}" not in written.read_text() and time.monotonic() < deadline:
            run.step()
        table.follower.look()

    write("one")
    assert "said one" in table.panel
    write("two")
    assert "said two" in table.panel
    run.wait(timeout_s=180)


def test_what_rows_are_among_is_looked_for_as_often_as_can_be_borne_and_rows_are_true_at_once(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"), ms.Task("b", "true"))
    table = run.table()
    ask(table, status="READY")
    table._find_again_at = time.monotonic() + 1000  # as if it took long
    run.wait(timeout_s=180)
    table.follower.look()
    assert {row[1] for row in table.window["rows"]} == {"COMPLETED"}
    assert table.window["found"] == 2
    table._find_again_at = 0.0
    table._find()
    assert table.window["found"] == 0


# -- the cockpit -----------------------------------------------------------------------------


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time of Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_journal_and_panel_have_the_time_of_this_machine_with_its_zone(tmp_path: Path, berlin: None) -> None:
    cockpit = make(tmp_path, ms.Task("a", "true")).watch()
    cockpit.run.wait(timeout_s=180)
    cockpit.dag.follower.look()
    cockpit.dag.selected = "0.a"
    wanted = r"<span title='\d{4}-(\S+ \S+) CES?T, \d{4}-(\S+ \S+) UTC'>(\S+ \S+)</span>"
    for html in (cockpit.journal.value, cockpit.dag.panel):
        found = re.search(wanted, html)
        assert found, html
        assert found[1] == found[3] != found[2]


def test_progress_counts_all_iterations_as_the_cockpit_does(tmp_path: Path) -> None:
    class Rounds(ms.Campaign):
        def initial_state(self) -> int:
            return 0

        def plan(self, state: Any) -> ms.Workflow | None:
            return ms.Workflow([ms.Task(f"t{n}", "true") for n in range(3 - state)]) if state < 2 else None

        def analyze(self, state: Any, results: Any) -> Any:
            return state + 1

    run = ms.initialize_run("w", Rounds(), base_path=tmp_path, operators={"local": ms.LocalOperator()})
    run.step()
    assert "all iterations" not in progress._line(run)
    run.wait(timeout_s=180)
    said = "iteration 1, 2 of 2 tasks over (2 completed); all iterations, 5 of 5 tasks over (5 completed)"
    assert said in progress._line(run)
    (everything, _) = run.watch().head.standing["before"]
    assert (everything["title"], everything["said"]) == ("all iterations", "5 of 5 tasks over (5 completed)")


def on(cockpit: Any) -> set[str]:
    return set(cockpit.head.on)


def test_buttons_are_on_where_they_would_do_something(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "exit 1", allow_failure=True), ms.Task("ask", operator="human", instructions="?"))
    cockpit = run.watch()

    def look() -> set[str]:
        cockpit.follower.look()
        return on(cockpit)

    assert look() == {"Step", "Run", "Cancel"}
    run.wait(timeout_s=180)
    assert look() == {"Step", "Run", "Cancel", "Pause", "Retry"}
    assert "needs a person" in cockpit.head.state
    cockpit.dag.selected = "0.ask"
    assert "Retry" not in on(cockpit)
    cockpit.dag.selected = "0.a"
    assert "Retry" in on(cockpit)
    ms.open_run(run.path).pause()  # no task changes with that
    assert look() == {"Step", "Run", "Resume", "Cancel", "Retry"}
    assert cockpit.head.standing["status"]["name"] == "PAUSED"
    assert "needs a person" not in cockpit.head.state
    run.cancel(timeout_s=180)
    assert look() == set()
    assert cockpit.head.standing["status"]["name"] == "CANCELLED"


def test_what_was_said_goes_when_it_is_true_no_more(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    cockpit = run.watch()
    run.step()
    cockpit._say(lambda: f"The run is {run.pause().status}.")
    cockpit.follower.look()
    assert "PAUSED" in cockpit.head.said
    run.resume()
    run.wait(timeout_s=180)
    cockpit.follower.look()
    assert cockpit.head.said == ""
    assert cockpit.head.standing["pace"] == "1 task"


def test_what_a_button_did_is_said_also_where_the_run_was_being_looked_at_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    cockpit = run.watch()
    run.step()
    pressed: list[bool] = []
    events_after = StoreReader.events_after

    def press_once(store: StoreReader, *asked: int) -> Any:
        """Have the button pressed when the status was read, and before it is shown."""
        if not pressed:
            pressed.append(cockpit._say(lambda: f"The run is {run.pause().status}."))
        return events_after(store, *asked)

    monkeypatch.setattr(StoreReader, "events_after", press_once)
    for _ in range(3):
        cockpit.follower.look()
    assert pressed == [True]
    assert cockpit.head.standing["status"]["name"] == "PAUSED"
    assert "PAUSED" in cockpit.head.said


def test_the_head_says_what_needs_somebody_and_leads_there(tmp_path: Path) -> None:
    bad = ms.Task("<b>bad</b>"[3:6], "echo '<i>no</i>' >&2; exit 1", allow_failure=True)
    ask = ms.Task("ask", operator="human", instructions="?", assignee="ada")
    run = make(tmp_path, bad, ask)
    cockpit = run.watch()
    assert cockpit.head.needs == []
    run.wait(timeout_s=180)
    cockpit.follower.look()
    failed, waits = cockpit.head.needs
    assert (failed["code"], failed["title"], failed["task"]) == ("F", "bad failed", "0.bad")
    assert (waits["title"], waits["text"], waits["tab"]) == ("1 waits for ada", "ask", "Inbox")
    cockpit.head._heard(None, {"go": {"task": "0.bad", "tab": ""}}, None)
    assert (cockpit.dag.selected, cockpit.tabs.selected_index) == ("0.bad", 0)
    assert "exit 1" in cockpit.dag.panel
    cockpit.head._heard(None, {"go": {"task": "", "tab": "Inbox"}}, None)
    assert cockpit.tabs.get_title(cockpit.tabs.selected_index) == "Inbox (1)"
    for nonsense in ({"go": {"task": 3, "tab": []}}, {"press": "Explode"}, {"press": None}, {"go": "x"}, "text"):
        cockpit.head._heard(None, nonsense, None)
    run.respond("ask", {})
    run.wait(timeout_s=180)
    cockpit.follower.look()
    assert [need["title"] for need in cockpit.head.needs] == ["bad failed"]


def test_a_button_that_is_off_does_nothing_whatever_a_page_says(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    cockpit = run.watch()
    cockpit.head._heard(None, {"press": "Resume"}, None)
    cockpit.head._heard(None, {"press": "Retry"}, None)
    run.wait(timeout_s=180)
    cockpit.follower.look()
    cockpit.head._heard(None, {"press": "Run"}, None)
    assert not cockpit.running
    assert cockpit.head.said == ""


def test_an_idle_cockpit_sends_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("ask", operator="human", instructions="?"))
    run.step()
    cockpit = run.watch()
    cockpit.follower.look()
    sent: list[Any] = []
    for widget in (cockpit.head, cockpit.dag, cockpit.table, cockpit.journal, cockpit):
        widget.observe(sent.append)
    cockpit._shown_at = 0.0
    for _ in range(5):
        cockpit.follower.look()
    assert sent == []


def test_run_goes_on_when_somebody_answered(tmp_path: Path) -> None:
    ask_ada = ms.Task("ask", operator="human", instructions="?", schema={"type": "object"})
    run = make(tmp_path, ask_ada, ms.Task("after", "true", dependencies=["ask"]))
    cockpit = run.watch()
    cockpit.running = True
    worker = cockpit._worker
    deadline = time.monotonic() + 90
    while not (cockpit._forms() and "goes on" in cockpit.head.state) and time.monotonic() < deadline:
        cockpit.follower.look()
        worker.join(0.02)
    assert "goes on by itself" in cockpit.head.state
    run.respond("ask", {})
    (form,) = cockpit._forms()
    form.over = "answered"  # as a form says that takes it
    worker.join(90)
    assert run.status is ms.RunStatus.COMPLETED
    assert not cockpit.running
    cockpit.follower.look()
    assert on(cockpit) == set()
    assert form.comm is None, "a form that is shown no more is let go"


def test_run_is_turned_off_while_it_waits_for_a_person(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("ask", operator="human", instructions="?"))
    cockpit = run.watch()
    cockpit.running = True
    worker = cockpit._worker
    cockpit.running = False
    worker.join(90)
    assert not worker.is_alive()
    run.cancel(timeout_s=180)


def standing(status: ms.RunStatus, *counts: IterationCounts, **about: Any) -> Standing:
    record = RunRecord("r", "w", status, None, 1000.0, len(counts) - 1, "")
    rows = [IterationRow(number, 1000.0 + 100 * number, None, count) for number, count in enumerate(counts)]
    return Standing(Overview(record, counts[-1], Path("/r")), rows, 1000.0, **about)


class Thinks(ms.Campaign):
    """Its first analysis takes until it is told to end."""

    thinks, may_end = threading.Event(), threading.Event()

    def initial_state(self) -> int:
        return 0

    def plan(self, state: int) -> ms.Workflow | None:
        return ms.Workflow([ms.Task("t", "true")]) if state < 3 else None

    def analyze(self, state: int, results: Any) -> int:
        self.thinks.set()
        assert self.may_end.wait(60)
        return state + 1


def test_run_that_is_turned_off_and_on_within_a_tick_goes_on(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Thinks(), base_path=tmp_path, operators={"local": ms.LocalOperator()})
    cockpit = run.watch()
    cockpit.running = True
    assert Thinks.thinks.wait(60)
    cockpit.running = False
    cockpit.running = True
    Thinks.may_end.set()
    assert cockpit._worker is not None
    cockpit._worker.join(60)
    assert run.status is ms.RunStatus.COMPLETED


def test_the_rest_is_estimated_by_what_the_iteration_took_so_far() -> None:
    half = IterationCounts(total=10, pending=3, ready=3, submitted=2, completed=5)
    done = IterationCounts(total=4, completed=4)
    running = standing(ms.RunStatus.RUNNING, done, half)
    assert running.counts.total == 14
    assert running.rest_s(1150.0) == pytest.approx(50.0)
    shown = standing_data(running._replace(rate=0.1), {"X": 2, "C": 5}, 1150.0)
    assert shown["pace"] == "6 tasks/min · about 50 s to the end of iteration 1"
    assert shown["before"][0]["said"].startswith("9 of 14 tasks over")
    assert shown["parts"] == [["C", 5], ["X", 2]]
    assert running._replace(waits=True).rest_s(1150.0) is None, "a person takes as long as it takes"
    assert standing(ms.RunStatus.PAUSED, half).rest_s(1150.0) is None
    over = standing(ms.RunStatus.COMPLETED, done, done, ended_at=4600.0)
    shown = standing_data(over, {}, 9999.0)
    assert (shown["pace"], shown["ended_at"] - shown["started_at"]) == ("8 tasks", 3600.0)

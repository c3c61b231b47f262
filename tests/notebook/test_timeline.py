"""The timeline without a browser: bars and their lanes, what is read and sent, what was spent, the picture."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import sqlite3
import threading
import time
import xml.etree.ElementTree as ElementTree
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack.core.states import AttemptStatus
from matterstack.errors import PlotError
from matterstack.notebook import bars as bars_module
from matterstack.notebook.bars import Bars, _Lanes, bars_of
from matterstack.notebook.board import News
from matterstack.notebook.statuses import COLOURS_OF_ATTEMPTS
from matterstack.notebook.timeline_picture import marks, timeline_html
from matterstack.notebook.timeline_view import TimelineView
from matterstack.orchestration.time_spent import BY, key_of

EVIL = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e"


def make(base: Path, *tasks: ms.Task, **settings: Any) -> ms.Run:
    operators = {"local": ms.LocalOperator(max_active=2), "human": ms.HumanOperator()}
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators, **settings)


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return a run with attempts that completed, failed and are tried again, and one that waits for a person."""
    run = make(
        tmp_path_factory.mktemp("over"),
        *(ms.Task(f"relax-{n}", "true", group=EVIL if n else None) for n in range(6)),
        ms.Task("bad", "[ $MATTERSTACK_ATTEMPT = 2 ] || exit 3", retries=1),
        ms.Task("ask", operator="human", instructions="?"),
    )
    run.wait(timeout_s=180)
    return run


def sent(view: TimelineView, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the messages that a view sends from now on, as they come."""
    found: list[Any] = []
    monkeypatch.setattr(view, "send", lambda said, buffers=None: found.append(said))
    return found


def show(view: TimelineView) -> None:
    """Have a view seen for the first time."""
    view._heard(view, {"shown": True}, [])
    for thread in threading.enumerate():
        if thread.name == "matterstack-timeline":
            thread.join(90)


def rows_of(news: str) -> dict[int, list[Any]]:
    return {row[0]: row for row in json.loads(news)["rows"]}


# -- the bars --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9) | st.none()), max_size=30))
@settings(deadline=None)
def test_no_bar_lies_over_another_and_no_lane_is_left_out(spans: list[tuple[int, int | None]]) -> None:
    lanes, at = _Lanes(), 0
    laid: list[tuple[int, float, int]] = []
    for gap, length in spans:
        at += gap
        lane = lanes.take(at)
        end = float("inf") if length is None else at + length
        assert all(other != lane or ended <= at for _, ended, other in laid), "it lies over another one"
        assert set(range(lane)) <= {other for _, ended, other in laid if ended > at}, "a lower lane was free"
        laid.append((at, end, lane))
        if length is not None:
            lanes.leave(lane, end)


def test_each_attempt_has_a_bar_whose_lane_overlaps_none_of_its_likes(over: ms.Run) -> None:
    bars = Bars(over.store)
    bars.refresh()
    shown = list(bars.bars.values())
    assert [f"{bar.task}.{bar.row.attempt}" for bar in sorted(shown, key=lambda bar: bar.row.id)] == list(
        over.attempts.index
    )
    for place, by in enumerate(BY):
        for one in shown:
            for other in shown:
                if one is not other and (key_of(one.row, by), one.lanes[place]) == (
                    key_of(other.row, by),
                    other.lanes[place],
                ):
                    first, then = sorted((one, other), key=lambda bar: bar.row.id)
                    assert (first.row.ended_at or float("inf")) <= then.row.submitted_at, by


def test_every_status_of_an_attempt_has_a_colour() -> None:
    assert set(COLOURS_OF_ATTEMPTS) == {str(status) for status in AttemptStatus}


def test_what_is_cleaned_or_packed_later_is_no_news(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    run.wait(timeout_s=180)
    bars = Bars(run.store)
    bars.refresh()
    before = bars.turn, bars.spent("operator", 0.0)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as there, there:
        there.execute("INSERT INTO events (at, task, attempt, event, status) VALUES (0, 1, 1, 'cleaned', 'COMPLETED')")
    bars.refresh()
    assert (bars.turn, bars.spent("operator", 0.0)) == before


def test_only_the_last_attempts_are_drawn_and_all_are_counted(over: ms.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars_module, "MOST_BARS", 3)
    monkeypatch.setattr(bars_module, "AT_ONCE", 2)
    bars = Bars(over.store)
    bars.refresh()
    said = bars.since(0, 0, 1.0)
    assert said["total"] == len(over.attempts)
    assert [row[0] for row in said["rows"]] == [len(over.attempts) - 2, len(over.attempts) - 1, len(over.attempts)]
    assert sum(spent.attempts for _, spent in bars.spent("operator", time.time())) == len(over.attempts)


def test_what_was_spent_is_that_of_the_table_however_often_it_is_asked(over: ms.Run) -> None:
    view = over.timeline()
    for by in BY:
        now = time.time()
        asked = [view.bars.spent(by, now) for _ in range(2)]
        assert asked[0] == asked[1], "what is under way is not added twice"
        table = over.time_spent(by)
        assert [key for key, _ in asked[0]] == list(table.index)
        assert [spent.attempts for _, spent in asked[0]] == list(table["attempts"])
        assert [spent.core_hours for _, spent in asked[0]] == pytest.approx(list(table["core_hours"]))


# -- what is read and sent -------------------------------------------------------------------


def test_a_change_sends_the_bars_that_changed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "gate")
    tasks = [ms.Task(f"t{n:03}", "true") for n in range(300)]
    run = make(tmp_path, *tasks, ms.Task("waits", f"read word < {tmp_path}/gate", dependencies=["t299"]))
    run.configure("local", max_active=8)
    while run.counts.completed < 300:
        run.step()
    view = run.timeline()
    with open(tmp_path / "gate", "w"):  # it runs
        while run.attempts["status"].iloc[-1] != "RUNNING":
            run.step()
        view.glance(News([], False))
        told = sent(view, monkeypatch)
        view.glance(News([], False))
        assert told == [], "nothing changed: its bar grows in the page"
    asked: list[str] = []
    query = type(run.store).query
    monkeypatch.setattr(type(run.store), "query", lambda self, sql, *rest: asked.append(sql) or query(self, sql, *rest))
    while run.status is ms.RunStatus.RUNNING:
        run.step()
    asked.clear()
    view.glance(News([], False))
    (news,) = told
    assert len(json.dumps(news)) < 400, "bytes of a change, of 301 bars"
    ((row, *_),) = [list(rows_of(news["bars"]).values())]
    assert row[1] == "0.waits"
    assert len(asked) <= 4, asked
    asked.clear()
    view.glance(News([], False))
    assert asked == [], "nothing is read when nothing changed"


def test_what_was_not_heard_can_be_asked_for(over: ms.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    view = over.timeline()
    told = sent(view, monkeypatch)
    view._heard(view, {"since": 0}, [])
    assert set(rows_of(told[0]["bars"])) == set(range(1, len(over.attempts) + 1))
    for lie in ({"since": view.bars.turn}, {"since": -1}, {"since": "x"}, {"since": None}, "since", {"since": 10**30}):
        view._heard(view, lie, [])
    assert len(told) == 1


def test_timelines_of_one_run_read_it_once(over: ms.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = over.timeline()
    asked: list[str] = []
    query = type(over.store).query
    monkeypatch.setattr(
        type(over.store), "query", lambda self, sql, *rest: asked.append(sql) or query(self, sql, *rest)
    )
    others = [over.timeline(by=by) for by in BY]
    assert asked == []
    assert {id(view.bars) for view in others} == {id(bars_of(first.follower))}


def test_a_cockpit_reads_attempts_when_its_timeline_is_first_seen(over: ms.Run) -> None:
    view = over.watch().timeline
    assert (view.bars, view.spent, view.twin_html()) == (None, {}, "")
    show(view)
    assert view.bars.total == len(over.attempts)
    assert view.spent["rows"]


def test_a_run_that_is_away_is_read_when_it_is_back(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    run.wait(timeout_s=180)
    view = run.watch().timeline
    away = run.path.rename(tmp_path / "away")
    show(view)
    assert view.bars is None
    away.rename(run.path)
    show(view)
    assert view.bars.total == 1


def test_a_page_chooses_by_what_and_nothing_that_makes_no_sense(over: ms.Run) -> None:
    view = over.timeline()
    view._heard(view, {"change": {"by": "iteration"}}, [])
    assert (view.by, view.spent["by"], view.spent["rows"][0][0]) == ("iteration", "iteration", "0")
    view._heard(view, {"change": {"by": "colour", "bars": "x", "spent": {}}}, [])
    assert (view.by, view.bars.total, view.spent["by"]) == ("iteration", len(over.attempts), "iteration")
    with pytest.raises(PlotError, match="by must be one of"):
        over.timeline("colour")


def test_a_click_tells_about_the_task(over: ms.Run) -> None:
    view = over.timeline()
    view._heard(view, {"change": {"selected": "0.bad"}}, [])
    assert "0.bad" in view.panel
    assert "exit code" in view.panel


def test_the_state_of_a_page_is_what_it_was_told_since(over: ms.Run) -> None:
    view = over.timeline()
    assert rows_of(view.get_state("bars")["bars"]) == {row[0]: row for row in view.bars.since(0, 0, 1.0)["rows"]}
    assert over.watch().timeline.get_state("bars")["bars"] == ""


def test_times_of_a_strangers_database_that_make_no_sense_disturb_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"), ms.Task("b", "true"))
    run.wait(timeout_s=180)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as there, there:
        there.execute("UPDATE attempts SET started_at = 'x', ended_at = 9e999 WHERE id = 1")
        there.execute("UPDATE attempts SET submitted_at = -9e999, ended_at = 1 WHERE id = 2")
    view = run.timeline()
    assert json.loads(view.get_state("bars")["bars"], parse_constant=pytest.fail)["total"] == 2
    ElementTree.fromstring(picture_of(view.twin_html()))


# -- without a kernel ------------------------------------------------------------------------


def picture_of(html: str) -> str:
    found = re.search("src='data:image/svg\\+xml;base64,([^']+)'", html)
    assert found is not None
    return base64.b64decode(found[1]).decode()


@pytest.mark.parametrize("by", BY)
def test_the_twin_is_a_picture_and_a_table(over: ms.Run, by: str) -> None:
    view = over.timeline(by)
    html = view.twin_html()
    assert "<script" not in html
    assert "<img src=x" not in html
    svg = ElementTree.fromstring(picture_of(html))
    sizes = [float(size) for size in re.findall(r"font-size='(\d+)'", picture_of(html))]
    assert min(sizes) >= 11
    texts = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"running", "waiting"} <= texts
    colours = {path.get("stroke") for path in svg.iter("{http://www.w3.org/2000/svg}path")}
    assert {COLOURS_OF_ATTEMPTS[status] for status in ("COMPLETED", "FAILED", "WAITING")} <= colours
    for key, spent in over.time_spent(by)["attempts"].items():
        assert f">{spent}</td>" in html, key
    text = view.twin_text().splitlines()
    assert text[0].split()[:3] == [by, "attempts", "failed"]
    assert len(text) == 1 + len(over.time_spent(by))


def test_the_last_mark_of_the_axis_is_not_cut_off(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("ask", operator="human", instructions="Go on?", schema=ms.Approve()))
    run.step()
    bars = Bars(run.store)
    bars.refresh()
    (bar,) = bars.bars.values()
    drawn = picture_of(timeline_html(bars, "function", (bar.row.submitted_at // 60 + 2) * 60))
    assert re.findall(r"<text x='(95\d)\.\d' y='12' text-anchor='(\w+)'", drawn) == [("952", "end")]


def test_a_run_without_attempts_says_so(tmp_path: Path) -> None:
    view = make(tmp_path, ms.Task("a", "true")).timeline()
    assert "Nothing was submitted yet." in view.twin_html()
    assert view.spent["rows"] == []


@given(st.floats(0, 4e9), st.floats(1e-3, 1e8))
@settings(deadline=None)
def test_the_axis_of_the_picture_has_some_marks_in_their_order(low: float, span: float) -> None:
    found = list(marks(low, low + span))
    assert len(found) <= 16
    assert all(low <= at <= low + span for at, _ in found)
    assert sorted(found) == found
    assert all(text != other for (_, text), (_, other) in itertools.pairwise(found))


def test_a_day_that_begins_is_written_on_the_axis() -> None:
    day = 86400.0
    assert [text for _, text in marks(19 * day - 3600, 22 * day)] == [
        "01-20",
        "12:00",
        "01-21",
        "12:00",
        "01-22",
        "12:00",
        "01-23",
    ]
    assert [text for _, text in marks(0.05, 0.5)] == [
        "00:00:00.1",
        "00:00:00.2",
        "00:00:00.3",
        "00:00:00.4",
        "00:00:00.5",
    ]

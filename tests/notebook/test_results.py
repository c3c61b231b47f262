"""What a campaign makes best is kept with the run; charts of results follow it, and read only what is new."""

from __future__ import annotations

import json
import random
from array import array
from pathlib import Path
from typing import Any

import pytest
from filled import APART_S, fill
from hypothesis import given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack import errors
from matterstack.notebook import columns
from matterstack.notebook.best import front_of
from matterstack.notebook.columns import AT_ONCE, Column, Columns
from matterstack.optimizers import pareto

EVIL = "</script><img src=x onerror=alert(1)>"


def gives(task_id: str, **data: Any) -> ms.Task:
    """Return a task whose result is this."""
    return ms.Task(task_id, f"cat > result.json <<'END'\n{json.dumps(data)}\nEND")


# -- what is to be made best -----------------------------------------------------------------


class Search(ms.Campaign):
    target = {"strength": "max", "cost": "min"}  # noqa: RUF012 (as one writes it)

    def plan(self, state: Any) -> ms.Workflow | None:
        return None if state else ms.Workflow([gives("a", strength=1, cost=2)])

    def analyze(self, state: Any, results: Any) -> Any:
        return {"over": True}


def test_a_colleague_sees_the_target_without_the_campaign(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Search(), base_path=tmp_path)
    assert run.target == {"strength": "max", "cost": "min"}
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "campaign": None}))
    assert dict(ms.open_run(run.path).target) == dict(run.target)
    flow = ms.Workflow([gives("a", strength=1)])
    assert ms.initialize_run("w", flow, base_path=tmp_path).target == {}
    assert ms.initialize_run("w", flow, base_path=tmp_path, config={"target": {"x": "min"}}).target == {"x": "min"}


@pytest.mark.parametrize(
    "target", ["strength", {"strength": "high"}, {"": "max"}, {7: "max"}, {"a": None}, ["a"], None]
)
def test_a_target_that_makes_no_sense_makes_no_run(tmp_path: Path, target: Any) -> None:
    campaign = Search()
    campaign.target = target
    with pytest.raises(errors.InvalidConfigError, match=r"Search\.target"):
        ms.initialize_run("w", campaign, base_path=tmp_path)
    with pytest.raises(errors.InvalidConfigError, match="config: target"):
        ms.initialize_run("w", Search(), base_path=tmp_path, config={"target": target})
    assert not list(tmp_path.iterdir())


# -- the points ------------------------------------------------------------------------------


def empty_run(base: Path, tasks: int, **config: Any) -> ms.Run:
    """Return a run of so many tasks, for `fill`."""
    flow = ms.Workflow([ms.Task(f"t{number}", "true") for number in range(tasks)])
    return ms.initialize_run("w", flow, base_path=base, config=config)


def numbers(content: bytes) -> list[float]:
    return list(array("d", content))


def change(view: Any, **traits: Any) -> None:
    view._heard(None, {"change": traits}, None)


def test_results_and_what_tasks_were_done_with_can_be_drawn(tmp_path: Path) -> None:
    run = ms.initialize_run(
        "w",
        ms.Workflow(
            [gives("a", gap=1.5, gas="air", ok=True), gives("b", gap=2, gas="N2", iteration=7), gives("c", x=[1])]
        ),
        base_path=tmp_path,
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    view = run.scatter("result", "gap", colour="gas")
    drawn = dict(zip(view.tasks, numbers(view.values["y"]), strict=True))
    assert {name: y for name, y in drawn.items() if y == y} == {"0.a": 1.5, "0.b": 2.0}
    assert sorted(view.values["words"]["colour"]) == ["N2", "air"]
    change(view, axes={"colour": ""})
    assert view.values["words"] == {}
    names = {column["name"]: column["kind"] for column in view.columns}
    assert names == {"gap": "number", "gas": "word", "iteration_": "number"} | dict.fromkeys(
        ("time", "result", "iteration"), "number"
    )
    assert set(names) - {"time", "result"} <= set(run.results.columns), "columns are called as in run.results"
    with pytest.raises(errors.PlotError, match=r"'gp'.*did you mean 'gap'"):
        run.scatter("time", "gp")
    with pytest.raises(errors.PlotError, match="best: 'gap' must be"):
        run.scatter("time", "gap", best={"gap": "up"})


def measure(T_K: float, gas: str = "air") -> dict[str, float]:
    return {"gap": T_K / 100}


def test_parameters_of_experiments_and_arguments_of_calls_are_columns(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("a", ms.task(measure), 300)
    flow.add("b", ms.task(measure), 400, gas="N2")
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    view = run.scatter("T_K", "gap", colour="gas")
    assert sorted(zip(numbers(view.values["x"]), numbers(view.values["y"]), strict=True)) == [(300, 3), (400, 4)]
    assert sorted(view.values["words"]["colour"]) == ["N2", "air"]


rows = st.lists(
    st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, 3.0]) | st.floats(-9, 9) | st.none()] * 2), min_size=1, max_size=12
)


class _Known(Columns):
    """Columns that are given, not read."""

    def __init__(self, found: list[tuple[float | None, float | None]]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        for place, pair in enumerate(found):
            self.names.append(f"0.t{place}")
            for name, value in zip("ab", pair, strict=True):
                self._given.setdefault(name, Column()).put(place, value)


@settings(max_examples=200, deadline=None)
@given(rows, st.sampled_from(["max", "min"]), st.sampled_from(["max", "min"]), st.integers(0, 12))
def test_the_front_of_what_comes_in_is_that_of_all(found: Any, of_a: str, of_b: str, before: int) -> None:
    data, goal = _Known(found), {"a": of_a, "b": of_b}
    known = front_of(data, goal, None, min(before, len(found)))
    places = front_of(data, goal, known, len(found)).places
    sign = {"max": 1, "min": -1}
    good = [(place, sign[of_a] * a, sign[of_b] * b) for place, (a, b) in enumerate(found) if None not in (a, b)]
    best = [place for place, a, b in good if not any(x >= a and y >= b and (x, y) != (a, b) for _, x, y in good)]
    assert places == best
    if good and any(a is not None for a, _ in found) and any(b is not None for _, b in found):
        table = [{"id": place, "a": a, "b": b} for place, (a, b) in enumerate(found)]
        up, down = ([name for name in goal if goal[name] == direction] for direction in ("max", "min"))
        assert list(pareto(table, maximize=up, minimize=down)["id"]) == best


def test_the_best_stand_out_and_lead_to_their_tasks(tmp_path: Path) -> None:
    run = empty_run(tmp_path, 5, target={"gap": "max", "cost": "min"})
    fill(run, [{"gap": 1, "cost": 1}, {"gap": 2, "cost": 3}, {"gap": 1.5, "cost": 4}, {"gap": 2, "cost": None}])
    view = run.scatter("cost", "gap")
    assert [row[0] for row in view.best["rows"]] == ["0.t1", "0.t0"]
    assert view.best["line"] == [(1, 1), (3, 1), (3, 2)], "stairs between the best"
    assert view.best["places"] == [1, 0]
    change(view, axes={"y": "result"})
    assert view.best["line"] == []
    assert [row[0] for row in view.best["rows"]] == ["0.t1", "0.t0"]
    assert run.scatter("cost", "gap", best={}).best["rows"] == []
    # One target over time: what was the best so far.
    view = run.scatter("time", "gap", best={"gap": "max"})
    assert [row[:2] for row in view.best["rows"]] == [["0.t1", "2"], ["0.t0", "1"]]
    assert view.best["line"] == [(APART_S, 1), (2 * APART_S, 1), (2 * APART_S, 2)]
    assert view.best["goes_on"]
    change(view, selected="0.t1")
    assert "0.t1" in view.panel


def test_only_new_results_are_read_and_sent_however_many_look(tmp_path: Path) -> None:
    run = empty_run(tmp_path, 300)
    gaps = [{"gap": number / 7, "cost": number % 7} for number in range(300)]
    fill(run, gaps[:200])
    views = [run.scatter("cost", "gap", best={"gap": "max", "cost": "min"}) for _ in range(10)]
    assert {len(view.data) for view in views} == {200}
    follower = views[0].follower
    statements: list[str] = []
    sent: list[int] = []
    changed: list[str] = []
    run.store._connection().set_trace_callback(statements.append)
    for view in views:
        view.send = lambda content, buffers=(): sent.append(len(json.dumps(content)) + sum(map(len, buffers)))
        view.observe(lambda change: changed.append(change["name"]))
    follower.look()
    assert not [sql for sql in statements if sql.startswith("WITH moved")]
    fill(run, gaps[200:203])
    follower.look()
    follower.look()
    asked = [sql for sql in statements if sql.startswith("WITH moved")]
    assert len(asked) == 2, "once what is new, and once that there is no more"
    assert len(sent) == 10, "each view sends its page one message"
    assert max(sent) < 400, f"three results of 203: {sent}"
    assert set(changed) <= {"best"}
    assert all(len(json.dumps(view.best)) < 3000 for view in views)
    # A page that is opened later asks for the rest, and one that knows all gets nothing of it again.
    messages: list[Any] = []
    views[0].send = lambda content, buffers=(): messages.append((content["more"], numbers(buffers[1])))
    views[0]._heard(None, {"after": {"number": views[0].values["number"], "count": 200}}, None)
    views[0]._heard(None, {"after": {"number": views[0].values["number"], "count": 203}}, None)
    assert [message["tasks"] for message, _ in messages] == [["0.t200", "0.t201", "0.t202"], []]
    assert messages[0][1] == [number / 7 for number in (200, 201, 202)]


def test_a_result_that_is_tried_again_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = ms.Workflow([gives("a", gap=1), ms.Task("ask", operator="human", schema={"type": "object"})])
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.wait(timeout_s=180)
    view = run.scatter("result", "gap")
    number = view.values["number"]
    assert (view.tasks, numbers(view.values["y"])) == (["0.a"], [1.0])
    run.retry("a", command="echo '{\"gap\": 2}' > result.json")
    for _ in range(3):
        view.follower.look()
    assert view.tasks == []
    run.wait(timeout_s=180)
    for _ in range(3):
        view.follower.look()
    assert (view.data.names, view._sent) == (["0.a"], 1)
    assert view.values["number"] > number
    change(view, axes={"y": "result"})
    change(view, axes={"y": "gap"})
    assert numbers(view.values["y"]) == [2.0]
    # What was done twice comes once, also where the two are read one after the other.
    monkeypatch.setattr(columns, "AT_ONCE", 1)
    data = Columns(run.store)
    assert [data.refresh() for _ in range(5)].count(True) == 3
    assert data.names == ["0.a"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(anything, min_size=1, max_size=5))
def test_whatever_results_hold_they_can_be_drawn(tmp_path_factory: pytest.TempPathFactory, results: list[Any]) -> None:
    run = empty_run(tmp_path_factory.mktemp("any"), len(results))
    fill(run, results)
    data = Columns(run.store)
    while data.refresh():
        pass
    assert len(data) == len(results)
    for name, kind in data.offered.items():
        column = data.column(name)
        assert column is not None
        assert column.kind == kind
        assert len(column.values(len(data))) == len(data)
        view = run.scatter("result", name, colour=name, best={name: "max"} if kind == "number" else {})
        view.twin_html(), view.twin_text()


def test_large_results_are_read_for_their_numbers_alone(tmp_path: Path) -> None:
    run = empty_run(tmp_path, 1)
    fill(run, [{"gap": 1.25, "positions": [[0.5] * 3] * 5000, "gas": "air"}])
    _, (row,) = run.store.given_after(0, 10)
    assert json.loads(row.data or "") == {"gap": 1.25, "gas": "air"}


@pytest.mark.parametrize(
    "message",
    [
        {"change": {"axes": {"x": "no column", "y": 7, "colour": [], "log_x": "yes"}}},
        {"change": {"axes": 7, "values": {}, "tasks": [], "best": {}, "columns": []}},
        {"after": {"number": 1, "count": -5}},
        {"after": {"number": 1, "count": "x"}},
        {"after": 7, "seen": {}},
        [],
    ],
)
def test_what_makes_no_sense_changes_nothing(tmp_path: Path, message: Any) -> None:
    run = empty_run(tmp_path, 2)
    fill(run, [{"gap": 1}, {"gap": 2}])
    view = run.scatter("result", "gap")
    before = (view.axes, view.tasks, view.values, view.best, view.columns)
    view._heard(None, message, None)
    assert (view.axes, view.tasks, view.values, view.best, view.columns) == before


def test_a_page_without_a_kernel_shows_points_and_the_best(tmp_path: Path) -> None:
    run = empty_run(tmp_path, 50, target={EVIL: "max"})
    random.seed(1)
    fill(run, [{EVIL: random.random(), "gas\x1b[31m": random.choice([EVIL, "N2"])} for _ in range(40)])
    view = run.scatter("time", EVIL, colour="gas\x1b[31m")
    html, text = view.twin_html(), view.twin_text()
    assert html.count("<circle") >= 40
    assert "<img" not in html
    assert "\x1b" not in html + text
    assert "currentColor" in html, "in the colours of its page, be it light or dark"
    best = max(run.results[EVIL])
    assert f"{best:.6g}" in text
    assert f"{best:.6g}" in html
    for name, axes in {"log": {"log_y": True}, "words": {"x": "gas\x1b[31m"}, "none": {"y": "result"}}.items():
        change(view, axes={**view.axes, **axes})
        assert view.twin_html().count("<circle") >= 40, name


# -- the cockpit -----------------------------------------------------------------------------


def tabs(cockpit: Any) -> list[str]:
    return [cockpit.tabs.get_title(number) for number in range(len(cockpit.tabs.children))]


def test_the_cockpit_of_a_run_with_a_target_shows_the_best_so_far(tmp_path: Path) -> None:
    run = empty_run(tmp_path, 4, target={"gap": "max"})
    cockpit = run.watch()
    assert tabs(cockpit)[-1] == "Results"
    assert cockpit.results.axes["y"] == "gap"
    assert cockpit.results.axes["x"] == "time"
    fill(run, [{"gap": 1}, {"gap": 3}, {"gap": 2}])
    cockpit.follower.look()
    assert [row[0] for row in cockpit.results.best["rows"]] == ["0.t1", "0.t0"]
    cockpit.results.selected = "0.t1"
    assert cockpit.dag.selected == cockpit.table.selected == "0.t1"
    bundle = cockpit._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "best so far: gap 3 (0.t1), of 3 results" in bundle["text/plain"]
    two = empty_run(tmp_path, 1, target={"gap": "max", "cost": "min"}).watch()
    assert (two.results.axes["x"], two.results.axes["y"]) == ("gap", "cost")


def test_without_a_target_the_cockpit_has_results_once_there_are_numbers(tmp_path: Path) -> None:
    run = empty_run(tmp_path, 4)
    cockpit = run.watch()
    fill(run, [{"note": "none"}])
    cockpit.follower.look()
    assert "Results" not in tabs(cockpit)
    fill(run, [{"gap": 1.5}, {"gap": 2.5}])
    cockpit.follower.look()
    assert tabs(cockpit)[-1] == "Results"
    assert len(cockpit.results.data) == 0, "nothing is read before somebody opens it"
    cockpit.results._heard(None, {"seen": True}, None)
    assert cockpit.results.axes["y"] == "gap"
    assert len(cockpit.results.tasks) == 3


def test_a_cockpit_reads_many_results_a_part_at_each_look(tmp_path: Path) -> None:
    run = empty_run(tmp_path, AT_ONCE + 5, target={"gap": "max"})
    fill(run, ({"gap": number} for number in range(AT_ONCE + 5)))
    cockpit = run.watch()
    assert len(cockpit.results.data) == AT_ONCE
    cockpit.follower.look()
    assert len(cockpit.results.data) == AT_ONCE + 5
    assert cockpit.results.best["rows"][0][0] == f"0.t{AT_ONCE + 4}"

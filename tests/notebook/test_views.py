"""What the views show, without a browser: the drawing, the twins, the panel, the table, the magics."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sqlite3
import time
import xml.etree.ElementTree as ElementTree
from contextlib import closing
from pathlib import Path
from typing import Any

import networkx
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack.errors import PlotError, RunStatusError, UnknownTaskError
from matterstack.notebook import board as board_module
from matterstack.notebook import follower, progress, views
from matterstack.notebook.board import Board
from matterstack.notebook.details import details_html
from matterstack.notebook.drawing import PAGE, Drawing, Room, Shape
from matterstack.notebook.grouping import MOST_NODES
from matterstack.notebook.layout import Layout, fold, lay_out, layers_of
from matterstack.notebook.pictures import glyph
from matterstack.notebook.statuses import RUN_LOOKS
from matterstack.notebook.structure_picture import structure_svg
from matterstack.orchestration import loop

EVIL = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e"


def make(base: Path, *tasks: ms.Task, **settings: Any) -> ms.Run:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators, **settings)


def some(base: Path) -> ms.Run:
    run = make(
        base,
        ms.Task("good", f"echo '{{\"note\": {json.dumps(EVIL)}}}' > result.json; echo '{EVIL}'", group="first"),
        ms.Task("bad", "exit 3", allow_failure=True, group="first"),
        ms.Task("after", "true", dependencies=["bad"]),
        ms.Task("ask", operator="human", instructions=EVIL, dependencies=["good"], assignee=EVIL),
    )
    run.wait(timeout_s=180)
    return run


# -- the drawing -----------------------------------------------------------------------------


@st.composite
def graphs(draw: Any) -> tuple[int, list[tuple[int, int]]]:
    size = draw(st.integers(1, 25))
    pairs = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)).filter(lambda pair: pair[0] < pair[1])
    return size, sorted(draw(st.sets(pairs, max_size=40))) if size > 1 else []


def layers(size: int, edges: list[tuple[int, int]]) -> list[int]:
    return layers_of(size, [before for before, _ in edges], [after for _, after in edges])


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_layers_are_the_same_in_whatever_order_edges_are_named(graph: tuple[int, list[tuple[int, int]]]) -> None:
    size, edges = graph
    wanted = [0] * size
    for before, after in sorted(edges, key=lambda edge: edge[1]):
        wanted[after] = max(wanted[after], wanted[before] + 1)
    assert layers(size, sorted(edges, key=lambda edge: edge[1])) == wanted
    assert layers(size, edges[::-1]) == wanted
    turned = [
        (size - 1 - before, size - 1 - after) for before, after in edges
    ]  # as a plan may name what comes first last
    assert layers(size, turned)[::-1] == wanted


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_edges_go_to_the_right_and_nodes_do_not_overlap(graph: tuple[int, list[tuple[int, int]]]) -> None:
    size, edges = graph
    layer = layers(size, edges)
    assert all(layer[a] < layer[b] for a, b in edges)
    layout = lay_out(layer, edges)
    assert [x for x, _ in layout.points] == layer
    for at in set(layer):
        rows = sorted(layout.points[node][1] for node in range(size) if layer[node] == at)
        assert all(b - a >= 0.999 for a, b in itertools.pairwise(rows))
    assert all(-1e-6 <= y <= layout.height - 1 + 1e-6 for _, y in layout.points)
    for (a, b), bends in zip(edges, layout.bends, strict=True):
        assert len(bends) == layer[b] - layer[a] - 1


def crossings(layout: Layout, edges: list[tuple[int, int]]) -> int:
    """Return how many pairs of edges cross between neighbouring layers."""
    found: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for (source, target), bends in zip(edges, layout.bends, strict=True):
        way = [layout.points[source], *bends, layout.points[target]]
        for (x1, y1), (x2, y2) in itertools.pairwise(way):
            found.setdefault((x1, x2), []).append((y1, y2))
    return sum(
        (a1 - b1) * (a2 - b2) < 0
        for pairs in found.values()
        for number, (a1, a2) in enumerate(pairs)
        for b1, b2 in pairs[:number]
    )


def test_a_graph_that_can_be_drawn_without_crossings_is() -> None:
    # Twelve chains whose tasks were added in another order.
    size = 36
    edges = [(i, 12 + (5 * i) % 12) for i in range(12)] + [(12 + (5 * i) % 12, 24 + (7 * i) % 12) for i in range(12)]
    assert crossings(lay_out(layers(size, edges), edges), edges) == 0


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(1, 5), st.integers(1, 6))
def test_a_folded_graph_is_as_wide_as_its_page_and_as_high_as_it_must_be(
    graph: tuple[int, list[tuple[int, int]]], columns: int, rows: int
) -> None:
    size, edges = graph
    layer = layers(size, edges)
    natural = lay_out(layer, edges)
    folded = fold(natural, edges, columns, rows)
    assert folded.width <= columns
    for column in {x for x, _ in folded.points}:
        inside = sorted(y for x, y in folded.points if x == column)
        assert all(b - a >= 0.999 for a, b in itertools.pairwise(inside)), "nodes do not overlap"
    assert all(-1e-6 <= y <= folded.height - 1 + 1e-6 for _, y in folded.points)
    assert folded.height < 2 * size, "and nothing is thrown far away"
    if natural.width <= columns and natural.height <= rows:
        assert folded is natural
    for (a, b), bends in zip(edges, folded.bends, strict=True):
        if folded is natural or not bends or bends[0][1] != folded.points[a][1]:
            continue
        # It goes around what is between: level or upright, and through no node.
        way = [(folded.points[a][0] + 0.79, folded.points[a][1]), *bends, folded.points[b]]
        for ends in itertools.pairwise(way):
            (left, right), (high, low) = map(sorted, zip(*ends, strict=True))
            assert left == right or high == low
            for x, y in folded.points:
                assert not (left < x + 0.78 and x < right and high < y + 0.36 and y - 0.36 < low)
    if len(set(layer)) <= columns:  # one band: edges still go to the right
        assert all(folded.points[a][0] < folded.points[b][0] for a, b in edges)


def pairs(count: int) -> list[ms.Task]:
    relax = [ms.Task(f"relax-{n}", "true") for n in range(count)]
    return relax + [ms.Task(f"bands-{n}", "true", dependencies=[f"relax-{n}"]) for n in range(count)]


def labels(drawing: Drawing) -> list[str]:
    return [node.label for node in drawing.nodes]


def test_what_has_no_room_is_drawn_in_groups_by_its_size_and_not_by_a_count(tmp_path: Path) -> None:
    board = Board(make(tmp_path, *pairs(24), ms.Task("compare", "true", dependencies=["bands-3"])).store)
    board.refresh()
    assert len(Drawing(Shape(board), "auto", (), room=Room(5, 16)).nodes) == 49
    for narrow in (Room(3, 16), Room(5, 8)):
        drawing = Drawing(Shape(board), "auto", (), room=narrow)
        assert labels(drawing) == ["relax", "bands", "compare"], "by the stem of names"
        assert drawing.fits
    for tasks, shown in (
        ([ms.Task(f"t{n}", "true", group=f"g{n % 4}") for n in range(99)], ["g0", "g1", "g2", "g3"]),
        ([ms.Task(f"t{n}", "true", dependencies=[f"t{n // 90 * 90 - 1}"] if n >= 90 else []) for n in range(270)],
         ["stage 0", "stage 1", "stage 2"]),
        ([ms.Task(f"g{n}", "true", group=f"g{n}") for n in range(99)], ["stage 0"]),
        ([ms.Task(f"t{n}", "true", dependencies=[f"t{n - 1}"] if n else []) for n in range(99)], ["t"]),
    ):  # fmt: skip
        board = Board(make(tmp_path, *tasks).store)
        board.refresh()
        assert labels(Drawing(Shape(board), "auto", ())) == shown


def test_the_last_iteration_is_drawn_finer_than_those_before(tmp_path: Path) -> None:
    run = ms.initialize_run(
        "w", Rounds(), base_path=tmp_path, operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    )
    run.wait(timeout_s=180)
    board = Board(run.store)
    board.refresh()
    assert len(Drawing(Shape(board), "auto", ()).nodes) == 7
    assert labels(Drawing(Shape(board), "auto", (), room=Room(1, 7))) == ["iteration 0", "b0", "b1", "good", "ask"]
    assert labels(Drawing(Shape(board), "auto", (), room=Room(1, 5))) == ["iteration 0", "bad", "good", "ask"]
    run.cancel(timeout_s=180)


def test_a_still_picture_can_be_read_whatever_the_size(tmp_path: Path) -> None:
    widest = PAGE.columns * 200
    for count in (1, 15, 150, 1100):
        run = make(tmp_path, *pairs(count))
        for collapse in ("auto", "tasks"):
            view = run.dag(collapse=collapse)
            view.room = [2, 3]  # of a narrow page, which is no reason for a picture to be narrow
            data = view._repr_mimebundle_()
            svg = (data[0] if isinstance(data, tuple) else data)["image/svg+xml"]
            picture = ElementTree.fromstring(svg)
            assert (float(picture.get("width", 0)), picture.get("font-size")) < (widest, "12")
            assert picture.get("viewBox") == f"0 0 {picture.get('width')} {picture.get('height')}"
            assert "max-" not in svg, "it is never made smaller"
            if count == 15 or (count, collapse) == (150, "tasks"):
                assert svg.count("<title>") == 1 + 2 * count, "each task is seen where there is room"
            assert float(picture.get("height", 0)) < (700 if collapse == "auto" else 2800)


def test_search_finds_tasks_in_closed_groups_and_opens_them(tmp_path: Path) -> None:
    run = make(tmp_path, *(ms.Task(f"t{n}", "true") for n in range(MOST_NODES + 600)))
    view = run.dag()
    sent: list[Any] = []
    view.send = sent.append
    assert [node["key"] for node in view.graph["nodes"]] == ["0:t"]
    for text, found in (("T17", 111), ("no such", 0)):
        view._heard(None, {"find": text}, None)
        assert sent.pop() == {"find": text, "found": found, "inside": {"0:t": found} if found else {}}
    view._heard(None, {"open": "t1234"}, None)
    assert view.selected == "0.t1234"
    assert "t1234" in view.panel
    assert view.panel_of == "0.t1234"
    alone = [node for node in view.graph["nodes"] if node["single"]]
    assert len(alone) == 500, "a group that is too large to be drawn opens into ranges"
    assert {node["inside"] for node in alone} == {"0:t#1000"}
    assert next(node["shown"] for node in view.graph["nodes"] if not node["single"]) == "t0 … t499 (500)"
    assert [entry["label"] for entry in view.graph["opened"]] == ["t", "t1000 … t1499"]
    for start in (0, 500, 1500):
        view.expanded = [*view.expanded, f"0:t#{start}"]
    view.expanded = [*view.expanded, "0:t#2000"]
    assert len(view.graph["nodes"]) == 1503, "no more than can be drawn: what was opened first is closed"
    assert [entry["key"] for entry in view.graph["opened"]] == ["0:t", "0:t#500", "0:t#1500", "0:t#2000"]
    assert "closed again" in view.graph["note"]
    view._heard(None, {"open": "nothing like it"}, None)
    view._heard(None, {"find": 3, "open": [], "show": {}}, None)
    view._heard(None, {"show": "0.t7"}, None)
    assert view.selected == "0.t7"


def test_large_graphs_are_collapsed_unless_one_asks(tmp_path: Path) -> None:
    tasks = [ms.Task(f"t{i}", "true", group=f"g{i % 7}") for i in range(MOST_NODES + 1)]
    run = make(tmp_path, *tasks)
    board = Board(run.store)
    board.refresh()
    assert len(Drawing(Shape(board), "auto", ()).nodes) == 7
    assert len(Drawing(Shape(board), "iteration", ()).nodes) == 1
    every = Drawing(Shape(board), "tasks", ())
    assert len(every.nodes) == 7
    assert "cannot be drawn" in every.note
    opened = Drawing(Shape(board), "group", ("0:g3",))
    assert len(opened.nodes) == 6 + len([t for t in tasks if t.group == "g3"])
    state = Drawing(Shape(board), "group", ()).state()
    assert sum(sum(parts.values()) for parts in state["parts"].values()) == len(tasks)


def test_the_graph_is_a_networkx_graph_with_all_that_the_table_says(tmp_path: Path) -> None:
    run = some(tmp_path)
    graph = run.graph
    assert isinstance(graph, networkx.DiGraph)
    assert list(graph) == list(run.tasks.index)
    assert set(graph.edges) == {("0.bad", "0.after"), ("0.good", "0.ask")}
    for name, row in run.tasks.iterrows():
        shown = {key: value for key, value in row.items() if not pd.isna(value)}
        node = graph.nodes[str(name)]
        assert {key: value for key, value in node.items() if key in shown} == shown
        assert set(node) == {*run.tasks.columns, "group"}
    assert graph.nodes["0.good"]["group"] == "first"
    assert [name for name, status in graph.nodes(data="status") if status == "FAILED"] == ["0.bad"]
    graph.remove_node("0.bad")
    assert "0.bad" in run.graph, "each is a new one"


def test_any_part_of_the_graph_is_drawn_and_goes_on_being_live(tmp_path: Path) -> None:
    run = make(tmp_path, *(ms.Task(f"t{n}", "true", dependencies=[f"t{n - 1}"] if n else []) for n in range(5)))
    part = networkx.subgraph_view(run.graph, filter_node=lambda name: name != "0.t2")
    view = run.dag(part)
    assert [node["key"] for node in view.graph["nodes"]] == ["0.t0", "0.t1", "0.t3", "0.t4"]
    assert [(edge["from"], edge["to"]) for edge in view.graph["edges"]] == [(0, 1), (2, 3)]
    assert view.state["counts"] == {"R": 1, "B": 3}
    assert "t2" not in view.twin_text()
    assert "t2" not in view.drawing.svg()
    run.wait(timeout_s=180)
    view.follower.look()
    assert view.state["codes"] == "CCCC"
    other = networkx.DiGraph([("0.t0", "0.t4")])
    assert [(edge["from"], edge["to"]) for edge in run.dag(other).graph["edges"]] == [(0, 1)]
    assert len(run.dag(collapse="iteration").graph["nodes"]) == 1
    with pytest.raises(UnknownTaskError, match=r"'0\.t9'"):
        run.dag(networkx.DiGraph([("0.t0", "0.t9")]))


# -- twins and panels ------------------------------------------------------------------------


def test_every_view_has_a_static_twin_that_escapes(tmp_path: Path) -> None:
    run = some(tmp_path)
    view = run.dag()
    ElementTree.fromstring(view.drawing.svg())  # well-formed
    for shown in (view, run.table(), run.watch(), run.inbox()):
        bundle = shown._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        assert "<img src=x" not in data["text/html"]
        assert "\x1b" not in data["text/html"] + data["text/plain"]
        assert "\u202e" not in data["text/html"] + data["text/plain"]
        assert any(word in data["text/plain"] for word in ("waiting", "RUNNING"))
    data = view._repr_mimebundle_()
    assert (data[0] if isinstance(data, tuple) else data)["image/svg+xml"].startswith("<svg")


def test_the_panel_says_all_about_a_task(tmp_path: Path) -> None:
    run = some(tmp_path)
    view = run.dag()
    view.selected = "0.good"
    for text in ("COMPLETED", "stdout.txt", "result.json", "before", "ask", "&lt;img", "note"):
        assert text in view.panel
    assert "<img" not in view.panel
    view.selected = "0.after"
    assert "bad failed" in view.panel
    view.selected = "0.bad"
    assert "exit code 3" in view.panel
    view.selected = "nothing like it"
    assert view.panel == ""


def test_the_panel_says_of_each_attempt_how_it_ended_and_nothing_twice(tmp_path: Path) -> None:
    tries = "test -e ../0.a.2 && { echo later >&2; exit 4; }; echo sooner >&2; exit 3"
    run = make(tmp_path, ms.Task("a", tries, retries=1))
    run.wait(timeout_s=180)
    panel = run.dag()
    panel.selected = "0.a"
    assert panel.panel.count("exit code 3; stderr ends with: sooner") == 1
    assert panel.panel.count("exit code 4; stderr ends with: later") == 1


def test_the_panel_of_a_group_says_what_is_in_it_and_follows(tmp_path: Path) -> None:
    run = make(
        tmp_path,
        *(ms.Task(f"a{n}", "true", group=EVIL) for n in range(60)),
        ms.Task("z", "exit 3", group=EVIL, allow_failure=True),
    )
    view = run.dag(collapse="group")
    view.selected = f"0:{EVIL}"
    for text in ("61 tasks", "61 <small", "READY", "0.a0", "and 21 more"):
        assert text in view.panel
    assert "<img" not in view.panel
    run.wait(timeout_s=180)
    view.follower.look()
    assert "1 <small" in view.panel
    assert "exit code 3" in view.panel
    assert view.panel.index("0.z") < view.panel.index("0.a0"), "what failed comes first"
    view.expanded = [f"0:{EVIL}"]
    assert (view.selected, view.panel) == ("", ""), "the group is gone: its tasks are there"


def test_output_that_grows_is_shown_as_it_grows(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = make(tmp_path, ms.Task("a", f"echo $((6 * 7000)); cat {gate}; printf '\\074img' >&2; cat {gate}"))
    view = run.dag()
    view.selected = "0.a"
    run.step()

    def shows(text: str) -> None:
        until = time.monotonic() + 90
        while text not in view.panel and time.monotonic() < until:
            view.follower.look()
        assert text in view.panel

    shows("SUBMITTED")
    shows("42000")  # while no step is made, and the store says nothing
    gate.write_text("on")
    shows("&lt;img")
    assert "<img" not in view.panel
    assert "SUBMITTED" in view.panel
    run.cancel(timeout_s=180)
    shows("CANCELLED")


def test_waiting_lets_views_follow_between_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that waits for a long command holds up the loop on which views follow: they are served twice a second."""
    monkeypatch.setattr(progress.Progress, "show", lambda self, report: None)  # what is seen is seen between ticks
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = make(tmp_path, ms.Task("a", f"echo $((6 * 7000)); cat {gate}"))
    view = run.dag()
    view.selected = "0.a"
    seen: list[float] = []

    def go_on(change: Any) -> None:
        if "42000" in change["new"] and not seen:
            seen.append(time.monotonic())
            gate.write_text("on")

    view.observe(go_on, "panel")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert seen, "what was written was shown before the end"
    assert "COMPLETED" in view.panel


def test_the_panel_is_up_to_date_when_an_iteration_begins(tmp_path: Path) -> None:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    run = ms.initialize_run("w", Rounds(), base_path=tmp_path, operators=operators)
    view = run.dag()
    view.selected = "0.b0"
    assert "READY" in view.panel
    while run.iteration == 0:
        run.step()
        loop.sleep(run._session, 1.0)
    view.follower.look()  # the tasks of the next iteration come together with the news of this one
    assert "FAILED" in view.panel
    assert "READY" not in view.panel
    run.cancel(timeout_s=180)


def test_a_structure_in_a_result_is_drawn() -> None:
    from ase.build import bulk
    from ase.io.jsonio import encode

    copper = bulk("Cu", cubic=True)
    picture = structure_svg({"relaxed": json.loads(encode(copper))})
    assert "alt='Cu4'" in picture
    assert structure_svg({"text": encode(copper)}).startswith("<img")
    site = {"species": [{"element": "Si", "occu": 1}], "xyz": [0, 0, 0]}
    lattice = {"matrix": [[3, 0, 0], [0, 3, 0], [0, 0, 3]]}
    assert "alt='Si'" in structure_svg({"s": {"@class": "Structure", "lattice": lattice, "sites": [site]}})
    for wrong in ({"numbers": "x", "positions": [], "cell": 3}, {"@class": "Structure", "lattice": 1, "sites": [EVIL]}):
        assert structure_svg({"s": wrong}) == ""


def grown(edge_A: float) -> dict[str, Any]:
    from ase.build import bulk

    return {"crystal": bulk("Al", cubic=True, a=edge_A), "edge_A": edge_A}


def test_the_panel_draws_a_structure_that_a_function_returned(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("grown", grown, 4.05)
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    board = Board(run.store)
    board.refresh()
    panel = details_html(run, board, "0.grown")
    assert "alt='Al4'" in panel
    assert "edge_A" in panel
    value = run.file("grown", "value.json")
    for wrong in ("{", '{"@": "atoms"}', '{"value": {"@": "atoms", "arrays": 1, "cell": []}}', "[" * 9_000):
        value.write_text(wrong)
        panel = details_html(run, board, "0.grown")
        assert "edge_A" in panel
        assert "<img" not in panel


# -- the cockpit -----------------------------------------------------------------------------


class Rounds(ms.Campaign):
    """Two iterations with tasks of the same names."""

    def initial_state(self) -> Any:
        return 0

    def plan(self, state: Any) -> ms.Workflow | None:
        bad = [ms.Task(f"b{n}", "exit 1", group="bad", allow_failure=True) for n in range(2)]
        ask = ms.Task("ask", operator="human", instructions="?")
        good = ms.Task("good", "true", group="good")
        return ms.Workflow([*bad, good, *([ask] if state else [])]) if state < 2 else None

    def analyze(self, state: Any, results: Any) -> Any:
        return state + 1


def test_retry_acts_on_what_is_selected_and_says_what_it_did(tmp_path: Path) -> None:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    run = ms.initialize_run("w", Rounds(), base_path=tmp_path, operators=operators)
    run.wait(timeout_s=180)
    assert run.iteration == 1
    cockpit = run.watch()

    def press(selected: str) -> str:
        cockpit.dag.selected = selected
        cockpit._say(cockpit._retry)
        return str(cockpit.head.said)

    before = dict(run.tasks["status"])
    assert "0.b0 cannot be retried: iteration 0 is over" in press("0.b0")
    assert dict(run.tasks["status"]) == before, "and not its namesake"
    assert press("1.b0") == "Retried 1.b0. The run is RUNNING."
    assert list(run.tasks.loc[["1.b0", "1.b1"], "status"]) == ["PENDING", "FAILED"]
    cockpit.follower.look()
    cockpit.dag.collapse = "group"
    assert "no task of 1:good has failed" in press("1:good")
    assert press("1:bad") == "Retried 1.b1. The run is RUNNING."
    run.wait(timeout_s=180)
    cockpit.follower.look()
    assert press("") == "Retried 1.b0, 1.b1. The run is RUNNING."
    cockpit.follower.look()
    assert "no task of the current iteration has failed" in press("")
    run.cancel(timeout_s=180)


@pytest.mark.parametrize(
    "data",
    [
        '{"numbers": ['
        + "6," * 39_999
        + '6], "positions": ['
        + "[0,0,0]," * 39_999
        + '[0,0,0]], "cell": [[1,0,0],[0,1,0],[0,0,1]]}',
        '{"numbers": [6], "positions": [[1e400, 0, 0]], "cell": [[1,0,0],[0,1,0],[0,0,1]]}',
        '{"numbers": {"__ndarray__": [[1000000000000], "int64", [1]]}, "positions": [], "cell": []}',
        '{"numbers": {"__ndarray__": 7}, "positions": 7, "cell": 7}',
        '{"numbers": [99999], "positions": [[0, 0, 0]], "cell": null}',
        '{"numbers": ["C"], "positions": [["x", 0, 0]], "cell": [[1,0,0],[0,1,0],[0,0,1]]}',
        "[" * 20_000 + "]" * 20_000,
        "not JSON",
        '{"@class": "Structure", "lattice": {"matrix": "x"}, "sites": [{"species": [{"element": "C"}], "xyz": [0]}]}',
    ],
    ids=lambda text: text[:40],
)
def test_a_panel_shows_any_data_that_a_strangers_database_holds(tmp_path: Path, data: str) -> None:
    run = make(tmp_path, ms.Task("a", "echo '{\"x\": 1}' > result.json"))
    run.wait(timeout_s=180)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        connection.execute("UPDATE attempts SET data = ?", (data,))
    view = ms.open_run(run.path).dag()
    began = time.process_time()
    view.selected = "0.a"
    assert time.process_time() - began < 20, "the kernel is not held up"
    assert "COMPLETED" in view.panel


# -- following -------------------------------------------------------------------------------


def test_a_view_is_patched_with_what_changed_and_reads_nothing_when_nothing_did(tmp_path: Path) -> None:
    run = make(tmp_path, *(ms.Task(f"t{i}", "true") for i in range(50)))
    dag, table = run.dag(), run.table()
    assert dag.state["counts"] == {"R": 50}
    drawn = dag.graph
    sent: list[Any] = []
    table.observe(sent.append, "window")
    other = ms.open_run(run.path)
    while other.step().status is not ms.RunStatus.COMPLETED:
        loop.sleep(other._session, 1.0)
    statements: list[str] = []
    run.store._connection().set_trace_callback(statements.append)
    dag.follower.look()
    assert dag.state["codes"] == "C" * 50
    assert dag.graph is drawn, "a change of status draws nothing anew"
    assert len(sent) == 1
    assert {row[1] for row in table.window["rows"]} == {"COMPLETED"}
    statements.clear()
    for _ in range(20):
        dag.follower.look()
    assert statements == ["PRAGMA data_version"] * 20
    assert len(sent) == 1


def test_a_board_is_read_in_parts_and_holds_once_what_tasks_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "_AT_ONCE", 7)
    after = {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(50)}
    run = make(tmp_path, *(ms.Task(name, "true", group="of many", dependencies=after[name]) for name in after))
    board = Board(run.store)
    assert board.refresh().grown
    assert [card.name for card in board.cards(range(50))] == [f"0.t{i}" for i in range(50)]
    assert len(set(map(id, board.operators))) == 1
    assert len(set(map(id, board.groups))) == 1
    assert list(zip(*board.edges, strict=True)) == [(place, place + 1) for place in range(49)]
    run.step()
    news = board.refresh()
    assert ([card.name for card in news.changed], news.grown) == (["0.t0"], False)
    assert [board.find("0.t49")] == board.cards([49])
    assert board.find("1.t49") is board.find("t49") is None


def test_a_graph_is_drawn_once_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawings: list[Drawing] = []
    monkeypatch.setattr(views, "Drawing", lambda *given: drawings.append(Drawing(*given)) or drawings[-1])
    view = make(tmp_path, ms.Task("a", "true", group="g"), ms.Task("b", "true", group="g")).dag(collapse="group")
    view._repr_mimebundle_()
    assert len(drawings) == 1
    view._heard(None, {"change": {"collapse": "tasks", "expanded": []}}, None)
    assert len(drawings) == 2
    assert {node["key"] for node in view.graph["nodes"]} == {"0.a", "0.b"}
    view._heard(None, {"change": {"collapse": "no such", "expanded": 7, "room": ["x"], "graph": {}}}, None)
    assert len(drawings) == 2


def test_a_view_follows_on_the_loop_and_stops_when_nobody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_EVERY_S", 0.01)
    run = make(tmp_path, ms.Task("a", "true"))

    async def scene() -> None:
        view = run.dag()
        task = view.follower.task
        assert task is not None
        await asyncio.to_thread(ms.open_run(run.path).wait)
        async with asyncio.timeout(90):
            while view.state["codes"] != "C":
                await asyncio.sleep(0.01)
            monkeypatch.setattr(follower, "_ABANDONED_S", 0.0)
            await task
        monkeypatch.setattr(follower, "_ABANDONED_S", 60.0)
        view._heard(None, {"here": True}, None)
        assert not view.follower.task.done(), "a page that shows it again starts it again"
        view.follower.task.cancel()

    asyncio.run(scene())


def test_the_runs_of_a_workspace_have_bars(tmp_path: Path) -> None:
    run = some(tmp_path)
    runs = ms.runs("w", base_path=tmp_path)
    html = runs._repr_html_()
    assert run.run_id in html
    assert "aria-label='progress'" in html
    assert glyph(RUN_LOOKS[run.status]) in html, "its status has a glyph"
    assert "3 of 4" in html
    assert list(runs.query("status == 'RUNNING'")["run_id"]) == [run.run_id]


def test_the_timeline_has_a_bar_an_attempt(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    run = some(tmp_path)
    axes = run.plot_timeline()
    assert len(axes.patches) == 2 * len(run.attempts)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.ask.1", "0.good.1", "0.bad.1"]
    axes.figure.draw_without_rendering()
    legend = axes.get_legend()
    assert {text.get_text() for text in legend.get_texts()} == {"not begun", "waiting", "completed", "failed"}
    assert not legend.get_window_extent().overlaps(axes.get_window_extent()), "it stands over no bar"
    assert axes.figure.bbox.fully_overlaps(legend.get_window_extent())
    assert make(tmp_path, ms.Task("a", "true")).plot_timeline().patches[:] == []
    matplotlib.pyplot.close("all")


class Strengths(ms.Campaign):
    """Two results an iteration: 3 and 1, 5 and 2, 4 and 0; beside each a task that gives something else."""

    def initial_state(self) -> Any:
        return [(3, 1), (5, 2), (4, 0)]

    def plan(self, state: Any) -> ms.Workflow | None:
        if not state:
            return None
        first, then = (f"echo '{{\"strength\": {value}}}' > result.json" for value in state[0])
        other = 'echo \'{"note": "x", "ok": true}\' > result.json'
        return ms.Workflow([ms.Task("a", first), ms.Task("b", then, dependencies=["a"]), ms.Task("c", other)])

    def analyze(self, state: Any, results: Any) -> Any:
        return state[1:]


def test_the_best_so_far_is_drawn_by_time_by_result_and_by_iteration(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    run = ms.initialize_run("w", Strengths(), base_path=tmp_path)
    with pytest.raises(PlotError, match="no result has a column 'strength'"):
        run.plot("strength")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED

    def drawn(**how: Any) -> list[list[tuple[float, float]]]:
        return [[(float(x), float(y)) for x, y in line.get_xydata()] for line in run.plot("strength", **how).lines]

    each, best = drawn(by="result")
    assert [y for _, y in each] == [3, 1, 5, 2, 4, 0]
    assert best == [(1, 3), (2, 3), (3, 5), (4, 5), (5, 5), (6, 5)]
    assert drawn(by="result", best="min")[1] == [(1, 3), (2, 1), (3, 1), (4, 1), (5, 1), (6, 0)]
    each, best = drawn(by="iteration")
    assert each == [(0, 3), (0, 1), (1, 5), (1, 2), (2, 4), (2, 0)]
    assert best == [(0, 3), (1, 5), (2, 5)]
    took = run.attempts.query("task_id != 'c'")["ended_at"] - run.attempts["submitted_at"].min()
    assert [x for x, _ in drawn()[0]] == pytest.approx(took.dt.total_seconds().to_list())
    axes = run.plot("strength")
    assert run.plot("strength", best="min", axes=axes) is axes
    for asked, words in (
        ({"name": "strenght"}, "did you mean 'strength'"),
        ({"name": "note"}, "holds no numbers"),
        ({"name": "ok"}, "holds no numbers"),
        ({"name": "strength", "best": "most"}, "'max', 'min', not 'most'"),
        ({"name": "strength", "by": "day"}, "'time', 'result', 'iteration', not 'day'"),
    ):
        with pytest.raises(PlotError, match=words):
            run.plot(**asked)
    matplotlib.pyplot.close("all")


def test_a_failed_task_is_no_dot_and_one_from_the_cache_is(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    give = "echo '{\"$^$\": 2.5}' > result.json"
    for _ in range(2):  # the second takes it from the cache
        run = make(
            tmp_path, ms.Task("a", give), ms.Task("b", "exit 1", allow_failure=True), cache=ms.Cache(tmp_path / "c")
        )
        run.wait(timeout_s=180)
        axes = run.plot("$^$")
        assert [len(line.get_xydata()) for line in axes.lines] == [1, 1]
        axes.figure.savefig(tmp_path / "drawn.png")
    assert run.tasks.loc["0.a", "cached"]
    matplotlib.pyplot.close("all")


def test_the_magic_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # of another environment, it would be warned about
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    ms.load_ipython_extension(shell)
    shell.user_ns["mine"] = make(tmp_path, ms.Task("a", "true"))
    assert re.fullmatch(r"Tick: 1 tasks ready, 1 submitted, 0 completed", repr(shell.run_line_magic("ms", "step")))
    assert "RUNNING" in repr(shell.run_line_magic("ms", "status mine"))
    assert "is RUNNING" in repr(shell.run_line_magic("ms", "explain"))
    for line, says in (("dance", "takes one of"), ("step nobody", "no run called"), ("step a b", "takes one of")):
        with pytest.raises(RunStatusError, match=says):
            shell.run_line_magic("ms", line)
    shell.user_ns["other"] = make(tmp_path, ms.Task("a", "true"))
    with pytest.raises(RunStatusError, match="which run"):
        shell.run_line_magic("ms", "step")
    shell.user_ns["mine"].wait(timeout_s=180)


def test_the_name_of_a_group_is_escaped_in_the_drawing(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true", group="<img src=x>"))
    svg = run.dag(collapse="group").drawing.svg()
    ElementTree.fromstring(svg)
    assert "<img" not in svg
    assert "&lt;img" in svg


def test_a_run_is_shown_in_a_kernel_whose_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert str(run.path) in repr(run)
    assert str(run.path) in run._repr_html_()
    for view in (run.explain(), run.dag(), run.table(), run.watch(), run.inbox(), ms.runs("w", tmp_path)):
        assert repr(view)

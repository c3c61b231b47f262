"""Python Workflow Definitions are read, run, and written, and come back as they were."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from no_skips import NOT_REQUIRED

import matterstack as ms
from matterstack.errors import ExportError, WorkflowError

DEFINITION = Path(__file__).parent / "data" / "definition.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def scaled(length: float, factor: float = 2.0) -> dict[str, float]:
    return {"length": _product(length, factor)}


def _product(one: float, other: float) -> float:
    return one * other


def _read(where: Path, plain: Any) -> ms.Workflow:
    (where / "definition.json").write_text(json.dumps(plain))
    return ms.exchange.read_workflow_definition(where / "definition.json")


def _said(workflow: ms.Workflow) -> dict[str, Any]:
    return {task.task_id: task.call.arguments["kwargs"] for task in workflow if task.call}


def test_a_definition_is_run_with_the_module_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "definition_functions", raising=False)
    workflow = ms.exchange.read_workflow_definition(DEFINITION, {"strain": 1.0}, retries=1)
    assert "definition_functions" not in sys.modules
    assert sorted(workflow.graph.edges) == [("energy", "result"), ("strained", "energy"), ("strained", "fmean")]
    run = ms.initialize_run("springs", workflow, base_path=tmp_path)
    assert run.wait() is ms.RunStatus.COMPLETED, run.reason
    assert run.value("result") == pytest.approx(3.6**2)
    assert run.value("fmean") == pytest.approx(5.4)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    workflow = ms.exchange.read_workflow_definition(DEFINITION)
    written = ms.exchange.write_workflow_definition(tmp_path / "again.json", workflow)
    assert sorted(file.name for file in written) == ["again.json", "definition_functions.py"]
    assert (tmp_path / "definition_functions.py").read_bytes() == DEFINITION.with_name(
        "definition_functions.py"
    ).read_bytes()
    assert _said(ms.exchange.read_workflow_definition(tmp_path / "again.json")) == _said(workflow)


def test_functions_of_a_notebook_become_modules(tmp_path: Path) -> None:
    flow = ms.Workflow()
    first = flow.add("first", scaled, 1.5)
    flow.add("second", scaled, first["length"], factor=3)
    ms.exchange.write_workflow_definition(tmp_path / "springs.json", flow)
    run = ms.initialize_run(
        "springs", ms.exchange.read_workflow_definition(tmp_path / "springs.json"), base_path=tmp_path
    )
    assert run.wait() is ms.RunStatus.COMPLETED, run.reason
    assert run.value("result") == run.value("scaled-2") == {"length": 9.0}
    assert "matterstack" not in (tmp_path / "springs_scaled.py").read_text()


@given(st.lists(st.tuples(st.integers(0, 9), st.text("ab", min_size=1, max_size=2), JSON), min_size=1, max_size=8))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=50
)
def test_any_graph_comes_back(tmp_path: Path, steps: list[tuple[int, str, Any]]) -> None:
    nodes: list[Any] = [{"id": n, "type": "function", "value": f"math.{name}"} for n, (_, name, _) in enumerate(steps)]
    edges: list[Any] = []
    for number, (before, name, value) in enumerate(steps):
        if before < number:
            edges.append({"target": number, "targetPort": "x", "source": before, "sourcePort": name})
        nodes.append({"id": 100 + number, "type": "input", "name": f"in {number}", "value": value})
        edges.append({"target": number, "targetPort": name, "source": 100 + number, "sourcePort": None})
    nodes.append({"id": 200, "type": "output", "name": "out"})
    edges.append({"target": 200, "targetPort": None, "source": len(steps) // 2, "sourcePort": None})
    workflow = _read(tmp_path, {"version": "1.0.0", "nodes": nodes, "edges": edges})
    target = tmp_path / "again.json"
    target.unlink(missing_ok=True)
    plain = all("@" not in str(value) for _, _, value in steps)
    try:
        ms.exchange.write_workflow_definition(target, workflow)
    except ExportError:
        assert not plain
        return
    assert _said(ms.exchange.read_workflow_definition(target)) == _said(workflow)


@given(st.sampled_from(["id", "type", "value", "name", "target", "source", "sourcePort", "targetPort"]), JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_any_value_anywhere_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    plain = json.loads(DEFINITION.read_text())
    for part in (*plain["nodes"], *plain["edges"]):
        if key in part:
            before, part[key] = part[key], value
            with contextlib.suppress(WorkflowError):
                assert len(_read(tmp_path, plain)) <= 4
            part[key] = before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plain: plain.pop("edges"), "lists of nodes and edges"),
        (lambda plain: plain["nodes"][1].update(id=0), "no number of its own"),
        (lambda plain: plain["nodes"][0].update(type="while"), "node 0 is of the type 'while'"),
        (lambda plain: plain["nodes"][0].update(value="os;x.y"), "function node 0 .* module.function"),
        (lambda plain: plain["nodes"][3].pop("value"), r"input node 3 \(length\) has no value: pass inputs="),
        (lambda plain: plain["edges"][0].update(source=77), "no node 77 as its source"),
        (lambda plain: plain["edges"][0].update(sourcePort="x"), r"input node 3 \(length\) has no item 'x'"),
        (lambda plain: plain["edges"].append(plain["edges"][0]), "function node 0 .* two edges"),
        (lambda plain: plain["edges"].pop(), r"output node 5 \(result\): no edge"),
        (lambda plain: plain["edges"][0].update(source=1), "wait for each other"),
    ],
)
def test_what_cannot_be_run_names_the_node(tmp_path: Path, change: Any, said: str) -> None:
    plain = json.loads(DEFINITION.read_text())
    change(plain)
    with pytest.raises(WorkflowError, match=said):
        _read(tmp_path, plain)


def test_what_cannot_be_said_names_the_task(tmp_path: Path) -> None:
    for task, said in [
        (ms.Task("run", "true"), "'run' .* calls no function"),
        ({"length": [ms.Workflow().reference("first")]}, "'second' .* holds a value of a task"),
        ({"length": 1 + 2j}, "'second' .* no plain JSON"),
        ({"length": ms.Workflow().reference("first")[0]}, "'second' .* no port can name"),
        (ms.task(scaled, dependencies=["first"]), "'second' .* does not take"),
    ]:
        flow = ms.Workflow()
        flow.add("first", scaled, 1.0)
        if isinstance(task, ms.Task):
            flow.add_task(task)
        elif isinstance(task, dict):
            flow.add("second", scaled, **task)
        else:
            flow.add("second", task, 1.0)
        with pytest.raises(ExportError, match=said):
            ms.exchange.write_workflow_definition(tmp_path / "new.json", flow)
    (tmp_path / "there_scaled.py").write_text("mine")
    with pytest.raises(ExportError, match="is there already"):
        ms.exchange.write_workflow_definition(tmp_path / "there.json", _one())
    assert os.listdir(tmp_path) == ["there_scaled.py"]


def test_a_port_of_an_input_is_an_item_of_its_value(tmp_path: Path) -> None:
    plain = json.loads(DEFINITION.read_text())
    plain["nodes"][3]["value"] = {"start": 3.6, "end": 4.0}
    for edge in plain["edges"]:
        if edge["source"] == 3:
            edge["sourcePort"] = "start"
    assert _said(_read(tmp_path, plain)) == _said(ms.exchange.read_workflow_definition(DEFINITION))


def _one() -> ms.Workflow:
    flow = ms.Workflow()
    flow.add("first", scaled, 1.0)
    return flow


def test_two_functions_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    def made(factor: float) -> Any:
        def stretched(length: float) -> float:
            return length * factor

        return stretched

    flow = ms.Workflow()
    flow.add("first", made(2.0), 1.0)
    ms.exchange.write_workflow_definition(tmp_path / "2 lengths.json", flow)
    assert _said(ms.exchange.read_workflow_definition(tmp_path / "2 lengths.json")) == {
        "stretched": {"function": "workflow_2_lengths_stretched.stretched", "arguments": {"length": 1.0}},
        "result": {"function": "", "arguments": {"value": {"@": "reference", "task": "stretched", "at": []}}},
    }
    flow.add("second", made(3.0), 1.0)
    with pytest.raises(ExportError, match=r"'second' .* another module both_stretched.py"):
        ms.exchange.write_workflow_definition(tmp_path / "both.json", flow)
    assert not (tmp_path / "both.json").exists()


def test_the_example_of_its_own_repository_runs(tmp_path: Path) -> None:
    arithmetic = Path(__file__).parent / "data" / "python-workflow-definition" / "workflow.json"
    run = ms.initialize_run("arithmetic", ms.exchange.read_workflow_definition(arithmetic), base_path=tmp_path)
    assert run.wait() is ms.RunStatus.COMPLETED, run.reason
    assert run.value("result") == (1 * 2 + 1 / 2) ** 2
    again = ms.exchange.write_workflow_definition(
        tmp_path / "again.json", ms.exchange.read_workflow_definition(arithmetic)
    )
    assert (tmp_path / "workflow.py").read_bytes() == arithmetic.with_name("workflow.py").read_bytes()
    assert _said(ms.exchange.read_workflow_definition(again[0])) == _said(
        ms.exchange.read_workflow_definition(arithmetic)
    )


def test_what_is_written_is_read_and_run_by_its_own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    purepython = pytest.importorskip(
        "python_workflow_definition.purepython", reason=f"{NOT_REQUIRED}python-workflow-definition is not installed"
    )
    flow = ms.Workflow()
    first = flow.add("first", scaled, 1.5)
    flow.add("second", scaled, first["length"], factor=3)
    flow.add("third", scaled, first["length"])
    ms.exchange.write_workflow_definition(tmp_path / "springs.json", flow)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = purepython.load_workflow_json(str(tmp_path / "springs.json"))
    del sys.modules["springs_scaled"]
    run = ms.initialize_run("springs", flow, base_path=tmp_path)
    assert run.wait() is ms.RunStatus.COMPLETED, run.reason
    assert found in (run.value("second"), run.value("third"))  # it gives that of the function which it called last

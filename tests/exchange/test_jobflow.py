"""Flows of jobflow are read without jobflow, and run by it; what comes out is what jobflow's own store has."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from no_skips import NOT_REQUIRED

import matterstack as ms
from matterstack.errors import WorkflowError

FLOW = Path(__file__).parent / "data" / "jobflow-0.4.0.json"
STEPS = """
from dataclasses import dataclass

from jobflow import Flow, Job, Maker, Response, job
from jobflow.core.reference import OnMissing
from pydantic import BaseModel
from pymatgen.core import Lattice, Structure


class Result(BaseModel):
    structure: Structure
    volume: float


@dataclass
class Grow(Maker):
    name: str = "grow"
    by: float = 1.1

    @job(data="structure", output_schema=Result)
    def make(self, structure):
        grown = structure.copy().scale_lattice(structure.volume * self.by)
        return Result(structure=grown, volume=grown.volume)


@job
def ratio(grown, volume):
    return Response(output={"ratio": grown.volume / volume, "grown": grown})


@job
def fails():
    raise ValueError("no convergence")


@job
def goes_on(there, missing):
    return [there, missing]


@job
def replaces():
    return Response(replace=ratio(1, 2))


def copper():
    return Structure(Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])


def flow():
    grow = Grow(by=1.2).make(copper())
    grow._kwargs = {}  # run_locally of the comparison has no store of that name
    last = ratio(grow.output.structure, copper().volume)
    return Flow([Flow([grow], name="inner"), last])


def broken():
    before, wrong = Job(abs, (-1,), name="before"), fails()
    last = goes_on(before.output, wrong.output)
    last.config.on_missing_references = OnMissing.NONE
    return Flow([before, wrong, last])
"""


@pytest.fixture
def plain() -> Any:
    return json.loads(FLOW.read_text())


def _run(flow: Any, where: Path, **options: Any) -> ms.Run:
    run = ms.initialize_run("foreign", ms.exchange.read_jobflow(flow, **options), base_path=where)
    run.wait()
    return run


def test_a_flow_is_read_without_jobflow() -> None:
    workflow = ms.exchange.read_jobflow(FLOW)
    assert {task.task_id: set(task.upstream) for task in workflow} == {
        "add": set(),
        "scale": {"add"},
        "parts": {"scale"},
        "mean-of-all": {"add", "scale", "parts"},
        "add-2": {"mean-of-all", "parts"},
    }
    assert workflow["scale"].tags == ("small example",)


def test_jobs_of_a_linear_flow_wait_for_each_other(plain: Any) -> None:
    plain["order"] = "linear"
    plain["jobs"][0]["jobs"][1]["function_args"] = [3, 4]
    waits = {task.task_id: set(task.upstream) for task in ms.exchange.read_jobflow(plain)}
    assert waits["scale"] == {"add"}  # the inner flow is linear, and nothing else joins the two
    assert waits["parts"] == {"scale"}
    assert waits["add-2"] == {"mean-of-all", "parts"}


def test_options_are_those_of_all_tasks() -> None:
    workflow = ms.exchange.read_jobflow(FLOW, operator="slurm", retries=2)
    assert {(task.operator, task.retries) for task in workflow} == {("slurm", 2)}


def test_nothing_that_a_flow_names_is_imported(plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wicked_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = plain["jobs"][0]["jobs"][0]
    first["function"]["@module"] = "wicked_module"
    first["function_args"] = [{"@module": "wicked_module", "@class": "Thing"}]
    ms.exchange.read_jobflow(plain)
    assert "wicked_module" not in sys.modules


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job, flow: job.update(uuid=None), "'add' has no uuid"),
        (lambda job, flow: job.update(function=None), "'add' .* names no function"),
        (lambda job, flow: job["function"].update({"@module": "__main__"}), "'add' .* a module that is installed"),
        (lambda job, flow: job["config"].update(expose_store=True), "'add' .* as arguments"),
        (lambda job, flow: job["metadata"].update(tags=[3]), r"'add' .* metadata\['tags'\]"),
        (lambda job, flow: job["metadata"].update(tags={"a": 1}), r"'add' .* metadata\['tags'\]"),
        (lambda job, flow: flow["jobs"].append(job), "two jobs .* have the uuid"),
        (lambda job, flow: flow["jobs"][0]["jobs"].pop(0), "'scale' .* not in the flow: put that job"),
        (lambda job, flow: flow["jobs"].append(3), "no flow and no job"),
        (lambda job, flow: flow.update({"@class": "DecoratedFlow"}), "made by @flow"),
        (lambda job, flow: flow.update(order="any"), "'sums' .* order"),
        (lambda job, flow: flow.update(jobs=None), "'sums' has no list of jobs"),
    ],
)
def test_what_cannot_be_done_names_the_job(plain: Any, change: Any, said: str) -> None:
    change(plain["jobs"][0]["jobs"][0], plain)
    with pytest.raises(WorkflowError, match=said):
        ms.exchange.read_jobflow(plain)


def test_a_file_that_is_no_flow_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flow.json").write_text("[" * 100_000)
    for path in (tmp_path / "flow.json", tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(WorkflowError, match="cannot be read as the JSON of a flow"):
            ms.exchange.read_jobflow(path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_PLACES = st.sampled_from(
    ["@module", "@class", "uuid", "name", "function", "function_args", "config", "metadata", "hosts", "jobs", "order"]
)


@given(_PLACES, _JSON, st.integers(0, 3))
def test_any_value_anywhere_is_read_or_refused(key: str, value: Any, which: int) -> None:
    plain = copy.deepcopy(json.loads(FLOW.read_text()))
    inner = plain["jobs"][0]
    [plain, inner, inner["jobs"][0], plain["jobs"][1]][which][key] = value
    try:
        workflow = ms.exchange.read_jobflow(plain)
    except WorkflowError:
        return
    assert len(workflow) <= 5


# -- with jobflow ----------------------------------------------------------------------------------


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for package in ("jobflow", "pymatgen"):
        pytest.importorskip(package, reason=f"{NOT_REQUIRED}{package} is not installed")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "steps.py").write_text(STEPS)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield __import__("steps")
    del sys.modules["steps"]


def _expected(flow: Any) -> dict[str, Any]:
    """Return what jobflow's store has of each job when jobflow runs the flow by itself."""
    from jobflow import JobStore, run_locally
    from maggma.stores import MemoryStore

    store = JobStore(MemoryStore())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what jobflow uses of monty is deprecated there
        run_locally(flow, store=store)
    return {job["name"]: job["output"] for job in store.query()}


def test_the_example_gives_what_jobflow_gives(tmp_path: Path) -> None:
    flow_class = pytest.importorskip("jobflow", reason=f"{NOT_REQUIRED}jobflow is not installed").Flow
    run = _run(FLOW, tmp_path)
    assert run.status == ms.RunStatus.COMPLETED, run.reason
    expected = _expected(flow_class.from_dict(json.loads(FLOW.read_text())))
    assert [run.value(name) for name in ("scale", "parts", "mean-of-all")] == [
        expected[name] for name in ("scale", "parts", "mean of all")
    ]
    assert run.value("add-2") == expected["add"]  # of two jobs of one name, the later


def test_makers_structures_and_schemas_come_through(steps: Any, tmp_path: Path) -> None:
    from monty.json import MontyDecoder

    flow = steps.flow()
    plain = json.loads(json.dumps(flow.as_dict()))
    plain["jobs"][0]["jobs"][0]["data"] = "structure"  # a store for large outputs
    run = _run(plain, tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")})
    assert run.status == ms.RunStatus.COMPLETED, run.reason
    expected = _expected(flow)
    assert run.value("ratio")["ratio"] == pytest.approx(1.2)
    assert {name: run.value(name) for name in expected} == expected
    assert MontyDecoder().process_decoded(run.value("grow")).structure.volume == run.value("grow")["volume"]


def test_a_job_that_can_do_without_goes_on(steps: Any, tmp_path: Path) -> None:
    flow = steps.broken()
    run = _run(flow.as_dict(), tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")})
    assert run.status == ms.RunStatus.FAILED
    assert run.value("goes_on") == [1, None]


def test_a_job_that_changes_the_flow_fails_and_says_so(steps: Any, tmp_path: Path) -> None:
    run = _run(steps.replaces().as_dict(), tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")})
    assert run.status == ms.RunStatus.FAILED
    error = json.loads(run.file("replaces", "error.json").read_text())
    assert error["type"] == "NotImplementedError"
    assert "'replaces'" in error["message"]
    assert "Response(replace=...)" in error["message"]
    assert "Campaign" in error["message"]

"""Flows of jobflow are read without jobflow, and run by it; what comes out is what jobflow's own store has."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from no_skips import NOT_REQUIRED

import matterstack as ms
from matterstack.errors import WorkflowError

DATA = Path(__file__).parent / "data"
FLOW = DATA / "jobflow-0.4.0.json"
STEPS = """
from dataclasses import dataclass
from enum import Enum

from jobflow import Flow, Job, Maker, Response, job
from jobflow.core.reference import OnMissing
from pydantic import BaseModel
from pymatgen.core import Lattice, Structure


class Result(BaseModel):
    structure: Structure
    volume: float


class Lattices(Enum):
    KEPT = "kept"
    SCALED = "scaled"


@dataclass
class Grow(Maker):
    name: str = "grow"
    by: float = 1.1
    lattices: Lattices = Lattices.KEPT  # which as_dict() leaves as it is

    @job(data="structure", output_schema=Result)
    def make(self, structure):
        assert self.lattices is Lattices.SCALED
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


def copper():
    return Structure(Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])


def flow():
    grow = Grow(by=1.2, lattices=Lattices.SCALED).make(copper())
    grow._kwargs = {}  # run_locally of the comparison has no store of that name
    last = ratio(grow.output.structure, copper().volume)
    return Flow([Flow([grow], name="inner"), last])


@job
def gives_nothing():
    pass


@job
def kinds(*given):
    return [type(one).__name__ for one in given]


def broken():
    before, wrong, nothing = Job(abs, (-1,), name="before"), fails(), gives_nothing()
    last = goes_on(before.output, wrong.output)
    last.config.on_missing_references = OnMissing.NONE
    as_they_are = kinds(before.output, wrong.output, nothing.output)
    as_they_are.config.on_missing_references = OnMissing.PASS
    return Flow([before, wrong, nothing, last, as_they_are])
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


def test_a_flow_of_atomate2_is_read_without_it() -> None:
    workflow = ms.exchange.read_jobflow(DATA / "atomate2" / "elastic.json")
    assert {task.task_id: set(task.upstream) for task in workflow} == {
        "EMT-relaxation": set(),
        "generate_elastic_deformations": {"EMT-relaxation"},
        "run_elastic_deformations": {"EMT-relaxation", "generate_elastic_deformations"},
        "fit_elastic_tensor": {"EMT-relaxation", "run_elastic_deformations"},
    }


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


_OF_MAIN = {"@module": "__main__", "@class": "Thing"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job, flow: job.update(uuid=None), "'add' has no uuid"),
        (lambda job, flow: job.update(function=None), "'add' .* names no function"),
        (lambda job, flow: job["function"].update({"@callable": "<lambda>"}), "'add' .* names no function.*no lambda"),
        (lambda job, flow: job["function"].update({"@module": None, "@callable": "str.upper"}), "'add' .* built-in"),
        (lambda job, flow: job["function"].update({"@module": "__main__"}), "'add' .* a module that is installed"),
        (lambda job, flow: job["function"].update({"@bound": _OF_MAIN}), "'add' .* needs Thing of a notebook"),
        (lambda job, flow: job.update(function_args=[[{"x": _OF_MAIN}]]), "'add' .* needs Thing of a notebook"),
        (lambda job, flow: job["config"].update(expose_store=True), "'add' .* as arguments"),
        (lambda job, flow: job["metadata"].update(tags=[3]), r"'add' .* metadata\['tags'\]"),
        (lambda job, flow: job["metadata"].update(tags={"a": 1}), r"'add' .* metadata\['tags'\]"),
        (lambda job, flow: flow["jobs"].append(job), "two jobs .* have the uuid"),
        (lambda job, flow: flow["jobs"][0]["jobs"].pop(0), "'scale' .* not in the flow: put that job"),
        (lambda job, flow: flow["jobs"].append(3), "neither a flow nor a job"),
        (lambda job, flow: flow.update({"@class": "DecoratedFlow"}), "made by @flow"),
        (lambda job, flow: flow.update(order="any"), "'sums' .* order"),
        (lambda job, flow: flow.update(jobs=None), "'sums' has no list of jobs"),
        (lambda job, flow: job.update(function_args=[{1, 2}]), "what JSON cannot say .*set"),
        (lambda job, flow: flow["jobs"].append(flow), "what JSON cannot say"),
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
    """Return what jobflow gives as the output of each job of a flow, by name, when it runs that by itself."""
    from jobflow import JobStore, run_locally
    from maggma.stores import MemoryStore
    from monty.json import jsanitize

    def memory() -> Any:
        store = MemoryStore()
        store.connect()
        return store

    store = JobStore(MemoryStore(), additional_stores=defaultdict(memory))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of monty, and that jobs without references have any order
        names = {job.uuid: job.name for job, _ in flow.iterflow()}
        run_locally(flow, store=store)
        return {name: jsanitize(store.get_output(uuid, load=True)) for uuid, name in names.items()}


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
    plain = flow.as_dict()
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
    assert run.value("kinds") == ["int", "OutputReference", "NoneType"]  # of run_locally, too


# -- what changes the flow while it runs -------------------------------------------------------------

CHANGES = """
import os
from pathlib import Path

from jobflow import Flow, Response, job


@job
def add(a, b):
    return a + b


@job(data="large")
def doubled(x):
    return {"large": [x, x], "cwd": str(Path.cwd())}


@job
def note(file, text):
    with open(file, "a") as noted:
        noted.write(text)


@job
def read(file, after):
    return [Path(file).read_text(), after]


@job
def fails():
    raise ValueError("no convergence")


@job
def fibonacci(smaller, larger, stop_point):
    if larger > stop_point:
        return larger
    return Response(replace=fibonacci(larger, smaller + larger, stop_point))


@job
def many(numbers):
    jobs = [add(number, 1) for number in numbers]
    return Response(replace=Flow(jobs, output=[one.output for one in jobs]))


@job
def named(numbers):
    return {str(number): add(number, 1) for number in numbers}


@job
def nested(number):
    inner = many([number, number + 1])
    last = add(inner.output[0], inner.output[1])
    return Response(output="not yet", replace=Flow([Flow([inner]), last], output={"sum": last.output}))


@job
def no_output(number):
    return Response(output=number, replace=Flow([add(number, 1)]))


@job
def detours(file):
    return Response(output="at once", detour=note(file, "detour;"), stored_data={"kept": "nowhere"})


@job
def adds(file):
    later = add(20, 1)
    return Response(output={"later": later.output}, addition=Flow([later, note(file, "addition;")]))


@job
def all_of_them(file):
    one = note(file, "replacement;")
    return Response(replace=Flow([one]), detour=note(file, "detour;"), addition=note(file, "addition;"))


@job
def hands_on(reference):
    return Response(replace=add(reference, 1))


@job
def data_inside():
    inner = doubled(4)
    return Response(replace=Flow([inner], output=inner.output["large"]))


@job
def stops(**how):
    return Response(output="unsuccessful", **how)


@job
def stops_inside(takes_child):
    one = stops(stop_children=True)
    child, other = again(one.output), again("went on")
    return Response(replace=Flow([one, child, other], output=child.output if takes_child else other.output))


def flow(folder):
    files = [str(Path(folder) / name) for name in ("one", "two", "three")]
    first = add(1, 1)
    found = [fibonacci(1, first.output, 50), many([1, 2, 3]), named([4, 5]), nested(6), no_output(7)]
    found += [detours(files[0]), adds(files[1]), all_of_them(files[2]), data_inside(), stops_inside(False)]
    unresolved = hands_on(first.output)
    unresolved.config.resolve_references = False
    after = [read(file, one.output) for file, one in zip(files, found[5:8])]
    for one, name in zip(after, ("read detour", "read addition", "read all")):
        one.name = name
    sums = add(found[1].output[2], found[3].output["sum"])
    sums.name = "sums"
    return Flow([first, *found, unresolved, *after, sums, again(unresolved.output)])


@job
def again(value):
    return value


@job
def becomes(change):
    before, wrong = add(1, 2), fails()
    return Response(**{change: Flow([before, wrong, add(3, wrong.output)])})


@job
def ends_the_process():
    raise SystemExit(3)


@job
def becomes_one_that_ends():
    return Response(output="so far", replace=ends_the_process())


@job
def goes_elsewhere():
    os.chdir("/")
    return add(1, 2)


@job
def becomes_one_that_stops():
    inner = stops(stop_jobflow=True)
    return Response(replace=inner, addition=fails())


@job
def long_chain(left):
    return Response(output=left, replace=long_chain(left - 1)) if left else "done"


@job
def wide(number):
    jobs = [add(i, 1) for i in range(number)]
    return Flow(jobs, output=[one.output for one in jobs])
"""


@pytest.fixture
def changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("jobflow", reason=f"{NOT_REQUIRED}jobflow is not installed")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "changes.py").write_text(CHANGES)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield __import__("changes")
    del sys.modules["changes"]


def test_a_job_and_what_it_becomes_are_one_task(changes: Any, tmp_path: Path) -> None:
    for where in ("ours", "theirs"):
        (tmp_path / where).mkdir()
    plain = changes.flow(tmp_path / "ours").as_dict()
    run = _run(plain, tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")})
    assert run.status == ms.RunStatus.COMPLETED, run.reason
    expected = _expected(changes.flow(tmp_path / "theirs"))
    assert {name: run.value(name.replace(" ", "-")) for name in expected} == expected
    assert expected["nested"] == {"sum": 15}
    assert expected["read all"][0] == "replacement;detour;addition;"
    assert expected["data_inside"] == [4, 4]
    assert expected["stops_inside"] == "went on"
    said = run.file("fibonacci", "stdout.txt").read_text().splitlines()
    assert [line.split(" - ")[-1][:9] for line in said if "Starting job" in line] == ["fibonacci"] * 7


def test_what_fails_or_stops_in_a_job_is_named(changes: Any, tmp_path: Path) -> None:
    from jobflow import Flow

    failing = {change: changes.becomes(change) for change in ("replace", "detour", "addition")}
    stopping = {"children": changes.stops(stop_children=True), "jobflow": changes.becomes_one_that_stops()}
    stopping["inner"] = changes.stops_inside(takes_child=True)
    for name, one in {**failing, **stopping}.items():
        one.name = name
    more = [changes.again(stopping["children"].output), changes.becomes_one_that_ends(), changes.goes_elsewhere()]
    plain = Flow([*failing.values(), *stopping.values(), *more]).as_dict()
    run = _run(plain, tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")})
    assert run.status == ms.RunStatus.FAILED
    reasons = {task.removeprefix("0."): reason for task, reason in run.tasks["reason"].items()}
    for name in failing:
        assert reasons[name].startswith("InnerJobError: the job 'fails' (")
        assert f"which '{name}' became: ValueError: no convergence" in reasons[name]
        assert "in fails\n    raise ValueError" in run.file(name, "stderr.txt").read_text()
        kept = json.loads(run.file(name, "jobflow.json").read_text())
        assert [(job["name"], job["output"]) for job in kept] == [(name, None), ("add", 3)]
    assert reasons["children"].startswith("StoppedError: the job 'children' (")
    assert "stop_children=True" in reasons["children"]
    assert reasons["jobflow"].startswith("StoppedError: the job 'stops' (")  # and the addition did not run
    assert reasons["inner"].startswith("StoppedError: the job 'stops' (")  # and what takes its place did not run
    assert reasons["again"] == "children failed"
    assert "InnerJobError: the job 'ends_the_process' (" in reasons["becomes_one_that_ends"]
    assert json.loads(run.file("becomes_one_that_ends", "jobflow.json").read_text())[0]["output"] == "so far"
    assert run.value("goes_elsewhere") == 3
    assert run.file("goes_elsewhere", "jobflow.json").is_file()
    for name in stopping:
        kept = json.loads(run.file(name, "jobflow.json").read_text())
        assert "unsuccessful" in [job["output"] for job in kept]


def test_what_a_job_becomes_may_be_deep_and_wide(changes: Any, tmp_path: Path) -> None:
    from jobflow import Flow

    jobs = [changes.long_chain(200), changes.wide(500)]
    run = _run(Flow(jobs).as_dict(), tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")})
    assert run.status == ms.RunStatus.COMPLETED, run.reason
    assert (run.value("long_chain"), run.value("wide")) == ("done", list(range(1, 501)))


def test_dynamic_flows_of_the_tutorial_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow_class = pytest.importorskip("jobflow", reason=f"{NOT_REQUIRED}jobflow is not installed").Flow
    monkeypatch.syspath_prepend(str(DATA / "jobflow"))
    path = DATA / "jobflow" / "dynamic_flows.json"
    run = _run(path, tmp_path, env={"PYTHONPATH": str(DATA / "jobflow")})
    assert run.status == ms.RunStatus.COMPLETED, run.reason
    expected = _expected(flow_class.from_dict(json.loads(path.read_text())))
    of_list = expected.pop("make_list")  # of a random length
    assert {name: run.value(name) for name in expected} == expected
    assert set(run.value("make_list")) == set(of_list)

    def became(task: str) -> list[Any]:
        return [job["output"] for job in json.loads(run.file(task, "jobflow.json").read_text())]

    assert became("add_distributed") == [None] + [3] * len(run.value("make_list"))
    assert became("add_with_logic") == [None, 5]
    assert became("fibonacci") == [2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597]

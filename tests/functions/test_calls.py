"""Calls of functions as tasks: planned in a cell, carried out anywhere, and read as objects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit_lab import execute

import matterstack as ms
from matterstack.core.results import TaskResult
from matterstack.errors import (
    CollidingTaskError,
    DuplicateTaskError,
    FunctionSourceError,
    InvalidConfigError,
    InvalidTaskError,
    MissingFileError,
    UnknownDependencyError,
    UnknownTaskError,
    UnsafePathError,
    UntrustedRunError,
    ValueNotReadableError,
)

LARGE = 20_000


def double(x: Any) -> Any:
    """Twice."""
    return 2 * x


def pair(x: Any, y: Any = 3) -> list[Any]:
    return [x, y]


def spectrum(points: int, scale: float = 1.0) -> dict[str, Any]:
    import numpy as np

    with open("log.txt", "w") as log:
        log.write("converged\n")
    return {"intensity": np.arange(points) * scale, "points": points, "peak_eV": scale * (points - 1)}


def mean(spectra: Mapping[str, Any], *more: Any, **named: Any) -> float:
    return float(np.mean([spectrum["intensity"].mean() for spectrum in spectra.values()]))


def singular(x: float) -> float:
    y = x - x
    return 1 / y


def careless() -> object:
    return object()


def needs_a_package() -> None:
    import no_such_package_anywhere  # noqa: F401


def run_of(base: Path, flow: ms.Workflow | ms.Campaign, **operators: Any) -> ms.Run:
    run = ms.initialize_run("w", flow, base_path=base, operators=operators or None)
    run.wait(timeout_s=60)
    return run


def test_objects_go_in_and_come_out(tmp_path: Path) -> None:
    flow = ms.Workflow()
    spectra = flow.map(spectrum, {"few": 3, "many": LARGE}, scale=0.5)
    flow.add("mean", mean, spectra, spectra["few"]["points"], unit=("eV", 1 + 2j))
    flow.add("item", pair, spectra["many"]["intensity"], [spectra["few"]["peak_eV"], (np.float32(0.1), {1: None})])
    assert run_of(tmp_path, flow).status is ms.RunStatus.COMPLETED
    run = ms.open_run(next(tmp_path.glob("workspaces/*/runs/*")))
    assert np.array_equal(run.value("spectrum-many")["intensity"], np.arange(LARGE) * 0.5)
    assert run.value("mean") == pytest.approx((0.5 + (LARGE - 1) / 4) / 2)
    intensity, (peak_eV, given) = run.value("item")
    assert np.array_equal(intensity, np.arange(LARGE) * 0.5)
    assert peak_eV == 1.0
    assert given == (np.float32(0.1), {1: None})
    assert type(given[0]) is np.float32
    assert run.file("spectrum-few", "log.txt").read_text() == "converged\n"
    edges = set(run.graph.edges)
    assert edges == {
        ("0.spectrum-few", "0.mean"),
        ("0.spectrum-many", "0.mean"),
        ("0.spectrum-few", "0.item"),
        ("0.spectrum-many", "0.item"),
    }
    assert {data["group"] for _, data in run.graph.nodes(data=True)} == {"spectrum", "mean", "pair"}


def test_an_attempt_can_be_done_again_by_hand_without_matterstack(tmp_path: Path) -> None:
    flow = ms.Workflow()
    spectra = flow.map(spectrum, {"a": 3})
    flow.add("mean", mean, spectra)
    run = run_of(tmp_path, flow)
    for name in ("spectrum-a", "mean"):
        copy = tmp_path / name
        shutil.copytree(run.task_directory(name), copy)
        (copy / "value.json").unlink()
        environment = {"PATH": os.environ["PATH"], "MATTERSTACK_GONE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.modules['matterstack'] = None; import runpy; sys.path[0] = '.'; "
             "runpy.run_path('task.py', run_name='__main__')"],
            cwd=copy, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (copy / "value.json").read_bytes() == run.file(name, "value.json").read_bytes()
    assert "def spectrum(" in run.file("spectrum-a", "task.py").read_text()
    assert json.loads(run.file("spectrum-a", "args.json").read_text())["kwargs"] == {"points": 3, "scale": 1.0}


def test_a_function_is_still_a_function() -> None:
    @ms.task(retries=2)
    def triple(x: int) -> int:
        """Thrice."""
        return 3 * x

    assert triple(2) == 6
    assert (triple.__name__, triple.__doc__) == ("triple", "Thrice.")
    assert triple.with_options(operator="slurm").options == {"retries": 2, "operator": "slurm"}
    with pytest.raises(InvalidTaskError, match=r"no option 'retires' \(did you mean 'retries'\?\)"):
        ms.task(retires=1)(double)


def test_wrong_arguments_fail_where_they_are_written() -> None:
    flow = ms.Workflow()
    for call, words in (
        (lambda: flow.add("a", pair), r"pair\(x.*missing a required argument: 'x'"),
        (lambda: flow.add("a", pair, 1, z=2), "unexpected keyword argument 'z'"),
        (lambda: flow.add("a", pair, 1, retries=2), r"options of the task are given by ms.task\(pair, retries=...\)"),
        (lambda: flow.map(pair, "Al"), "not the text 'Al'"),
        (lambda: flow.add(pair, 1), r"the task's id first, as in add\('pair', pair, ...\)"),  # type: ignore[arg-type]
        (lambda: flow.add("a", ms.Task("b", "true")), "not a Task: add_task takes 'b'"),  # type: ignore[arg-type]
        (lambda: flow.add("a", spectrum, 1, scal=2), r"did you mean 'scale'\?"),
        (lambda: flow.add("a", pair, object()), "x is a object|x is an object|cannot be written down"),
        (lambda: flow.add("a", 3), "takes a function and its arguments"),  # type: ignore[arg-type]
        (lambda: flow.add("a", ms.task(files={"task.py": "x"})(pair), 1), "a name of the run's own"),
    ):
        with pytest.raises(InvalidTaskError, match=words):
            call()
    with pytest.raises(InvalidTaskError, match=r"not a table; for its rows: table\.to_dict\(\"index\"\)"):
        flow.map(double, pd.DataFrame({"x": [1]}))
    for function in (max, dict):
        with pytest.raises(FunctionSourceError, match="is no function of Python source"):
            flow.add("a", function, [1])
    assert len(flow) == 0
    reference = flow.add("a", pair, 1)
    with pytest.raises(TypeError, match="how many items a will give is not known yet"):
        list(reference)
    with pytest.raises(
        AttributeError, match=r"a will give is not known yet, so it has no 'positions': .*\['positions'\]"
    ):
        _ = reference.positions
    with pytest.raises(TypeError, match="not known yet: decide in a function"):
        bool(reference)
    flow.add("b", pair, flow.reference("aa"))
    with pytest.raises(UnknownDependencyError, match=r"'b' depends on 'aa'.*did you mean 'a'\?"):
        flow.check()


def test_keys_become_ids() -> None:
    flow = ms.Workflow()
    assert list(flow.map(double, {"Li(CoO2)": 1, -0.02: 2, 0.02: 3, ("Co", 0.5): 4})) == [
        "Li(CoO2)",
        -0.02,
        0.02,
        ("Co", 0.5),
    ]
    ids = [task.task_id for task in flow]
    assert ids == ["double-Li-CoO2", "double--0.02", "double-0.02", "double-Co-0.5"]
    assert [task.task_id for task in flow][-1] == "double-Co-0.5"
    again = flow.map(double, ["x"])
    assert list(again) == [0]
    assert [task.task_id for task in flow][-1] == "double-2-0"
    flow.map(double, ["x"], name="other")
    assert [task.task_id for task in flow][-1] == "other-0"
    with pytest.raises(DuplicateTaskError, match=r"the keys 'Li\(' and 'Li\)' both make the task id 'double-3-Li'"):
        flow.map(double, {"Li(": 1, "Li)": 2})
    with pytest.raises(CollidingTaskError):
        flow.map(double, {"Co": 1, "CO": 2}, name="metal")


class Twice(ms.Campaign):
    """The second iteration takes values and files of the first."""

    seen: dict[str, Any]

    def initial_state(self) -> Any:
        return 0

    def plan(self, state: int) -> ms.Workflow | None:
        flow = ms.Workflow()
        if state == 0:
            flow.add("spectrum", spectrum, LARGE)
            flow.add_task(ms.Task("command", 'echo \'{"metals": ["Fe"], "@": 3}\' > result.json; echo hi > out.txt'))
            flow.add("data", pair, flow.reference("command")["metals"][0])
        elif state == 1:
            flow.add(
                "value",
                pair,
                flow.reference("spectrum", iteration=0)["intensity"],
                flow.reference("command", iteration=0),
            )
            taken = ms.task(files={"in.txt": ms.FromTask("command", "out.txt", iteration=0)})
            flow.add("file", taken(double), 1)
        return flow if state < 2 else None

    def analyze(self, state: int, results: Mapping[str, TaskResult]) -> int:
        self.seen = {name: result.value for name, result in results.items()}
        if state == 1:
            self.seen["in.txt"] = results["file"].file("in.txt").read_text()
        return state + 1


def test_values_and_files_of_earlier_iterations(tmp_path: Path) -> None:
    campaign = Twice()
    run = run_of(tmp_path, campaign)
    assert run.status is ms.RunStatus.COMPLETED, run.reason
    intensity, data = campaign.seen["value"]
    assert np.array_equal(intensity, np.arange(LARGE, dtype=float))
    assert data == {"metals": ["Fe"], "@": 3}
    assert campaign.seen["in.txt"] == "hi\n"
    assert run.value("data") == ["Fe", 3], "of the latest iteration that has it"
    assert run.value("spectrum", iteration=0)["points"] == LARGE
    with pytest.raises(UnknownTaskError, match="there is no task 'data' in iteration 1"):
        run.value("data", iteration=1)


def test_values_and_files_of_another_run_are_taken_in(tmp_path: Path) -> None:
    other = run_of(tmp_path / "one", Twice())
    flow = ms.Workflow()
    flow.add(
        "value", pair, flow.reference("spectrum", run=other)["intensity"], flow.reference("command", run=other.path)
    )
    flow.add("file", ms.task(files={"b.txt": ms.FromTask("command", "out.txt", run=other)})(double), 1)
    run = ms.initialize_run("w", flow, base_path=tmp_path / "two")
    shutil.rmtree(other.path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    intensity, data = run.value("value")
    assert np.array_equal(intensity, np.arange(LARGE, dtype=float))
    assert data == {"metals": ["Fe"], "@": 3}
    assert run.file("file", "b.txt").read_text() == "hi\n"
    specification = run.store.specification(1)
    assert f"{other.path.name} 0.spectrum.1" in specification, "it is written down where it came from"


def test_what_cannot_be_taken_from_elsewhere_is_told_when_it_is_planned(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("singular", ms.task(allow_failure=True)(singular), 1.0)
    other = run_of(tmp_path, flow)
    for reference, words in (
        (ms.Workflow().reference("singular", run=other), "0.singular of .* is FAILED, and only what is COMPLETED"),
        (ms.Workflow().reference("singuler", run=other), r"no task 'singuler'.*did you mean 'singular'\?"),
        (ms.Workflow().reference("x", run=tmp_path / "nowhere"), "no run at"),
        (ms.Workflow().reference("x", iteration=0), "this is the first"),
    ):
        wanting = ms.Workflow()
        wanting.add("a", double, reference)
        with pytest.raises(InvalidTaskError, match=words):
            ms.initialize_run("w", wanting, base_path=tmp_path)
    wanting = ms.Workflow([ms.Task("a", "true", files={"x": ms.FromTask("singular", "no.txt", run=other, attempt=1)})])
    with pytest.raises(InvalidTaskError, match=r"0\.singular\.1 has left no file no\.txt"):
        ms.initialize_run("w", wanting, base_path=tmp_path)


def test_what_a_function_raises_is_the_reason(tmp_path: Path) -> None:
    flow = ms.Workflow()
    failing = ms.task(allow_failure=True)
    flow.add("singular", failing(singular), 1.0)
    flow.add("package", failing(needs_a_package))
    flow.add("object", failing(careless))
    flow.add(
        "after",
        ms.task(allow_dependency_failure=True)(pair),
        flow.reference("singular"),
        flow.reference("singular")["x"],
    )
    flow.add("skipped", ms.task(allow_failure=True)(double), flow.reference("singular"))
    run = run_of(tmp_path, flow)
    reasons = run.tasks["reason"]
    assert reasons["0.singular"] == "ZeroDivisionError: float division by zero, at singular line 3"
    assert "No module named 'no_such_package_anywhere', at needs_a_package line 2" in reasons["0.package"]
    assert sys.executable in reasons["0.package"], "which Python it was"
    assert "NotWritableError" in reasons["0.object"]
    assert run.value("after") == [None, None]
    assert run.tasks.loc["0.skipped", "status"] == "SKIPPED"
    with pytest.raises(UnknownTaskError, match=r"named by its id, a text, .*: say 'singular'"):
        run.value(flow.reference("singular"))  # type: ignore[arg-type]
    with pytest.raises(UnknownTaskError, match=r"0\.singular has no value: it is FAILED"):
        run.value("singular")
    lines = run.file("singular", "stderr.txt").read_text().splitlines()
    assert lines[1].endswith("in singular"), "the traceback begins in the user's function"
    assert lines[2].strip() == "return 1 / y"


def test_an_error_file_of_a_strangers_shape_is_no_reason(tmp_path: Path) -> None:
    for number, text in enumerate(
        ('{"type": 3}', "[", '{"type": "A", "message": "\\u001b[31m\\nred", "function": [], "line": "x"}')
    ):
        flow = ms.Workflow()

        def wrong(text: str) -> None:
            import os

            with open("error.json", "w") as file:
                file.write(text)
            os._exit(3)

        flow.add("a", wrong, text)
        reason = str(run_of(tmp_path / str(number), flow).tasks.loc["0.a", "reason"])
        assert reason.startswith("A: " if number == 2 else "exit code 3")
        assert reason.isprintable()


def test_results_are_a_tidy_table(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.map(spectrum, {"a": 3, "b": 4})
    flow.map(double, {"a": 1.5})
    flow.add_task(ms.Task("command", "echo '{\"e\": 1}' > result.json"))
    run = run_of(tmp_path, flow)
    table = run.results
    assert list(table["function"])[:3] == ["spectrum", "spectrum", "double"]
    assert pd.isna(table.loc["0.command", "function"])
    assert table["points"].dtype == "Int64"
    assert table["peak_eV"].dtype == "float64"
    mine = run.results_of(spectrum)
    assert list(mine.columns) == ["iteration", "task_id", "attempt", "function", "points", "peak_eV"]
    assert mine["points"].dtype == "int64"
    assert list(run.results_of("double")["value"]) == [3.0]


def test_files_are_found_and_the_missing_are_told(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("a", spectrum, 1)
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    with pytest.raises(UnknownTaskError, match=r"0\.a has not begun"):
        run.file("a", "log.txt")
    run.wait(timeout_s=60)
    with pytest.raises(MissingFileError, match=r"0\.a\.1 has left no file nope; there is: .*log\.txt"):
        run.file("a", "nope")
    with pytest.raises(UnsafePathError):
        run.file("a", "../state.sqlite")
    with pytest.raises(UnknownTaskError, match=r"0\.a has no attempt 2"):
        run.file("a", "log.txt", attempt=2)


def test_calls_share_what_they_have_in_common(tmp_path: Path) -> None:
    few, many = ms.Workflow(), ms.Workflow()
    few.map(double, range(10))
    many.map(double, range(1010))
    sizes = []
    for name, flow in (("few", few), ("many", many)):
        run = ms.initialize_run("w", flow, base_path=tmp_path / name)
        sizes.append((run.path / "state.sqlite").stat().st_size)
        assert len(list((run.path / "files").iterdir())) == 4, "task.py, codec, entry, and the list of these"
    assert (sizes[1] - sizes[0]) / 1000 < 500, "bytes a call"


def test_a_value_that_is_gone_is_made_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    flow = ms.Workflow([ms.Task("gate", f"cat {tmp_path}/gate")])
    flow.add("after", ms.task(dependencies=["gate"])(double), flow.add("before", double, 1))
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=2)})
    for _ in run.ticks(lambda: run.tasks.loc["0.before", "status"] == "COMPLETED", timeout_s=60):
        pass
    run.file("before", "value.json").unlink()
    (tmp_path / "gate").write_text("")
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert "run.retry('before') makes it again" in str(run.tasks.loc["0.after", "reason"])
    assert run.retry("before").wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.value("after") == 4


@pytest.mark.parametrize("lost", ["program", "value of another run"])
def test_what_the_run_has_lost_fails_the_call_and_names_it(tmp_path: Path, lost: str) -> None:
    before = ms.Workflow()
    before.add("before", double, 1)
    flow = ms.Workflow()
    flow.add("a", double, flow.reference("before", run=run_of(tmp_path / "before", before)))
    run = ms.initialize_run("w", flow, base_path=tmp_path / "after")
    for file in (run.path / "files").iterdir():
        if (b"def double" if lost == "program" else b'"value": 2') in file.read_bytes():
            file.unlink()
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    reason = str(run.tasks.loc["0.a", "reason"])
    words = "a file of the function double cannot be placed" if lost == "program" else "it was taken from another run"
    assert words in reason
    assert "No such file" in reason


def test_people_and_instruments_run_no_functions(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("a", ms.task(operator="human")(double), 1)
    with pytest.raises(InvalidTaskError, match="calls the function double, and the operator 'human' runs none"):
        run_of(tmp_path, flow, human=ms.HumanOperator())


def test_python_is_called_as_the_operator_says(tmp_path: Path) -> None:
    wrapper = tmp_path / "my python"
    wrapper.write_text(f'#!/bin/sh\nprintf "%s" "$1" > which\nshift\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    flow = ms.Workflow()
    flow.add("a", double, 2)
    run = run_of(tmp_path, flow, local=ms.LocalOperator(python=f"'{wrapper}' -n"))
    assert run.value("a") == 4
    assert run.file("a", "which").read_text() == "-n"
    with pytest.raises(InvalidConfigError, match="python must say how Python is called"):
        ms.LocalOperator(python="'")


def test_a_kit_carries_a_function(tmp_path: Path) -> None:
    flow = ms.Workflow()
    spectra = flow.map(ms.task(spectrum, operator="away", assignee="the owner of the account"), {"a": LARGE})
    flow.add("mean", ms.task(mean, operator="away"), spectra)
    operators = {"away": ms.ManualHPCOperator(empty_output_grace_s=0, python=sys.executable)}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    for name in ("spectrum-a", "mean"):
        while not (run.path / f"operators/away/0.{name}.1").exists():
            run.step()
        assert [one.assignee for one in run.inbox()] == [None if name == "mean" else "the owner of the account"]
        directory = run.path / f"operators/away/0.{name}.1"
        assert "value/ where there are" in (directory / "HOWTO.txt").read_text()
        done = execute(directory)
        assert done.returncode == 0, done.stderr
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.value("mean") == (LARGE - 1) / 2


class Fails(ms.Campaign):
    """A call fails at its last attempt, two take it, and one stands behind these."""

    def __init__(self, allow_failure: bool, allow_dependency_failure: bool) -> None:
        self.allow_failure, self.allow_dependency_failure = allow_failure, allow_dependency_failure

    def plan(self, state: Any) -> ms.Workflow | None:
        if state:
            return None
        flow = ms.Workflow()
        after = ms.task(pair, allow_dependency_failure=self.allow_dependency_failure)
        bad = flow.add("bad", ms.task(singular, retries=1, allow_failure=self.allow_failure), 1.0)
        good = flow.add("good", double, 2)
        flow.add("behind", pair, flow.add("whole", after, {"bad": bad, "good": good}))
        flow.add("item", after, bad["x"][0])
        return flow

    def analyze(self, state: Any, results: Mapping[str, TaskResult]) -> Any:
        return {"bad": str(results["bad"].status), "value": results["bad"].value, "item": results["item"].value}


@pytest.mark.parametrize("allow_failure", [False, True])
@pytest.mark.parametrize("allow_dependency_failure", [False, True])
def test_what_follows_a_failure(tmp_path: Path, allow_failure: bool, allow_dependency_failure: bool) -> None:
    """As the table of docs/functions.md says."""
    run = ms.initialize_run("w", Fails(allow_failure, allow_dependency_failure), base_path=tmp_path)
    status = run.wait(timeout_s=60)
    assert list(run.tasks.loc[["0.bad", "0.good"], "status"]) == ["FAILED", "COMPLETED"]
    assert run.tasks.loc["0.bad", "attempt"] == 2
    others = set(run.tasks.loc[["0.whole", "0.item", "0.behind"], "status"])
    if allow_dependency_failure:
        assert others == {"COMPLETED"}
        assert run.value("behind") == [[{"bad": None, "good": 4}, 3], 3]
        assert run.value("item") == [None, 3]
    else:
        assert others == {"SKIPPED"}
    if allow_failure:
        assert status is ms.RunStatus.COMPLETED
        item = [None, 3] if allow_dependency_failure else None
        assert run.campaign_state == {"bad": "FAILED", "value": None, "item": item}
    else:
        assert status is ms.RunStatus.FAILED
        assert run.campaign_state == {}
        skipped = {"whole", "item", "behind"} if not allow_dependency_failure else set()
        run.retry("bad")
        again = run.tasks["status"] == "PENDING"
        assert set(run.tasks.loc[again, "task_id"]) >= {"bad", *skipped}


NOTEBOOK = """
import subprocess, sys
from dataclasses import dataclass
import matterstack as ms

@dataclass
class Cell:
    edge_A: float

@ms.task(retries=1)
def grown(cell):
    return {"cell": Cell(cell.edge_A + 1), "edge_A": cell.edge_A}

class Growing(ms.Campaign):
    def __init__(self, times, start):
        self.times, self.start = times, start
    def initial_state(self):
        return {"cell": self.start.edge_A, "times": 0}
    def plan(self, state):
        flow = ms.Workflow()
        flow.map(grown, {"a": Cell(state["cell"])})
        return flow if state["times"] < self.times else None
    def analyze(self, state, results):
        return {"cell": results["grown-a"].value["cell"].edge_A, "times": state["times"] + 1}

run = ms.initialize_run("w", Growing(3, Cell(1.0)), base_path=sys.argv[1])
while run.iteration < 1:
    run.step()
print(run.path)
"""


def test_a_campaign_of_a_notebook_goes_on_when_that_is_closed(tmp_path: Path) -> None:
    """And plans what the notebook planned, to the letter; a kernel that lacks a class says so."""
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    begun = subprocess.run(
        [sys.executable, "notebook.py", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert begun.returncode == 0, begun.stderr
    run = ms.open_run(begun.stdout.strip())
    (tmp_path / "notebook.py").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "matterstack", "wait", str(run.path)], cwd="/", capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout
    assert run.status is ms.RunStatus.COMPLETED
    assert list(run.results["edge_A"]) == [1.0, 2.0, 3.0]
    programs = {run.file("grown-a", "task.py", iteration=number).read_text() for number in range(3)}
    assert len(programs) == 1
    with pytest.raises(ValueNotReadableError, match=r"__main__:Cell is not known here.*raw=True"):
        run.value("grown-a")
    assert run.value("grown-a", raw=True)["cell"]["class"] == "__main__:Cell"
    assert "class Growing(ms.Campaign)" in (run.path / "campaign/campaign.py").read_text()


def test_a_stored_campaign_of_a_run_that_is_not_trusted_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    begun = subprocess.run(
        [sys.executable, "notebook.py", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    copy = tmp_path / "copy"
    shutil.copytree(begun.stdout.strip(), copy)
    text = copy / "campaign/campaign.py"
    text.write_text(text.read_text() + f"\nopen({str(tmp_path / 'intruder')!r}, 'w')\n")
    run = ms.open_run(copy)
    repr(run), run.explain(), run.tasks, run.value("grown-a", iteration=0, raw=True)
    with pytest.raises(UntrustedRunError, match="its campaign, whose source is in campaign/"):
        run.step()
    with pytest.raises(ValueNotReadableError, match="the run is not trusted here"):
        run.value("grown-a", iteration=0)
    assert not (tmp_path / "intruder").exists()


class Potential:
    def __init__(self, cutoff_A: float) -> None:
        self.cutoff_A = cutoff_A


def cutoff_of(potential: Potential) -> float:
    return potential.cutoff_A


def longer(potential: Potential) -> dict[str, Potential]:
    return {"potential": Potential(potential.cutoff_A + 1)}


def test_a_kind_of_ones_own_goes_in_and_comes_out(tmp_path: Path) -> None:
    ms.values.register(Potential, cutoff_of, Potential)
    flow = ms.Workflow()
    flow.add("again", longer, flow.add("once", longer, Potential(3.5))["potential"])
    assert run_of(tmp_path, flow).value("again")["potential"].cutoff_A == 5.5

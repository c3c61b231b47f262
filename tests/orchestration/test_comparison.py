"""Two runs beside each other: what differs is said first, and what cannot be compared."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import matterstack as ms
from matterstack.errors import RunNotFoundError

EVIL = "</script><img src=x onerror=alert(1)>"


def task(name: str, energy_eV: float | None, **more: object) -> ms.Task:
    command = "exit 1" if energy_eV is None else f'echo \'{{"energy_eV": {energy_eV}, "n": 3}}\' > result.json'
    return ms.Task(name, command, allow_failure=True, **more)  # type: ignore[arg-type]


def done(base: Path, run_id: str, *tasks: ms.Task, workspace: str = "w", max_active: int = 4) -> ms.Run:
    operators = {"local": ms.LocalOperator(max_active=max_active)}
    run = ms.initialize_run(workspace, ms.Workflow(tasks), base_path=base, run_id=run_id, operators=operators)
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    return run


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ms.Run, ms.Run]:
    a = done(
        tmp_path,
        "a",
        task("same", -1.0),
        task("far", -1.0),
        task("near", -100.0),
        task("zero", 0.0),
        task("breaks", -1.0),
        task("only-a", 1.0),
    )
    b = done(
        tmp_path,
        "b",
        task("same", -1.0),
        task("far", -3.0),
        task("near", -101.0, resources=ms.Resources(walltime_s=60)),
        task("zero", 0.5),
        task("breaks", None),
        max_active=2,
    )
    return a, b


def test_what_differs_is_there_task_by_task(pair: tuple[ms.Run, ms.Run]) -> None:
    a, b = pair
    found = ms.compare(a, b.path)
    assert (found.a, found.b, found.notes) == ("a", "b", ())
    settings = found.settings[found.settings["differs"]]
    assert settings.to_dict("index") == {
        "operators.local.settings.max_active": {"a": 4, "b": 2, "differs": True},
    }
    tasks = found.tasks
    assert tasks.loc["0.same"].to_dict() == {
        "where": "both",
        "status_a": "COMPLETED",
        "status_b": "COMPLETED",
        "attempts_a": 1,
        "attempts_b": 1,
        "specification": "",
    }
    assert tasks.loc["0.only-a", "where"] == "a"
    assert tasks.loc["0.breaks", ["status_a", "status_b"]].tolist() == ["COMPLETED", "FAILED"]
    assert tasks.loc["0.near", "specification"].endswith("; resources.walltime_s: none -> 60")
    energies = found.results[found.results["quantity"] == "energy_eV"]
    assert sorted(energies.index) == ["0.far", "0.near", "0.same", "0.zero"], "of both runs, where both are completed"
    assert energies.loc["0.near", ["a", "b", "difference"]].tolist() == [-100.0, -101.0, -1.0]
    assert energies["relative"].to_dict() == {"0.same": 0.0, "0.far": -2.0, "0.near": -0.01, "0.zero": math.inf}
    assert list(found.timing.index) == ["0.same", "0.far", "0.near", "0.zero", "0.breaks"]
    times = found.timing.loc["0.far"]
    ran = b.tasks.loc["0.far"]
    assert times["running_s_b"] == pytest.approx((ran["ended_at"] - ran["started_at"]).total_seconds(), abs=1e-5)
    assert times["waiting_s_b"] == pytest.approx((ran["started_at"] - ran["submitted_at"]).total_seconds(), abs=1e-5)
    assert found.timing["running_s_a"].sum() < found.summary.loc["running_s", "a"], "that of only-a, too"
    assert found.summary.loc[["tasks", "completed", "failed"], ["a", "b", "difference"]].to_numpy().tolist() == [
        [6, 5, -1],
        [6, 4, -2],
        [0, 1, 1],
    ]


def test_it_begins_with_what_differs_the_largest_first(pair: tuple[ms.Run, ms.Run]) -> None:
    text = repr(ms.compare(*pair))
    assert text.splitlines()[0] == (
        "a and b: 1 setting differs; 1 task is in a only; 4 tasks are specified differently; 1 task stands otherwise; "
        "3 numbers in results differ. Compared: 5 tasks, with 8 numbers in their results."
    )
    order = [line.split()[0] for line in text.split("Results that differ most")[1].splitlines()[2:5]]
    assert order == ["0.zero", "0.far", "0.near"]
    assert "COMPLETED -> FAILED" in text
    assert "same" not in text.split("Times that differ most")[0], "what is the same in both is not listed"
    assert "nothing differs. Compared: 6 tasks" in repr(ms.compare(pair[0], pair[0]))


def test_a_thousand_tasks_that_differ_alike_are_one_row(tmp_path: Path) -> None:
    runs = []
    for name, walltime_s in (("a", 60), ("b", 90)):
        flow = ms.Workflow(
            [ms.Task(f"t{n}", "true", resources=ms.Resources(walltime_s=walltime_s)) for n in range(1000)]
            + [ms.Task(f"odd{n}", f"echo {name}{n}") for n in range(50)]
        )
        runs.append(ms.initialize_run("w", flow, base_path=tmp_path, run_id=name))
    html = ms.compare(*runs)._repr_html_()
    assert html.count("resources.walltime_s: 60 -&gt; 90") == 1
    assert "0.t0, 0.t1, 0.t2</td>" in html
    assert "(10 of 51)" in html
    assert html.count("<tr>") < 40


def test_what_a_person_changed_counts(tmp_path: Path) -> None:
    a, b = (ms.initialize_run("w", ms.Workflow([ms.Task("t", "exit 1")]), base_path=tmp_path, run_id=n) for n in "ab")
    for run in (a, b):
        assert run.wait(timeout_s=30) is ms.RunStatus.FAILED
    b.retry("t", command="exit 2").wait(timeout_s=30)
    found = ms.compare(a, b).tasks.loc["0.t"]
    assert (found["specification"], found["attempts_b"]) == ("command: exit 1 -> exit 2", 2)


class Twice(ms.Campaign):
    """Two iterations."""

    def plan(self, state: dict[str, int]) -> ms.Workflow | None:
        """Return a task, twice."""
        done = state.get("done", 0)
        return ms.Workflow([ms.Task("x", "true")]) if done < 2 else None

    def analyze(self, state: dict[str, int], results: object) -> dict[str, int]:
        """Count."""
        return {"done": state.get("done", 0) + 1}


def test_it_says_what_cannot_be_compared(tmp_path: Path) -> None:
    a = done(tmp_path, "same-id", ms.Task("t", "true"))
    b = ms.initialize_run("other", Twice(), base_path=tmp_path, run_id="same-id")
    b.wait(timeout_s=30)
    found = ms.compare(a, b)
    assert (found.a, found.b) == ("w/same-id", "other/same-id")
    assert "w/same-id was made of one workflow, other/same-id of the campaign" in found.notes[0]
    assert "No task has the same name in both" in found.notes[1]
    assert found.tasks["where"].tolist() == ["a", "b", "b"]
    assert (len(found.results), len(found.timing)) == (0, 0)
    assert found.summary.loc["iterations", "difference"] == 1
    (b.path / "config.json").write_text("{")
    assert any("settings of other/same-id cannot be compared" in note for note in ms.compare(a, b).notes)
    with pytest.raises(RunNotFoundError, match="no run at"):
        ms.compare(a, tmp_path / "nowhere")


def test_text_of_others_is_text_and_to_compare_changes_nothing(tmp_path: Path) -> None:
    a = done(tmp_path, "a", ms.Task("t", f"echo '{EVIL}'"))
    b = done(tmp_path, "b", ms.Task("t", "echo '{\"<b>x\": 1}' > result.json; echo \x1b"))
    before = {path: path.stat().st_mtime_ns for run in (a, b) for path in run.path.rglob("*")}
    html = ms.compare(a, b)._repr_html_()
    assert EVIL not in html
    assert "&lt;/script&gt;" in html
    assert "\x1b" not in html
    assert {path: path.stat().st_mtime_ns for run in (a, b) for path in run.path.rglob("*")} == before

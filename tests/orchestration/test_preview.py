"""To look before a run is made: what is shown is what the run would do, and nothing is made."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack.core.attempts import Absent, Attempt, Observation, Seen, Submitted
from matterstack.errors import CampaignError, InvalidConfigError, MatterstackError, RunStatusError, UnknownTaskError
from matterstack.operators import Operator


class Holds(Operator):
    """Takes every attempt, and lets none end."""

    def submit(self, attempts: Sequence[Attempt]) -> dict[str, Submitted]:
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> dict[str, Observation]:
        return {attempt.token: Observation(Seen.RUNNING) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> dict[str, Absent]:
        return {attempt.token: Absent() for attempt in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return [attempt.token for attempt in attempts]


def double(x: int) -> int:
    return 2 * x


def operators() -> dict[str, Any]:
    return {
        "local": ms.LocalOperator(),
        "human": ms.HumanOperator(),
        "hpc": ms.ManualHPCOperator(preamble="module load lammps"),
        "slurm": ms.SlurmOperator(options=["--partition=long"], preamble="module load vasp"),
        "holds": Holds(),
    }


def everything(base: Path) -> set[str]:
    return {str(path) for path in base.rglob("*")}


@pytest.mark.parametrize("operator", ["local", "human", "hpc", "slurm", "holds", "call"])
def test_the_files_that_are_shown_are_those_that_an_attempt_gets(operator: str, tmp_path: Path) -> None:
    (tmp_path / "INCAR").write_text("ENCUT = 500\n")
    flow = ms.Workflow()
    if operator == "call":
        flow.add("go", double, 1)
    else:
        files = {"INCAR": tmp_path / "INCAR", "deep/k.bin": b"\xff\0", "note": "a\n"}
        flow.add_task(
            ms.Task("go", "true", operator=operator, files=files, parameters={"a": 1}, resources=ms.Resources(tasks=2))
        )
    given = operators()
    shown = ms.preview(flow, operators=given).files("go")

    run = ms.initialize_run("w", flow, operators=given, base_path=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(given["local"]), "submit", lambda self, attempts: {})
        patch.setattr(type(given["slurm"]), "submit", lambda self, attempts: {})
        run.step()
    home = run.task_directory("go")
    real = {path.relative_to(home).as_posix(): path for path in home.rglob("*") if path.is_file()}
    assert sorted(shown.index) == sorted(set(real) - {".matterstack/notified/1", ".matterstack/token"})
    for name, row in shown.iterrows():
        assert row["bytes"] == real[str(name)].stat().st_size, name
        if isinstance(row["text"], str) and "ms-0" not in row["text"] and name != "MANIFEST.json":
            assert row["text"] == real[str(name)].read_text(), name


def test_the_script_of_a_job_and_of_a_kit_is_shown_with_what_sbatch_is_told() -> None:
    resources = ms.Resources(tasks=4, walltime_s=3600)
    flow = ms.Workflow(
        [
            ms.Task("job", ["vasp_std", "a b"], operator="slurm", resources=resources),
            ms.Task("kit", "lmp", operator="hpc", resources=resources),
            ms.Task("here", ["echo", "a b"]),
            ms.Task("ask", operator="human", instructions="?"),
        ]
    )
    seen = ms.preview(flow, operators=operators())
    assert "module load vasp" in seen.script("job")
    assert "vasp_std" in seen.script("job")
    assert "#SBATCH --ntasks=4" in seen.script("kit")
    assert seen.script("here") == "echo 'a b'"
    with pytest.raises(RunStatusError, match="ask runs nothing"):
        seen.script("ask")
    assert seen.tasks.loc["job", "sbatch"] == (
        "--partition=long --nodes=1 --ntasks=4 --cpus-per-task=1 --time=0-01:00:00"
    )
    assert seen.tasks.loc["here", "sbatch"] == ""
    with pytest.raises(UnknownTaskError, match="did you mean 'here'"):
        seen.files("heer")


def test_a_preview_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "in.dat").write_bytes(b"1")
    before = everything(tmp_path)
    flow = ms.Workflow([ms.Task("a", "true", files={"in.dat": tmp_path / "in.dat"})])
    flow.add("f", double, 1)
    seen = ms.preview(flow)
    assert repr(seen).startswith("Preview: 2 tasks; nothing was made")
    assert not seen.errors
    seen.files("a")
    seen.files("f")
    seen._repr_html_()
    assert everything(tmp_path) == before


BAD: dict[str, Any] = {
    "no such operator": lambda base: ms.Workflow([ms.Task("a", "true", operator="slrm"), ms.Task("b", "true")]),
    "a dependency that is not there": lambda base: ms.Workflow([ms.Task("a", "true", dependencies=["x"])]),
    "a cycle": lambda base: ms.Workflow(
        [ms.Task("a", "true", dependencies=["b"]), ms.Task("b", "true", dependencies=["a"])]
    ),
    "no command": lambda base: ms.Workflow([ms.Task("a")]),
    "shown to nobody": lambda base: ms.Workflow([ms.Task("a", "true"), ms.Task("b", "true", show=["a"])]),
    "a file that is not there": lambda base: ms.Workflow([ms.Task("a", "true", files={"x": base / "nope"})]),
    "the name of a file": lambda base: ms.Workflow([ms.Task("a", "true", files={"x": str(base / "is")})]),
    "of an iteration before the first": lambda base: ms.Workflow(
        [ms.Task("a", "true", files={"x": ms.FromTask("b", "y", iteration=0)})]
    ),
    "of a run that is not there": lambda base: ms.Workflow(
        [ms.Task("a", "true", files={"x": ms.FromTask("b", "y", run=base / "no")})]
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_initialize_run_refuses_is_found(what: str, tmp_path: Path) -> None:
    (tmp_path / "is").touch()
    flow = BAD[what](tmp_path)
    with pytest.raises(MatterstackError) as refused:
        ms.initialize_run("w", flow, base_path=tmp_path)
    seen = ms.preview(flow)
    assert seen.errors[0] == str(refused.value)
    assert set(seen.findings["kind"]) == {"error"}
    assert "error" in repr(seen)
    assert "data:image/svg+xml" in seen._repr_html_()


def test_all_errors_are_found_at_once(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [
            ms.Task("a", "true", operator="x"),
            ms.Task("b"),
            ms.Task("c", "true", files={"f": tmp_path / "no"}),
            ms.Task("d", "true"),
        ]
    )
    seen = ms.preview(flow)
    assert list(seen.findings["task"]) == ["a", "b", "c"]
    assert seen.script("d") == "true"
    assert list(seen.files("d").index) == []
    with pytest.raises(MatterstackError, match="wants the operator 'x'"):
        seen.files("a")


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("no_such_program -x", "there is no program no_such_program in PATH"),
        (["no_such_program"], "there is no program no_such_program in PATH"),
        ("/no/such/program", "/no/such/program is not there"),
        ("./run.sh x", "./run.sh may not be executed: call it by its program, as in: sh run.sh"),
        ("./tool", None),
        ("./plain", "./plain may not be executed: call it by its program, as in: sh plain"),
        ("./other", "./other is not among its files"),
        ("no_such_program>out", "there is no program no_such_program in PATH"),
        ("sh run.sh", None),
        ("X=1 no_such_program", None),  # a shell says what this runs
        ("$VASP", None),
        ("cd somewhere && no_such_program", None),
        ("(no_such_program)", None),
        ("if true; then true; fi", None),
        ("python -c 1", None),
    ],
)
def test_programs_that_are_not_there_are_found(command: Any, found: str | None, tmp_path: Path) -> None:
    for name, mode in (("tool", 0o755), ("plain", 0o644)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    files = {"run.sh": "true\n", "tool": tmp_path / "tool", "plain": tmp_path / "plain"}
    seen = ms.preview(ms.Workflow([ms.Task("a", command, files=files)]))
    assert list(seen.findings["finding"]) == ([] if found is None else [f"task 'a': {found}"])


def test_path_of_the_task_and_python_of_the_operator_count(tmp_path: Path) -> None:
    (tmp_path / "tool").touch(mode=0o755)
    flow = ms.Workflow(
        [
            ms.Task("has", "tool", env={"PATH": str(tmp_path)}),
            ms.Task("lacks", "python", env={"PATH": str(tmp_path)}),
            ms.Task("later", "python", env={"PATH": "env:SECRET_PATH"}),
        ]
    )
    flow.add("call", double, 1)
    seen = ms.preview(flow, operators={"local": ms.LocalOperator(python="no_such_python -X utf8")})
    assert list(seen.findings["task"]) == ["lacks", "call"]
    assert seen.script("call") == "no_such_python -X utf8 task.py"
    job = ms.Workflow([ms.Task("job", "no_such_program", operator="slurm")])
    assert len(ms.preview(job, operators={"slurm": ms.SlurmOperator()}).findings) == 1
    for other in (ms.SlurmOperator(preamble="module load x"), ms.SlurmOperator(host="far")):
        assert ms.preview(job, operators={"slurm": other}).findings.empty  # nobody here can tell


def test_a_file_that_no_task_says_it_leaves_is_found() -> None:
    def use(maker: str, path: str, **more: Any) -> ms.Task:
        return ms.Task(f"{maker}-{path.replace('/', '-')}", "true", files={"x": ms.FromTask(maker, path)}, **more)

    flow = ms.Workflow(
        [
            ms.Task("relax", "true", outputs=["final.xyz"], files={"INCAR": "a\n"}),
            ms.Task("ask", operator="human", instructions="?", show=[ms.FromTask("relax", "forces.csv"), "relax"]),
            use("relax", "final.xyz"),
            use("relax", "finale.xyz"),
            use("relax", "stdout.txt"),
            use("relax", "INCAR"),
            use("ask", "response.json"),
        ]
    )
    flow.add("call", double, 1)
    flow.add_task(use("call", "value.json"))
    seen = ms.preview(flow, operators=operators())
    assert list(seen.findings["task"]) == ["ask", "relax-finale.xyz"]
    assert "takes forces.csv of 'relax', which does not say that it leaves it" in seen.findings["finding"][0]
    files = seen.files("relax-final.xyz")
    assert files.loc["x", "origin"] == "final.xyz of relax"
    assert files.loc["x"].isna()[["bytes", "text"]].all()


def test_the_first_plan_of_a_campaign_is_asked_for_and_not_kept(tmp_path: Path) -> None:
    class Grows(ms.Campaign):
        def initial_state(self) -> Any:
            return {"n": 3}

        def plan(self, state: Any) -> ms.Workflow | None:
            state["n"] -= 1
            flow = ms.Workflow()
            flow.map(double, range(state["n"]))
            return flow if flow else None

    campaign = Grows()
    counts = ms.preview(campaign).counts
    assert counts.values.tolist() == [["local", "double", 2]]
    assert ms.preview(campaign).counts.equals(counts)

    class Raises(ms.Campaign):
        def plan(self, state: Any) -> ms.Workflow | None:
            return 1 / 0  # type: ignore[return-value]

    with pytest.raises(CampaignError, match="ZeroDivisionError"):
        ms.preview(Raises())
    with pytest.raises(InvalidConfigError, match="suspend_after"):
        ms.preview(campaign, config={"suspend_after": 0})


def test_text_of_others_is_escaped(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "<script>alert(1)</script>", files={"x": tmp_path / "<b>\x1b[31m"})])
    seen = ms.preview(flow)
    assert "<b>" in repr(seen)
    assert "\x1b" not in repr(seen)
    html = seen._repr_html_()
    assert "&lt;b&gt;" in html
    assert "\x1b" not in html


def test_what_prepare_raises_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Holds):
        def prepare(self, attempt: Attempt) -> None:
            raise ValueError("no licence")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = ms.preview(ms.Workflow([ms.Task("a", operator="b")]), operators={"b": Broken()})
    with pytest.raises(MatterstackError, match="no licence"):
        seen.files("a")
    assert os.listdir(tmp_path) == []


def test_what_is_known_from_before_is_told(tmp_path: Path) -> None:
    def flow(number: int) -> ms.Workflow:
        made = ms.Workflow()
        made.add("next", double, made.add("call", double, number))
        return made

    cache = ms.Cache(tmp_path / "cache")
    first = ms.initialize_run("w", flow(1), base_path=tmp_path, cache=cache)
    assert first.wait() is ms.RunStatus.COMPLETED
    before = everything(tmp_path)
    seen = ms.preview(flow(1), cache=cache)
    assert seen.explain_cache("call").hit
    assert "would be taken from 0.call.1" in repr(seen.explain_cache("call"))
    assert "its inputs are not there yet" in repr(seen.explain_cache("next"))
    other = ms.preview(flow(2), cache=tmp_path / "cache").explain_cache("call")
    assert not other.hit
    assert other.differs
    assert not ms.preview(flow(1)).explain_cache("call").hit
    asked = ms.Workflow([ms.Task("t", "true", cache=True)])
    assert "preview(..., cache=)" in repr(ms.preview(asked).explain_cache("t"))
    more = flow(1)
    more.add_task(ms.Task("reads", "cat log", files={"log": ms.FromTask("call", "stdout.txt"), "own": tmp_path / "o"}))
    said = ms.preview(more, cache=cache).explain_cache("call")
    assert not said.hit
    assert "other tasks take stdout.txt of it" in said.why
    assert list(seen.files("call").index) == list(ms.preview(flow(1), cache=cache).files("call").index)
    assert everything(tmp_path) == before

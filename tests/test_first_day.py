"""What a newcomer trips over: each says what was meant, where it is, and what would be accepted."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack.errors import (
    InvalidConfigError,
    InvalidIdentifierError,
    InvalidTaskError,
    MatterstackError,
    RunNotFoundError,
    UnknownDependencyError,
    UnknownOperatorError,
    UnknownTaskError,
)
from matterstack.notebook import progress


def make(base: Path, *tasks: ms.Task, **options: Any) -> ms.Run:
    return ms.initialize_run("w", ms.Workflow(list(tasks)), base_path=base, run_id="r", **options)


def remedies(run: ms.Run) -> str:
    return "\n".join(item.remedy for item in run.explain())


# -- advice that would be accepted ------------------------------------------------------------


def test_a_failure_that_was_allowed_for_is_not_to_be_retried_once_the_run_is_over(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("bad", "exit 1", allow_failure=True))
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert "retry" not in remedies(run)
    assert "COMPLETED" in remedies(run)


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ([sys.executable, "relax.py"], "files={'relax.py': pathlib.Path('relax.py')}"),
        ([sys.executable, "-c", "import no_such_module"], "install no_such_module"),
        ("no_such_program --version", "make no_such_program found"),
        (["no_such_program"], "make no_such_program found"),
        ("cat lattice.dat", "files= did not bring lattice.dat"),
        ([sys.executable, "-c", "open('lattice.dat')"], "files= did not bring lattice.dat"),
    ],
)
def test_what_is_missing_is_named_before_a_retry(tmp_path: Path, command: Any, advice: str) -> None:
    run = make(tmp_path, ms.Task("a", command))
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert advice in remedies(run)
    assert "run.retry('a')" not in remedies(run).split("then")[0]
    said = str(run.explain())
    assert "run.explain()" not in said
    assert "run.explain()" in repr(run)


class Loop(ms.Campaign):
    """Goes wrong in its analysis, in one way or another."""

    def __init__(self, way: str) -> None:
        self.way = way

    def plan(self, state: Any) -> Any:
        if state.get("round") and self.way == "plan":
            return [ms.Task("b", "true")]
        return ms.Workflow([ms.Task("a", "true")]) if not state.get("round") else None

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        if self.way == "raises":
            return {"energy": results["a"].data["energy_eV"]}
        if self.way == "deep":
            return {"energy": sorted(["1", 2], key=lambda value: value + 1)}
        return None if self.way == "nothing" else {"round": 1}


@pytest.mark.parametrize(
    ("way", "begins"),
    [
        ("raises", "KeyError: 'energy_eV', at analyze, line "),
        ("deep", "TypeError: "),
        ("nothing", "Loop.analyze, line "),
        ("plan", "Loop.plan, line "),
    ],
)
def test_a_campaign_that_goes_wrong_is_shown_at_its_users_own_line(tmp_path: Path, way: str, begins: str) -> None:
    run = ms.initialize_run("w", Loop(way), base_path=tmp_path, run_id="r")
    assert run.wait(timeout_s=120) is ms.RunStatus.PAUSED
    first = str(run.reason).splitlines()[0].removeprefix("the campaign could not go on: ")
    assert first.startswith(begins)
    assert Path(__file__).name in first
    assert "orchestration" not in str(run.reason)
    assert f"matterstack.open_run({str(run.path)!r}, campaign=Loop(...)).resume()" in remedies(run)
    again = ms.open_run(run.path, campaign=Loop("well")).resume()
    assert again.wait(timeout_s=120) is ms.RunStatus.COMPLETED


# -- files ------------------------------------------------------------------------------------


def test_the_name_of_a_file_is_not_taken_for_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_text("print(1)")
    with pytest.raises(InvalidTaskError, match=r"pathlib.Path\('relax.py'\)"):
        ms.Task("a", "true", files={"relax.py": "relax.py"})
    with pytest.raises(InvalidTaskError, match=r"files=\{'relax.py': pathlib.Path\('script.py'\)\}"):
        make(tmp_path, ms.Task("a", "true", files={"relax.py": "script.py"}))
    meant = {"relax.py": "relax.py\n", "b": b"script.py", "c": "script.py\n", "d": "no such file", "e": ""}
    run = make(tmp_path, ms.Task("a", "cat relax.py b c d e", files=meant))
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    said = (run.task_directory("a") / "stdout.txt").read_text()
    assert said == "relax.py\nscript.pyscript.py\nno such file"


# -- names ------------------------------------------------------------------------------------


def test_a_task_is_known_by_the_name_that_tables_give_it(tmp_path: Path) -> None:
    ask = ms.Task("pick", operator="human", instructions="?", schema={"type": "object"})
    bad = ms.Task("bad", "test -e again || exit 1")
    run = make(tmp_path, ask, bad, operators={"human": ms.HumanOperator(), "local": ms.LocalOperator()})
    while run.tasks.loc["0.bad", "status"] != "FAILED" or run.tasks.loc["0.pick", "status"] != "SUBMITTED":
        run.step()
    assert run.task_directory("0.pick") == run.task_directory("pick")
    run.respond("0.pick", {"yes": True})
    run.retry("0.bad")
    assert run.tasks.loc["0.bad", "status"] == "PENDING"
    for call in (run.task_directory, run.retry, run.declare_lost, lambda name: run.respond(name, {})):
        with pytest.raises(UnknownTaskError, match=r"no task 'pikc' in iteration 0 \(did you mean 'pick'\?\)"):
            call("pikc")
        with pytest.raises(UnknownTaskError, match="no task 'pick' in iteration 3"):
            call("3.pick")


@pytest.mark.parametrize("name", ["0.pick", "12.x", "3."])
def test_an_id_is_no_label(name: str) -> None:
    with pytest.raises(InvalidIdentifierError, match=f"'t{name}' would do"):
        ms.Task(name, "true")


def test_dependencies_are_given_as_tasks_or_ids_and_several_or_one() -> None:
    a, b = ms.Task("a", "true"), ms.Task("b", "true")
    assert ms.Task("c", "true", dependencies="a").dependencies == ("a",)
    assert ms.Task("c", "true", dependencies=a).dependencies == ("a",)
    assert ms.Task("c", "true", dependencies=[a, "b", b]).dependencies == ("a", "b")


def test_what_is_misspelt_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    relax = ms.Task("relax", "true")
    with pytest.raises(UnknownDependencyError, match=r"\(did you mean 'relax'\?\)"):
        make(tmp_path, relax, ms.Task("b", "true", dependencies=["relx"]))
    with pytest.raises(UnknownOperatorError, match=r"\(did you mean 'local'\?\)"):
        make(tmp_path, ms.Task("b", "true", operator="locl"))
    with pytest.raises(TypeError, match=r"Task\(\) has no argument 'dependancies' \(did you mean 'dependencies'\?\)"):
        ms.Task("b", "true", dependancies=["relax"])  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"'cores' .*; it has: nodes, tasks, cpus_per_task,"):
        ms.Resources(cores=16)  # type: ignore[call-arg]  # what is nearly called so is not what is meant
    with pytest.raises(TypeError, match=r"Resources\(\) has no argument 'wall_time_s' \(did you mean 'walltime_s'\?\)"):
        ms.Resources(wall_time_s=3)  # type: ignore[call-arg]
    with pytest.raises(
        TypeError, match=r"initialize_run\(\) has no argument 'operator' \(did you mean 'operators'\?\)"
    ):
        make(tmp_path, relax, operator={})
    for operator in (ms.LocalOperator, ms.SlurmOperator, ms.HumanOperator, ms.ExperimentOperator, ms.ManualHPCOperator):
        known = next(iter(inspect.signature(operator).parameters))
        with pytest.raises(TypeError, match=rf"{operator.__name__}\(\) has no argument .*\(did you mean '{known}'"):
            operator(**{known[:-1]: 1})
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        ms.Task()  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match=r"\(did you mean 'initialize_run'\?\)"):
        ms.initialise_run  # noqa: B018
    run = make(tmp_path, relax)
    with pytest.raises(AttributeError, match=r"a Run has no 'taks' \(did you mean 'tasks'\?\)"):
        run.taks  # type: ignore[attr-defined]  # noqa: B018
    for look in (ms.runs, ms.inbox):
        with pytest.raises(RunNotFoundError, match=rf"no workspace 'ww' in {tmp_path}.*did you mean 'w'\?"):
            look("ww", tmp_path)  # type: ignore[operator]
        with pytest.raises(RunNotFoundError, match="base_path= says where"):
            look("w", tmp_path / "elsewhere")  # type: ignore[operator]


def test_what_is_given_in_the_wrong_form_is_answered_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"as in \{'local': LocalOperator\(\)\}"):
        make(tmp_path, ms.Task("a", "true"), operators=ms.LocalOperator())
    with pytest.raises(InvalidTaskError, match="command must be a text for /bin/sh or a list of texts, not <function"):
        ms.Task("a", make)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: ms.Task("a", ["python", "energy.py", 3.6]),
            r"command must hold texts .* not 3\.6; for a number: '3\.6'",
        ),
        (
            lambda: ms.Task("a", "true", resources={"walltime_s": 60}),
            r"as in ms\.Resources\(walltime_s=60\), not {'wall",
        ),
        (
            lambda: ms.initialize_run("w", ms.Task("a", "true")),
            r"not a Task: pass Workflow\(\[Task\('a', \.\.\.\)\]\)$",
        ),
        (lambda: ms.initialize_run("w", Loop), r"not a class: pass Loop\(\)$"),
        (lambda: ms.initialize_run("w", 7), "not 7$"),
        (lambda: ms.open_run(1), r"opened by its directory, as run\.path or the column path of .*, not by 1$"),
    ],
)
def test_what_is_of_another_type_is_told_with_what_is_wanted(call: Any, said: str) -> None:
    with pytest.raises(MatterstackError) as caught:
        call()
    assert re.search(said, str(caught.value))


def test_a_misspelt_keyword_of_a_run_is_told(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    with pytest.raises(
        TypeError, match=r"^Run\.wait\(\) has no argument 'timeout' \(did you mean 'timeout_s'\?\); it has: timeout_s$"
    ):
        run.wait(timeout=5)
    with pytest.raises(TypeError, match="did you mean 'collapse'"):
        run.dag(colapse="group")
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        run.respond("a")


def test_a_reason_of_many_lines_is_told_in_one_with_where_it_says_more(tmp_path: Path) -> None:
    class Broken(Loop):
        def analyze(self, state: Any, results: Any) -> Any:
            return state["no such key"]

    run = ms.initialize_run("w", Broken("well"), base_path=tmp_path, operators={"local": ms.LocalOperator()})
    assert run.wait(timeout_s=120) is ms.RunStatus.PAUSED
    assert progress._line(run).endswith("; run.explain() says why")
    shown = ms.runs("w", base_path=tmp_path)._repr_html_()
    assert "the campaign could not go on: " in shown
    assert "Traceback" not in shown
    assert re.search(r"then run = matterstack\.open_run\('.*', campaign=Broken\(\.\.\.\)\)\.resume\(\)", remedies(run))


def test_a_retry_is_told_to_have_the_files_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "energy.py").write_text("import sys\nsys.exit(1)\n")
    run = make(tmp_path, ms.Task("a", [sys.executable, "energy.py"], files={"energy.py": tmp_path / "energy.py"}))
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert "run.retry('a')  # the same command or function, with the files it was planned with" in remedies(run)
    (tmp_path / "energy.py").write_text("")
    assert run.retry().wait(timeout_s=120) is ms.RunStatus.FAILED


# -- the loop and the command line --------------------------------------------------------------


def test_a_tick_tells_where_the_run_stands_once_it_runs_no_more(tmp_path: Path) -> None:
    """As somebody finds out who loops until COMPLETED."""
    run = make(tmp_path, ms.Task("a", "exit 1"))
    said = [str(run.step())]
    while run.status == "RUNNING":
        said.append(str(run.step()))
    assert said[0] == "Tick: 1 tasks ready, 1 submitted, 0 completed"
    assert said[-1].endswith("1 failed; the run is FAILED")
    assert str(run.step()) == "Tick: 0 tasks ready, 0 submitted, 0 completed; the run is FAILED"


def call(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "matterstack", *words], capture_output=True, text=True, timeout=180)
    return done.returncode, done.stdout + done.stderr


def test_a_shell_hears_of_a_failed_run_and_why_a_wait_came_back(tmp_path: Path) -> None:
    failing = make(tmp_path / "a", ms.Task("a", "exit 1"))
    code, said = call("wait", str(failing.path))
    assert (code, "FAILED" in said) == (1, True)
    assert call("step", str(failing.path))[0] == 1
    waiting = make(tmp_path / "b", ms.Task("ask", operator="human", instructions="?"),
                   operators={"human": ms.HumanOperator()})  # fmt: skip
    code, said = call("wait", str(waiting.path))
    assert (code, "0.ask.1: it waits at human" in said) == (0, True)
    campaign = Loop("well")
    campaign.model = object()  # type: ignore[attr-defined]  # no file can hold it
    looping = ms.initialize_run("w", campaign, base_path=tmp_path / "c", run_id="r")
    code, said = call("wait", str(looping.path))
    assert (code, "the campaign that analyzes them was not given" in said) == (0, True)
    good = make(tmp_path / "d", ms.Task("a", "true"))
    code, said = call("wait", str(good.path))
    assert (code, "explain" in said) == (0, False)


# -- a kernel that stays free -------------------------------------------------------------------


def test_a_cell_that_awaits_leaves_the_kernel_free(tmp_path: Path) -> None:
    """Two runs at once in one event loop, which lets each go on by itself meanwhile."""
    gate = tmp_path / "gate"
    one = make(tmp_path / "a", ms.Task("a", f"until test -e {gate}; do sleep 0.01; done"))
    other = make(tmp_path / "b", ms.Task("a", "true"))

    async def cell() -> list[ms.RunStatus]:
        slow = asyncio.create_task(one.wait_async(timeout_s=60))
        quick = await other.wait_async(timeout_s=60)
        assert not slow.done()
        gate.touch()
        return [quick, await slow]

    assert asyncio.run(cell()) == ["COMPLETED", "COMPLETED"]


def test_a_cell_that_is_stopped_while_it_awaits_leaves_the_run_to_others(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "sleep 600"))

    async def cell() -> None:
        waiting = asyncio.create_task(run.wait_async())
        while run.tasks.loc["0.a", "status"] != "SUBMITTED":
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(cell())
    assert run.cancel().status is ms.RunStatus.CANCELLED


# -- settings of a live run ---------------------------------------------------------------------


def test_a_setting_changed_in_one_process_counts_in_every_other_from_its_next_tick(tmp_path: Path) -> None:
    tasks = [ms.Task(f"t{number}", f"until test -e {tmp_path}/gate; do sleep 0.01; done") for number in range(4)]
    run = make(tmp_path, *tasks, operators={"local": ms.LocalOperator(max_active=1, kill_grace_s=2.0)})
    other = ms.open_run(run.path)
    for each in (run, other):
        each.step()
    run.configure("local", max_active=4)
    assert str(other.operators["local"]) == "LocalOperator(max_active=1, kill_grace_s=2)"
    while (run.attempts["status"] == "RUNNING").sum() < 4:
        other.step()
    for each in (run, other, ms.open_run(run.path)):
        each.step()
        assert str(each.operators["local"]) == "LocalOperator(max_active=4, kill_grace_s=2)"
    (tmp_path / "gate").touch()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert len(run.attempts) == 4


def test_an_operator_that_a_process_was_given_wins_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path, ms.Task("a", "true")).path
    run = ms.open_run(path, operators={"local": ms.LocalOperator(max_active=7)})
    run.configure("local", max_active=2)
    assert "goes on with" in caplog.text
    run.step()
    assert str(run.operators["local"]).startswith("LocalOperator(max_active=7,")
    assert str(ms.open_run(path).operators["local"]).startswith("LocalOperator(max_active=2,")


def test_what_cannot_be_set_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator(notify=print)}
    run = make(tmp_path, ms.Task("a", "true"), operators=operators)
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(UnknownOperatorError, match=r"no operator 'locl' \(did you mean 'local'\?\)"):
        run.configure("locl", max_active=1)
    with pytest.raises(InvalidConfigError, match=r"\(did you mean 'max_active'\?\)"):
        run.configure("local", maxactive=1)
    with pytest.raises(InvalidConfigError, match="max_active must be a positive whole number, not 0"):
        run.configure("local", max_active=0)
    with pytest.raises(InvalidConfigError, match="code of yours"):
        run.configure("human", max_rejections=1)
    assert (run.path / "config.json").read_bytes() == before
    (run.path / "config.json").write_text("{")
    with pytest.raises(InvalidConfigError, match=r"config.json cannot be used"):
        run.step()
    (run.path / "config.json").write_bytes(before)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED

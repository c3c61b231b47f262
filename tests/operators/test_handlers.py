"""Handlers mend the inputs of next attempts: by name, with every operator that runs commands; custodian's too."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child

import matterstack as ms
from matterstack import crash_points
from matterstack.errors import InvalidConfigError


class MoreSteps:
    """Takes one step more after each attempt that did not converge."""

    def __init__(self) -> None:
        self.count = 0

    def check(self, directory: Path) -> bool:
        return "not converged" in (directory / "log").read_text()

    def correct(self, directory: Path) -> Any:
        self.count += 1
        assert (directory / "log").exists(), "what the failed attempt left is there"
        (directory / "log").write_text("altered")
        (directory / "steps").write_text(str(int((directory / "steps").read_text()) + self.count))
        (directory / "old").unlink(missing_ok=True)
        return {"count": self.count}


NAME = f"{__name__}:MoreSteps"
FILES = {"steps": b"1", "old": b"x", "kept": b"y"}
CONVERGE = "echo not converged > log; [ $(cat steps) -ge 4 ]"


def test_a_handler_by_its_name_outlives_the_process(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", CONVERGE, files=FILES, retries=3)])
    operators = {"local": ms.LocalOperator(handlers=[NAME])}
    path = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators).path
    run = ms.open_run(path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    homes = [run.task_directory("a", attempt=number) for number in (1, 2, 3)]
    assert [(home / "steps").read_text() for home in homes] == ["1", "2", "4"]
    assert [(home / "old").exists() for home in homes] == [True, False, False]
    assert (homes[0] / "log").read_text() == "not converged\n"
    said = json.loads((homes[2] / "corrections.json").read_text())
    assert said == [{"attempt": n, "handler": "MoreSteps", "done": {"count": n}} for n in (1, 2)]
    assert not (homes[1] / "kept").is_symlink()


class Looks:
    """Says what it sees, and leaves a backup as custodian does."""

    def check(self, directory: Path) -> bool:
        return True

    def correct(self, directory: Path) -> Any:
        seen = sorted(os.listdir(directory))
        (directory / "error.1.tar.gz").write_text("a backup")
        return seen


def test_a_handler_sees_no_links_and_its_backups_are_no_inputs(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "ln -s /etc/passwd link; touch left; exit 1", files={"steps": b"1"}, retries=1)])
    operators = {"local": ms.LocalOperator(handlers=[f"{__name__}:Looks"])}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    home = run.task_directory("a", attempt=2)
    (done,) = json.loads((home / "corrections.json").read_text())
    assert {"steps", "left"} <= set(done["done"])
    assert "link" not in done["done"]
    assert not (home / "error.1.tar.gz").exists()


def test_a_kit_is_mended_from_what_came_home(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", CONVERGE, files=FILES, retries=1, operator="far")])
    operators = {"far": ms.ManualHPCOperator(handlers=[NAME])}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.step()
    first = run.path / "operators/far/0.a.1"
    token = json.loads((first / "MANIFEST.json").read_text())["token"]
    (first / "output").mkdir()
    (first / "output/log").write_text("not converged\n")
    (first / "status.json").write_text(json.dumps({"token": token, "status": "FAILED", "exit_code": 1}))
    for _ in range(5):
        run.step()
    second = run.path / "operators/far/0.a.2/inputs"
    assert (second / "steps").read_text() == "2"
    assert sorted(path.name for path in second.iterdir()) == ["corrections.json", "kept", "steps"]


def test_a_handler_that_is_not_there_fails_the_attempt_and_names_it(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "false", retries=1)])
    operators = {"local": ms.LocalOperator(handlers=["no_such.module:Handler"])}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert "the handler no_such.module:Handler of 'local' cannot be made here" in str(run.tasks["reason"].iloc[0])


@pytest.mark.parametrize("wrong", [["no name"], ["module"], "module:Class", [object()]])
def test_what_is_no_handler_is_refused(wrong: Any) -> None:
    for kind in (ms.LocalOperator, ms.SlurmOperator, ms.ManualHPCOperator):
        with pytest.raises(InvalidConfigError):
            kind(handlers=wrong)


STRUCTURE = "Cu\n1.0\n3.6 0 0\n0 3.6 0\n0 0 3.6\nCu\n1\ndirect\n{} 0 0\n"
INPUTS = {
    "INCAR": b"ALGO = Fast\nKPAR = 4\n",
    "KPOINTS": b"mesh\n0\nMonkhorst\n2 2 2\n0 0 0\n",
    "POSCAR": STRUCTURE.format("0.0").encode(),
}
OSZICAR = (
    "       N       E                     dE             d eps       ncg     rms          rms(c)\n"
    "DAV:   1     0.500000000000E+02    0.50000E+02   -0.10000E+03   100   0.100E+02\n"
    "   1 F= 0.50000000E+02 E0= 0.50000000E+02  d E =0.500000E+02\n"
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "leaves", "edits", "mended"),
    [
        ("StdErrHandler", {"std_err.txt": "Allocation would exceed memory limit"}, "INCAR", "KPAR = 2"),
        ("PositiveEnergyErrorHandler", {"OSZICAR": OSZICAR}, "INCAR", "ALGO = Normal"),
        (
            "VaspErrorHandler",
            {"vasp.out": "ERROR FEXCF: supplied exchange-correlation table", "CONTCAR": STRUCTURE.format("0.01")},
            "POSCAR",
            "0.01",
        ),
    ],
)
def test_handlers_of_custodian_work_as_they_are(
    tmp_path: Path, name: str, leaves: dict[str, str], edits: str, mended: str
) -> None:
    for package in ("custodian", "pymatgen"):
        pytest.importorskip(package, reason=f"not required: {package} is not installed")
    write = "; ".join(f"printf %s '{text}' > {path}" for path, text in leaves.items())
    command = f"[ $MATTERSTACK_ATTEMPT = 2 ] || {{ {write}; exit 1; }}"
    operators = {"local": ms.LocalOperator(handlers=[f"custodian.vasp.handlers:{name}"])}
    flow = ms.Workflow([ms.Task("vasp", command, files=INPUTS, retries=1)])
    run = ms.open_run(ms.initialize_run("w", flow, base_path=tmp_path, operators=operators).path)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED, run.explain()
    second = run.task_directory("vasp", attempt=2)
    assert mended in (second / edits).read_text()
    for other in INPUTS.keys() - {edits}:
        assert (second / other).read_bytes() == INPUTS[other]
    assert not list(second.glob("error.*"))


class Endless:
    """Stops what says that it will not converge, and has it take more steps; tells in a file how often it was asked."""

    is_monitor = True
    monitor_every_s = 0.0

    def check(self, directory: Path) -> bool:
        with (directory / "asked").open("a") as asked:
            asked.write("x")
        return (directory / "log").exists() and "diverges" in (directory / "log").read_text()

    def correct(self, directory: Path) -> Any:
        (directory / "steps").write_text("4")
        return "more steps"


class Seldom(Endless):
    """Is asked once an hour."""

    monitor_every_s = 3600.0


class Once(Endless):
    """Says once of an attempt that runs that it shall stop, and never again."""

    def check(self, directory: Path) -> bool:
        found = super().check(directory)
        if found and (directory / ".matterstack").exists():  # it is no copy for `correct`
            found = not (directory / "told").exists()
            (directory / "told").touch()
        return found


class Raising(Endless):
    """Cannot look."""

    def check(self, directory: Path) -> bool:
        raise ValueError("no such table")


class Stuck(Endless):
    """Never answers."""

    monitor_every_s = 3600.0

    def check(self, directory: Path) -> bool:
        super().check(directory)
        while (directory / "log").exists():
            select.select([], [], [], 0.2)
        return False


DIVERGE = "[ $(cat steps) -ge 4 ] && exit 0; echo diverges > log; exec sleep 1000"


def monitored(tmp_path: Path, kind: type, command: str = DIVERGE, **of_task: Any) -> ms.Run:
    task = ms.Task("a", command, files={"steps": b"1"}, **{"retries": 1, **of_task})
    operators = {"local": ms.LocalOperator(handlers=[f"{__name__}:{kind.__name__}"], kill_grace_s=1.0)}
    return ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path, operators=operators)


def until(run: ms.Run, done: Callable[[], object], step: bool = True) -> None:
    """Step, or only look, until something holds, three minutes at most."""
    end = time.monotonic() + 180
    while not done():
        assert time.monotonic() < end, run.explain()
        if step:
            run.step()
        select.select([], [], [], 0.05)


def reason_of(run: ms.Run) -> str:
    return str(run.attempts["reason"].iloc[0])


def test_a_monitor_stops_what_would_run_for_ever_and_mends_the_next(tmp_path: Path) -> None:
    run = monitored(tmp_path, Endless, retry_on={"STOPPED"})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.explain()
    assert list(run.attempts["status"]) == ["FAILED", "COMPLETED"]
    assert reason_of(run).startswith("stopped by Endless: its check found what it mends")
    assert json.loads((run.task_directory("a") / "corrections.json").read_text())[0]["done"] == "more steps"


#: From the word of a monitor on, so many crash points of a run lead to the end of what it stopped, and some beyond.
POINTS = range(1, 13)


@pytest.mark.parametrize("number", POINTS)
def test_the_word_of_a_monitor_outlives_a_kill(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = monitored(tmp_path, Endless if number == 1 else Once)  # at the first point nothing is on disk yet
    path, came = run.path, 0

    def kill_then(point: str) -> None:
        nonlocal came
        came += bool(came) or point == "monitor.found"
        if came == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def arm() -> None:
        crash_points._armed = kill_then

    assert in_child(lambda: ms.open_run(path).wait(timeout_s=60), arm) == -signal.SIGKILL
    run = ms.open_run(path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.explain()
    assert list(run.attempts["status"]) == ["FAILED", "COMPLETED"]
    assert reason_of(run).startswith("stopped by ")


def test_what_a_monitor_stops_has_failed_however_its_command_ends(tmp_path: Path) -> None:
    command = "[ $(cat steps) -ge 4 ] && exit 0; trap 'exit 0' TERM; echo diverges > log; sleep 1000 & wait"
    run = monitored(tmp_path, Endless, command)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.explain()
    assert list(run.attempts["status"]) == ["FAILED", "COMPLETED"]


def test_what_ended_well_before_anybody_looked_is_not_asked_about(tmp_path: Path) -> None:
    run = monitored(tmp_path, Endless, "mkfifo go; cat go; echo diverges > log")
    home = run.path / "operators/local/0.a.1"
    until(run, (home / "asked").exists)
    (home / "go").write_text("")
    until(run, (home / "log").exists, step=False)
    until(run, lambda: b"ended" in (home.parent / "journal.jsonl").read_bytes(), step=False)
    asked = (home / "asked").read_text()
    run = ms.open_run(run.path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.explain()
    assert list(run.attempts["status"]) == ["COMPLETED"]
    assert (home / "asked").read_text() == asked


def test_a_monitor_that_raises_is_noted_and_stops_nothing(tmp_path: Path) -> None:
    run = monitored(tmp_path, Raising, "until [ -e go ]; do sleep 0.1; done")
    home = run.path / "operators/local/0.a.1"
    until(run, lambda: len(run.attempts) and "the monitor Raising raised ValueError: no such table" in reason_of(run))
    assert "no such table" in repr(run.explain())
    run.step()
    assert "no such table" in reason_of(run), "it stays said"
    (home / "go").touch()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(run.attempts["status"]) == ["COMPLETED"]


def test_a_monitor_is_asked_no_more_often_than_it_says_by_whoever_steps(tmp_path: Path) -> None:
    run = monitored(tmp_path, Seldom, "until [ -e go ]; do sleep 0.1; done")
    home = run.path / "operators/local/0.a.1"
    until(run, (home / "asked").exists)
    for _ in range(3):
        ms.open_run(run.path).step()
    (home / "go").touch()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (home / "asked").read_text() == "x"


def test_a_monitor_that_never_answers_holds_up_nothing(tmp_path: Path) -> None:
    run = monitored(tmp_path, Stuck, "echo > log; until [ -e go ]; do sleep 0.1; done")
    home = run.path / "operators/local/0.a.1"
    until(run, lambda: len(run.attempts) and "the monitor Stuck has not answered yet" in reason_of(run))
    (home / "go").touch()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (home / "asked").read_text() == "x"
    (home / "log").unlink()  # lets its thread go


@pytest.mark.parametrize("kind", ["cancel", "walltime"])
def test_a_cancel_counts_and_a_walltime_does_not_while_a_monitor_stops(tmp_path: Path, kind: str) -> None:
    command = "[ $(cat steps) -ge 4 ] && exit 0; trap '' TERM; echo diverges > log; sleep 1000"
    said = ("is being stopped by Endless", "time limit")
    for walltime_s in (2.0, 60.0):  # a busy machine may ask the monitor later than that
        (base := tmp_path / str(walltime_s)).mkdir()
        resources = {"walltime_s": walltime_s} if kind == "walltime" else {}
        run = monitored(base, Endless, command, resources=ms.Resources(**resources))
        until(run, lambda run=run: len(run.attempts) and reason_of(run).startswith(said))  # type: ignore[misc]
        if reason_of(run).startswith(said[0]):
            break
    assert "is being stopped by Endless" in repr(run.explain())
    if kind == "cancel":
        run.cancel_task("a")
        until(run, lambda: list(run.attempts["status"]) == ["CANCELLED"])
        return
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.explain()
    assert reason_of(run).startswith("stopped by Endless")


def test_an_interval_that_is_none_is_refused() -> None:
    class Wrong(Endless):
        monitor_every_s = -1.0

    with pytest.raises(InvalidConfigError, match="monitor_every_s of Wrong"):
        ms.LocalOperator(handlers=[Wrong()])
